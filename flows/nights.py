"""The nights of a runner class as series, and what a night has to say about each: bookkeeping, nothing is measured."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from checks.effects import log_from_share, share_from_log
from checks.gate import Key
from checks.nightly import Outcome, Suspicion, SuspicionKind, better, missing_dates, settle, suspect
from checks.policy import Policy
from redline.metrics import CATALOGUE
from redline.model import (
    Comparison,
    Finding,
    LevelChange,
    LevelKind,
    Night,
    NightChange,
    NightFinding,
    SystemUnderTest,
    digest,
)
from redline.units import format_percent

SAME_BUILD_HIGH = -20.0
"""The upper bound (oriented log) of what a build costs against itself: nothing."""


@dataclass(frozen=True, slots=True)
class Series:
    """One primary metric over the nights that have a reading of it, oldest first, tonight's last.

    `readings`: oriented logs; `changes`: the level changes on record, with indices of these nights.
    """

    key: Key
    scenario_hash: str
    nights: tuple[Night, ...]
    readings: tuple[float, ...]
    changes: tuple[LevelChange, ...]

    @property
    def tonight(self) -> int:
        """The index of the last reading."""
        return len(self.readings) - 1


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one suspicion: its outcome, the finding to print, and what goes on record."""

    outcome: Outcome
    finding: NightFinding
    change: NightChange | None


def series_id_of(sut: SystemUnderTest, fingerprint_id: str) -> str:
    """What nights must share to be one history: the machine and how the server is started, not the build."""
    return digest([fingerprint_id, sut.extra_args, sut.models])


def history_of(nights: Sequence[Night], tonight: Night) -> tuple[Night, ...]:
    """The nights that tonight may be compared with, tonight last. Records without readings belong to all."""
    return (*(night for night in nights if night.series_id == tonight.series_id), tonight)


def series_of(nights: Sequence[Night], key: Key, scenario_hash: str) -> Series:
    """One metric of one version of one scenario over these nights."""
    metric = CATALOGUE[key[1]]
    chosen: list[Night] = []
    readings: list[float] = []
    for night in nights:
        for reading in night.readings:
            if (reading.scenario, reading.metric, reading.scenario_hash) == (*key, scenario_hash):
                chosen.append(night)
                readings.append(metric.oriented_log(reading.value))
    run_ids = [night.run_id for night in chosen]
    changes = [
        LevelChange(change.kind, min(bisect.bisect_left(run_ids, change.first_run_id), len(run_ids)), change.size)
        for night in nights
        for change in night.changes
        if (change.scenario, change.metric, change.scenario_hash) == (*key, scenario_hash)
    ]
    return Series(key, scenario_hash, tuple(chosen), tuple(readings), tuple(changes))


def suspicion_of(series: Series, policy: Policy, release_pin_id: str | None) -> Suspicion | None:
    """What is wrong with tonight's reading of a series, or None.

    The release's nights are those of the build with this pin; without one, the first nights of the series.
    """
    released = [index for index, night in enumerate(series.nights) if night.pin_id == release_pin_id]
    release = released or range(min(policy.nightly.drift_nights, len(series.nights)))
    metric = CATALOGUE[series.key[1]]
    margin = policy.for_confirmation().of(metric.metric_id).margin
    return suspect(
        series.readings,
        series.changes,
        policy.nightly,
        margin_log=log_from_share(margin, metric.better),
        release=release,
        open_since=_open_since(series),
    )


def _open_since(series: Series) -> int | None:
    """The first bad night of the suspicion that last night left open, back through every night that left it open."""
    run_ids = [night.run_id for night in series.nights]
    first: int | None = None
    for night in reversed(series.nights[:-1]):
        named = [
            each.first_run_id
            for each in night.findings
            if each.kind == Outcome.OPEN.value and (each.scenario, each.metric) == series.key
        ]
        if not named:
            return first
        index = min(bisect.bisect_left(run_ids, named[0]), series.tonight)
        first = index if first is None else min(first, index)
    return first


def improvement_of(series: Series, policy: Policy) -> tuple[NightFinding, NightChange] | None:
    """The better level to put on record, with what to say about it."""
    change = better(series.readings, series.changes, policy.nightly)
    if change is None:
        return None
    first, before = series.nights[change.first], series.nights[max(change.first - 1, 0)]
    words = f"{_named(series)} {_percent(series, -change.size)} better since {first.date} ({first.sut_label})"
    finding = NightFinding("improvement", *series.key, words, before.sut_label, first.sut_label)
    return finding, _on_record(series, change)


