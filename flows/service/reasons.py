"""Justifications on their way into the store: out of the gate's runs in which nobody's code was run.

`decide` leaves a reason in the artifact `decision` of its own run. In a run that measured, a leg could have put another
artifact in its place; a run that only took a reason has no leg, and nothing of a stranger's was executed in it. They
are looked for by the artifact's name: most runs of the gate are comments that are no commands, and left none.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from flows.merge import MergedFolder, merged_folder
from flows.service.desk import DECISION_ARTIFACT
from flows.service.leg_jobs import DECISION_LIMITS
from redline.errors import GitHubMissingError, RedlineError
from redline.github.artifacts import Artifact, WorkflowRun, artifacts_called, fetch, runs_of
from redline.github.client import GitHub
from redline.markdown import one_line

WORKFLOW = "gate.yml"
EVENT = "issue_comment"
CONCLUSIONS = ("success", "failure")
"""Of the runs that took a reason; the many runs of comments that are no commands were skipped."""
REASONS = "justifications"
RUNS_MAX = 1000  # more GitHub does not list


@dataclass(frozen=True, slots=True)
class Reasons:
    """What may hold reasons, oldest first. `of_measurements`: artifacts by id whose run had a leg: never taken.

    `remarks`: what was not looked at.
    """

    found: tuple[tuple[WorkflowRun, Artifact], ...] = ()
    of_measurements: frozenset[int] = frozenset()
    remarks: tuple[str, ...] = ()


def reasons_of(github: GitHub, branch: str, known: Collection[int]) -> Reasons:
    """What there is of reasons that is not `known`; nothing where there is no gate. Raises GitHubError."""
    named = artifacts_called(github, DECISION_ARTIFACT)
    waiting = [each for each in named if not each.expired and each.id not in known]
    if not waiting:
        return Reasons()
    since = min(each.created_at for each in waiting)
    runs: dict[int, WorkflowRun] = {}
    remarks = []
    try:
        for conclusion in CONCLUSIONS:
            listed = runs_of(github, WORKFLOW, branch=branch, event=EVENT, status=conclusion, count_max=RUNS_MAX)
            runs |= {run.id: run for run in listed}
            if len(listed) >= RUNS_MAX and listed[-1].created_at > since:
                remarks.append(
                    f"reasons from before {listed[-1].created_at[:10]} were not looked for: more than {RUNS_MAX} runs"
                    f" of {WORKFLOW} with the end {conclusion} since"
                )
    except GitHubMissingError:
        return Reasons()
    of_run = Counter(each.run_id for each in named if not each.expired)
    # Of two with one name, nobody knows which `decide` left.
    offered = [(runs[each.run_id], each) for each in waiting if each.run_id in runs and of_run[each.run_id] == 1]
    measured = frozenset(artifact.id for run, artifact in offered if _measured(github, run))
    return Reasons(tuple(each for each in offered if each[1].id not in measured), measured, tuple(remarks))


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
