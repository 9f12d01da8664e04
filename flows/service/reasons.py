"""Justifications on their way into the store: out of the gate's runs in which nobody's code was run.

`decide` leaves a reason in the artifact `decision` of its own run. In a run that measured, a leg could have put another
artifact in its place; a run that only took a reason has no leg, and nothing of a stranger's was executed in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from flows.merge import MergedFolder, merged_folder
from flows.service.desk import DECISION_ARTIFACT
from flows.service.leg_jobs import DECISION_LIMITS
from redline.errors import GitHubMissingError, RedlineError
from redline.github.artifacts import Artifact, WorkflowRun, artifacts_of, fetch, runs_of
from redline.github.client import GitHub
from redline.markdown import one_line

WORKFLOW = "gate.yml"
EVENT = "issue_comment"
REASONS = "justifications"
RUNS_MAX = 100


def reasons_of(github: GitHub, branch: str, known: Collection[int]) -> tuple[tuple[WorkflowRun, Artifact], ...]:
    """Artifacts with reasons that are not `known`, oldest first; none where there is no gate. Raises GitHubError."""
    try:
        runs = runs_of(github, WORKFLOW, branch=branch, event=EVENT, count_max=RUNS_MAX)
    except GitHubMissingError:
        return ()
    found = []
    for run in runs:
        offered = [each for each in artifacts_of(github, run.id) if each.name == DECISION_ARTIFACT and not each.expired]
        if len(offered) == 1 and offered[0].id not in known and not _measured(github, run):
            found.append((run, offered[0]))
    return tuple(sorted(found, key=lambda each: each[1].id))


def take_reason(
    github: GitHub, state_dir: Path, scratch: Path, found: tuple[WorkflowRun, Artifact]
) -> MergedFolder | str:
    """What became of the justifications of one run, or why they could not be had. Nothing else of it is taken."""
    run, artifact = found
    folder, only = scratch / f"decision-{artifact.id}", scratch / f"reasons-{artifact.id}"
    title = f"reasons of run {run.id} ({run.created_at[:10]})"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        fetch(github, artifact, folder, limits=DECISION_LIMITS)
        only.mkdir()
        if (folder / REASONS).is_dir():
            (folder / REASONS).rename(only / REASONS)
        return merged_folder(only, state_dir, title)
    except (RedlineError, OSError) as error:
        return f"not collected: {title}: {one_line(str(error), 500)}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(only, ignore_errors=True)


def _measured(github: GitHub, run: WorkflowRun) -> bool:
    """True if a job of the run other than `decide` was given a machine, or may still be."""
    jobs = github.pages(f"/repos/{github.repository}/actions/runs/{run.id}/jobs", key="jobs", filter="all")
    return any(job["name"] != "decide" and job["conclusion"] != "skipped" for job in jobs)
