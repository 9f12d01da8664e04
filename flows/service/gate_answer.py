"""The answer of a gate's run: what every leg handed in, held against what GitHub itself says of run and change.

Which commits were measured, on which runner classes, is in the jobs' names, which no leg can change. What a leg says of
itself must agree with that, or nothing of it is used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flows.service.chosen import with_choice
from flows.service.desk import Desk
from flows.service.leg_jobs import LegJob, already_there, handed_in
from flows.service.received import Asked, dead, received
from redline.errors import GitHubError
from redline.github.events import GateRun
from redline.github.pulls import Pull, pull
from reports.data import Change, Leg, PublishedAnswer, ReportKind


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """What is to be published. `pull`: as it is now; None if GitHub did not say.

    `failures`: what could not be had of GitHub, in our words; another try may help. `base`: the first 12 digits of the
    merge base, by GitHub's word; empty if the run's jobs do not name it.
    """

    answer: PublishedAnswer
    pull: Pull | None
    failures: tuple[str, ...] = ()
    base: str = ""

    @property
    def head_sha(self) -> str:
        """The commit that was measured, 40 hex digits, and no other one; empty if the run's jobs do not name it.

        It was the pull request's newest when `decide` started its legs, and may be none of its commits by now.
        """
        return self.answer.change.head_sha if self.answer.change else ""


def gate_answer(desk: Desk, run: GateRun, jobs: Sequence[LegJob], legs_dir: Path | None = None) -> GateAnswer:
    """The answer of a run with these legs. `legs_dir`: what an earlier step has downloaded already.

    Raises GitHubError if the run's artifacts cannot even be listed.
    """
    asked = _asked(desk, run, jobs)
    with tempfile.TemporaryDirectory(prefix="redline-legs-") as scratch:
        if legs_dir is not None:
            had = already_there(legs_dir, jobs)
        else:
            had = handed_in(desk.github, run, jobs, Path(scratch))
        told = []
        for job in jobs:
            if not asked.head_sha:
                told.append(dead(job, "the run does not say which commits it measured; run the gate again"))
            elif job.runner in had.folders:
                told.append(received(had.folders[job.runner], job, desk.gate_legs[job.runner], asked))
            else:
                told.append(dead(job, had.problems[job.runner]))
    failures = ["GitHub did not give out what a leg handed in"] if had.unanswered else []
    try:
        found = pull(desk.github, run.number)
    except GitHubError:
        failures.append("GitHub did not say how the pull request stands")
        found = None
    change = Change(
        repository=desk.environment.repository,
        number=run.number,
        head_sha=asked.head_sha,
        base_sha=asked.base,
        title=found.title if found else "",
    )
    answer = PublishedAnswer(
        kind=ReportKind.GATE,
        legs=tuple(told),
        change=change,
        url=run.url,
        artifacts_url=f"{run.url}#artifacts",
        outdated=found is not None and asked.head_sha not in ("", found.head_sha),
    )
    return GateAnswer(with_choice(desk, jobs, answer), found, tuple(failures), asked.base)


def _asked(desk: Desk, run: GateRun, jobs: Sequence[LegJob]) -> Asked:
    """What `decide` had measured, from the names of the jobs; no commits if they do not all name the same two."""
    named = {(job.base, job.head_sha) for job in jobs if job.head_sha}
    base, head_sha = named.pop() if len(named) == 1 else ("", "")
    return Asked(desk.environment.repository, run.number, base, head_sha)


def without_reports(answer: PublishedAnswer, problem: str) -> PublishedAnswer:
    """The same answer with a problem in place of every report."""
    legs = tuple(Leg(leg.runner_class, None, leg.problem or problem, leg.url) for leg in answer.legs)
    return replace(answer, legs=legs)
