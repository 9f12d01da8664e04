"""What the local GitHub server knows: one repository with its forks, all in memory."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = "acme/engine"
TOKEN = "token-of-the-test"
ROLES = {"admin": "admin", "maintain": "write", "write": "write", "triage": "read", "read": "read"}


@dataclass(frozen=True)
class Identity:
    """Whose a token is. `permissions`: of the job that it was given to (`{"issues": "write"}`), None for all."""

    login: str = "github-actions[bot]"
    permissions: Mapping[str, str] | None = None

    @property
    def is_app(self) -> bool:
        return self.login.endswith("[bot]")


@dataclass
class CommitNode:
    """A commit: its tree, its parents, and the branch or fork it was made for does not matter."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    message: str = ""


@dataclass
class GitHubState:
    """Everything. A test fills it through the methods below, and looks into it afterwards."""

    repository: str = REPOSITORY
    tokens: dict[str, Identity] = field(default_factory=lambda: {TOKEN: Identity()})
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    trees: dict[str, dict[str, str]] = field(default_factory=dict)
    commits: dict[str, CommitNode] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    issues: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, dict[str, Any]] = field(default_factory=dict)
    reactions: list[tuple[int, str, str]] = field(default_factory=list)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)
    check_runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    artifacts: dict[int, dict[str, Any]] = field(default_factory=dict)
    archives: dict[int, bytes] = field(default_factory=dict)
    minimized: dict[str, str] = field(default_factory=dict)
    may_open_pulls: bool = True
    changing: threading.RLock = field(default_factory=threading.RLock)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1001))

    # --- code -------------------------------------------------------------------------------------------------

    def blob(self, content: bytes) -> str:
        sha = hashlib.sha1(b"blob" + content, usedforsecurity=False).hexdigest()
        self.blobs[sha] = content
        return sha

    def tree(self, entries: Mapping[str, str]) -> str:
        sha = _sha("tree", sorted(entries.items()))
        self.trees[sha] = dict(entries)
        return sha

    def commit(
        self,
        files: Mapping[str, bytes],
        *,
        parents: Sequence[str] = (),
        branch: str = "",
        sha: str = "",
        message: str = "",
    ) -> str:
        """A commit of these files over its first parent's; `branch` then points to it."""
        entries = dict(self.trees[self.commits[parents[0]].tree]) if parents else {}
        entries |= {path: self.blob(content) for path, content in files.items()}
        return self.commit_tree(self.tree(entries), parents, branch=branch, sha=sha, message=message)

    def commit_tree(
        self, tree: str, parents: Sequence[str], *, branch: str = "", sha: str = "", message: str = ""
    ) -> str:
        sha = sha or _sha("commit", [tree, *parents, message, next(self.ids)])
        self.commits[sha] = CommitNode(sha, tree, tuple(parents), message)
        if branch:
            self.refs[branch] = sha
        return sha

    def ancestors(self, sha: str) -> list[str]:
        """The commit and all before it, nearest first."""
        found, waiting = [], [sha]
        while waiting:
            each = waiting.pop(0)
            if each not in found:
                found.append(each)
                waiting += self.commits[each].parents
        return found

    def resolved(self, ref: str) -> str | None:
        """The commit that a branch's name or a commit's is."""
        name = ref.removeprefix("refs/heads/")
        return self.refs.get(name) or (ref if ref in self.commits else None)

    def files_at(self, ref: str) -> dict[str, bytes]:
        """The files of a branch or a commit."""
        sha = self.resolved(ref)
        assert sha is not None, ref
        return {path: self.blobs[blob] for path, blob in self.trees[self.commits[sha].tree].items()}

    # --- people -----------------------------------------------------------------------------------------------

    def grant(self, login: str, role: str, **flags: bool) -> None:
        """Let somebody be something: one of GitHub's roles, or one of the organisation's own with its rights."""
        coarse = ROLES.get(role) or ("write" if flags.get("push") else "read")
        rights = {"admin": role == "admin", "push": coarse != "read", "pull": True, **flags}
        self.roles[login.casefold()] = {
            "permission": coarse,
            "role_name": role,
            "user": {"login": login, "permissions": rights},
        }

    # --- pull requests, issues --------------------------------------------------------------------------------

    def open_pull(
        self,
        head_sha: str,
        *,
        number: int = 0,
        head_ref: str = "change",
        head_repository: str | None = "",
        base_ref: str = "main",
        title: str = "A change",
        body: str = "",
        author: str = "author",
        draft: bool = False,
        labels: Sequence[str] = (),
    ) -> dict[str, Any]:
        """A pull request, of a fork if `head_repository` says so; None: the fork was deleted."""
        number = number or next(self.numbers)
        from_repository = head_repository if head_repository != "" else self.repository
        pull = {
            "number": number,
            "state": "open",
            "title": title,
            "body": body,
            "draft": draft,
            "merged_at": None,
            "user": {"login": author},
            "labels": [{"name": name} for name in labels],
            "html_url": f"https://github.example/{self.repository}/pull/{number}",
            "head": {
                "ref": head_ref,
                "sha": head_sha,
                "repo": {"full_name": from_repository} if from_repository else None,
            },
            "base": {"ref": base_ref, "sha": self.refs.get(base_ref, ""), "repo": {"full_name": self.repository}},
        }
        self.pulls[number] = pull
        self.open_issue(title, body, author, labels=labels, number=number, is_pull=True)
        return pull

    def open_issue(
        self, title: str, body: str, author: str, *, labels: Sequence[str] = (), number: int = 0, is_pull: bool = False
    ) -> dict[str, Any]:
        number = number or next(self.numbers)
        issue = {
            "number": number,
            "title": title,
            "body": body,
            "state": "open",
            "state_reason": None,
            "user": {"login": author},
            "closed_by": None,
            "labels": [{"name": name} for name in labels],
            "created_at": now(),
            "html_url": f"https://github.example/{self.repository}/issues/{number}",
        }
        if is_pull:
            issue["pull_request"] = {"url": f"https://github.example/{self.repository}/pull/{number}"}
        self.issues[number] = issue
        return issue

    def comment(self, number: int, body: str, author: str) -> dict[str, Any]:
        """A comment on an issue or a pull request."""
        id_ = next(self.ids)
        self.comments[id_] = {
            "id": id_,
            "node_id": f"IC_{id_}",
            "body": body,
            "user": {"login": author, "type": "Bot" if author.endswith("[bot]") else "User"},
            "created_at": now(),
            "html_url": f"https://github.example/{self.repository}/issues/{number}#issuecomment-{id_}",
            "issue_number": number,
        }
        return self.comments[id_]

    def comments_of(self, number: int, *, visible: bool = True) -> list[dict[str, Any]]:
        """What a reader of the page sees, oldest first; with `visible` false the hidden ones too."""
        of_it = [each for each in self.comments.values() if each["issue_number"] == number]
        return [each for each in of_it if not visible or each["node_id"] not in self.minimized]

    # --- runs ---------------------------------------------------------------------------------------------------

    def run(
        self,
        *,
        workflow: str = "gate.yml",
        display_title: str = "Gate of pull request 1",
        event: str = "pull_request_target",
        conclusion: str | None = "success",
        head_sha: str = "0" * 40,
        head_branch: str = "main",
    ) -> dict[str, Any]:
        """A run of a workflow."""
        id_ = next(self.ids)
        self.runs[id_] = {
            "id": id_,
            "path": f".github/workflows/{workflow}",
            "display_title": display_title,
            "event": event,
            "status": "completed" if conclusion else "in_progress",
            "conclusion": conclusion,
            "created_at": now(),
            "head_sha": head_sha,
            "head_branch": head_branch,
            "run_attempt": 1,
            "html_url": f"https://github.example/{self.repository}/actions/runs/{id_}",
        }
        return self.runs[id_]

    def job(self, run_id: int, name: str, conclusion: str | None = "success", attempt: int = 1) -> dict[str, Any]:
        """A job of an attempt of a run."""
        id_ = next(self.ids)
        job = {
            "id": id_,
            "run_id": run_id,
            "run_attempt": attempt,
            "name": name,
            "status": "completed" if conclusion else "in_progress",
            "conclusion": conclusion,
            "started_at": now(),
            "completed_at": now() if conclusion else None,
            "html_url": f"https://github.example/{self.repository}/actions/runs/{run_id}/job/{id_}",
        }
        self.jobs.setdefault(run_id, []).append(job)
        return job

    def upload(self, run_id: int, name: str, content: Path | bytes, *, expired: bool = False) -> dict[str, Any]:
        """An artifact of a run: a folder, or a zip file's bytes."""
        archive = content if isinstance(content, bytes) else zipped(content)
        id_ = next(self.ids)
        self.archives[id_] = archive
        self.artifacts[id_] = {
            "id": id_,
            "name": name,
            "size_in_bytes": len(archive),
            "expired": expired,
            "digest": f"sha256:{hashlib.sha256(archive).hexdigest()}",
            "created_at": now(),
            "workflow_run": {"id": run_id},
        }
        return self.artifacts[id_]


def zipped(folder: Path) -> bytes:
    """A folder as upload-artifact packs it: names relative to it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return packed.getvalue()


def now() -> str:
    """The time as GitHub writes it."""
    return datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sha(kind: str, content: object) -> str:
    return hashlib.sha1(f"{kind} {json.dumps(content)}".encode(), usedforsecurity=False).hexdigest()
