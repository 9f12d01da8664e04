"""What every proposal by pull request needs: the branch to merge into, paths in the repository, names of branches."""

from __future__ import annotations

import re
from pathlib import Path

from redline.errors import UsageError
from redline.github import fields
from redline.github.client import GitHub
from redline.github.environment import Environment
from redline.github.git_data import branch_head


def default_branch(environment: Environment, github: GitHub) -> str:
    """The branch that proposals are merged into: the repository's default one. Raises GitHubError."""
    said = fields.text(environment.event, "repository", "default_branch")
    return said or fields.value(github.get(f"/repos/{github.repository}"), str, "default_branch")


def path_in_repository(path: Path) -> str:
    """A file's path as git and GitHub know it, found from the checkout around it.

    Raises UsageError for content that lies in no checkout: nobody knows its path then.
    """
    whole = path.resolve()
    for folder in whole.parents:
        if (folder / ".git").exists():
            return whole.relative_to(folder).as_posix()
    raise UsageError(
        f"{path.name} lies in no checkout of git: it cannot be proposed",
        expected="content that a workflow has checked out",
        found=str(path),
        next_step="check the repository out (actions/checkout), or correct REDLINE_CONTENT",
    )


def branch_of(kind: str, name: str) -> str:
    """A branch that only Redline writes to: `redline/promote-cpu`. What git or GitHub may not like becomes a dash."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")
    return f"redline/{kind}-{plain or 'unnamed'}"


def open_proposal(github: GitHub, branch: str, base: str) -> str:
    """The commit (40 hex digits) of our branch's open pull request; empty without one. Raises GitHubError."""
    owner = github.repository.split("/")[0]
    for found in github.pages("pulls", state="open", head=f"{owner}:{branch}", base=base):
        if fields.text(found, "head", "ref") == branch:
            head = branch_head(github, branch)
            return head.sha if head is not None else ""
    return ""
