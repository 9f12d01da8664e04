"""What the local GitHub server's routes are made of: a request as the API understands it, refusals, lists, rights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.github_state import GitHubState, Identity

LEVELS = ("none", "read", "write")


class RefusedError(Exception):
    """The server says no."""

    def __init__(
        self, status: int, message: str, *, errors: list[Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.content: dict[str, Any] = {
            "message": message,
            "documentation_url": "https://docs.github.com/rest",
            "status": str(status),
        }
        self.content |= {"errors": errors} if errors else {}


class MissingError(RefusedError):
    """404, as GitHub words it."""

    def __init__(self) -> None:
        super().__init__(404, "Not Found")


@dataclass(frozen=True)
class Listing:
    """An answer that is cut into pages; under `key`, with a total, if the API wraps it in an object."""

    items: list[Any]
    key: str = ""


@dataclass(frozen=True)
class Reply:
    """Any other answer."""

    status: int = 200
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One request: `found` holds the path's parts, `query` each parameter's last value."""

    method: str
    path: str
    found: dict[str, str]
    query: dict[str, str]
    body: Any
    state: GitHubState
    identity: Identity

    def number(self, name: str = "number") -> int:
        """A part of the path as a number."""
        return int(self.found[name])

    def text(self, name: str, *, required: bool = True, chars_max: int = 0) -> str:
        """A string of the body."""
        value = self.body.get(name) if isinstance(self.body, dict) else None
        if value is None and not required:
            return ""
        if not isinstance(value, str) or (required and not value.strip()):
            raise RefusedError(422, "Validation Failed", errors=[{"field": name, "code": "missing_field"}])
        if chars_max and len(value) > chars_max:
            said = f"{name} is too long (maximum is {chars_max} characters)"
            raise RefusedError(422, "Validation Failed", errors=[{"field": name, "code": "custom", "message": said}])
        return value


Answering = Callable[[Request], Listing | Reply]


@dataclass(frozen=True)
class Route:
    """One endpoint and the right that it takes, in the words of X-Accepted-GitHub-Permissions."""

    method: str
    pattern: re.Pattern[str]
    needs: str
    answer: Answering


ROUTES: list[Route] = []


def route(method: str, path: str, needs: str = "metadata=read") -> Callable[[Answering], Answering]:
    """Make a function answer a path: `{name}` is one part of it, `{name+}` the rest.

    Without a leading `/` it is below the repository, and the empty path is the repository.
    """
    spelt = path if path.startswith("/") else f"/repos/{{owner}}/{{repo}}/{path}".rstrip("/")
    pattern = re.sub(r"\{(\w+)\+\}", r"(?P<\1>.+)", spelt)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)

    def keep(answer: Answering) -> Answering:
        ROUTES.append(Route(method, re.compile(pattern), needs, answer))
        return answer

    return keep


def require_rights(identity: Identity, needs: str) -> None:
    """Refuse who lacks the right: `a=write; b=write` takes one of the two, `a=write,b=write` both."""
    if identity.permissions is None:
        return
    granted = {"metadata": "read", **identity.permissions}
    for alternative in needs.split(";"):
        wanted = (each.strip().split("=") for each in alternative.split(","))
        if all(LEVELS.index(granted.get(name, "none")) >= LEVELS.index(level) for name, level in wanted):
            return
    headers = {"x-accepted-github-permissions": needs}
    raise RefusedError(403, "Resource not accessible by integration", headers=headers)
