"""The work of a bisection: what is asked, its state on disk, and the loop. No Prefect here.

The loop asks `checks.bisection.next_step` what to measure, measures it, and writes the state after every pair: it can
be stopped at any moment and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from checks.bisection import (
    READINGS_MAX,
    Bisection,
    Costs,
    Ended,
    Evidence,
    Pair,
    PairReading,
    Purpose,
    next_step,
    posterior_of,
)
from checks.effects import metric_named, share_from_log
from checks.prior import VariancePrior
from flows import judge
from flows.build_list import BuildLine
from flows.plan import Options, Plan
from flows.progress import Narrator
from redline.errors import ContentError, InfrastructureError, NoBuildError, RedlineError, UsageError
from redline.model import Scenario, digest
from redline.store.bisections import BisectionRecord, PairRecord, read_record, set_aside, write_record
from redline.units import format_percent

SKIPS_IN_A_ROW_MAX = 5
"""So many builds in a row that cannot be measured are not the builds' fault."""

TOP_SHOWN = 3


@dataclass(frozen=True, slots=True)
class BisectRequest:
    """`builds`: from the good end to the bad one, at least two; `metric`: None for the first primary one."""

    builds: tuple[BuildLine, ...]
    metric: str | None
    readings_max: int
    restart: bool
    options: Options


@dataclass(frozen=True, slots=True)
class Measured:
    """What a laboratory gives for a pair: the reading, what it took in seconds, and the pins of its builds."""

    reading: PairReading
    seconds: float
    pin_ids: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unmeasurable:
    """A build that cannot be installed, does not start or does not answer as it must; `error` says why."""

    build: int
    error: RedlineError


class Laboratory(Protocol):
    """What measures: real deployments in `flows.bisection_flow`, a made-up world in tests."""

    def measure(self, pair: Pair, attempt: int, evidence: Evidence) -> Measured | Unmeasurable | None:
        """One pair, the `attempt`-th begun (from 0); None: to be tried again. Raises RedlineError."""

    def costs(self) -> Costs:
        """Expected seconds of a reading, and of installing each build."""


def scenario_of(plan: Plan) -> Scenario:
    """The one scenario of a bisection. Raises UsageError if it measures no speed or is not alone."""
    scenarios = plan.scenarios
    if len(scenarios) != 1 or scenarios[0].measures_accuracy:
        raise UsageError(
            "a bisection follows one metric of one scenario",
            expected="one scenario that measures speed",
            found=", ".join(scenario.name for scenario in scenarios),
            next_step="name one: --scenario offline-short",
        )
    return scenarios[0]


def metric_of(plan: Plan, name: str | None) -> str:
    """The metric that is followed: the one named, else the scenario's first primary one by the policy.

    Raises UsageError for a metric by which the scenario is not judged.
    """
    scenario = scenario_of(plan)
    if name is None:
        return next(metric for metric in scenario.metrics if plan.policy.of(metric).primary)
    if name not in scenario.metrics:
        raise UsageError(
            f"scenario {scenario.name} is not judged by {name}",
            expected=f"one of {', '.join(scenario.metrics)}",
            found=name,
            next_step="correct --metric, or leave it out",
        )
    return name


# --- the state ----------------------------------------------------------------------------------------------


def key_of(plan: Plan, builds: Sequence[BuildLine], metric: str) -> str:
    """The identity of a bisection, 16 hex digits: builds, ends, scenario, metric, runner class and machine."""
    scenario = scenario_of(plan)
    texts = [build.text for build in builds]
    machine = [plan.runner_class.name, plan.fingerprint.fingerprint_id]
    return digest([texts, plan.scenario_hashes[scenario.name], metric, machine])


def directory_of(plan: Plan) -> Path:
    """Where bisections are kept."""
    return plan.workspace.state_dir / "bisections"


def set_old_aside(plan: Plan, request: BisectRequest) -> Path | None:
    """Begin anew: the old state gets another name, which is returned; None if there is none. Raises StoreError."""
    return set_aside(directory_of(plan), key_of(plan, request.builds, metric_of(plan, request.metric)))


def open_record(plan: Plan, request: BisectRequest) -> BisectionRecord:
    """The state of this bisection: as it was left, or a new one.

    Raises StoreError for a damaged file.
    """
    metric = metric_of(plan, request.metric)
    key = key_of(plan, request.builds, metric)
    found = read_record(directory_of(plan), key)
    if found is not None:
        return found
    scenario = scenario_of(plan)
    prior = judge.start(plan).priors[scenario.name, metric]
    return BisectionRecord(
        key=key,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        builds=tuple(build.text for build in request.builds),
        scenario=scenario.name,
        scenario_hash=plan.scenario_hashes[scenario.name],
        metric=metric,
        runner_class=plan.runner_class.name,
        fingerprint_id=plan.fingerprint.fingerprint_id,
        prior_df=prior.df,
        prior_variance=prior.variance,
    )


