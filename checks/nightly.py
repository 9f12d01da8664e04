"""The nightly: suspect a night, have a gate confirm it, and keep the history's level honest.

    suspect      a step, tonight alone, or a slow drift against the release is too large for chance
    confirm      a gate, tonight, on the same host: the suspected build against the last good one
    settle       confirmed: a regression, with its first night and build range
                 not confirmed: the environment stepped (driver, host, dependency) if the gate excludes that the
                 build costs as much as the step, else nobody can tell whose it is; the level moves, the step stays
                 on the record
    one night    that is odd alone moves nothing

A level moves only by an entry on the record. What a confirmed regression added stays owed to the release: it is in
the drift against it until it is gone.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from checks.effects import log_from_share
from checks.policy import NightlyPolicy
from checks.prior import NO_PRIOR, VariancePrior
from checks.step_detection import Step, find_step, median_of
from redline.metrics import CATALOGUE
from redline.model import Comparison, Finding, LevelChange, LevelKind

IMPROVED_NIGHTS_MIN = 3
"""A better level counts from its third night: nothing hangs on being quick about it."""

GIVEN_BACK_MAX = 1.5
"""A step towards better of up to so many times what the environment had taken is the environment's return."""


MARKS = frozenset({LevelKind.DRIFT, LevelKind.LOOKED_INTO})
"""Kinds that move no level."""


class SuspicionKind(enum.StrEnum):
    """What a suspicion rests on."""

    STEP = "step"
    TONIGHT = "tonight alone"
    DRIFT = "drift"


class Outcome(enum.StrEnum):
    """What became of a suspicion."""

    REGRESSED = "regressed"
    ENVIRONMENT = "environment"
    UNEXPLAINED = "unexplained"
    ODD_NIGHT = "odd night"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A series that looks worse, before anything was measured again.

    `first_bad`, `could_be`: indices of readings (nights with a reading); `last_good`: the reading to go back to for
    the build that the gate compares with; `size`: oriented log.
    """

    kind: SuspicionKind
    first_bad: int
    could_be: tuple[int, ...]
    last_good: int
    size: float
    z: float


def levelled(readings: Sequence[float], changes: Sequence[LevelChange]) -> NDArray[np.float64]:
    """The readings (oriented logs) with every recorded change of level taken out: one level throughout."""
    values = np.array(readings, dtype=np.float64)
    for change in changes:
        if change.kind not in MARKS:
            values[change.first :] -= change.size
    return values


def suspect(
    readings: Sequence[float],
    changes: Sequence[LevelChange],
    policy: NightlyPolicy,
    *,
    margin_log: float,
    release: Sequence[int] = (),
    prior: VariancePrior = NO_PRIOR,
    open_since: int | None = None,
) -> Suspicion | None:
    """What is wrong with tonight, the last of the readings (oriented logs, one per night that has one), or None.

    `changes`: the level changes on record, with indices of these readings; `release`: indices of the nights that
    measured the release; `margin_log`: the confirmation's margin, half of which a drift has to reach.
    `open_since`: the first night of a suspicion that no gate has settled yet: no good night comes after it.
    A step comes before a drift: it names a night. Raises ValueError for a reading that is not finite.
    """
    step = find_step(levelled(readings, changes).tolist(), policy, prior)
    if step is not None:
        kind = SuspicionKind.TONIGHT if step.tonight_alone else SuspicionKind.STEP
        earliest = min(step.could_be) if open_since is None else min((*step.could_be, max(open_since, 1)))
        return Suspicion(kind, step.first_bad, step.could_be, earliest - 1, step.size, step.z)
    return _drift(readings, changes, policy, margin_log, release)


def build_log(comparison: Comparison) -> tuple[float, float]:
    """What a gate found the build to cost on one metric: estimate and upper bound, oriented logs."""
    metric_better = CATALOGUE[comparison.metric].better
    return log_from_share(comparison.effect, metric_better), log_from_share(comparison.effect_high, metric_better)


def settle(
    suspicion: Suspicion, confirmation: Finding | None, build_log: tuple[float, float], tonight: int
) -> tuple[Outcome, LevelChange | None]:
    """(outcome, the level change to put on record, if any) of a suspicion about the reading `tonight`.

    `confirmation`: the gate's finding on the suspected metric, `build_log`: what it found the build to cost (oriented
    log: estimate, upper bound); None where no gate could be run (nothing moves, the suspicion stays open and comes
    back with the next night). An undecided or invalid gate leaves it open too.
    """
    drift = suspicion.kind is SuspicionKind.DRIFT
    match confirmation:
        case Finding.REGRESSED:
            kind = LevelKind.DRIFT if drift else LevelKind.REGRESSION
            return Outcome.REGRESSED, LevelChange(kind, suspicion.first_bad, suspicion.size)
        case Finding.NO_WORSE | Finding.IMPROVED:
            if suspicion.first_bad == tonight and not drift:
                return Outcome.ODD_NIGHT, None
            return _not_the_build(suspicion, build_log)
        case _:
            return Outcome.OPEN, None


def _not_the_build(suspicion: Suspicion, build_log: tuple[float, float]) -> tuple[Outcome, LevelChange]:
    """The environment's, but for what the build was found to cost; unexplained if the build may cost as much."""
    estimate, high = build_log
    shown = high < suspicion.size
    outcome = Outcome.ENVIRONMENT if shown else Outcome.UNEXPLAINED
    if suspicion.kind is SuspicionKind.DRIFT:
        return outcome, LevelChange(LevelKind.LOOKED_INTO, suspicion.first_bad, suspicion.size)
    excused = suspicion.size - min(max(estimate, 0.0), suspicion.size) if shown else 0.0
    return outcome, LevelChange(LevelKind(outcome.value), suspicion.first_bad, suspicion.size, excused)


