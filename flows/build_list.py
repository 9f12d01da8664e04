"""A list of builds in the order in which they were made, one per line: what a bisection searches. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from redline.errors import UsageError


@dataclass(frozen=True, slots=True)
class BuildLine:
    """One build of the list: its number among the builds (1-based), spec and further server arguments."""

    number: int
    spec: str
    extra_args: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The line as it would be written, without comment."""
        return shlex.join([self.spec, *self.extra_args])


def read_builds(text: str, source: str) -> tuple[BuildLine, ...]:
    """The builds of a list, oldest first: one per line, `BUILD [server arguments...]`, split as a shell does.

    `#` begins a comment; empty lines are left out. `source` names the file in errors.
    Raises UsageError for a line that cannot be split, a build named twice, or fewer than two builds.
    """
    builds: list[BuildLine] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise UsageError(
                f"{source}, line {number} cannot be split",
                expected="BUILD [server arguments...], quoted as in a shell",
                found=f"{line!r} ({error})",
                next_step="close the quotation",
            ) from error
        if words:
            builds.append(BuildLine(len(builds) + 1, words[0], tuple(words[1:])))
    texts = [build.text for build in builds]
    if twice := next((each for each in texts if texts.count(each) > 1), ""):
        raise UsageError(
            f"{source} names a build twice",
            expected="each build once, in the order in which they were made",
            found=twice,
            next_step="leave out one of them",
        )
    if len(builds) < 2:
        raise UsageError(
            f"{source} holds nothing to search",
            expected="at least two builds, one per line, the oldest first",
            found=f"{len(builds)} builds",
            next_step="list the builds from the last good one to the first known bad one",
        )
    return tuple(builds)


def between(builds: Sequence[BuildLine], good: str | None, bad: str | None) -> tuple[BuildLine, ...]:
    """The builds from the good end to the bad one; an end is named by its line or number, by default first and last.

    Raises UsageError for an end that is not in the list, or a good end that does not come before the bad one.
    """
    first = builds[0] if good is None else _named(builds, good, "--good")
    last = builds[-1] if bad is None else _named(builds, bad, "--bad")
    if first.number >= last.number:
        raise UsageError(
            "the good build must come before the bad one",
            expected="a list with the oldest build first",
            found=f"good: {first.number} ({first.text}), bad: {last.number} ({last.text})",
            next_step="swap --good and --bad, or turn the list round",
        )
    return tuple(builds[first.number - 1 : last.number])


def _named(builds: Sequence[BuildLine], name: str, option: str) -> BuildLine:
    try:
        text = shlex.join(shlex.split(name, comments=True))
    except ValueError:
        text = name
    for build in builds:
        if build.text == text or str(build.number) == name.strip():
            return build
    raise UsageError(
        f"{option} names no build of the list",
        expected=f"a line as it stands in the list, or a number from 1 to {len(builds)}",
        found=name,
        next_step=f"the first is 1 ({builds[0].text}), the last {len(builds)} ({builds[-1].text})",
    )
