"""Workflow runs and their artifacts, which are data that nobody vouches for.

Source: docs.github.com, "REST API endpoints for workflow runs" and "artifacts".
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from redline.errors import ArtifactError, GitHubMissingError
from redline.github import fields
from redline.github.archive import ArchiveLimits, unpack
from redline.github.client import GitHub, segment

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a run uploaded. `name` is the uploader's text; `digest`: `sha256:HEX` of the zip file, or empty.

    `created_at`: UTC, ISO 8601, empty if GitHub does not say: which attempt of the run made it.
    """

    id: int
    name: str
    size_bytes: int
    expired: bool
    digest: str
    run_id: int
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class WorkflowRun:
    """One run of a workflow. `conclusion` is empty until it ends; `created_at`: UTC, ISO 8601.

    `display_title` is the workflow's `run-name`, an outsider's text where that repeats one.
    """

    id: int
    conclusion: str
    created_at: str
    display_title: str
    event: str
    head_sha: str
    head_branch: str


def artifacts_of(github: GitHub, run_id: int) -> tuple[Artifact, ...]:
    """What a run uploaded, oldest first; a name comes twice if a job was run again. Raises GitHubError."""
    listed = github.pages(f"actions/runs/{run_id}/artifacts", "artifacts")
    return tuple(sorted((_artifact(each, run_id) for each in listed), key=lambda each: each.id))


def artifacts_called(github: GitHub, name: str) -> tuple[Artifact, ...]:
    """The repository's artifacts of a name, whoever uploaded them, oldest first. Raises GitHubError.

    `run_id` is 0 where the run was deleted.
    """
    found = []
    for each in github.pages("actions/artifacts", "artifacts", name=name):
        run = each.get("workflow_run") if isinstance(each, dict) else None
        number = run.get("id") if isinstance(run, dict) else None
        found.append(_artifact(each, number if isinstance(number, int) else 0))
    return tuple(sorted((each for each in found if each.name == name), key=lambda each: each.id))


def runs_of(
    github: GitHub, workflow: str, *, branch: str = "", event: str = "", status: str = "", count_max: int = 100
) -> tuple[WorkflowRun, ...]:
    """At most `count_max` runs of a workflow's file (`nightly.yml`), newest first. Raises GitHubError.

    `status`: also a conclusion, as GitHub has it: `completed`, `success`, `failure`, ...
    """
    chosen = {"branch": branch, "event": event, "status": status}
    listed = github.pages(
        f"actions/workflows/{segment(workflow)}/runs",
        "workflow_runs",
        **{key: value for key, value in chosen.items() if value},
    )
    runs = (_run(each) for each in islice(listed, count_max))
    return tuple(sorted(runs, key=lambda run: run.id, reverse=True))


def run_of(github: GitHub, run_id: int) -> WorkflowRun:
    """One run. Raises GitHubError."""
    return _run(github.get(f"actions/runs/{run_id}"))


def fetch(github: GitHub, artifact: Artifact, folder: Path, *, limits: ArchiveLimits | None = None) -> None:
    """Download an artifact and unpack it into `folder`, which must not exist: it is there whole or not at all.

    Raises:
        GitHubMissingError: it has expired, or was removed.
        ArtifactError: it is too large, damaged, not what its digest says, or dangerous; see `archive.unpack`.
        GitHubError: GitHub does not give it.
        FileExistsError: there is something at `folder`. OSError: the disk refuses.
    """
    limits = limits or ArchiveLimits()
    if artifact.expired:
        raise GitHubMissingError(
            "an artifact has expired",
            expected="an artifact within its retention time",
            found=f"number {artifact.id} of run {artifact.run_id}",
            next_step="run that workflow again, or set retention-days higher",
            status=410,
        )
    if artifact.size_bytes > limits.archive_bytes_max:
        raise ArtifactError(
            "an artifact is too large to be fetched",
            expected=f"at most {limits.archive_bytes_max:,} bytes",
            found=f"{artifact.size_bytes:,} bytes in number {artifact.id} of run {artifact.run_id}",
            next_step="look at what was uploaded; nothing of it was kept",
        )
    with _file_beside(folder) as archive:
        github.download(f"actions/artifacts/{artifact.id}/zip", archive, limits.archive_bytes_max)
        _require_digest(archive, artifact)
        unpack(archive, folder, limits)


@contextmanager
def _file_beside(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    room = folder.parent / f".fetching-{secrets.token_hex(8)}"
    room.mkdir(mode=0o700)
    try:
        yield room / "artifact.zip"
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _require_digest(archive: Path, artifact: Artifact) -> None:
    stated = _DIGEST.fullmatch(artifact.digest)
    if stated is None:
        return  # older servers give none, and then there is nothing to compare
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != stated.group(1):
        raise ArtifactError(
            "an artifact is not what was uploaded",
            expected=artifact.digest,
            found=f"sha256:{found}",
            next_step="start this step again; nothing of it was kept",
        )


def _artifact(answer: Any, run_id: int) -> Artifact:
    return Artifact(
        id=fields.value(answer, int, "id"),
        name=fields.value(answer, str, "name"),
        size_bytes=fields.value(answer, int, "size_in_bytes"),
        expired=fields.value(answer, bool, "expired"),
        digest=fields.text(answer, "digest"),
        run_id=run_id,
        created_at=fields.text(answer, "created_at"),
    )


def _run(answer: Any) -> WorkflowRun:
    return WorkflowRun(
        id=fields.value(answer, int, "id"),
        conclusion=fields.text(answer, "conclusion"),
        created_at=fields.value(answer, str, "created_at"),
        display_title=fields.text(answer, "display_title"),
        event=fields.text(answer, "event"),
        head_sha=fields.commit(answer, "head_sha"),
        head_branch=fields.text(answer, "head_branch"),
    )
