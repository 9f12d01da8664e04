"""A gate's legs as GitHub knows them: which jobs there were, of which commits, and what each of them handed in.

The list of jobs is GitHub's own and cannot be forged by a leg, so a leg that died without a word is not missed. A job's
name is fixed by `decide` before any machine of ours starts, so it says which runner class and commits were measured.
What a leg handed in is data of a machine that ran a stranger's program.

GitHub cuts a job's name at 100 characters (github.com/google/mono_repo.dart issue 535,
github.com/kata-containers/kata-containers issue 11176), so a runner class and two whole commits do not fit: the
merge base, a commit of the branch to merge into, is named by 12 digits, the pull request's commit by all 40.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flows.service.desk import LEG_ARTIFACT
from redline.errors import ArtifactError, ContentError, GitHubError
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
NAME_CHARS_MAX = 97
"""Of a job's name: GitHub cuts a longer one and ends it with three full stops."""
BASE_DIGITS = 12
_DECIDE = "decide"
_CHOSEN = " chosen"
_JOB_NAME = re.compile(r"leg ([A-Za-z0-9][A-Za-z0-9._-]*)(?: ([0-9a-f]{12})\.\.([0-9a-f]{40}))?( chosen)?")
_QUEUE_MIN = timedelta(hours=23)  # GitHub cancels a job that waits a day for a machine; nobody waits so long by hand


@dataclass(frozen=True, slots=True)
class LegJob:
    """One leg's job, as GitHub tells it. `conclusion`: GitHub's word. Times: UTC, ISO 8601, empty if unknown.

    `base` and `head_sha`: the first 12 digits of the merge base and the whole commit that `decide` had it measure, both
    empty if its name does not say. `chosen`: somebody chose its scenarios. `replaced_at`: when a later attempt of the
    run began it anew. `known`: the gate of service.toml has its runner class. `cut_off`: why GitHub, and nobody by
    hand, ended it, in our words.
    """

    runner: str
    conclusion: str
    url: str
    started_at: str
    base: str = ""
    head_sha: str = ""
    chosen: bool = False
    replaced_at: str = ""
    known: bool = True
    cut_off: str = ""

    @property
    def cancelled_by_hand(self) -> bool:
        """Somebody ended it, or the whole run."""
        return self.conclusion == "cancelled" and not self.cut_off


@dataclass(frozen=True, slots=True)
class HandedIn:
    """Where each leg's folder lies, by runner class, or why there is none, in our words.

    `unanswered`: GitHub did not give out what is there; another try may help.
    """

    folders: Mapping[str, Path] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    unanswered: bool = False


def job_name(runner: str, base_sha: str, head_sha: str, *, chosen: bool = False) -> str:
    """The name of a leg's job, which `leg_jobs` reads again. Raises ContentError if GitHub would cut it."""
    commits = f"{base_sha[:BASE_DIGITS]}..{head_sha}"
    name = f"leg {runner} {commits}{_CHOSEN if chosen else ''}"
    if len(f"leg {runner} {commits}{_CHOSEN}") > NAME_CHARS_MAX:
        raise ContentError(
            f"the name of the runner class {runner} is too long for the gate",
            expected=f"at most {NAME_CHARS_MAX - len(f'leg  {commits}{_CHOSEN}')} characters",
            found=str(len(runner)),
            next_step="give its file in runners/ a shorter name, and its legs in service.toml",
        )
    return name


def leg_jobs(github: GitHub, run: GateRun, runners: Collection[str]) -> tuple[LegJob, ...]:
    """The legs of a run as of its attempt, in order of name; a skipped job is none. Raises GitHubError.

    `runners`: the gate's runner classes; a leg of another one is a leg all the same. A run that was started again in
    part has jobs of several attempts: the newest of each class counts, of those that the last `decide` started.
    """
    pages = github.pages(f"actions/runs/{run.run_id}/jobs", key="jobs", filter="all")
    listed = [raw for raw in pages if isinstance(raw, dict)]
    own = sorted((raw for raw in listed if _attempt(raw) <= run.attempt), key=_order)
    decided = max((_attempt(raw) for raw in own if _text(raw, "name") == _DECIDE), default=0)
    found: dict[str, tuple[re.Match[str], Mapping[str, Any]]] = {}
    for raw in own:
        name = _JOB_NAME.fullmatch(_text(raw, "name"))
        if name is not None and _attempt(raw) >= decided:
            found[name[1]] = (name, raw)
    return tuple(
        _leg_job(github, name, raw, known=runner in runners, replaced_at=_replaced_at(raw, name[1], listed))
        for runner, (name, raw) in sorted(found.items())
        if _text(raw, "conclusion") != "skipped"
    )


