"""One command from start to exit code: the machine held, Prefect's API up, the flow run, the report written."""

from __future__ import annotations

import json
import secrets
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from checks.rate_search import RateLimits
from flows.answer import sections
from flows.machine import measured_on, system_of
from flows.plan import (
    PREFECT_EXPECTED_S,
    Options,
    Plan,
    SearchShape,
    Use,
    Wanted,
    check_memory,
    make_plan,
    require_searchable,
)
from flows.prefect_api import prefect_api
from flows.progress import narrate
from flows.report_file import write_report
from flows.request import Answer, GateRequest, Judged, NightlyRequest, RunRequest, Seen, Session
from flows.workspace import Workspace, content_root
from redline.builds.build_spec import EndpointSpec, parse_spec
from redline.errors import ExitCode, InfrastructureError, RedlineError, UsageError
from redline.model import Finding, Verdict
from redline.runner.lock import runner_lock
from redline.store.json_file import write_json
from redline.whole_file import write_whole
from reports.data import NextStep, ReportData, ReportKind, dropped_repeats, trial_validity
from reports.report import render
from reports.summary import signoff_line, terminal_lines, to_json

NOT_SHOWN = NextStep(
    "Not shown is no yes: decide what to do about the metrics above, or sign off with more pairs ([signoff] pair_count "
    "in the policy). Signing off again until it passes is a choice of results: every further try adds its own error"
)
EXIT_CODES = {
    Finding.NO_WORSE: ExitCode.NO_WORSE,
    Finding.IMPROVED: ExitCode.NO_WORSE,
    Finding.REGRESSED: ExitCode.REGRESSED,
    Finding.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
    Finding.INVALID: ExitCode.INVALID,
    Finding.NO_BASELINE: ExitCode.NO_BASELINE,
    Finding.ERROR: ExitCode.INFRASTRUCTURE,
}


def run(request: RunRequest) -> Answer:
    """The answer about one build. Raises UsageError before anything is started."""

    def body(session: Session) -> Judged:
        from flows.run import run_flow  # noqa: PLC0415 - imports Prefect, whose settings must be set before

        return run_flow(request, session)

    return _in_session(ReportKind.RUN, request.options, (request.wanted,), body)


def gate(request: GateRequest) -> Answer:
    """The answer about two systems. Raises UsageError before anything is started."""

    def body(session: Session) -> Judged:
        from flows.gate import gate_flow  # noqa: PLC0415 - as above

        return gate_flow(request, session)

    return _in_session(ReportKind.GATE, request.options, (request.baseline, request.candidate), body)


def nightly(request: NightlyRequest) -> Answer:
    """The answer about a night. Raises UsageError before anything is started."""
    if isinstance(parse_spec(request.wanted.spec), EndpointSpec):
        raise UsageError(
            "a nightly needs builds that it can deploy again",
            expected="a build: what looks worse tonight is measured again beside the last good one",
            found=request.wanted.spec,
            next_step="measure an endpoint with `redline run --endpoint`",
        )

    def body(session: Session) -> Judged:
        from flows.nightly import nightly_flow  # noqa: PLC0415 - as above

        return nightly_flow(request, session)

    return _in_session(ReportKind.NIGHTLY, request.options, (request.wanted,), body)


def signoff(request: GateRequest) -> Answer:
    """May the candidate be released? The gate's pairs, a fixed number of them, against the last release.

    Answers first: where they are worse or miss their target the answer is no, and speed is measured only if the
    options say `complete`. Speed is measured to the end whatever the first pairs say. Raises UsageError as `gate`.
    """
    options = replace(request.options, use=Use.SIGNOFF)
    request = replace(request, options=options)

    def body(session: Session) -> Judged:
        from flows.gate import gate_flow  # noqa: PLC0415 - as above

        judged = gate_flow(request, session)
        undecided = judged.verdict.finding is Finding.INCONCLUSIVE
        return replace(judged, next_steps=(NOT_SHOWN,)) if undecided else judged

    return _in_session(ReportKind.SIGNOFF, options, (request.baseline, request.candidate), body)


def rate(wanted: Wanted, limits: RateLimits, shape: SearchShape, options: Options) -> Answer:
    """The highest rate of one server scenario within limits.

    Raises UsageError before anything is started, and what the flow raises: there is no verdict to report.
    """
    plan = plan_of(options, (wanted,))
    require_searchable(plan, wanted, shape)
    with session_of(plan, options) as session:
        from flows.rate_search import as_json, lines_of, rate_flow  # noqa: PLC0415 - as above

        found = rate_flow(wanted, limits, shape, session)
    path = plan.workspace.report_path(plan.run_id).with_suffix(".rate.json")
    write_whole(path, as_json(found) + "\n")
    lines = (as_json(found),) if options.as_json else (*lines_of(found), f"kept in {path}")
    if found.simulated:
        return Answer(lines, ExitCode.INVALID)
    complete = found.estimate is not None and not found.problem
    return Answer(lines, ExitCode.NO_WORSE if complete else ExitCode.INCONCLUSIVE)


