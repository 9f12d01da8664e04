"""Comments of ours on a pull request or an issue: one per marker, updated in place, the others hidden.

A marker is an HTML comment on one line, `<!-- redline:answer -->`, at the very start of a body: nobody sees it. A
comment is ours if it starts with the marker *and* we are its author: anybody can write a marker.

Source: docs.github.com, "REST API endpoints for issue comments" and "reactions"; GraphQL `minimizeComment`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redline.errors import GitHubError, GitHubMissingError
from redline.github import fields
from redline.github.certainty import until_sure
from redline.github.client import GitHub

BODY_CHARS_MAX = 65_536
MARKER = re.compile(r"<!-- redline:[A-Za-z0-9:._/-]{1,200} -->")
WORKFLOW_LOGIN = "github-actions[bot]"
REACTIONS = frozenset({"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"})

_NODES_MAX = 100
_HIDDEN = "query($ids:[ID!]!){nodes(ids:$ids){... on IssueComment{id isMinimized}}}"
_HIDE = "mutation($id:ID!){minimizeComment(input:{subjectId:$id,classifier:OUTDATED}){minimizedComment{isMinimized}}}"


@dataclass(frozen=True, slots=True)
class _Comment:
    id: int
    node_id: str
    body: str
    url: str


def own_login(github: GitHub) -> str:
    """Whose token this is, as the author of what it writes: `github-actions[bot]` for a workflow's own.

    A person's token names its user. An app's may not ask that (403), but GraphQL's `viewer` says it. Asked once.
    """
    if "login" not in github.remembered:
        github.remembered["login"] = _asked_login(github)
    return github.remembered["login"]


def _asked_login(github: GitHub) -> str:
    try:
        return fields.value(github.get("/user"), str, "login")
    except GitHubError as error:
        if error.status not in (403, 404):
            raise
    try:
        viewer = github.graphql("query{viewer{login}}", {}, repeatable=True)
        return fields.value(viewer, str, "viewer", "login")
    except GitHubError as error:
        if error.status not in (200, 403, 404):
            raise
        return WORKFLOW_LOGIN


def upsert_comment(github: GitHub, number: int, marker: str, body: str) -> str:
    """The address of the one visible comment of ours that starts with `marker`; its body is now `body`.

    The newest of ours is changed in place, if it differs; all others are hidden as outdated. There is never a second
    one after a lost answer, and of two publishers at once one comment stays visible.

    Raises GitHubError; if that says that an outdated one could not be hidden, the comment itself is there. Raises
    ValueError for a body that does not start with the marker or is too long for GitHub.
    """
    require_body(marker, body)
    return until_sure(github, lambda: _write(github, number, marker, body))


def _write(github: GitHub, number: int, marker: str, body: str) -> str:
    ours = _ours(github, number, marker)
    shown = _changed(github, ours, body)
    if shown is None:
        made = _comment(github.post(f"issues/{number}/comments", {"body": body}))
        ours = (made, *(each for each in _ours(github, number, marker) if each.id != made.id))
        shown = max(ours, key=lambda each: each.id)  # another publisher's, if it was later
    _hide(github, [each.node_id for each in ours if each.id != shown.id])
    return shown.url


def _changed(github: GitHub, ours: Sequence[_Comment], body: str) -> _Comment | None:
    """The newest of ours, which now says `body`; None if there is none, or somebody has just deleted all."""
    for comment in sorted(ours, key=lambda each: each.id, reverse=True):
        if _same(comment.body, body):
            return comment
        try:
            github.patch(f"issues/comments/{comment.id}", {"body": body})
        except GitHubMissingError:
            continue
        return comment
    return None


def comment_once(github: GitHub, number: int, marker: str, body: str) -> str:
    """The address of the comment of ours that starts with `marker`: written if there is none, else left as it is.

    Raises GitHubError, and ValueError as `upsert_comment`.
    """
    require_body(marker, body)

    def attempt() -> str:
        ours = _ours(github, number, marker)
        return ours[0].url if ours else _comment(github.post(f"issues/{number}/comments", {"body": body})).url

    return until_sure(github, attempt)


def reply(github: GitHub, number: int, body: str) -> str:
    """The address of a new comment, which nobody updates; one, also after a lost answer. Raises GitHubError."""
    marker = f"<!-- redline:reply:{secrets.token_hex(8)} -->"
    return comment_once(github, number, marker, f"{marker}\n{body}")


def react(github: GitHub, comment_id: int, content: str) -> None:
    """Put a reaction of `REACTIONS` to a comment; the same one twice is one. Raises GitHubError."""
    if content not in REACTIONS:
        raise ValueError(f"{content} is no reaction that GitHub has")
    github.post(f"issues/comments/{comment_id}/reactions", {"content": content}, repeatable=True)


def require_body(marker: str, body: str) -> None:
    """Raise ValueError for a marker that is none, or a body without it or of more than GitHub takes."""
    if MARKER.fullmatch(marker) is None:
        raise ValueError(f"a marker is an HTML comment on one line, <!-- redline:NAME -->, not {marker!r}")
    if not body.startswith(marker):
        raise ValueError("the body must start with its marker, or it would not be found again")
    if len(body) > BODY_CHARS_MAX:
        raise ValueError(f"a body holds {BODY_CHARS_MAX:,} characters, this one has {len(body):,}")


def _ours(github: GitHub, number: int, marker: str) -> tuple[_Comment, ...]:
    """Our comments with the marker, oldest first."""
    login = own_login(github).casefold()
    found = [
        _comment(each)
        for each in github.pages(f"issues/{number}/comments")
        if fields.text(each, "user", "login").casefold() == login and fields.text(each, "body").startswith(marker)
    ]
    return tuple(sorted(found, key=lambda each: each.id))


def _comment(answer: Any) -> _Comment:
    return _Comment(
        fields.value(answer, int, "id"),
        fields.value(answer, str, "node_id"),
        fields.text(answer, "body"),
        fields.text(answer, "html_url"),
    )


def _same(one: str, other: str) -> bool:
    """True if GitHub shows both alike: it may keep line ends in its own way."""
    return one.replace("\r\n", "\n").rstrip() == other.replace("\r\n", "\n").rstrip()


def _hide(github: GitHub, node_ids: Sequence[str]) -> None:
    for start in range(0, len(node_ids), _NODES_MAX):
        some = node_ids[start : start + _NODES_MAX]
        nodes = fields.value(github.graphql(_HIDDEN, {"ids": list(some)}, repeatable=True), list, "nodes")
        hidden = {fields.text(node, "id") for node in nodes if isinstance(node, dict) and node.get("isMinimized")}
        for node_id in some:
            if node_id not in hidden:
                github.graphql(_HIDE, {"id": node_id}, repeatable=True)
