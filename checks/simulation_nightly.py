"""The nightly's error rates, re-measured: made-up histories with a known truth, judged night by night.

Pure: the random numbers come from a seed that is an argument. The confirmation is the shipped gate on simulated
pairs of the two builds. docs/method.md states the figures.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from checks.gate import PairedReadings, judge_look_by_look, suite_pair_limit
from checks.nightly import Outcome, Suspicion, better, build_log, settle, suspect
from checks.policy import Policy
from checks.prior import VariancePrior
from redline.model import Finding, LevelChange

METRIC = "tpot_s_median"
KEY = ("server", METRIC)
PRIOR_DF = 10.0


class NightNoise(enum.StrEnum):
    """How one night differs from the next; each has the stated CV."""

    NORMAL = "normal"
    T3 = "t3"
    AR = "autocorrelated"


class Truth(enum.StrEnum):
    """What really happens at `event_night`: nothing, a worse build, another environment, one odd night, a creep."""

    QUIET = "quiet"
    BUILD = "build"
    ENVIRONMENT = "environment"
    ODD_NIGHT = "odd night"
    CREEP = "creep"


@dataclass(frozen=True, slots=True)
class NightWorld:
    """One kind of history: `nights` readings of CV `cv` each, worse by the share `effect` from `event_night` on.

    A CREEP adds `effect` over all nights after `event_night`, evenly, in the build. `with_prior`: the variance of a
    night is known beforehand, as if from eleven nights, which the product's nightly does not assume.
    """

    cv: float
    truth: Truth = Truth.QUIET
    effect: float = 0.0
    nights: int = 100
    event_night: int = 40
    noise: NightNoise = NightNoise.NORMAL
    with_prior: bool = False


@dataclass(frozen=True, slots=True)
class NightRates:
    """What the nightly did with `series_count` histories of one kind.

    `pages_per_100`: confirmed regressions that are none, per 100 nights; `suspicions_per_100`: gates run for nothing,
    per 100 nights without a real regression; `found`: share of histories whose regression was confirmed; `delay_*`:
    nights to the page, 0 is the first bad night itself, over those found; `named_within_one`, `could_be_holds`: of
    those found, how often the first night was named to within one, and was among the nights it could be;
    `environment`: share of histories with an environment step on record.
    """

    series_count: int
    pages_per_100: float
    suspicions_per_100: float
    found: float
    delay_median: float
    delay_p90: float
    named_within_one: float
    could_be_holds: float
    environment: float


@dataclass(slots=True)
class _History:
    """What one simulated history led to."""

    false_pages: int = 0
    idle_suspicions: int = 0
    quiet_nights: int = 0
    found_at: int | None = None
    suspicion: Suspicion | None = None
    environment: bool = False


def simulate_nightly(world: NightWorld, policy: Policy, *, seed: int, series_count: int) -> NightRates:
    """The rates of the nightly in a world. Each history is judged night by night, as it would have been."""
    generator = np.random.default_rng(seed)
    histories = [_one_history(world, policy, generator) for _ in range(series_count)]
    found = [each for each in histories if each.found_at is not None and each.suspicion is not None]
    delays = sorted(each.found_at - world.event_night for each in found if each.found_at is not None)
    quiet = max(1, sum(each.quiet_nights for each in histories))
    suspicions = [each.suspicion for each in found if each.suspicion is not None]
    near = sum(abs(each.first_bad - world.event_night) <= 1 for each in suspicions)
    holds = sum(min(each.could_be) <= world.event_night <= max(each.could_be) for each in suspicions)
    return NightRates(
        series_count=series_count,
        pages_per_100=100 * sum(each.false_pages for each in histories) / quiet,
        suspicions_per_100=100 * sum(each.idle_suspicions for each in histories) / quiet,
        found=len(found) / series_count,
        delay_median=float(np.median(delays)) if delays else math.nan,
        delay_p90=float(np.quantile(delays, 0.9, method="higher")) if delays else math.nan,
        named_within_one=near / len(found) if found else math.nan,
        could_be_holds=holds / len(found) if found else math.nan,
        environment=sum(each.environment for each in histories) / series_count,
    )


def _one_history(world: NightWorld, policy: Policy, generator: np.random.Generator) -> _History:
    build, surroundings = truths(world)
    readings = (night_noise(world, generator) + build + surroundings).tolist()
    prior = VariancePrior(PRIOR_DF, world.cv**2) if world.with_prior else VariancePrior(0.0, 0.0)
    confirmation = policy.for_confirmation()
    margin_log = math.log1p(confirmation.of(METRIC).margin)
    release = range(policy.nightly.drift_nights)
    changes: list[LevelChange] = []
    history, open_since = _History(), None
    for tonight in range(world.nights):
        seen = readings[: tonight + 1]
        worse = build[tonight] > build[0]
        history.quiet_nights += not worse
        suspicion = suspect(
            seen, changes, policy.nightly, margin_log=margin_log, release=release, prior=prior, open_since=open_since
        )
        if suspicion is None:
            open_since = None
            change = better(seen, changes, policy.nightly, prior)
            changes += [change] if change else []
            continue
        effect = float(build[tonight] - build[suspicion.last_good])
        finding, cost = _confirm(effect, world.cv, confirmation, generator)
        outcome, change = settle(suspicion, finding, cost, tonight)
        changes += [change] if change else []
        open_since = min(suspicion.first_bad, open_since or tonight) if outcome is Outcome.OPEN else None
        history.idle_suspicions += not worse
        history.environment |= outcome is Outcome.ENVIRONMENT
        if outcome is not Outcome.REGRESSED:
            continue
        if not worse:
            history.false_pages += 1
        elif history.found_at is None:
            history.found_at, history.suspicion = tonight, suspicion
    return history


def truths(world: NightWorld) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(what the build costs, what the surroundings cost) per night, oriented logs."""
    build, surroundings = np.zeros(world.nights), np.zeros(world.nights)
    effect = math.log1p(world.effect)
    match world.truth:
        case Truth.QUIET:
            pass
        case Truth.BUILD:
            build[world.event_night :] = effect
        case Truth.ENVIRONMENT:
            surroundings[world.event_night :] = effect
        case Truth.ODD_NIGHT:
            surroundings[world.event_night] = effect
        case Truth.CREEP:
            after = world.nights - world.event_night
            build[world.event_night :] = effect * np.arange(1, after + 1) / after
    return build, surroundings