def _in_session(
    kind: ReportKind, options: Options, wanted: tuple[Wanted, ...], body: Callable[[Session], Judged]
) -> Answer:
    plan = plan_of(options, wanted)
    workspace = plan.workspace
    started_at, begin_s = datetime.now(UTC), time.monotonic()
    with session_of(plan, options) as session:
        judged = _errors_as_verdicts(body, session)
    data = ReportData(
        kind=kind,
        verdict=judged.verdict,
        scenarios=judged.sections,
        validity=tuple(trial_validity(trial) for trial in judged.trials),
        baseline=system_of(judged.baseline, judged.trials),
        candidate=system_of(judged.candidate, judged.trials),
        fingerprint=measured_on(plan.fingerprint, judged.trials[-1:]),
        runner_class=options.runner,
        policy=plan.policy.name,
        repeat_command=options.command,
        generated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        started_at=started_at.isoformat(timespec="seconds"),
        duration_s=time.monotonic() - begin_s,
        data_location=str(workspace.trials_dir),
        trial_ids=tuple(trial.trial_id for trial in judged.trials),
        dropped=dropped_repeats(judged.trials),
        next_steps=judged.next_steps,
        error=judged.error,
        run_id=plan.run_id,
    )
    return _publish(data, workspace.report_path(plan.run_id), judged, options)


def plan_of(options: Options, wanted: tuple[Wanted, ...]) -> Plan:
    """The plan of a new run, and a folder for its logs."""
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    workspace = Workspace(content_root(), options.state_dir)
    plan = make_plan(run_id, workspace, options, wanted)
    workspace.log_dir(run_id).mkdir(parents=True, exist_ok=True)
    if options.run_file is not None:
        write_whole(options.run_file, run_id + "\n")
    return plan


@contextmanager
def session_of(plan: Plan, options: Options) -> Iterator[Session]:
    """The machine held, and Prefect's API up. Raises RunnerBusyError, UsageError if memory is short."""
    with narrate(options.quiet) as narrator, runner_lock(options.wait_s, narrator.say), ExitStack() as stack:
        narrator.say(f"run {plan.run_id}")
        check_memory(plan.memory_bytes_free_min)  # now that whoever measured before has gone
        with narrator.doing("starting Prefect", PREFECT_EXPECTED_S):
            log_path = plan.workspace.log_dir(plan.run_id) / "prefect.log"
            stack.enter_context(prefect_api(options.state_dir, log_path))
        yield Session(narrator, plan, options, Seen())


def _errors_as_verdicts(body: Callable[[Session], Judged], session: Session) -> Judged:
    """A failure is reported like a verdict: it is named `error`, and it is never a pass."""
    try:
        return body(session)
    except Exception as unexpected:  # noqa: BLE001 - whatever goes wrong is reported, and is never exit code 1
        error = unexpected if isinstance(unexpected, RedlineError) else _wrapped(unexpected, session)
        finding = Finding.INVALID if error.exit_code is ExitCode.INVALID else Finding.ERROR
        seen = session.seen
        return Judged(
            Verdict(finding, error.problem),
            trials=seen.trials,
            sections=sections(session.plan, seen.trials),
            baseline=seen.baseline,
            candidate=seen.candidate,
            error=str(error),
            exit_code=error.exit_code,
        )


def _wrapped(unexpected: Exception, session: Session) -> InfrastructureError:
    """An error that nobody foresaw, with its traceback in the run's log folder."""
    path = session.plan.workspace.log_dir(session.plan.run_id) / "traceback.log"
    path.write_text("".join(traceback.format_exception(unexpected)), encoding="utf-8")
    return InfrastructureError(
        "Redline met an error that it does not know",
        found=f"{type(unexpected).__name__}: {unexpected}",
        next_step=f"report it with {path}; what was measured is kept",
    )


def _record(data: ReportData, run_id: str) -> dict[str, str]:
    """What the verdict's JSON does not say of itself: which run of what."""
    return {
        "run_id": run_id,
        "kind": data.kind.value,
        "candidate": data.candidate.label if data.candidate is not None else "",
        "baseline": data.baseline.label if data.baseline is not None else "",
        "runner_class": data.runner_class,
        "generated_at": data.generated_at,
    }


def _publish(data: ReportData, path: Path, judged: Judged, options: Options) -> Answer:
    write_whole(path, render(data))
    write_report(path.with_suffix(".data.json"), data)
    exit_code = judged.exit_code if judged.exit_code is not None else EXIT_CODES[data.verdict.finding]
    as_json = to_json(data.verdict, report_path=str(path), exit_code=int(exit_code))
    write_json(path.with_suffix(".json"), _record(data, path.stem) | json.loads(as_json))
    if options.as_json:
        return Answer((as_json,), exit_code)
    answered = (signoff_line(data.verdict),) if data.kind is ReportKind.SIGNOFF else ()
    return Answer((*answered, *terminal_lines(data.verdict, str(path))), exit_code)