def _leg_job(github: GitHub, name: re.Match[str], raw: Mapping[str, Any], *, known: bool, replaced_at: str) -> LegJob:
    return LegJob(
        runner=name[1],
        conclusion=_text(raw, "conclusion"),
        url=_text(raw, "html_url"),
        started_at=_text(raw, "started_at"),
        base=name[2] or "",
        head_sha=name[3] or "",
        chosen=bool(name[4]),
        replaced_at=replaced_at,
        known=known,
        cut_off=_cut_off(github, raw),
    )


def _replaced_at(job: Mapping[str, Any], runner: str, listed: Sequence[Mapping[str, Any]]) -> str:
    """When the same leg was begun again; a job that a later attempt only repeats from this one has the same time."""
    later = (
        _text(raw, "started_at")
        for raw in listed
        if _attempt(raw) > _attempt(job) and _text(raw, "name").split()[:2] == ["leg", runner]
    )
    return min((at for at in later if at > _text(job, "started_at")), default="")


def handed_in(github: GitHub, run: GateRun, jobs: Sequence[LegJob], folder: Path) -> HandedIn:
    """Fetch what the legs handed in into folders below `folder`. Raises GitHubError if even the list cannot be had."""
    listed = artifacts_of(github, run.run_id)
    folders: dict[str, Path] = {}
    problems: dict[str, str] = {}
    unanswered = False
    for job in jobs:
        if unusable := _unusable(job):
            problems[job.runner] = unusable
            continue
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
    return HandedIn(folders, problems, unanswered)


def already_there(folder: Path, jobs: Sequence[LegJob]) -> HandedIn:
    """The same from folders that an earlier step downloaded: `leg-RUNNER` each."""
    folders = {}
    problems = {}
    for job in jobs:
        own = folder / f"{LEG_ARTIFACT}{job.runner}"
        if unusable := _unusable(job):
            problems[job.runner] = unusable
        elif own.is_dir() and not own.is_symlink():
            folders[job.runner] = own
        else:
            problems[job.runner] = _why_none([], job)
    return HandedIn(folders, problems)


def _unusable(job: LegJob) -> str:
    """Why nothing that it may have handed in is looked at; empty if it is."""
    if not job.known:
        return "service.toml has no gate on this runner class any more; nothing of it was used"
    if not job.head_sha:
        return "its job does not say which commits it measured; nothing of it was used. Run the gate again"
    return ""


def _why_none(own: Sequence[Artifact], job: LegJob) -> str:
    if len(own) > 1:
        return "it handed in two results under one name; neither of them was used"
    if own:
        return "what it handed in has expired; run the gate again"
    if job.cut_off:
        return job.cut_off
    if job.replaced_at:
        return "the run was started again, and what it handed in was replaced; the new answer follows"
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
    """False for what another attempt of the same run left under the name, an earlier or a later one."""
    try:
        created = datetime.fromisoformat(artifact.created_at)
        if job.replaced_at and created >= datetime.fromisoformat(job.replaced_at):
            return False
        return created >= datetime.fromisoformat(job.started_at)
    except (ValueError, TypeError):
        return False


def _cut_off(github: GitHub, job: Mapping[str, Any]) -> str:
    """Why GitHub ended a job; empty if it ended otherwise."""
    conclusion = _text(job, "conclusion")
    if conclusion == "timed_out" or (conclusion == "cancelled" and _ran_out_of_time(github, job)):
        return "it ran into its job's time limit before it handed in a result"
    if conclusion == "cancelled" and not _text(job, "runner_name") and _waited(job) >= _QUEUE_MIN:
        return "no machine of its class took it within a day, and GitHub cancelled it"
    return ""


def _waited(job: Mapping[str, Any]) -> timedelta:
    """How long a job was there; 0 if GitHub does not say."""
    try:
        return datetime.fromisoformat(_text(job, "completed_at")) - datetime.fromisoformat(_text(job, "created_at"))
    except (ValueError, TypeError):
        return timedelta()


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


def _attempt(raw: Mapping[str, Any]) -> int:
    """Which attempt of the run a job is of, from 1."""
    value = raw.get("run_attempt")
    return value if isinstance(value, int) and value > 0 else 1


def _order(raw: Mapping[str, Any]) -> tuple[int, int]:
    number = raw.get("id")
    return _attempt(raw), number if isinstance(number, int) else 0
