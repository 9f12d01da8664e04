"""Which states at GitHub are believed: those that the job `report` of a run uploaded, and no others.

Whatever runs in a run may upload an artifact of any name with its own token, also the build that a leg measures. What
nobody in a run can change is GitHub's list of its jobs and their times. So a state counts if it appeared while a job
`report` was at work and no leg of the same run was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from redline.errors import GitHubMissingError
from redline.github.artifacts import Artifact, WorkflowRun, artifacts_called, runs_of
from redline.github.client import GitHub

STATE = "redline-state"
WRITER = "report"
LEG_JOB = "leg "
KEEPING = "keep the state"
"""The name of the step that uploads it: the job may fail after it, which then is the night's verdict."""
EVENTS = frozenset({"schedule", "workflow_dispatch", "push"})
"""Of the runs that are looked at: nobody outside the repository can start one of these on its default branch."""

ALSO = MappingProxyType({"nightly.yml": ("accept.yml",)})
"""Workflows that write the same state, by the one whose legs it is made from."""

RUNS_MAX = 1000  # more GitHub does not list
LOOK_BACK = timedelta(days=100)
"""Legs are kept for 90 days at most."""
_SLACK = timedelta(seconds=10)
_LOST_RUNS_MAX = 200


@dataclass(frozen=True, slots=True)
class Found:
    """One artifact and the run that uploaded it."""

    run: WorkflowRun
    artifact: Artifact

    @property
    def title(self) -> str:
        """`leg-cpu of run 123 (2026-11-21)`."""
        return f"{self.artifact.name} of run {self.run.id} ({self.run.created_at[:10]})"


@dataclass(frozen=True, slots=True)
class Kept:
    """The trusted runs of a workflow and the states of the repository. `runs`: newest first, of the workflow itself.

    `states`: of these runs, and of those of workflows that write the same state, newest first, expired ones too.
    `remarks`: what was not looked at.
    """

    github: GitHub
    runs: tuple[WorkflowRun, ...]
    states: tuple[Found, ...]
    remarks: tuple[str, ...] = ()
    _jobs: dict[int, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)

    def recent_runs(self, now: datetime) -> tuple[WorkflowRun, ...]:
        """The runs whose legs may still be there."""
        return tuple(run for run in self.runs if (_time(run.created_at) or now) >= now - LOOK_BACK)

    def to_start_from(self, own_run_id: int) -> tuple[Found, ...]:
        """The newest believed state, the newest of an earlier run than ours, and the largest; oldest first.

        A state only grows: one that is smaller than one before it was cut, and with both nothing is lost.
        """
        there = [each for each in self.states if not each.artifact.expired]
        earlier = [each for each in there if each.run.id != own_run_id]
        by_size = sorted(there, key=lambda each: (each.artifact.size_bytes, each.artifact.id), reverse=True)
        chosen = [self._first_believed(each) for each in (there, earlier, by_size)]
        unique = {each.artifact.id: each for each in chosen if each is not None}
        return tuple(unique[key] for key in sorted(unique))

    def lost(self, own_run_id: int) -> str:
        """Which earlier run kept a state, in words, if there was one; of the last 200 runs, else empty."""
        for each in self.states:
            if each.run.id != own_run_id and self.is_believed(each):
                return f"run {each.run.id} ({each.run.created_at[:10]}) kept one"
        for run in self.runs[:_LOST_RUNS_MAX]:
            jobs = self.jobs_of(run) if run.id != own_run_id else ()
            if any(_name(job) == WRITER and _kept_one(job) for job in jobs):
                return f"run {run.id} ({run.created_at[:10]}) kept one"
        return ""

    def is_believed(self, found: Found) -> bool:
        """True if a job `report` of its run uploaded it, and no leg of that run can have. Raises GitHubError."""
        made = _time(found.artifact.created_at)
        if made is None:
            return False
        jobs = [job for job in self.jobs_of(found.run) if job.get("conclusion") != "skipped"]
        written = any(_wrote(job, made) for job in jobs if _name(job) == WRITER)
        return written and not any(_was_running(job, made) for job in jobs if _name(job).startswith(LEG_JOB))

    def jobs_of(self, run: WorkflowRun) -> tuple[Mapping[str, Any], ...]:
        """The jobs of every attempt of a run, as GitHub tells them. Raises GitHubError."""
        if run.id not in self._jobs:
            self._jobs[run.id] = tuple(self.github.pages(f"actions/runs/{run.id}/jobs", key="jobs", filter="all"))
        return self._jobs[run.id]

    def _first_believed(self, found: Iterable[Found]) -> Found | None:
        return next((each for each in found if self.is_believed(each)), None)


def kept_at(github: GitHub, branch: str, workflow: str) -> Kept:
    """What there is at GitHub of a workflow's runs on the default branch. Raises GitHubError."""
    listed = runs_of(github, workflow, branch=branch, count_max=RUNS_MAX)
    runs = tuple(run for run in listed if is_trusted(run, branch))
    writers = [*runs, *(run for other in ALSO.get(workflow, ()) for run in _other_runs(github, other, branch))]
    by_id = {run.id: run for run in writers}
    named = artifacts_called(github, STATE)
    states = [Found(by_id[each.run_id], each) for each in named if each.run_id in by_id]
    return Kept(
        github,
        runs,
        tuple(sorted(states, key=lambda each: each.artifact.id, reverse=True)),
        _not_looked_at(workflow, listed),
    )


def is_trusted(run: WorkflowRun, default_branch: str) -> bool:
    """True if only the repository's own people and its clock start such a run, on code that was reviewed."""
    return run.event in EVENTS and run.head_branch == default_branch


def _other_runs(github: GitHub, workflow: str, branch: str) -> tuple[WorkflowRun, ...]:
    try:
        runs = runs_of(github, workflow, branch=branch, count_max=RUNS_MAX)
    except GitHubMissingError:
        return ()
    return tuple(run for run in runs if is_trusted(run, branch))


def _not_looked_at(workflow: str, listed: Sequence[WorkflowRun]) -> tuple[str, ...]:
    if len(listed) < RUNS_MAX or (_time(listed[-1].created_at) or datetime.now(UTC)) < datetime.now(UTC) - LOOK_BACK:
        return ()
    oldest = listed[-1].created_at[:10]
    return (f"only the last {RUNS_MAX} runs of {workflow} were looked at: legs from before {oldest} were not",)


def _wrote(job: Mapping[str, Any], made: datetime) -> bool:
    """True if the job had begun and had not ended; one that still works may yet replace it."""
    begun, ended = _time(job.get("started_at")), _time(job.get("completed_at"))
    return begun is not None and ended is not None and begun <= made <= ended + _SLACK


def _was_running(job: Mapping[str, Any], made: datetime) -> bool:
    begun, ended = _time(job.get("started_at")), _time(job.get("completed_at"))
    return begun is not None and begun <= made and (ended is None or made < ended)


def _kept_one(job: Mapping[str, Any]) -> bool:
    """True if it says that it uploaded one, or at least that all went well."""
    steps = job.get("steps")
    keeping = [each for each in steps or () if isinstance(each, dict) and _name(each) == KEEPING]
    return any(each.get("conclusion") == "success" for each in (*keeping, job))


def _name(job: Mapping[str, Any]) -> str:
    name = job.get("name")
    return name if isinstance(name, str) else ""


def _time(text: object) -> datetime | None:
    """A time of GitHub's, in UTC; None where it says none."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo is not None else found.replace(tzinfo=UTC)
