"""Why, as far as it can be said: which stage moved, which telemetry moved, what differs between the arms.

Ranked statements with figures, none of them claimed as a cause. Stages and telemetry are compared as the gate
compares metrics, pair by pair: the mean change with a 95 % t interval, and Benjamini-Hochberg over every
statement of a verdict decides which of them are shown as moved.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from checks.differences import difference_statements
from checks.measures import CLIENT, STAGES, TELEMETRY, Measure, Unit, sent_e2e_s, written, written_change
from redline.model import SystemUnderTest, Trial, TrialStatus
from redline.units import format_percent

__all__ = ["Change", "Kind", "Statement", "difference_statements", "explain"]

MOVED_Q = 0.10
"""At most this share of the statements shown as moved are expected to be noise."""
PAIRS_TESTED_MIN = 3
E2E_SHARE_MIN = 0.001
"""A stage that changed by less than this share of the E2E per request is not worth a line."""
OWN_SHARE_MIN = 0.01
"""Nor is telemetry that changed by less than this share of its own value."""
UNTESTED_SHARE_MIN = 0.05
"""With too few pairs to test, nor is a stage that changed by less than this share of its own value."""
COUNTS = {1: "one pair", 2: "two pairs"}


class Kind(enum.StrEnum):
    """What a statement is about, in the order in which they are ranked; stages and client rank together."""

    STAGE = "stage"
    CLIENT = "client"
    TELEMETRY = "telemetry"
    DIFFERENCE = "difference"


RANK = {Kind.STAGE: 0, Kind.CLIENT: 0, Kind.TELEMETRY: 1, Kind.DIFFERENCE: 2}


@dataclass(frozen=True, slots=True)
class Change:
    """Candidate minus baseline, the mean over pairs, in the measure's unit (seconds, shares or numbers).

    `baseline`, `candidate`: the arms' means over the same pairs; `low`, `high`: 95 % t interval of `mean`,
    None below three pairs.
    """

    mean: float
    low: float | None
    high: float | None
    baseline: float
    candidate: float
    pair_count: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One line of evidence. `weight` ranks it among its kind, the largest first.

    Of a stage or the client: its change as a share of the E2E per request; of telemetry: as a share of its own
    larger value; of a difference: its place, from 1 down. `p`: two-sided, of paired t, uncorrected; None where
    nothing was tested. `scenario` is empty for a difference.
    """

    kind: Kind
    scenario: str
    text: str
    change: Change | None
    p: float | None
    weight: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A measure in a scenario with its change, before it is known whether that is worth a line.

    `e2e`: the change of the E2E per request from sending, of the same scenario.
    """

    kind: Kind
    scenario: str
    measure: Measure
    change: Change
    p: float | None
    e2e: Change | None


def explain(
    baseline_trials: Sequence[Trial],
    candidate_trials: Sequence[Trial],
    *,
    baseline: SystemUnderTest | None = None,
    candidate: SystemUnderTest | None = None,
) -> tuple[Statement, ...]:
    """Every statement worth a line: stages and client, then telemetry, then what differs, each ranked by weight.

    Trials of one run, scenario and pair index are a pair. Only valid trials count, and only where answers are
    not scored: a busy machine is allowed there. Differences need both systems under test.
    """
    scenarios = sorted({trial.scenario for trial in (*baseline_trials, *candidate_trials)})
    found = [
        compared
        for scenario in scenarios
        for compared in _compared(scenario, _pairs(scenario, baseline_trials, candidate_trials))
    ]
    statements = [_statement(each) for each in _worth_a_line(_distinct(found))]
    if baseline is not None and candidate is not None:
        arms = (baseline_trials, candidate_trials)
        before, after = ([trial.fingerprint for trial in trials] for trials in arms)
        texts = difference_statements(baseline, candidate, runners=(before, after))
        statements += [
            Statement(Kind.DIFFERENCE, "", text, None, None, 1 - place / len(texts)) for place, text in enumerate(texts)
        ]
    return tuple(sorted(statements, key=lambda each: (RANK[each.kind], -each.weight, each.scenario, each.text)))


# --- pairs ----------------------------------------------------------------------------------------------------


def _pairs(scenario: str, baseline: Sequence[Trial], candidate: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
    """The pairs of a scenario of which both trials are valid, in order."""
    before, after = (
        {
            (trial.run_id, trial.pair_index): trial
            for trial in trials
            if trial.scenario == scenario and trial.status is TrialStatus.VALID and not _is_scored(trial)
        }
        for trials in (baseline, candidate)
    )
    return [(before[key], after[key]) for key in sorted(before.keys() & after.keys())]


def _is_scored(trial: Trial) -> bool:
    return any(record.score is not None for repeat in trial.repeats for record in repeat.records)


def _compared(scenario: str, pairs: Sequence[tuple[Trial, Trial]]) -> list[_Candidate]:
    """Every measure that both arms of a pair say something about, and that was not the same in all of them."""
    e2e, _ = _change([(_finite(sent_e2e_s(before)), _finite(sent_e2e_s(after))) for before, after in pairs])
    found = []
    kinds = [(Kind.STAGE, each) for each in STAGES] + [(Kind.CLIENT, CLIENT)]
    for kind, measure in [*kinds, *((Kind.TELEMETRY, each) for each in TELEMETRY)]:
        change, p = _change([(measure.of(before), measure.of(after)) for before, after in pairs])
        if change is not None:
            found.append(_Candidate(kind, scenario, measure, change, p, e2e if kind is not Kind.TELEMETRY else None))
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _change(values: Sequence[tuple[float | None, float | None]]) -> tuple[Change | None, float | None]:
    """(change, two-sided p) over the pairs that have both values; no change if they agree in every one of them.

    Source: paired t (Student). Differences that are all the same and not 0 have p = 0.
    """
    known = np.array([each for each in values if None not in each], dtype=np.float64).reshape(-1, 2)
    differences = known[:, 1] - known[:, 0]
    count = len(differences)
    if not differences.any():
        return None, None
    before, after = (float(arm) for arm in known.mean(axis=0))
    mean = float(differences.mean())
    if count < PAIRS_TESTED_MIN:
        return Change(mean, None, None, before, after, count), None
    standard_error = float(differences.std(ddof=1)) / math.sqrt(count)
    reach = -float(special.stdtrit(count - 1, 0.025)) * standard_error
    p = 2 * float(special.stdtr(count - 1, -abs(mean) / standard_error)) if standard_error > 0 else 0.0
    return Change(mean, mean - reach, mean + reach, before, after, count), p


def _distinct(found: Sequence[_Candidate]) -> list[_Candidate]:
    """Without repetition: scenarios measured on one deployment share the time it took to start."""
    kept: list[_Candidate] = []
    starts: set[Change] = set()
    for each in found:
        if each.measure.of_deployment:
            if each.change in starts:
                continue
            starts.add(each.change)
        kept.append(each)
    return kept


# --- what is worth a line -------------------------------------------------------------------------------------


def _worth_a_line(found: Sequence[_Candidate]) -> list[_Candidate]:
    """What Benjamini-Hochberg keeps of all that was tested, and what is large; untested, only what is larger.

    Source: Benjamini and Hochberg 1995.
    """
    tested = [(each, each.p) for each in found if each.p is not None]
    kept = [each for each in found if each.p is None and _large_untested(each)]
    if tested:
        adjusted = stats.false_discovery_control([p for _, p in tested], method="bh")
        kept += [each for (each, _), p in zip(tested, np.atleast_1d(adjusted), strict=True) if p <= MOVED_Q]
    return [each for each in kept if _large(each)]


def _large(candidate: _Candidate) -> bool:
    size = abs(candidate.change.mean)
    if size == 0:
        return False
    if candidate.e2e is not None:
        return size >= E2E_SHARE_MIN * _larger(candidate.e2e)
    return size >= max(candidate.measure.floor, OWN_SHARE_MIN * _larger(candidate.change))


def _large_untested(candidate: _Candidate) -> bool:
    """Never telemetry: a machine's shares double by chance, and one pair cannot tell."""
    size = abs(candidate.change.mean)
    floor = max(candidate.measure.floor, UNTESTED_SHARE_MIN * _larger(candidate.change))
    return candidate.kind is not Kind.TELEMETRY and size >= floor


