"""A regression that was proven and is taken all the same: who, when and why, kept in the store and on the page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from flows.service.delivery import deliver
from flows.service.desk import CHECK_NAME, Desk
from flows.service.gate_answer import GateAnswer, gate_answer
from flows.service.leg_jobs import leg_jobs
from redline import markdown
from redline.errors import GitHubError, GitHubMissingError
from redline.github.checks import find_check
from redline.github.events import CommentEvent, GateRun, Ignored, external_run, read_gate_run, table, text
from redline.github.pulls import Pull
from redline.model import Conclusion, Finding, Justification
from redline.store.justifications import write_justification
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
    again from what the legs handed in. Raises GitHubError if GitHub does not say what was measured.
    """
    found = _regression(desk, pull)
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
    done = deliver(desk, told, run)
    line = f"{markdown.code(event.author)} accepted the regression of {markdown.code(pull.head_sha[:12])}"
    return Accepted((line, *done.lines), done.failures)


def _regression(desk: Desk, pull: Pull) -> tuple[GateRun, GateAnswer] | str:
    """The run that found a regression of the newest commit and its answer, or why there is nothing to accept."""
    commit = markdown.code(pull.head_sha[:12])
    check = find_check(desk.github, pull.head_sha, CHECK_NAME)
    identity = external_run(check.external_id) if check else None
    if check is None or identity is None:
        return f"nothing was measured for the newest commit, {commit}: write `/redline run` first"
    if check.conclusion == Conclusion.NEUTRAL:
        return f"the regression of {commit} has been accepted already"
    run = _run(desk, pull, *identity)
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
    if gate.head_sha != pull.head_sha or gate.answer.outdated:
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


def _run(desk: Desk, pull: Pull, run_id: int, attempt: int) -> GateRun | str:
    again = "what was measured is not there any more: write `/redline run` again"
    try:
        raw = desk.github.get(f"actions/runs/{run_id}")
    except GitHubMissingError:
        return again
    default_branch = text(table(desk.environment.event, "repository"), "default_branch")
    run = read_gate_run(raw, default_branch)
    if isinstance(run, Ignored) or run.number != pull.number:
        return "the newest commit was measured for another pull request: write `/redline run` here"
    if run.attempt != attempt or not run.conclusion:
        return "the gate is being run again: wait for its answer"
    return run


def _regressed_runs(gate: GateAnswer) -> tuple[str, ...]:
    reports = (leg.report for leg in gate.answer.legs)
    return tuple(each.run_id for each in reports if each and each.verdict.finding is Finding.REGRESSED)