def answered(series: Series, suspicion: Suspicion, comparison: Comparison | None, problem: str = "") -> Answered:
    """What became of a suspicion after the gate found `comparison` on its metric.

    None with no `problem`: both builds are one, so the build costs nothing; with one: why no gate could be run.
    """
    metric = CATALOGUE[series.key[1]]
    if comparison is not None:
        finding, high_log = comparison.finding, log_from_share(comparison.effect_high, metric.better)
    elif problem:
        finding, high_log = None, 0.0
    else:
        finding, high_log = Finding.NO_WORSE, SAME_BUILD_HIGH
    outcome, change = settle(suspicion, finding, high_log, series.tonight)
    good, bad = series.nights[suspicion.last_good], series.nights[suspicion.first_bad]
    words = " ".join((_seen(series, suspicion), _explained(outcome, good, bad, comparison, problem)))
    said = NightFinding(outcome.value, *series.key, words, good.sut_label, bad.sut_label, bad.run_id)
    return Answered(outcome, said, _on_record(series, change) if change else None)


def gaps(history: Sequence[Night], tonight: Night, expected: Sequence[Key]) -> tuple[NightFinding, ...]:
    """What did not run: nights between the last one and tonight, and series that tonight has no reading of."""
    before = [night for night in history if night.readings and night.run_id != tonight.run_id]
    found = [
        NightFinding("missing", "", "", f"no night ran on {date}")
        for date in missing_dates([night.date for night in before], tonight.date)
    ]
    read = {(reading.scenario, reading.metric) for reading in tonight.readings}
    for scenario, metric in expected:
        if (scenario, metric) not in read:
            words = f"{CATALOGUE[metric].label} in {scenario} has no valid reading tonight"
            found.append(NightFinding("missing", scenario, metric, words))
    return tuple(found)


def machine_changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """What changed on the machine between two nights, in words."""
    return tuple(
        f"{name} {before.get(name, 'unknown')} -> {after.get(name, 'unknown')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def with_findings(night: Night, findings: Sequence[NightFinding], changes: Sequence[NightChange]) -> Night:
    """Tonight, complete: to be written once."""
    return replace(night, findings=tuple(findings), changes=tuple(changes))


def accepted(series: Series, run_id: str, reason: str, by: str, date: str) -> Night:
    """The record that the level a series has now is accepted: nothing is owed before it any more."""
    last = series.nights[-1]
    change = NightChange(*_identity(series), LevelKind.ACCEPTED, last.run_id, 0.0)
    words = f"{_named(series)}: the level since {last.date} is accepted by {by}: {reason}"
    return replace(
        last,
        run_id=run_id,
        date=date,
        trial_ids=(),
        readings=(),
        findings=(NightFinding("accepted", *series.key, words),),
        changes=(change,),
    )


def _seen(series: Series, suspicion: Suspicion) -> str:
    size = _percent(series, suspicion.size)
    if suspicion.kind is SuspicionKind.DRIFT:
        return f"{_named(series)} has drifted {size} worse than the release over the last nights."
    first = series.nights[suspicion.first_bad]
    others = [series.nights[index].date for index in suspicion.could_be if index != suspicion.first_bad]
    could_be = f" (it could also be {', '.join(others)})" if others else ""
    return f"{_named(series)} {size} worse since {first.date}{could_be}, z = {suspicion.z:.1f}."


def _explained(outcome: Outcome, good: Night, bad: Night, comparison: Comparison | None, problem: str) -> str:
    builds = f"last good build {good.sut_label}, first bad build {bad.sut_label}"
    if comparison is None and not problem:
        gate = f"Both nights measured one build, {good.sut_label}"
    elif comparison is None:
        gate = f"No gate could be run: {problem}"
    else:
        gate = (
            f"A gate of {comparison.pair_count} pairs tonight against {good.sut_label}: "
            f"{format_percent(comparison.effect)} ({format_percent(comparison.effect_low)} to "
            f"{format_percent(comparison.effect_high)}, + is worse), {comparison.finding.value}"
        )
    changed = "; ".join(machine_changes(good.notes, bad.notes)) or "nothing that Redline records of it"
    match outcome:
        case Outcome.REGRESSED:
            return f"Confirmed, {builds}. {gate}."
        case Outcome.ENVIRONMENT:
            return f"Not the build. {gate}. Something else stepped; on the machine changed: {changed}."
        case Outcome.UNEXPLAINED:
            return f"{gate}: too small a step to say whether it is the build's. On the machine changed: {changed}."
        case Outcome.ODD_NIGHT:
            return f"{gate}: one odd night, nothing goes on record."
        case Outcome.OPEN:
            return f"Not settled: {gate}. It stays open, and comes back with the next night."


def _on_record(series: Series, change: LevelChange) -> NightChange:
    return NightChange(*_identity(series), change.kind, series.nights[change.first].run_id, change.size)


def _identity(series: Series) -> tuple[str, str, str]:
    return series.key[0], series.scenario_hash, series.key[1]


def _named(series: Series) -> str:
    return f"{CATALOGUE[series.key[1]].label} in {series.key[0]}"


def _percent(series: Series, size: float) -> str:
    return f"{share_from_log(size, CATALOGUE[series.key[1]].better) * 100:.1f} %"
