"""Commits and branches made through the API, without a checkout: blobs, a tree, a commit, a branch that is ours.

Blobs, trees and commits are named by their content and belong to nobody until a branch points to them: making one
twice changes nothing.

Source: docs.github.com, "REST API endpoints for Git database".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from redline.errors import GitHubError, GitHubMissingError
from redline.github import fields
from redline.github.client import GitHub, segment

_COMPARED_FILES_MAX = 300


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, its tree and its parents, each 40 hex digits."""

    sha: str
    tree: str
    parents: tuple[str, ...]


def branch_head(github: GitHub, branch: str) -> Commit | None:
    """The commit that a branch points to; None if there is no such branch. Raises GitHubError."""
    try:
        answer = github.get(f"git/ref/heads/{'/'.join(map(segment, branch.split('/')))}")
    except GitHubMissingError:
        return None
    return read_commit(github, fields.commit(answer, "object", "sha"))


def read_commit(github: GitHub, sha: str) -> Commit:
    """A commit. Raises GitHubError."""
    answer = github.get(f"git/commits/{segment(sha)}")
    parents = tuple(fields.commit(each, "sha") for each in fields.value(answer, list, "parents"))
    return Commit(fields.commit(answer, "sha"), fields.commit(answer, "tree", "sha"), parents)


def make_blobs(github: GitHub, files: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """The blob of each path's content; None where the file shall be gone. Raises GitHubError."""
    return {path: None if content is None else _make_blob(github, content) for path, content in sorted(files.items())}


def _make_blob(github: GitHub, content: bytes) -> str:
    body = {"content": base64.b64encode(content).decode(), "encoding": "base64"}
    return fields.commit(github.post("git/blobs", body, repeatable=True), "sha")


def make_tree(github: GitHub, below: Commit, blobs: Mapping[str, str | None]) -> str:
    """The tree of a commit with these files instead. Raises GitHubError.

    GitHub refuses to remove what is not there; such a path is left out.
    """
    gone = {path for path, blob in blobs.items() if blob is None and not _is_there(github, path, below.sha)}
    entries = [
        {"path": path, "mode": "100644", "type": "blob", "sha": blob}
        for path, blob in blobs.items()
        if path not in gone
    ]
    if not entries:
        return below.tree
    return fields.commit(github.post("git/trees", {"base_tree": below.tree, "tree": entries}, repeatable=True), "sha")


def make_commit(github: GitHub, message: str, tree: str, parent: str) -> str:
    """A new commit on `parent`. Raises GitHubError."""
    body = {"message": message, "tree": tree, "parents": [parent]}
    return fields.commit(github.post("git/commits", body, repeatable=True), "sha")


def point(github: GitHub, branch: str, sha: str, *, exists: bool) -> None:
    """Make a branch point to a commit, wherever it pointed before. Raises GitHubError."""
    if not exists:
        try:
            github.post("git/refs", {"ref": f"refs/heads/{branch}", "sha": sha}, repeatable=True)
        except GitHubError as error:
            if error.status != 422:  # it is there: made by an attempt whose answer was lost, or by somebody else
                raise
        else:
            return
    github.patch(f"git/refs/heads/{'/'.join(map(segment, branch.split('/')))}", {"sha": sha, "force": True})


def changed_between(github: GitHub, older: str, newer: str) -> frozenset[str] | None:
    """Paths that differ between two commits; None if there are too many to know. Raises GitHubError."""
    listed = fields.value(github.get(f"compare/{segment(older)}...{segment(newer)}"), list, "files")
    if len(listed) >= _COMPARED_FILES_MAX:
        return None
    was = (fields.text(each, "previous_filename") for each in listed)
    return frozenset(name for name in (*was, *(fields.text(each, "filename") for each in listed)) if name)


def _is_there(github: GitHub, path: str, ref: str) -> bool:
    try:
        github.get(f"contents/{'/'.join(map(segment, path.split('/')))}", ref=ref)
    except GitHubMissingError:
        return False
    return True
