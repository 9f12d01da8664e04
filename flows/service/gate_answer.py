"""The answer of a gate's run: what every leg handed in, held against what GitHub itself says of run and change."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flows.service.desk import Desk, read_decision
from flows.service.leg_jobs import HandedIn, LegJob, already_there, handed_in
from flows.service.received import Asked, Received, dead, received
from redline.errors import GitHubError
from redline.github.events import GateRun
from redline.github.pulls import Pull, pull
from redline.model import COMMIT_SHA
from reports.data import Change, Leg, PublishedAnswer, ReportKind


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """What is to be published. `pull`: as it is now; None if GitHub did not say.

    `failures`: what could not be had of GitHub, in our words; another try may help.
    """

    answer: PublishedAnswer
    pull: Pull | None
    failures: tuple[str, ...] = ()

    @property
    def head_sha(self) -> str:
        """The commit that was measured, 40 hex digits; empty if GitHub did not confirm that it is the pull request's.

        A leg's word alone is not enough: it could name another pull request's commit.
        """
        return self.answer.change.head_sha if self.answer.change and self.pull else ""


def gate_answer(desk: Desk, run: GateRun, jobs: Sequence[LegJob], legs_dir: Path | None = None) -> GateAnswer:
    """The answer of a run with these legs. `legs_dir`: what an earlier step has downloaded already.

    Raises GitHubError if the run's artifacts cannot even be listed.
    """
    with tempfile.TemporaryDirectory(prefix="redline-legs-") as scratch:
        if legs_dir is not None:
            had = already_there(legs_dir, jobs)
        else:
            had = handed_in(desk.github, run, jobs, Path(scratch))
        asked, told = _heard(desk, run, jobs, had)
    failures = ["GitHub did not give out what a leg handed in"] if had.unanswered else []
    try:
        found = pull(desk.github, run.number)
        told, head_sha = _of_this_pull(desk, found, told, asked, jobs)
    except GitHubError:
        failures.append("GitHub did not say how the pull request stands")
        found, head_sha = None, _said_by_all(told) or asked.head_sha
    change = Change(
        repository=desk.environment.repository,
        number=run.number,
        head_sha=head_sha,
        base_sha=_base_of(told, head_sha),
        title=found.title if found else "",
    )
    answer = PublishedAnswer(
        kind=ReportKind.GATE,
        legs=tuple(each.leg for each in told),
        change=change,
        url=run.url,
        artifacts_url=f"{run.url}#artifacts",
        outdated=found is not None and found.head_sha != head_sha,
    )
    return GateAnswer(answer, found, tuple(failures))


def _heard(desk: Desk, run: GateRun, jobs: Sequence[LegJob], had: HandedIn) -> tuple[Asked, list[Received]]:
    """What was asked for, as far as `decide` left a word, and what every leg says."""
    decision = read_decision(had.decision) if had.decision else None
    known = decision.head_sha if decision and decision.number == run.number else ""
    asked = Asked(desk.environment.repository, run.number, known)
    told = []
    for job in jobs:
        if job.runner in had.folders:
            told.append(received(had.folders[job.runner], job, desk.gate_legs[job.runner], asked))
        else:
            told.append(Received(dead(job, had.problems[job.runner])))
    return asked, told


def _of_this_pull(
    desk: Desk, found: Pull, told: list[Received], asked: Asked, jobs: Sequence[LegJob]
) -> tuple[list[Received], str]:
    """The legs and the commit they measured; all of them refused if that is none of this pull request's."""
    said = {each.head_sha for each in told if each.head_sha}
    if not said:
        known = asked.head_sha
        return told, known if known and _is_commit_of(desk, found, known) else found.head_sha
    if len(said) > 1:
        problem = "the legs contradict each other about which commit they measured; nothing of them was used"
    elif _is_commit_of(desk, found, next(iter(said))):
        return told, said.pop()
    else:
        problem = (
            "it says that it measured a commit which this pull request does not have, or has no more; "
            "nothing of it was used"
        )
    return [_refused(each, job, problem) for each, job in zip(told, jobs, strict=True)], found.head_sha


def _refused(each: Received, job: LegJob, problem: str) -> Received:
    """A leg that said nothing keeps its own problem."""
    return Received(dead(job, problem)) if each.head_sha else each


def _is_commit_of(desk: Desk, found: Pull, sha: str) -> bool:
    """True if it is one of the commits that GitHub lists: the newest 250, and the newest of all in every case."""
    if sha == found.head_sha:
        return True
    listed = desk.github.pages(f"pulls/{found.number}/commits")
    return any(isinstance(each, dict) and each.get("sha") == sha for each in listed)


def _said_by_all(told: Sequence[Received]) -> str:
    said = {each.head_sha for each in told if each.head_sha}
    return said.pop() if len(said) == 1 else ""


def _base_of(told: Sequence[Received], head_sha: str) -> str:
    """The merge base that every leg of this commit names; empty if they do not agree."""
    said = {each.base_sha for each in told if each.head_sha == head_sha and COMMIT_SHA.fullmatch(each.base_sha)}
    return said.pop() if len(said) == 1 else ""


def without_reports(answer: PublishedAnswer, problem: str) -> PublishedAnswer:
    """The same answer with a problem in place of every report."""
    legs = tuple(Leg(leg.runner_class, None, leg.problem or problem, leg.url) for leg in answer.legs)
    return replace(answer, legs=legs)
