"""May this start the gate? The rules as functions of what is known: nothing here asks anybody."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from redline.github.events import PullEvent
from redline.github.pulls import Pull
from redline.model import COMMIT_SHA, GateSettings, Permission, Trigger


class Ruling(enum.Enum):
    """What follows from an event. WAIT: somebody allowed has to ask, and the pull request is told so."""

    START = "start"
    WAIT = "wait"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Ruled:
    """A ruling and its reason, in our words."""

    ruling: Ruling
    why: str


def asks(event: PullEvent, gate: GateSettings) -> Ruled:
    """Does this event ask for the gate at all? From the payload alone, so that most events cost no request."""
    label = gate.label.casefold()
    if gate.trigger is Trigger.COMMAND:
        return Ruled(Ruling.NOTHING, "the gate is started by a command alone")
    if event.action == "labeled":
        if event.label.casefold() != label:
            return Ruled(Ruling.NOTHING, "this label has nothing to do with the gate")
        return Ruled(Ruling.START, "the label was put on")
    if gate.trigger is Trigger.ALWAYS:
        return Ruled(Ruling.START, "every pull request is gated")
    if label in {each.casefold() for each in event.labels}:
        return Ruled(Ruling.START, "the label is on it")
    return Ruled(Ruling.NOTHING, "the label is not on it")


def may_start(event: PullEvent, pull: Pull, held: Permission, gate: GateSettings) -> Ruled:
    """May it start, now that we know who asked and how the pull request stands?

    A label is a word about the commit that was there when it was put on. A fork's next commit is another stranger's
    program, so it needs the label anew, or a command.
    """
    if pull.state != "open":
        return Ruled(Ruling.NOTHING, "the pull request is closed")
    if pull.head_sha != event.head_sha:
        # A commit of the same repository has an event of its own, which starts what is to be started.
        ruling = Ruling.WAIT if pull.fork else Ruling.NOTHING
        return Ruled(ruling, "a newer commit came in between, which nobody has asked for yet")
    if pull.draft:
        return Ruled(Ruling.NOTHING, "a draft is gated only by a command")
    if pull.fork and event.action != "labeled":
        return Ruled(Ruling.WAIT, "this is a fork's commit: somebody allowed has to ask for it")
    if not held.includes(gate.permission):
        return Ruled(Ruling.WAIT, f"who caused this has less than {gate.permission} permission here")
    return Ruled(Ruling.START, "allowed")


def fits(commit: str, pull: Pull) -> Ruled:
    """May a command, or a start by hand, run this pull request? `commit`: what it named, or empty.

    A stranger makes a second commit with the same first digits in no time, and could push it after the first was read.
    """
    if pull.state != "open":
        return Ruled(Ruling.NOTHING, "the pull request is closed")
    if pull.fork and COMMIT_SHA.fullmatch(commit) is None:
        return Ruled(
            Ruling.NOTHING,
            "a fork's commit must be named with all its 40 digits, so that nothing runs that came after you read it: "
            "`/redline run COMMIT`",
        )
    if commit and not pull.head_sha.startswith(commit):
        return Ruled(
            Ruling.NOTHING, "this is not the newest commit: read what has come since, then name the one you have read"
        )
    return Ruled(Ruling.START, "allowed")
