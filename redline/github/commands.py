"""What somebody asks for in a comment of a pull request: its first line, and nothing below it.

    /redline run [SCENARIO ...] [COMMIT]
    /redline status
    /redline accept-regression REASON

A comment is an outsider's text: whether its author may ask for anything is decided elsewhere, and comes first.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

PREFIX = "/redline"
FORMS = ("/redline run [SCENARIO ...] [COMMIT]", "/redline status", "/redline accept-regression REASON")
REASON_CHARS_MAX = 1_000
WORDS_MAX = 50

_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_SCENARIO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class RunCommand:
    """Measure the pull request. `scenarios`: instead of the service's. `commit`: 7 to 40 hex digits, or empty."""

    scenarios: tuple[str, ...] = ()
    commit: str = ""


@dataclass(frozen=True, slots=True)
class StatusCommand:
    """Say what is known of the newest commit."""


@dataclass(frozen=True, slots=True)
class AcceptCommand:
    """Take a regression that was proven; `reason` is one line of the author's own words."""

    reason: str


@dataclass(frozen=True, slots=True)
class UnknownCommand:
    """Addressed to Redline, but none of its commands. `problem`: our words. `found`: the author's, to be escaped."""

    problem: str
    found: str = ""


Command: TypeAlias = RunCommand | StatusCommand | AcceptCommand | UnknownCommand


def read_command(body: str, scenarios: Collection[str]) -> Command | None:
    """The command in the first line of a comment; None if it is not addressed to Redline.

    `scenarios`: every name that exists. A word that is both a scenario and a commit is taken for the scenario.
    """
    first = body.split("\n", 1)[0].strip()
    words = first.split()
    if not words or words[0] != PREFIX:
        return None
    match words[1:]:
        case ["run", *rest]:
            return _run(rest, scenarios)
        case ["status"]:
            return StatusCommand()
        case ["accept-regression", *rest]:
            return _accept(" ".join(rest))
        case ["status", *rest]:
            return UnknownCommand("`status` takes nothing behind it", " ".join(rest))
        case [other, *_]:
            return UnknownCommand("there is no such command", other)
        case _:
            return UnknownCommand("a command is missing")


def _run(words: list[str], known: Collection[str]) -> Command:
    if len(words) > WORDS_MAX:
        return UnknownCommand(f"`run` takes at most {WORDS_MAX} words")
    named: list[str] = []
    commits: list[str] = []
    for word in words:
        if _SCENARIO.fullmatch(word) and word in known:
            named.append(word)
        elif _COMMIT.fullmatch(word.lower()):
            commits.append(word.lower())
        else:
            return UnknownCommand("this is neither a scenario nor a commit (7 to 40 hex digits)", word)
    if len(commits) > 1:
        return UnknownCommand("`run` takes one commit", " ".join(commits))
    return RunCommand(tuple(dict.fromkeys(named)), "".join(commits))


def _accept(reason: str) -> Command:
    if len(reason) > REASON_CHARS_MAX:
        return UnknownCommand(f"a reason has at most {REASON_CHARS_MAX:,} characters, on the command's own line")
    if len(reason.split()) < 3:
        return UnknownCommand("a reason takes at least three words, on the command's own line", reason)
    return AcceptCommand(reason)