def _larger(change: Change) -> float:
    """The larger arm: the same whichever arm is called the baseline."""
    return max(abs(change.baseline), abs(change.candidate))


# --- words ----------------------------------------------------------------------------------------------------


def _statement(candidate: _Candidate) -> Statement:
    change, unit, p = candidate.change, candidate.measure.unit, candidate.p
    arms = f"{written(change.baseline, unit)} to {written(change.candidate, unit)}"
    if unit is Unit.SECONDS and change.baseline > 0:
        arms += f" ({_relative(change)})"
    if p is None or change.low is None or change.high is None:
        said = f"went from {arms}; {COUNTS[change.pair_count]}: not tested"
    else:
        said = (
            f"moved by {written_change(change.mean, unit)} (95 % interval {written_change(change.low, unit)} to "
            f"{written_change(change.high, unit)}, {_p(p)}, {change.pair_count} pairs), from {arms}"
        )
    text = f"{candidate.scenario}: {candidate.measure.label} {said}{_of_e2e(candidate)}"
    if candidate.measure.note:
        text += f"; {candidate.measure.note}"
    whole = _larger(change if candidate.e2e is None else candidate.e2e)
    weight = abs(change.mean) / whole if whole > 0 else 0.0
    return Statement(candidate.kind, candidate.scenario, text, change, p, weight)


def _relative(change: Change) -> str:
    if change.candidate > 3 * change.baseline:
        return f"{change.candidate / change.baseline:.2g} times"
    return format_percent(change.candidate / change.baseline - 1)


def _p(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def _of_e2e(candidate: _Candidate) -> str:
    """How much of the change of the whole a stage is, where it is a part of it."""
    if candidate.e2e is None:
        return ""
    part, whole = candidate.change.mean, candidate.e2e.mean
    if part * whole > 0 and abs(part) <= abs(whole):
        return (
            f"; it accounts for {written(abs(part), Unit.SECONDS)} of the {written(abs(whole), Unit.SECONDS)} by which "
            "E2E per request, from sending, changed"
        )
    return f"; E2E per request, from sending, changed by {written_change(whole, Unit.SECONDS)}"
