"""What happened, out of an event's payload: numbers, commits and logins that GitHub vouches for, in checked form.

Titles, bodies and branch names are outsiders' text; of these only a comment's body is read at all, as a command.

Source: docs.github.com, "Webhook events and payloads" and "Events that trigger workflows" (read November 2026).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from redline.errors import UsageError
from redline.github.environment import Environment
from redline.model import COMMIT_SHA

PULL_ACTIONS = ("labeled", "synchronize", "opened", "reopened")
LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}(?:\[bot\])?")
COMMENT_CHARS_MAX = 65_536
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class PullEvent:
    """A pull request was labelled, opened, opened again, or got a commit. `sender` did it.

    `head_sha`: the newest commit when it happened, which may be another one by now. `label`: the one that was just
    added, empty for the other actions. `labels`: all that were on it.
    """

    action: str
    number: int
    head_sha: str
    sender: str
    label: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RetargetEvent:
    """A pull request was given another base: what was measured was about the one before. `sender` did it."""

    number: int
    sender: str


@dataclass(frozen=True, slots=True)
class CommentEvent:
    """Somebody wrote a comment below a pull request. `body`: their text. `at`: UTC, `url`: the comment's own."""

    number: int
    comment_id: int
    author: str
    body: str
    at: str
    url: str


@dataclass(frozen=True, slots=True)
class DispatchEvent:
    """Somebody started the workflow by hand. `ref`: which version of it, `commit`: what they named, or empty."""

    number: int
    commit: str
    sender: str
    ref: str
    default_branch: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing that asks for anything; `why` in our words."""

    why: str


Event: TypeAlias = PullEvent | RetargetEvent | CommentEvent | DispatchEvent | Ignored


def read_event(environment: Environment) -> Event:
    """What the job's event says. Raises UsageError if the payload is not what GitHub documents."""
    payload = environment.event
    match environment.event_name:
        case "pull_request_target":
            return _pull_event(payload)
        case "issue_comment":
            return _comment_event(payload)
        case "workflow_dispatch":
            return _dispatch_event(payload)
        case _:
            return Ignored("this event asks for nothing")


def _pull_event(payload: Mapping[str, Any]) -> Event:
    action = text(payload, "action")
    found = table(payload, "pull_request")
    if action == "edited" and "base" in table(payload, "changes"):
        return RetargetEvent(whole(found, "number"), login(table(payload, "sender")))
    if action not in PULL_ACTIONS:
        return Ignored("of what happens to a pull request, labels, new commits and a new base count")
    labels = found.get("labels")
    return PullEvent(
        action=action,
        number=whole(found, "number"),
        head_sha=sha(table(found, "head"), "sha"),
        sender=login(table(payload, "sender")),
        label=text(table(payload, "label"), "name") if action == "labeled" else "",
        labels=tuple(text(each, "name") for each in labels) if isinstance(labels, list) else (),
    )


def _comment_event(payload: Mapping[str, Any]) -> Event:
    if text(payload, "action") != "created":
        return Ignored("a comment is read once, when it is written: a change of it starts nothing")
    issue = table(payload, "issue")
    if "pull_request" not in issue:
        return Ignored("this is a comment on an issue")
    comment = table(payload, "comment")
    author = table(comment, "user")
    if author.get("type") != "User":
        return Ignored("what programs write starts nothing")
    body = comment.get("body")
    at = text(comment, "created_at")
    if not TIME.fullmatch(at):
        raise unexpected("comment.created_at", "a time, YYYY-MM-DDTHH:MM:SSZ")
    return CommentEvent(
        number=whole(issue, "number"),
        comment_id=whole(comment, "id"),
        author=login(author),
        body=body[:COMMENT_CHARS_MAX] if isinstance(body, str) else "",
        at=at,
        url=text(comment, "html_url"),
    )


