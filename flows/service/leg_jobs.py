"""A gate's legs as GitHub knows them: which jobs there were, and what each of them handed in.

The list of jobs is GitHub's own and cannot be forged by a leg, so a leg that died without a word is not missed.
What a leg handed in is data of a machine that ran a stranger's program.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.service.desk import DECISION_ARTIFACT, LEG_ARTIFACT
from redline.errors import ArtifactError, GitHubError
from redline.github.archive import ArchiveLimits
from redline.github.artifacts import Artifact, artifacts_of, fetch
from redline.github.client import GitHub
from redline.github.events import GateRun

LIMITS = ArchiveLimits(
    archive_bytes_max=500_000_000, files_max=8_000, file_bytes_max=200_000_000, total_bytes_max=2_000_000_000
)
DECISION_LIMITS = ArchiveLimits(
    archive_bytes_max=20_000_000, files_max=200, file_bytes_max=10_000_000, total_bytes_max=40_000_000
)
TIMED_OUT = "exceeded the maximum execution time"
_JOB_NAME = re.compile(r"(?:.* / )?leg ([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True)
class LegJob:
    """One leg's job, as GitHub tells it. `conclusion`: GitHub's word. Times: UTC, ISO 8601, empty if unknown."""

    runner: str
    conclusion: str
    url: str
    started_at: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class HandedIn:
    """Where each leg's folder lies, by runner class, or why there is none, in our words.

    `unanswered`: GitHub did not give out what is there; another try may help. `decision`: the folder of what
    `decide` left, or None.
    """

    folders: Mapping[str, Path] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    unanswered: bool = False
    decision: Path | None = None


def leg_jobs(github: GitHub, run: GateRun, runners: Collection[str]) -> tuple[LegJob, ...]:
    """The run's legs of these runner classes, in order of name; a skipped job is none. Raises GitHubError."""
    found: dict[str, LegJob] = {}
    for raw in github.pages(f"actions/runs/{run.run_id}/jobs", key="jobs", filter="latest"):
        name = _JOB_NAME.fullmatch(_text(raw, "name"))
        conclusion = _text(raw, "conclusion")
        if name is None or name[1] not in runners or conclusion == "skipped":
            continue
        timed_out = conclusion == "timed_out" or (conclusion == "cancelled" and _ran_out_of_time(github, raw))
        found[name[1]] = LegJob(name[1], conclusion, _text(raw, "html_url"), _text(raw, "started_at"), timed_out)
    return tuple(found[runner] for runner in sorted(found))


def handed_in(github: GitHub, run: GateRun, jobs: Sequence[LegJob], folder: Path) -> HandedIn:
    """Fetch what the legs handed in into folders below `folder`. Raises GitHubError if even the list cannot be had."""
    listed = artifacts_of(github, run.run_id)
    folders: dict[str, Path] = {}
    problems: dict[str, str] = {}
    unanswered = False
    for job in jobs:
        name = f"{LEG_ARTIFACT}{job.runner}"
        own = [each for each in listed if each.name == name and _made_by(each, job)]
        if len(own) != 1 or own[0].expired:
            problems[job.runner] = _why_none(own, job)
            continue
        try:
            fetch(github, own[0], folder / name, limits=LIMITS)
            folders[job.runner] = folder / name
        except ArtifactError:
            problems[job.runner] = "what it handed in is no archive that can safely be unpacked; nothing of it was used"
        except GitHubError:
            problems[job.runner] = "GitHub did not give out what it handed in; start the job that publishes again"
            unanswered = True
    return HandedIn(folders, problems, unanswered, _decision(github, listed, folder))


def already_there(folder: Path, jobs: Sequence[LegJob]) -> HandedIn:
    """The same from folders that an earlier step downloaded: `leg-RUNNER` each, and `decision`."""
    folders = {}
    problems = {}
    for job in jobs:
        own = folder / f"{LEG_ARTIFACT}{job.runner}"
        if own.is_dir() and not own.is_symlink():
            folders[job.runner] = own
        else:
            problems[job.runner] = _why_none([], job)
    decision = folder / DECISION_ARTIFACT
    return HandedIn(folders, problems, decision=decision if decision.is_dir() else None)


def _why_none(own: Sequence[Artifact], job: LegJob) -> str:
    if len(own) > 1:
        return "it handed in two results under one name; neither of them was used"
    if own:
        return "what it handed in has expired; run the gate again"
    if job.timed_out:
        return "it ran into its job's time limit before it handed in a result"
    match job.conclusion:
        case "success":
            return "it ended well and handed in no result"
        case "cancelled":
            return "it was cancelled before it handed in a result"
        case "failure":
            return "it died before it handed in a result; the job's log says why"
        case _:
            return "it handed in no result"


def _made_by(artifact: Artifact, job: LegJob) -> bool:
    """False for what an earlier attempt of the same run left under the name."""
    try:
        return datetime.fromisoformat(artifact.created_at) >= datetime.fromisoformat(job.started_at)
    except (ValueError, TypeError):
        return False


def _decision(github: GitHub, listed: Sequence[Artifact], folder: Path) -> Path | None:
    own = [each for each in listed if each.name == DECISION_ARTIFACT and not each.expired]
    if not own:
        return None
    target = folder / DECISION_ARTIFACT
    try:
        fetch(github, max(own, key=lambda each: each.id), target, limits=DECISION_LIMITS)
    except GitHubError:
        return None
    return target


def _ran_out_of_time(github: GitHub, job: Mapping[str, Any]) -> bool:
    """GitHub calls a job that ran into `timeout-minutes` cancelled; only a remark on its check run tells the two apart.

    Whoever cannot read it takes the job for cancelled by hand.
    """
    number = job.get("id")
    if not isinstance(number, int):
        return False
    try:
        remarks = [_text(each, "message") for each in github.pages(f"check-runs/{number}/annotations")]
    except GitHubError:
        return False
    return any(TIMED_OUT in remark for remark in remarks)


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""
