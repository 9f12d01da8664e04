"""A regression that was proven and is taken all the same: who, when and why, kept in the store and on the page."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from flows.service.delivery import deliver
from flows.service.desk import CHECK_NAME, DECISION_ARTIFACT, Desk
from flows.service.gate_answer import GateAnswer, gate_answer
from flows.service.leg_jobs import DECISION_LIMITS, leg_jobs
from flows.service.standing import Standing, standing_of
from redline import markdown
from redline.errors import GitHubError, GitHubMissingError
from redline.github.artifacts import artifacts_of, fetch
from redline.github.checks import FoundCheck, find_check
from redline.github.events import CommentEvent, GateRun, Ignored, read_gate_run, table, text
from redline.github.pulls import Pull
from redline.model import Finding, Justification
from redline.store.justifications import list_justifications, read_justification, write_justification
from reports.pages import joint

JUSTIFICATIONS = "justifications"
UNJUDGED = (Finding.ERROR, Finding.INVALID, Finding.INCONCLUSIVE, Finding.NO_BASELINE)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a request to accept: `refusal` says why nothing was, empty if it was. All of it is Markdown."""

    lines: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    refusal: str = ""


def accept(desk: Desk, event: CommentEvent, pull: Pull, reason: str, output: Path) -> Accepted:
    """Keep the reason below `output` and publish the answer again, neutral and with the reason on it.

    `reason`: of somebody who may; at least three words. It holds for this commit's regression alone: the answer is made
    again from what the legs handed in. Called again for the same comment it does the same again, so that what GitHub
    refused can be tried once more. Raises GitHubError if GitHub does not say what was measured.
    """
    found = _regression(desk, event, pull)
    if isinstance(found, str):
        return Accepted(refusal=found)
    run, gate = found
    justification = Justification(
        schema=1,
        repository=desk.environment.repository,
        number=pull.number,
        head_sha=pull.head_sha,
        run_ids=_regressed_runs(gate),
        reason=markdown.one_line(reason, 1_000),
        by=event.author,
        at=event.at,
        url=event.url,
    )
    write_justification(output / JUSTIFICATIONS, justification)
    told = replace(gate, answer=replace(gate.answer, justification=justification))
    done = deliver(desk, told, run, accepted_by=event.comment_id)
    line = f"{markdown.code(event.author)} accepted the regression of {markdown.code(pull.head_sha[:12])}"
    return Accepted((line, *done.lines), done.failures)


def keep_earlier(desk: Desk, event: CommentEvent, output: Path) -> None:
    """Put below `output` what an earlier attempt of this very run kept: its artifact is about to be replaced.

    Such a run has no legs, so nothing but this service wrote there. Raises GitHubError if GitHub does not give it: the
    attempt then ends before it could lose the reason.
    """
    if desk.environment.run_attempt < 2:
        return
    earlier = [each for each in artifacts_of(desk.github, desk.environment.run_id) if each.name == DECISION_ARTIFACT]
    if not earlier:
        return
    with tempfile.TemporaryDirectory(prefix="redline-decision-") as scratch:
        folder = Path(scratch) / DECISION_ARTIFACT
        fetch(desk.github, earlier[-1], folder, limits=DECISION_LIMITS)
        for path in list_justifications(folder / JUSTIFICATIONS):
            found = read_justification(path)
            if found.url == event.url:
                write_justification(output / JUSTIFICATIONS, found)


def _regression(desk: Desk, event: CommentEvent, pull: Pull) -> tuple[GateRun, GateAnswer] | str:
    """The run that found a regression of the newest commit and its answer, or why there is nothing to accept."""
    commit = markdown.code(pull.head_sha[:12])
    check = find_check(desk.github, pull.head_sha, CHECK_NAME)
    standing = standing_of(check)
    if check is None or standing is None or not standing.measured:
        return f"nothing was measured in whole for the newest commit, {commit}: write `/redline run` first"
    if standing.comment_id not in (0, event.comment_id):
        return f"the regression of {commit} has been accepted already, by another comment"
    if standing.comment_id == 0 and not _seen(check, event):
        return (
            f"the answer for {commit} came after this comment was written, so whoever wrote it cannot have seen it: "
            "look at it again, then write the command in a new comment"
        )
    run = _run(desk, pull, standing)
    if isinstance(run, str):
        return run
    jobs = leg_jobs(desk.github, run, desk.gate_legs)
    if not jobs:
        return "the run that was judged has no legs that this service knows: write `/redline run` again"
    gate = gate_answer(desk, run, jobs)
    if gate.failures:
        raise GitHubError(
            "what was measured cannot be read again",
            expected="what every leg handed in",
            found="; ".join(gate.failures),
            next_step="write the command again later; nothing was accepted",
        )
    if gate.answer.chosen or gate.head_sha != pull.head_sha or gate.answer.outdated:
        return f"what was measured is not the newest commit, {commit}: write `/redline run` first"
    return _acceptable(gate) or (run, gate)


def _acceptable(gate: GateAnswer) -> str:
    """Why this answer cannot be accepted, and what to do instead; empty if it can."""
    for leg in gate.answer.legs:
        if leg.report is None or leg.report.verdict.finding in UNJUDGED:
            return (
                f"runner class {markdown.code(leg.runner_class)} has no verdict yet that could be accepted or not: "
                "what is unknown cannot be justified. Write `/redline run` to measure again"
            )
    finding, _ = joint(gate.answer)
    if finding is not Finding.REGRESSED:
        return "there is no regression to accept"
    return ""


def _seen(check: FoundCheck, event: CommentEvent) -> bool:
    """True if the answer stood there when the comment was written; false also if GitHub does not say when it came."""
    try:
        return datetime.fromisoformat(check.completed_at) <= datetime.fromisoformat(event.at)
    except (ValueError, TypeError):
        return False


def _run(desk: Desk, pull: Pull, standing: Standing) -> GateRun | str:
    again = "what was measured is not there any more: write `/redline run` again"
    try:
        raw = desk.github.get(f"actions/runs/{standing.run_id}")
    except GitHubMissingError:
        return again
    default_branch = text(table(desk.environment.event, "repository"), "default_branch")
    run = read_gate_run(raw, default_branch)
    if isinstance(run, Ignored) or not run.number == standing.number == pull.number:
        return "the newest commit was measured for another pull request: write `/redline run` here"
    if run.attempt != standing.attempt or not run.conclusion:
        return "the gate is being run again: wait for its answer"
    return run


def _regressed_runs(gate: GateAnswer) -> tuple[str, ...]:
    reports = (leg.report for leg in gate.answer.legs)
    return tuple(each.run_id for each in reports if each and each.verdict.finding is Finding.REGRESSED)
