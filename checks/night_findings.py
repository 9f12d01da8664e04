"""What a night has to say about its series, in words and figures, and what of it goes on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from checks import verdict
from checks.effects import log_from_share, share_from_log
from checks.gate import Key
from checks.night_series import SETTLED_SUFFIX, Series, release_of
from checks.nightly import Outcome, Suspicion, SuspicionKind, better, build_log, missing_dates, owed, settle
from checks.policy import Policy
from redline.metrics import CATALOGUE
from redline.model import (
    AccuracyComparison,
    Comparison,
    Finding,
    LevelChange,
    LevelKind,
    Night,
    NightChange,
    NightFinding,
)
from redline.units import format_percent

SAME_BUILD_LOG = (0.0, 0.0)
"""What a build costs against itself (oriented log): nothing."""

LEGS_NIGHTS = 7
"""A series that was read within so many nights is missed when tonight has no reading of it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one suspicion: its outcome, the finding to print, and what goes on record."""

    outcome: Outcome
    finding: NightFinding
    change: NightChange | None


def improvement_of(series: Series, policy: Policy) -> tuple[NightFinding, NightChange] | None:
    """The better level to put on record, with what to say about it."""
    change = better(series.readings, series.changes, policy.nightly)
    if change is None:
        return None
    first, before = series.nights[change.first], series.nights[max(change.first - 1, 0)]
    words = f"{_named(series)} {_percent(series, -change.size)} better since {first.date} ({first.sut_label})"
    if change.kind is LevelKind.ENVIRONMENT:
        words += ": what the environment had taken, it gave back"
    finding = NightFinding("improvement", *series.key, words, before.sut_label, first.sut_label)
    return finding, _on_record(series, change)


def answered(
    series: Series, suspicion: Suspicion, comparison: Comparison | None, *, against: str = "", problem: str = ""
) -> Answered:
    """What became of a suspicion after a gate against the build `against` found `comparison` on its metric.

    None with no `problem`: all its nights measured one build; with one: why no gate could be run.
    """
    finding: Finding | None
    if comparison is not None:
        finding, cost = comparison.finding, SAME_BUILD_LOG
        if finding is not Finding.INVALID:
            cost = build_log(comparison)
    else:
        finding, cost = (None if problem else Finding.NO_WORSE), SAME_BUILD_LOG
    outcome, change = settle(suspicion, finding, cost, series.tonight)
    good, bad = series.nights[suspicion.last_good], series.nights[suspicion.first_bad]
    gate = _gate_words(comparison, against or good.sut_label, problem)
    words = f"{_seen(series, suspicion)} {_explained(outcome, good, bad, gate)}"
    said = NightFinding(outcome.value, *series.key, words, good.sut_label, bad.sut_label, bad.run_id)
    return Answered(outcome, said, _on_record(series, change) if change else None)


def still_owed(series: Series, policy: Policy, release_pin_id: str | None) -> NightFinding | None:
    """What a confirmed regression still costs, from half the confirmation's margin on; None once it is paid."""
    metric = CATALOGUE[series.key[1]]
    release = release_of(series, policy, release_pin_id)
    debt = owed(series.changes, since=min(release, default=0))
    if debt < log_from_share(policy.for_confirmation().of(metric.metric_id).margin, metric.better) / 2:
        return None
    kinds = (LevelKind.REGRESSION, LevelKind.DRIFT)
    first = min(change.first for change in series.changes if change.kind in kinds)
    words = (
        f"{_named(series)} is still {_percent(series, debt)} worse than accepted, on record since "
        f"{series.nights[min(first, series.tonight)].date}: mend it, or accept it with a reason (redline nights accept)"
    )
    return NightFinding("owed", *series.key, words)


def gaps(history: Sequence[Night], tonight: Night, expected: Sequence[Key]) -> tuple[NightFinding, ...]:
    """What did not run: nights between the last one and tonight, and series that tonight has no reading of.

    Missed are the series of tonight's plan (`expected`) and those that were read within the last nights.
    """
    before = [night for night in history if night.readings and night.run_id != tonight.run_id]
    found = [
        NightFinding("missing", "", "", f"there is no night of {date} on record")
        for date in missing_dates([night.date for night in before], tonight.date)
    ]
    read = {(reading.scenario, reading.metric) for reading in tonight.readings}
    usual = ((each.scenario, each.metric) for night in before[-LEGS_NIGHTS:] for each in night.readings)
    for scenario, metric in dict.fromkeys((*expected, *usual)):
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


