"""`redline github publish`: the job that runs after a gate, with the rights that no leg had, and tells who asked.

Nothing that a leg handed in is believed: the pages are made anew from its data. Which pull request, runner classes and
commits they are about is in the run's title and in its jobs' names, which GitHub keeps and no leg can change.
"""

from __future__ import annotations

from pathlib import Path

from flows.request import Answer
from flows.service.delivery import deliver
from flows.service.desk import Desk, workspace_of_content
from flows.service.gate_answer import gate_answer
from flows.service.leg_jobs import leg_jobs
from flows.service.telling import told
from redline import markdown
from redline.errors import ExitCode, UsageError
from redline.github.client import github_of
from redline.github.environment import Environment
from redline.github.events import GateRun, Ignored, read_gate_run, table, text
from redline.github.waiting import Clock

HEADING = "Publishing the gate's answer"


def publish(environment: Environment, legs_dir: Path | None, *, clock: Clock | None = None) -> Answer:
    """Publish what the gate's run of this `workflow_run` event found. Exit code 0: everything there was is published.

    Raises UsageError for another event, GitHubError if GitHub does not even say which legs there were.
    """
    run = _run(environment)
    if isinstance(run, Ignored):
        return told(environment, HEADING, [f"nothing to publish: {run.why}"], ExitCode.NO_WORSE)
    workspace = workspace_of_content()
    with github_of(environment, clock=clock) as github:
        desk = Desk(environment, github, workspace, workspace.service())
        jobs = leg_jobs(github, run, desk.gate_legs)
        if not jobs:
            return told(environment, HEADING, ["nothing to publish: nothing was measured"], ExitCode.NO_WORSE)
        if run.conclusion == "cancelled" and all(job.cancelled_by_hand for job in jobs):
            # One leg that ended otherwise is told, and the cancelled ones beside it as legs without a result.
            return told(environment, HEADING, ["nothing to publish: the run was cancelled"], ExitCode.NO_WORSE)
        answer = gate_answer(desk, run, jobs, legs_dir)
        done = deliver(desk, answer, run)
    legs = [f"{markdown.code(job.runner)}: {job.conclusion or 'no conclusion'}" for job in jobs]
    code = ExitCode.INFRASTRUCTURE if done.failures else ExitCode.NO_WORSE
    return told(environment, HEADING, [*legs, *done.lines, *done.failures], code)


def _run(environment: Environment) -> GateRun | Ignored:
    if environment.event_name != "workflow_run":
        raise UsageError(
            "this step publishes what another workflow's run found",
            expected="the event workflow_run",
            found=markdown.one_line(environment.event_name, 60),
            next_step="call it from publish.yml (docs/gate.md)",
        )
    payload = environment.event
    if text(payload, "action") != "completed":
        return Ignored("the run has not ended")
    default_branch = text(table(payload, "repository"), "default_branch")
    return read_gate_run(table(payload, "workflow_run"), default_branch)