def better(
    readings: Sequence[float],
    changes: Sequence[LevelChange],
    policy: NightlyPolicy,
    prior: VariancePrior = NO_PRIOR,
) -> LevelChange | None:
    """The step towards better that has lasted, to put on record: else its end would not be seen as worse.

    What the environment had taken it gives back first: only what is left of the step is an improvement.
    """
    step: Step | None = find_step((-levelled(readings, changes)).tolist(), policy, prior)
    if step is None or step.tonight_alone or len(readings) - step.first_bad < IMPROVED_NIGHTS_MIN:
        return None
    taken = max(sum(change.excused for change in changes), 0.0)
    given_back = step.size if step.size <= taken * GIVEN_BACK_MAX else taken
    kind = LevelKind.ENVIRONMENT if given_back == step.size else LevelKind.IMPROVEMENT
    return LevelChange(kind, step.first_bad, -step.size, -given_back)


def owed(changes: Sequence[LevelChange], since: int = 0) -> float:
    """How much worse (oriented log) the level is than accepted: confirmed regressions less improvements since.

    Changes before the reading `since` are left out: the release was measured after them.
    """
    total = 0.0
    for change in changes:
        if change.first < since:
            continue
        match change.kind:
            case LevelKind.REGRESSION:
                total += change.size
            case LevelKind.DRIFT:
                total = max(total, change.size)
            case LevelKind.IMPROVEMENT:
                total = max(0.0, total + change.size - change.excused)
            case LevelKind.ACCEPTED:
                total = 0.0
            case LevelKind.ENVIRONMENT | LevelKind.UNEXPLAINED | LevelKind.LOOKED_INTO:
                pass
    return total


def _drift(
    readings: Sequence[float],
    changes: Sequence[LevelChange],
    policy: NightlyPolicy,
    margin_log: float,
    release: Sequence[int],
) -> Suspicion | None:
    """A slow loss: the last nights against the release's, with only what is shown to be the environment's taken out.

    Suspected again only when it has grown by another half margin since it was last looked into. Once a level was
    accepted, the nights from there on stand for the release.
    """
    tonight = len(readings) - 1
    first = tonight + 1 - policy.drift_nights
    accepted = [position for position, change in enumerate(changes) if change.kind is LevelKind.ACCEPTED]
    if accepted:
        start = changes[accepted[-1]].first
        release = range(start, start + policy.drift_nights)
        changes = changes[accepted[-1] + 1 :]
    before = [index for index in release if index < first]
    if first < policy.nights_min or len(before) < 2:
        return None
    changes = [change for change in changes if change.first >= before[0]]
    values = np.array(readings, dtype=np.float64)
    for change in changes:
        values[change.first :] -= change.excused
    old, new = values[before], values[first:]
    size = median_of(new) - median_of(old)
    df = len(old) + len(new) - 2.0
    spread = float(((old - old.mean()) ** 2).sum() + ((new - new.mean()) ** 2).sum())
    standard_error = math.sqrt(spread / df * (1 / len(old) + 1 / len(new)))
    known = max((change.size for change in changes if change.kind in MARKS), default=0.0)
    known = max(known, owed(changes))
    if size - known < margin_log / 2 or size - known <= policy.z_step * standard_error:
        return None
    z = (size - known) / standard_error if standard_error > 0 else math.inf
    return Suspicion(SuspicionKind.DRIFT, first, (first,), before[-1], size, min(z, 40.0))


def missing_dates(dates: Sequence[str], tonight: str, every_days: int = 1) -> tuple[str, ...]:
    """The dates (ISO, YYYY-MM-DD) between the last night and tonight on which a night was due and none ran."""
    if not dates:
        return ()
    day, end = date.fromisoformat(max(dates)), date.fromisoformat(tonight)
    found = []
    while (day := day + timedelta(days=every_days)) < end:
        found.append(day.isoformat())
    return tuple(found)
