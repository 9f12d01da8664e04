"""The last build that exists, walking back over commits. What finds one is given: an index of wheels, or a registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from redline.builds.no_build import NoBuild
from redline.errors import UsageError

COMMITS_MAX = 10_000
WALK_MAX_DEFAULT = 100
_COMMIT = re.compile(r"[0-9a-f]{40}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Walked(Generic[T]):
    """How a walk ended: the first commit that has a build, and what was found for it; None if none of them has one.

    `missed`: the commits before it, in the order of the walk.
    """

    commit: str
    found: T | None
    missed: tuple[NoBuild, ...]


def last_build(
    commits: Sequence[str], find: Callable[[str], T | NoBuild], *, walk_max: int = WALK_MAX_DEFAULT
) -> Walked[T]:
    """The first of `commits` (newest first) that has a build, among the first `walk_max`. Raises what `find` raises."""
    missed: list[NoBuild] = []
    for commit in commits[:walk_max]:
        found = find(commit)
        if not isinstance(found, NoBuild):
            return Walked(commit, found, tuple(missed))
        missed.append(found)
    return Walked("", None, tuple(missed))


def read_commits(lines: Iterable[str], source: str) -> tuple[str, ...]:
    """The commits of a list such as `git rev-list` or `git log --oneline --no-abbrev-commit` prints, in its order.

    The first word of each line, 40 hex digits; `#` begins a comment, empty lines are left out, a commit that comes
    again counts once. `source` names the list in errors. Raises UsageError for anything else, and for an empty list.
    """
    commits: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].lower().split()
        if not words:
            continue
        if not _COMMIT.fullmatch(words[0]) or len(commits) >= COMMITS_MAX:
            raise UsageError(
                f"{source}, line {number} is no commit" if len(commits) < COMMITS_MAX else f"{source} is too long",
                expected=f"40 hex digits at the beginning of each line, of at most {COMMITS_MAX}",
                found=repr(line[:100]),
                next_step="write what `git rev-list --first-parent main` prints",
            )
        commits[words[0]] = None
    if not commits:
        raise UsageError(
            f"{source} names no commit",
            expected="40 hex digits at the beginning of each line",
            found="no such line",
            next_step="write what `git rev-list --first-parent main` prints",
        )
    return tuple(commits)