def night_noise(world: NightWorld, generator: np.random.Generator) -> NDArray[np.float64]:
    """One history's scatter, shape (nights,), oriented logs of the stated CV."""
    match world.noise:
        case NightNoise.NORMAL:
            return world.cv * generator.standard_normal(world.nights)
        case NightNoise.T3:
            return world.cv * generator.standard_t(3, world.nights) / math.sqrt(3)
        case NightNoise.AR:
            shocks = generator.standard_normal(world.nights)
            values = np.empty(world.nights)
            values[0] = shocks[0]
            for night in range(1, world.nights):
                values[night] = 0.5 * values[night - 1] + math.sqrt(0.75) * shocks[night]
            return world.cv * values


def _confirm(
    effect: float, cv: float, policy: Policy, generator: np.random.Generator
) -> tuple[Finding, tuple[float, float]]:
    """The gate's finding, estimate and upper bound on simulated pairs, its prior learned from past rounds."""
    prior = VariancePrior(PRIOR_DF * 0.75, 2 * cv**2)
    limit = suite_pair_limit([KEY], {KEY: prior}, policy)
    before, after = np.exp(cv * generator.standard_normal((2, limit)))
    pairs = PairedReadings(*KEY, _tuple(before), _tuple(after * math.exp(effect)))
    state = judge_look_by_look([pairs], {KEY: prior}, policy)
    assert state is not None  # there are as many pairs as the suite may take
    return state.finding, build_log(state.comparisons[0])


def _tuple(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(each) for each in values)