def _dispatch_event(payload: Mapping[str, Any]) -> Event:
    inputs = table(payload, "inputs")
    number = str(inputs.get("number", ""))  # as it is: the run's title repeats it, and `publish` reads that
    if not re.fullmatch(r"[1-9][0-9]{0,9}", number):
        raise unexpected("inputs.number", "the number of a pull request")
    commit = str(inputs.get("commit") or "").strip().lower()
    if not re.fullmatch(r"(?:[0-9a-f]{7,40})?", commit):
        raise unexpected("inputs.commit", "7 to 40 hex digits")
    return DispatchEvent(
        number=int(number),
        commit=commit,
        sender=login(table(payload, "sender")),
        ref=text(payload, "ref"),
        default_branch=text(table(payload, "repository"), "default_branch"),
    )


# --- a workflow run that has ended ----------------------------------------------------------------------------------

GATE_TITLE = re.compile(r"Gate of pull request ([1-9][0-9]{0,9})(?:, asked by [1-9][0-9]{0,19})?")
"""With the number of whoever commented, if GitHub does not show them as one of the repository's people."""
GATE_EVENTS = ("pull_request_target", "issue_comment", "workflow_dispatch")


@dataclass(frozen=True, slots=True)
class GateRun:
    """A run of the gate's workflow whose file was the default branch's: its title says which pull request it is for.

    `attempt` counts from 1. `started_at`: of this attempt, UTC. `conclusion`: GitHub's word, empty while it runs.
    """

    run_id: int
    attempt: int
    number: int
    conclusion: str
    url: str


def title_number(display_title: str) -> int:
    """The pull request that a run of the gate is for; 0 for any other title."""
    title = GATE_TITLE.fullmatch(display_title)
    return int(title[1]) if title else 0


def read_gate_run(raw: Mapping[str, Any], default_branch: str) -> GateRun | Ignored:
    """The run of a `workflow_run` payload, or of the API's answer, which has the same form.

    Anybody can put a workflow of the same name, with any title, into a pull request; but such a run has the event
    `pull_request`. The events taken here always run the default branch's file, except a start by hand of another
    branch, which is refused too. Raises UsageError for what is no workflow run.
    """
    event = text(raw, "event")
    if event not in GATE_EVENTS:
        return Ignored("its workflow's file may be the pull request's own: nothing that it says is believed")
    if event == "workflow_dispatch" and raw.get("head_branch") != default_branch:
        return Ignored("it was started from another branch than the default one: nothing that it says is believed")
    number = title_number(text(raw, "display_title"))
    if not number:
        return Ignored("its title names no pull request")
    conclusion = raw.get("conclusion")
    return GateRun(
        run_id=whole(raw, "id"),
        attempt=whole(raw, "run_attempt"),
        number=number,
        conclusion=conclusion if isinstance(conclusion, str) else "",
        url=text(raw, "html_url"),
    )


# --- one value of a payload -------------------------------------------------------------------------------------------


def unexpected(key: str, expected: str) -> UsageError:
    """The error for a payload that is not as documented. It never holds the payload's own text."""
    return UsageError(
        f"the event's payload has no '{key}' of the documented form",
        expected=expected,
        found="something else, or nothing",
        next_step="compare the payload with GitHub's documents; nothing was started",
    )


def table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object of the payload. Raises UsageError."""
    value = raw.get(key)
    if not isinstance(value, dict):
        raise unexpected(key, "an object")
    return value


def text(raw: Any, key: str) -> str:
    """A string of the payload. Raises UsageError."""
    value = raw.get(key) if isinstance(raw, dict) else None
    if not isinstance(value, str):
        raise unexpected(key, "a string")
    return value


def whole(raw: Mapping[str, Any], key: str) -> int:
    """A number above 0. Raises UsageError."""
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise unexpected(key, "a whole number above 0")
    return value


def sha(raw: Mapping[str, Any], key: str) -> str:
    """A commit. Raises UsageError."""
    value = text(raw, key)
    if not COMMIT_SHA.fullmatch(value):
        raise unexpected(key, "40 hex digits")
    return value


def login(account: Mapping[str, Any]) -> str:
    """Somebody's name on GitHub; it becomes part of addresses. Raises UsageError."""
    value = text(account, "login")
    if not LOGIN.fullmatch(value):
        raise unexpected("login", "a login of GitHub")
    return value