def asked_of(plan: Plan, record: BisectionRecord, readings_max: int = READINGS_MAX) -> Bisection:
    """The question that the pure part answers. Raises UsageError for a bound that does not allow the ends."""
    try:
        return Bisection(
            last=len(record.builds) - 1,
            scenario=record.scenario,
            metric=record.metric,
            policy=plan.policy.for_confirmation(),
            prior=VariancePrior(record.prior_df, record.prior_variance),
            readings_max=readings_max,
        )
    except ValueError as error:
        raise UsageError(
            "this bisection makes no sense", found=str(error), next_step="correct --readings-max"
        ) from error


def evidence_of(record: BisectionRecord) -> Evidence:
    """What the record holds, for the pure part."""
    readings = [
        PairReading(
            Pair(each.baseline_build, each.candidate_build, Purpose(each.purpose)), each.baseline, each.candidate
        )
        for each in record.pairs
    ]
    return Evidence(tuple(readings), frozenset(record.skipped))


# --- the loop -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a bisection is worked on: the question, how to say a build's name, and where the state is written."""

    asked: Bisection
    run_id: str
    name: Callable[[int], str]
    save: Callable[[BisectionRecord], None]
    narrator: Narrator


def saver(plan: Plan) -> Callable[[BisectionRecord], None]:
    """Writes the state of a bisection of this plan."""
    directory = directory_of(plan)

    def save(record: BisectionRecord) -> None:
        write_record(directory, record)

    return save


def work(desk: Desk, record: BisectionRecord, laboratory: Laboratory) -> tuple[Ended, BisectionRecord]:
    """Measure until there is an answer; the state is written after every pair and every build that was skipped.

    Raises what the laboratory raises, and InfrastructureError if one build after the other cannot be measured. What
    was learned is kept.
    """
    streak: list[int] = []
    while True:
        evidence = evidence_of(record)
        step = next_step(desk.asked, evidence, laboratory.costs())
        if isinstance(step, Ended):
            return step, record
        desk.narrator.say(_announced(desk, step, evidence))
        measured = laboratory.measure(step, record.attempt_count, evidence)
        record = replace(record, attempt_count=record.attempt_count + 1)
        match measured:
            case None:
                pass
            case Unmeasurable():
                record = _skipped(desk, record, measured, streak)
            case Measured():
                streak.clear()
                record = _added(desk, record, measured)
                desk.narrator.say(_said(desk, record))
        desk.save(record)


def _announced(desk: Desk, step: Pair, evidence: Evidence) -> str:
    words = {Purpose.END: "an end", Purpose.SEARCH: "search", Purpose.CONFIRMATION: "confirmation"}[step.purpose]
    number = len(evidence.of(step.purpose, step.baseline, step.candidate)) + 1
    return f"{words}: {desk.name(step.candidate)} against {desk.name(step.baseline)}, pair {number}"


def _skipped(desk: Desk, record: BisectionRecord, found: Unmeasurable, streak: list[int]) -> BisectionRecord:
    """The record without that build. Raises its error for an end, InfrastructureError after too many in a row."""
    if found.build in (0, desk.asked.last):
        raise found.error
    if not isinstance(found.error, NoBuildError):  # that nobody made it says nothing about this machine
        streak.append(found.build)
    record = replace(record, skipped={**record.skipped, found.build: found.error.problem})
    if len(streak) >= SKIPS_IN_A_ROW_MAX:
        kept = {build: why for build, why in record.skipped.items() if build not in streak}
        desk.save(replace(record, skipped=kept))
        raise InfrastructureError(
            f"{len(streak)} builds in a row could not be measured",
            expected="a few odd builds at most: so many point to this machine, the network or a server argument",
            found=str(found.error),
            next_step="mend it and give the same command again: it goes on, and tries these builds again",
        ) from found.error
    desk.narrator.say(f"skipped: {desk.name(found.build)} cannot be measured: {found.error.problem}")
    return record


def _added(desk: Desk, record: BisectionRecord, found: Measured) -> BisectionRecord:
    """The record with one pair more. Raises ContentError if a build is not the one that was measured before."""
    for build, pin_id in found.pin_ids.items():
        if record.pin_ids.get(build, pin_id) != pin_id:
            raise ContentError(
                f"{desk.name(build)} is not the build that it was when this bisection began",
                expected=f"pin {record.pin_ids[build]}",
                found=f"pin {pin_id}",
                next_step="begin anew with --restart",
            )
    pair = found.reading.pair
    added = PairRecord(
        purpose=pair.purpose.value,
        baseline_build=pair.baseline,
        candidate_build=pair.candidate,
        baseline=found.reading.baseline,
        candidate=found.reading.candidate,
        seconds=found.seconds,
        run_id=desk.run_id,
        pair_index=record.attempt_count - 1,
    )
    return replace(record, pairs=(*record.pairs, added), pin_ids={**record.pin_ids, **found.pin_ids})


def _said(desk: Desk, record: BisectionRecord) -> str:
    """One line after a pair: what it read, and where the culprit now seems to be."""
    evidence = evidence_of(record)
    metric = metric_named(record.metric)
    effect = share_from_log(evidence.readings[-1].difference(metric), metric.better)
    line = f"reading {len(evidence.readings)}: {format_percent(effect)}"
    found = posterior_of(desk.asked, evidence)
    if found is None:
        return line
    top = ", ".join(f"{desk.name(build)} ({share * 100:.0f} %)" for build, share in found.top(TOP_SHOWN))
    return f"{line}; likeliest: {top}"
