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

from checks.policy import NightlyPolicy
from checks.prior import NO_PRIOR, VariancePrior
from checks.step_detection import Step, find_step, median_of
from redline.model import Finding, LevelChange, LevelKind

IMPROVED_NIGHTS_MIN = 3
"""A better level counts from its third night: nothing hangs on being quick about it."""


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
        if change.kind is not LevelKind.DRIFT:
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


def settle(
    suspicion: Suspicion, confirmation: Finding | None, high_log: float, tonight: int
) -> tuple[Outcome, LevelChange | None]:
    """(outcome, the level change to put on record, if any) of a suspicion about the reading `tonight`.

    `confirmation`: the gate's finding on the suspected metric, `high_log` its upper bound (oriented log); None where
    no gate could be run (nothing moves, the suspicion stays open and comes back with the next night). An undecided
    or invalid gate leaves it open too.
    """
    drift = suspicion.kind is SuspicionKind.DRIFT
    match confirmation:
        case Finding.REGRESSED:
            kind = LevelKind.DRIFT if drift else LevelKind.REGRESSION
            return Outcome.REGRESSED, LevelChange(kind, suspicion.first_bad, suspicion.size)
        case Finding.NO_WORSE | Finding.IMPROVED:
            if suspicion.first_bad == tonight and not drift:
                return Outcome.ODD_NIGHT, None
            outcome = Outcome.ENVIRONMENT if high_log < suspicion.size else Outcome.UNEXPLAINED
            kind = LevelKind.DRIFT if drift else LevelKind(outcome.value)
            return outcome, LevelChange(kind, suspicion.first_bad, suspicion.size)
        case _:
            return Outcome.OPEN, None


def better(
    readings: Sequence[float],
    changes: Sequence[LevelChange],
    policy: NightlyPolicy,
    prior: VariancePrior = NO_PRIOR,
) -> LevelChange | None:
    """The step towards better that has lasted, to put on record: else its end would not be seen as worse."""
    step: Step | None = find_step((-levelled(readings, changes)).tolist(), policy, prior)
    if step is None or step.tonight_alone or len(readings) - step.first_bad < IMPROVED_NIGHTS_MIN:
        return None
    return LevelChange(LevelKind.IMPROVEMENT, step.first_bad, -step.size)


def owed(changes: Sequence[LevelChange]) -> float:
    """How much worse (oriented log) the level is than accepted: confirmed regressions less improvements since."""
    total = 0.0
    for change in changes:
        if change.kind is LevelKind.REGRESSION:
            total += change.size
        elif change.kind is LevelKind.IMPROVEMENT:
            total = max(0.0, total + change.size)
        elif change.kind is LevelKind.ACCEPTED:
            total = 0.0
    return total


def _drift(
    readings: Sequence[float],
    changes: Sequence[LevelChange],
    policy: NightlyPolicy,
    margin_log: float,
    release: Sequence[int],
) -> Suspicion | None:
    """A slow loss: the last nights against the release's, with only the environment's steps taken out.

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
    settled = [change for change in changes if change.kind is LevelKind.ENVIRONMENT]
    values = levelled(readings, settled)
    old, new = values[before], values[first:]
    size = median_of(new) - median_of(old)
    df = len(old) + len(new) - 2.0
    spread = float(((old - old.mean()) ** 2).sum() + ((new - new.mean()) ** 2).sum())
    standard_error = math.sqrt(spread / df * (1 / len(old) + 1 / len(new)))
    known = max((change.size for change in changes if change.kind is LevelKind.DRIFT), default=0.0)
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
