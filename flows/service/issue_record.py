"""What an issue of ours remembers of itself: one hidden line at the end of its body, written and read by us alone."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from redline.model import Cause, Symptom, digest

RECORD_CHARS_MAX = 20_000
"""Room that a page leaves for it."""

_TOLD_MAX = 1_500
_LINE = re.compile(
    r"<!-- redline:record opened=(?P<opened>[0-9-]{10}|-) kind=(?P<kind>[a-z]{1,20}) "
    r"stage=(?P<stage>open|closing|closed) told=(?P<told>[0-9a-f,]*) -->\s*\Z"
)


class Stage(enum.StrEnum):
    """How far we are with an issue. An open one in stage `closed` is one that somebody has opened again."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class IssueRecord:
    """What was done with an issue. `opened`: the night that opened it; `kind`: of its cause.

    `told`: symptoms that its readers were told of, when it was opened or by a comment.
    """

    opened: str
    kind: str
    told: frozenset[str]
    stage: Stage = Stage.OPEN

    @property
    def line(self) -> str:
        """The hidden line. What does not fit is told again, once."""
        told = ",".join(sorted(self.told)[:_TOLD_MAX])
        opened = self.opened or "-"
        return f"<!-- redline:record opened={opened} kind={self.kind} stage={self.stage.value} told={told} -->"


def record_in(body: str) -> IssueRecord | None:
    """The record at the end of a body; None if somebody has taken it away."""
    found = _LINE.search(body)
    if found is None:
        return None
    told = frozenset(each for each in found["told"].split(",") if each)
    opened = "" if found["opened"] == "-" else found["opened"]
    return IssueRecord(opened, found["kind"], told, Stage(found["stage"]))


def told_id(symptom: Symptom) -> str:
    """What identifies a symptom within its cause: 8 hex digits of runner class, scenario and metric."""
    return digest([symptom.runner_class, symptom.finding.scenario, symptom.finding.metric])[:8]


def told_ids(cause: Cause) -> frozenset[str]:
    """Every symptom of a cause."""
    return frozenset(told_id(each) for each in cause.symptoms)