def finding_of(
    settled: Sequence[Answered],
    answers: Sequence[AccuracyComparison],
    broken: Sequence[str],
    findings: Sequence[NightFinding],
    unjudged: Sequence[str],
) -> tuple[Finding, str]:
    """(finding, one sentence) of a night: the first that holds. What was not judged is never a pass."""
    by_answers = {
        finding: [verdict.accuracy_sentence(each) for each in answers if each.finding is finding] for finding in Finding
    }
    regressed = [each.finding.text for each in settled if each.outcome is Outcome.REGRESSED]
    opened = [each.finding.text for each in settled if each.outcome is Outcome.OPEN]
    owed = [each.text for each in findings if each.kind in ("target", "owed")]
    worse = [*by_answers[Finding.REGRESSED], *regressed, *owed]
    invalid = [*broken, *by_answers[Finding.INVALID]]
    undecided = [*opened, *by_answers[Finding.INCONCLUSIVE]]
    if worse:
        return Finding.REGRESSED, worse[0]
    if invalid:
        return Finding.INVALID, "; ".join(invalid[:2])
    if undecided:
        return Finding.INCONCLUSIVE, undecided[0]
    if unjudged:
        return Finding.NO_BASELINE, f"On record now, but there is no history to judge by: {'; '.join(unjudged)}"
    told = [each.text for each in findings]
    return Finding.NO_WORSE, "Nothing is worse than the nights before" + (f". {told[0]}" if told else "")


def settled_half(night: Night, findings: Sequence[NightFinding], changes: Sequence[NightChange]) -> Night:
    """The second half of tonight's record: what was found and what goes on record."""
    return replace(
        night,
        run_id=night.run_id + SETTLED_SUFFIX,
        trial_ids=(),
        readings=(),
        findings=tuple(findings),
        changes=tuple(changes),
    )


def accepted(series: Series, suspicion: Suspicion | None, run_id: str, reason: str, by: str, date: str) -> Night:
    """The record that the level a series has now is accepted: nothing older is owed any more.

    What was suspected and never settled is taken into the level, else it would be suspected again tomorrow.
    """
    last = series.nights[-1]
    moved = suspicion if suspicion is not None and suspicion.kind is not SuspicionKind.DRIFT else None
    first = series.nights[moved.first_bad] if moved is not None else last
    change = NightChange(*_identity(series), LevelKind.ACCEPTED, first.run_id, moved.size if moved is not None else 0.0)
    words = f"{_named(series)}: the level since {first.date} is accepted by {by}: {reason}"
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


def _gate_words(comparison: Comparison | None, against: str, problem: str) -> str:
    if comparison is None:
        return f"No gate could be run: {problem}" if problem else f"All these nights measured one build, {against}"
    return (
        f"A gate of {comparison.pair_count} pairs tonight against {against}: {format_percent(comparison.effect)} "
        f"({format_percent(comparison.effect_low)} to {format_percent(comparison.effect_high)}, + is worse), "
        f"{comparison.finding.value}"
    )


def _explained(outcome: Outcome, good: Night, bad: Night, gate: str) -> str:
    changed = "; ".join(machine_changes(good.notes, bad.notes)) or "nothing that Redline records of it"
    match outcome:
        case Outcome.REGRESSED:
            return f"Confirmed: last good build {good.sut_label}, first bad build {bad.sut_label}. {gate}."
        case Outcome.ENVIRONMENT:
            return f"Not the build. {gate}. Something else stepped; on the machine changed: {changed}."
        case Outcome.UNEXPLAINED:
            return f"{gate}: too small a step to say whether it is the build's. On the machine changed: {changed}."
        case Outcome.ODD_NIGHT:
            return f"{gate}: one odd night, nothing goes on record."
        case Outcome.OPEN:
            return f"Not settled. {gate}. It stays open, and comes back with the next night."


def _on_record(series: Series, change: LevelChange) -> NightChange:
    return NightChange(*_identity(series), change.kind, series.nights[change.first].run_id, change.size, change.excused)


def _identity(series: Series) -> tuple[str, str, str]:
    return series.key[0], series.scenario_hash, series.key[1]


def _named(series: Series) -> str:
    return f"{CATALOGUE[series.key[1]].label} in {series.key[0]}"


def _percent(series: Series, size: float) -> str:
    return f"{share_from_log(size, CATALOGUE[series.key[1]].better) * 100:.1f} %"
