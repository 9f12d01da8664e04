"""Issues of ours: one per marker, `<!-- redline:cause:ID -->` at the very start of the body.

Source: docs.github.com, "REST API endpoints for issues" and "labels". Pull requests are issues there: left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from redline.errors import GitHubError, GitHubMissingError
from redline.github import fields
from redline.github.certainty import until_sure
from redline.github.client import GitHub, segment
from redline.github.comments import comment_once, own_login, reply, require_body

TITLE_CHARS_MAX = 256

_CAUSE = re.compile(r"<!-- redline:cause:([A-Za-z0-9:._/-]{1,180}) -->")
_MARKER = re.compile(r"<!-- redline:[A-Za-z0-9:._/-]{1,200} -->")
_COLOUR = "b60205"
_DESCRIPTION = "opened, updated and closed by Redline"


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue of ours. `state`: open or closed; `state_reason`: completed, not_planned, reopened, ..., or empty."""

    number: int
    title: str
    body: str
    state: str
    state_reason: str
    url: str
    labels: tuple[str, ...]

    @property
    def marker(self) -> str:
        """The marker that its body starts with; empty without one."""
        found = _CAUSE.match(self.body)
        return found.group() if found else ""

    @property
    def cause_id(self) -> str:
        """The ID in its marker; empty without one."""
        found = _CAUSE.match(self.body)
        return found.group(1) if found else ""


def marker_of(cause_id: str) -> str:
    """The marker of a cause. Raises ValueError for an ID that could end it."""
    marker = f"<!-- redline:cause:{cause_id} -->"
    if _CAUSE.fullmatch(marker) is None:
        raise ValueError(f"a cause's ID is letters, digits and :._/-, not {cause_id!r}")
    return marker


def issues_of(github: GitHub, label: str, state: str = "all") -> tuple[Issue, ...]:
    """Our own issues with the label and a cause's marker, oldest first. Raises GitHubError.

    Whoever takes the label off an issue takes it out of Redline's hands.
    """
    return _own(github, [*github.pages("issues", labels=label, state=state)])


def open_issue(github: GitHub, *, title: str, body: str, label: str) -> Issue:
    """The issue with the marker that `body` starts with: made now, or the oldest that is there, open or closed.

    There is never a second one after a lost answer. Raises GitHubError (410: issues are switched off), and ValueError
    for a body without a marker or a body or title that is too long.
    """
    found = _CAUSE.match(body)
    marker = found.group() if found else ""
    require_body(marker, body)
    _require_title(title)
    ensure_label(github, label)

    def attempt() -> Issue:
        there = {each.number: each for each in (*issues_of(github, label), *_recent(github)) if each.marker == marker}
        if there:
            return there[min(there)]
        return _issue(github.post("issues", {"title": title, "body": body, "labels": [label]}))

    return until_sure(github, attempt)


def update_issue(github: GitHub, issue: Issue, *, title: str, body: str) -> None:
    """Make title and body so; asks for nothing if they are. Raises GitHubError and ValueError as `open_issue`."""
    require_body(issue.marker, body)
    _require_title(title)
    wanted = {"title": title, "body": body}
    there = {"title": issue.title, "body": issue.body}
    changed = {key: text for key, text in wanted.items() if _plain(text) != _plain(there[key])}
    if changed:
        github.patch(f"issues/{issue.number}", changed)


def close_issue(github: GitHub, number: int, comment: str) -> None:
    """Say why, then close it as completed. Raises GitHubError.

    A comment that starts with a marker (`<!-- redline:NAME -->`) is there once however often this is repeated.
    """
    _say(github, number, comment)
    github.patch(f"issues/{number}", {"state": "closed", "state_reason": "completed"})


def reopen_issue(github: GitHub, number: int, comment: str = "") -> None:
    """Open it again, then say why, if there is a comment; see `close_issue`. Raises GitHubError."""
    github.patch(f"issues/{number}", {"state": "open", "state_reason": "reopened"})
    _say(github, number, comment)


def closed_by(github: GitHub, number: int) -> str:
    """The login of who closed it; empty if it is open, or GitHub does not say. Raises GitHubError."""
    answer = github.get(f"issues/{number}")
    return fields.text(answer, "closed_by", "login") if fields.text(answer, "state") == "closed" else ""


def ensure_label(github: GitHub, label: str) -> None:
    """Make the label if the repository has none of that name. Raises GitHubError."""
    try:
        github.get(f"labels/{segment(label)}")
    except GitHubMissingError:
        body = {"name": label, "color": _COLOUR, "description": _DESCRIPTION}
        try:
            github.post("labels", body, repeatable=True)
        except GitHubError as error:
            if error.status != 422:  # somebody else made it meanwhile
                raise


def _say(github: GitHub, number: int, comment: str) -> None:
    marker = _MARKER.match(comment)
    if marker:
        comment_once(github, number, marker.group(), comment)
    elif comment:
        reply(github, number, comment)


def _recent(github: GitHub) -> tuple[Issue, ...]:
    """Ours among the hundred newest, whatever labels they have: a list by label may be a moment behind."""
    newest = github.get("issues", state="all", sort="created", direction="desc", per_page=100)
    return _own(github, fields.value(newest, list))


def _own(github: GitHub, answers: list[Any]) -> tuple[Issue, ...]:
    login = own_login(github).casefold()
    found = [
        _issue(each)
        for each in answers
        if "pull_request" not in each and fields.text(each, "user", "login").casefold() == login
    ]
    return tuple(sorted((issue for issue in found if issue.marker), key=lambda issue: issue.number))


def _issue(answer: Any) -> Issue:
    return Issue(
        number=fields.value(answer, int, "number"),
        title=fields.text(answer, "title"),
        body=fields.text(answer, "body"),
        state=fields.value(answer, str, "state"),
        state_reason=fields.text(answer, "state_reason"),
        url=fields.text(answer, "html_url"),
        labels=fields.names(answer, "labels"),
    )


def _plain(value: str) -> str:
    return value.replace("\r\n", "\n").strip()


def _require_title(title: str) -> None:
    if not title.strip() or len(title) > TITLE_CHARS_MAX or "\n" in title:
        raise ValueError(f"a title is one line of at most {TITLE_CHARS_MAX} characters, not {title[:300]!r}")
