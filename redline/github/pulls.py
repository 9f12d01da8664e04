"""Pull requests: who wants what merged where, files at their commits, and proposals of our own.

Source: docs.github.com, "REST API endpoints for pull requests", "commits" (compare) and "repository contents".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redline.errors import GitHubError, GitHubMissingError
from redline.github import fields, git_data
from redline.github.certainty import until_sure
from redline.github.client import GitHub, segment
from redline.github.comments import BODY_CHARS_MAX

FILE_BYTES_MAX = 5_000_000
TITLE_CHARS_MAX = 256

_OWN_BRANCH = re.compile(r"redline/[A-Za-z0-9][A-Za-z0-9_-]*(?:[./][A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Pull:
    """One pull request. Title and ref names are outsiders' text; both commits are 40 hex digits.

    `head_repository`: `owner/name`, empty if it was deleted. `fork`: the head is not in the base's repository, or
    nobody knows where. `base_sha`: the base branch's head when GitHub looked last, not where the two parted.
    """

    number: int
    head_sha: str
    head_ref: str
    head_repository: str
    base_sha: str
    base_ref: str
    title: str
    author: str
    draft: bool
    state: str
    labels: tuple[str, ...]
    fork: bool


def pull(github: GitHub, number: int) -> Pull:
    """The pull request as it is now. Raises GitHubError (GitHubMissingError: there is none)."""
    answer = github.get(f"pulls/{number}")
    head_repository = fields.text(answer, "head", "repo", "full_name")
    base_repository = fields.value(answer, str, "base", "repo", "full_name")
    return Pull(
        number=fields.value(answer, int, "number"),
        head_sha=fields.commit(answer, "head", "sha"),
        head_ref=fields.value(answer, str, "head", "ref"),
        head_repository=head_repository,
        base_sha=fields.commit(answer, "base", "sha"),
        base_ref=fields.value(answer, str, "base", "ref"),
        title=fields.text(answer, "title"),
        author=fields.text(answer, "user", "login"),
        draft=fields.value(answer, bool, "draft"),
        state=fields.value(answer, str, "state"),
        labels=fields.names(answer, "labels"),
        fork=head_repository.casefold() != base_repository.casefold(),
    )


def merge_base(github: GitHub, base_sha: str, head_sha: str) -> str:
    """The commit (40 hex digits) where `head_sha` left `base_sha`.

    Raises GitHubError (GitHubMissingError: the two have none in common, or one of them is not there).
    """
    answer = github.get(f"compare/{segment(base_sha)}...{segment(head_sha)}", per_page=1)
    return fields.commit(answer, "merge_base_commit", "sha")


def file_at(github: GitHub, path: str, ref: str, *, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """A file's content at a commit.

    Raises GitHubError: GitHubMissingError if there is no such file, and for a folder, a submodule, or a file of more
    than `bytes_max` bytes.
    """
    answer = github.get(f"contents/{'/'.join(map(segment, path.split('/')))}", ref=ref)
    if isinstance(answer, list) or fields.text(answer, "type") != "file":
        kind = "folder" if isinstance(answer, list) else "link or submodule"
        raise _no_file("a plain file", f"a {kind}")
    size = fields.value(answer, int, "size")
    if size > bytes_max:
        raise _no_file(f"at most {bytes_max:,} bytes", f"{size:,} bytes")
    if fields.text(answer, "encoding") != "base64":  # beyond 1 MB the content is not in this answer
        answer = github.get(f"git/blobs/{fields.commit(answer, 'sha')}")
    try:
        content = base64.b64decode(fields.value(answer, str, "content"))
    except binascii.Error as error:
        raise _no_file("base64", "something else") from error
    if len(content) != size:
        raise _no_file(f"{size:,} bytes", f"{len(content):,} bytes")
    return content


def _no_file(expected: str, found: str) -> GitHubError:
    return GitHubError(
        "a file of the repository cannot be read",
        expected=expected,
        found=found,
        next_step="look at it at that commit",
    )


def propose(
    github: GitHub,
    *,
    branch: str,
    base: str,
    title: str,
    body: str,
    files: Mapping[str, bytes | None],
    insist: bool = True,
) -> str:
    """The address of the open pull request that makes these files so (None: gone); empty if `base` has them so.

    `branch` must be `redline/...`: it is overwritten. `base` is the name of the branch to merge into. The same files
    again change nothing, also after `base` moved on elsewhere; other files, or a title or body that differ, update the
    pull request that is open. Not `insist`: the same files, which somebody closed without merging, stay closed, and the
    address is that pull request's.

    Raises GitHubError (403: also if the repository does not let workflows open pull requests), and ValueError for
    another branch, a title or a body that is too long.
    """
    _require_proposal(branch, title, body)
    below = git_data.branch_head(github, base)
    if below is None:
        raise GitHubMissingError(
            "there is no branch to propose to",
            expected="the name of a branch",
            found=f"{len(base)} characters that name none",
            next_step="give the repository's default branch",
            status=404,
        )
    blobs = git_data.make_blobs(github, files)
    tree = git_data.make_tree(github, below, blobs)
    if tree == below.tree:
        return ""
    ours = git_data.branch_head(github, branch)
    if ours is None or not _same_proposal(github, ours, below, tree, blobs):
        sha = git_data.make_commit(github, f"{title}\n", tree, below.sha)
        git_data.point(github, branch, sha, exists=ours is not None)
    elif not insist and (closed := _closed(github, branch, ours.sha)):
        return closed
    return until_sure(github, lambda: _say(github, branch, base, title, body))


def _same_proposal(
    github: GitHub, ours: git_data.Commit, below: git_data.Commit, tree: str, blobs: Mapping[str, str | None]
) -> bool:
    """True if our branch holds this proposal already, on `below` or on an older commit with the same files."""
    if len(ours.parents) != 1:
        return False
    if ours.parents[0] == below.sha:
        return ours.tree == tree
    if git_data.make_tree(github, git_data.read_commit(github, ours.parents[0]), blobs) != ours.tree:
        return False
    changed = git_data.changed_between(github, ours.parents[0], below.sha)
    return changed is not None and not changed & blobs.keys()


def _say(github: GitHub, branch: str, base: str, title: str, body: str) -> str:
    owner = github.repository.split("/")[0]
    for found in github.pages("pulls", state="open", head=f"{owner}:{branch}", base=base):
        if _head_is(github, found, branch):
            wanted = {"title": title, "body": body}
            changed = {key: said for key, said in wanted.items() if _plain(fields.text(found, key)) != _plain(said)}
            if changed:
                github.patch(f"pulls/{fields.value(found, int, 'number')}", changed)
            return fields.text(found, "html_url")
    made = github.post("pulls", {"title": title, "body": body, "head": branch, "base": base})
    return fields.text(made, "html_url")


def _closed(github: GitHub, branch: str, sha: str) -> str:
    """The address of a pull request of this very commit that was closed and not merged; empty without one."""
    owner = github.repository.split("/")[0]
    pulls = list(github.pages("pulls", state="all", head=f"{owner}:{branch}"))
    pulls = [each for each in pulls if _head_is(github, each, branch)]
    if any(fields.text(each, "state") == "open" for each in pulls):
        return ""
    refused = [each for each in pulls if fields.text(each, "head", "sha") == sha and not each.get("merged_at")]
    return fields.text(refused[0], "html_url") if refused else ""


def _head_is(github: GitHub, found: Any, branch: str) -> bool:
    """True if the head is this repository's branch: the filter knows the owner only, who may have forks of it."""
    here = fields.text(found, "head", "repo", "full_name").casefold() == github.repository.casefold()
    return here and fields.text(found, "head", "ref") == branch


def _plain(value: str) -> str:
    return value.replace("\r\n", "\n").strip()


def _require_proposal(branch: str, title: str, body: str) -> None:
    if _OWN_BRANCH.fullmatch(branch) is None or branch.endswith(".lock"):
        raise ValueError(f"a branch of Redline's own is redline/NAME, not {branch[:200]!r}")
    if not title.strip() or "\n" in title or len(title) > TITLE_CHARS_MAX:
        raise ValueError(f"a title is one line of at most {TITLE_CHARS_MAX} characters")
    if len(body) > BODY_CHARS_MAX:
        raise ValueError(f"a body holds {BODY_CHARS_MAX:,} characters, this one has {len(body):,}")
