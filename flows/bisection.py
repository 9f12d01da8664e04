"""`redline bisect`, from the request to the answer: the machine held, Prefect's API up, the flow run, the page written.

Imports no Prefect: its settings must be set before it is imported.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from checks.bisection import Bisection, Costs, Ended, Evidence, Outcome, Purpose, next_step, posterior_of
from checks.culprit import Posterior
from checks.effects import metric_named, share_from_log
from flows.bisection_work import (
    BisectRequest,
    asked_of,
    directory_of,
    evidence_of,
    metric_of,
    open_record,
    scenario_of,
    set_old_aside,
)
from flows.build_list import BuildLine
from flows.plan import Plan, Wanted
from flows.request import Answer
from flows.session import plan_of, session_of
from redline.builds.build_spec import EndpointSpec, NightlySpec, RecordSpec, WheelSpec, parse_spec
from redline.builds.image_reference import ImageReference
from redline.deploy.command import server_command
from redline.errors import ExitCode, UsageError
from redline.model import Arm
from redline.store.bisections import BisectionRecord, path_of
from reports.bisection import BisectionReport, BuildRow, render, terminal_lines, to_json

ROWS_PROBABLE_MAX = 5
PROBABILITY_SHOWN_MIN = 0.01
EXIT_CODES = {
    Outcome.NAMED: ExitCode.REGRESSED,
    Outcome.ENDS_EQUAL: ExitCode.NO_WORSE,
    Outcome.GAVE_UP: ExitCode.INCONCLUSIVE,
}


def bisect(request: BisectRequest) -> Answer:
    """The first bad build of a list, if it can be found and confirmed.

    A bisection that was interrupted goes on where it stopped; one that has ended says its answer again.
    Raises UsageError before anything is started, and what the flow raises; what was learned is kept.
    """
    _require_deployable(request.builds)
    arms = (Arm.BASELINE, *(Arm.CANDIDATE for _ in request.builds[1:]))
    wanted = tuple(Wanted(arm, build.spec, build.extra_args) for arm, build in zip(arms, request.builds, strict=True))
    plan = plan_of(request.options, wanted)
    scenario_of(plan)
    metric_of(plan, request.metric)
    _require_startable(plan, wanted, request.builds)
    if request.restart:
        set_old_aside(plan, request)
    record = open_record(plan, request)
    asked = asked_of(plan, record, request.readings_max)
    before = len(record.pairs)
    ended = _answered(asked, record)
    if ended is None:
        with session_of(plan, request.options) as session:
            from flows.bisection_flow import bisect_flow  # noqa: PLC0415 - imports Prefect: see above

            # Read again: until the machine was free, another process may have worked on it.
            record = open_record(plan, request)
            before = len(record.pairs)
            ended, record = bisect_flow(request, asked, record, session)
    report = report_of(plan, request, asked, record, ended, before)
    path = Path(report.report_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(render(report), encoding="utf-8")
    temporary.replace(path)
    lines = (to_json(report),) if request.options.as_json else terminal_lines(report)
    return Answer(lines, EXIT_CODES[ended.outcome])


def _answered(asked: Bisection, record: BisectionRecord) -> Ended | None:
    """The answer of a bisection that needs no further pair."""
    step = next_step(asked, evidence_of(record), Costs(1.0, (0.0,) * len(record.builds)))
    return step if isinstance(step, Ended) else None


def _require_deployable(builds: Sequence[BuildLine]) -> None:
    """Refuse, before anything is planned, what cannot be deployed afresh. Raises UsageError."""
    for build in builds:
        match parse_spec(build.spec):
            case EndpointSpec():
                raise UsageError(
                    "an endpoint cannot be bisected",
                    expected="builds that Redline can deploy afresh for every pair",
                    found=f"build {build.number}: {build.text}",
                    next_step="name the build that runs there",
                )
            case NightlySpec() | ImageReference(digest=""):
                raise UsageError(
                    "a name that moves cannot be bisected",
                    expected="builds that are the same for every pair: a version, commit:SHA, an image by digest",
                    found=f"build {build.number}: {build.text}",
                    next_step="redline builds pin says what it names now",
                )
            case WheelSpec(path=path) | RecordSpec(path=path) if not path.is_file():
                raise UsageError(
                    f"build {build.number} of the list names no file",
                    expected="a wheel or a pin's record",
                    found=str(path),
                    next_step="correct the path, or leave the line out",
                )
            case _:
                pass


def _require_startable(plan: Plan, wanted: Sequence[Wanted], builds: Sequence[BuildLine]) -> None:
    """Refuse server arguments that Redline sets itself, before hours are spent. Raises UsageError."""
    recipe, platform = plan.groups[0].recipe, plan.runner_class.platform
    model = plan.workspace.model_path(recipe.model)
    for each, build in zip(wanted, builds, strict=True):
        try:
            server_command(
                python=Path("python"),
                recipe=recipe,
                platform=platform,
                extra_args=each.extra_args,
                model=model,
                port=1,
            )
        except UsageError as error:
            raise UsageError(
                f"build {build.number} of the list cannot be served as it is written: {error.problem}",
                expected=error.expected,
                found=build.text,
                next_step=error.next_step,
            ) from error


def report_of(
    plan: Plan, request: BisectRequest, asked: Bisection, record: BisectionRecord, ended: Ended, before: int
) -> BisectionReport:
    """What is said of an answer; `before`: pairs that earlier calls had measured."""
    evidence = evidence_of(record)
    found = ended.posterior or (posterior_of(asked, evidence) if asked.last > 1 else None)
    named = range(ended.first, ended.last + 1) if ended.outcome is Outcome.NAMED else range(0)
    decided = ended.outcome is not Outcome.ENDS_EQUAL
    offset = request.builds[0].number
    rows = {
        build: _row(request, record, evidence, build, found if decided else None)
        for build in range(len(request.builds))
    }
    span = found.span() if found is not None and decided else None
    return BisectionReport(
        outcome=ended.outcome.value,
        reason=ended.reason,
        exit_code=int(EXIT_CODES[ended.outcome]),
        scenario=record.scenario,
        metric=record.metric,
        margin=asked.policy.of(record.metric).margin,
        candidate_count=asked.last,
        rows=tuple(rows[build] for build in _shown(record, evidence, found if decided else None, asked.last)),
        culprit=tuple(rows[build] for build in named),
        parent=rows[ended.parent] if named else None,
        comparison=ended.comparison,
        span=(span[0] + offset, span[1] + offset) if span is not None else None,
        differences=record.differences if named else (),
        reading_count=evidence.reading_count,
        confirmation_pair_count=len(evidence.readings) - evidence.reading_count,
        pairs_before=before,
        runner_class=plan.runner_class.name,
        policy=asked.policy.name,
        repeat_command=request.options.command,
        state_path=str(path_of(directory_of(plan), record.key)),
        report_path=str(plan.workspace.report_path(plan.run_id)),
        generated_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _shown(record: BisectionRecord, evidence: Evidence, found: Posterior | None, last: int) -> list[int]:
    """The builds that a table shows: both ends, those that were read or skipped, and the likeliest."""
    likeliest = found.top(ROWS_PROBABLE_MAX) if found is not None else ()
    chosen = {0, last, *record.skipped, *(build for build, share in likeliest if share >= PROBABILITY_SHOWN_MIN)}
    return sorted(chosen | {build for each in evidence.readings for build in (each.pair.baseline, each.pair.candidate)})


def _row(
    request: BisectRequest, record: BisectionRecord, evidence: Evidence, build: int, found: Posterior | None
) -> BuildRow:
    metric = metric_named(record.metric)
    against_good = [
        each.difference(metric)
        for each in evidence.readings
        if each.pair.candidate == build and each.pair.purpose is not Purpose.CONFIRMATION
    ]
    mean = share_from_log(statistics.fmean(against_good), metric.better) if against_good else None
    notes = ["the good end"] if build == 0 else ["the bad end"] if build == len(record.builds) - 1 else []
    if build in record.skipped:
        notes.append(f"skipped: {record.skipped[build]}")
    probability = float(found.shares[build - 1]) if found is not None and build > 0 else None
    line = request.builds[build]
    return BuildRow(line.number, line.text, len(against_good), mean, probability, "; ".join(notes))
