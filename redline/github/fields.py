"""Values out of an answer's JSON: of the kind that is expected, or a clear error."""

from __future__ import annotations

from typing import Any, TypeVar

from redline.errors import GitHubError
from redline.model import COMMIT_SHA

T = TypeVar("T")


def value(answer: Any, kind: type[T], *keys: str) -> T:
    """What lies under the keys. Raises GitHubError if there is nothing, or something of another kind."""
    found = _under(answer, keys)
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise GitHubError(
            "GitHub answered something that Redline does not understand",
            expected=f"{'.'.join(keys) or 'the answer'}: {kind.__name__}",
            found=type(found).__name__,
            next_step="if the address is a GitHub server's, report this as a defect of Redline",
        )
    return found


def text(answer: Any, *keys: str) -> str:
    """The string under the keys; empty where there is none, as for a deleted user or an empty body."""
    found = _under(answer, keys)
    return found if isinstance(found, str) else ""


def commit(answer: Any, *keys: str) -> str:
    """The commit under the keys, 40 hex digits. Raises GitHubError."""
    found = value(answer, str, *keys)
    if COMMIT_SHA.fullmatch(found) is None:
        raise GitHubError(
            "GitHub answered something that Redline does not understand",
            expected=f"{'.'.join(keys)}: 40 hex digits",
            found=f"{len(found)} characters of another kind",
            next_step="Redline knows repositories with SHA-1 commits only",
        )
    return found


def names(answer: Any, key: str) -> tuple[str, ...]:
    """The `name` of each object in the list under `key`, for example of labels."""
    return tuple(text(each, "name") for each in value(answer, list, key))


def _under(answer: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return answer
