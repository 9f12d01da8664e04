"""Whole bisections in made-up worlds with a known culprit, decided by the shipped code. Pure: seeded.

docs/method.md states the figures, the tests assert them, and the acceptance run regenerates them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from checks.bisection import (
    READINGS_MAX,
    Bisection,
    Costs,
    Ended,
    Evidence,
    Outcome,
    Pair,
    PairReading,
    Purpose,
    next_step,
)
from checks.effects import log_from_share, metric_named
from checks.policy import Policy
from checks.prior import NO_PRIOR, VariancePrior
from checks.simulation import OUTLIER_SCALES, OUTLIER_SHARE, Noise
from redline.metrics import Better
from redline.model import require

METRIC = "tpot_s_median"


@dataclass(frozen=True, slots=True)
class BisectionWorld:
    """`candidate_count` builds after a good one; one of them, drawn evenly, makes all later ones worse.

    `cv`: of one trial, so that D has sqrt(2) times that; `step`: an oriented share, 0 for no culprit at all;
    `skip_share`: of the builds between the ends that turn out not to be measurable; `install_readings`: what
    installing a build costs, in readings; `prior`: of the variance of D.
    """

    candidate_count: int
    step: float = 0.03
    cv: float = 0.01
    noise: Noise = Noise.NORMAL
    skip_share: float = 0.0
    install_readings: float = 1.0
    prior: VariancePrior = NO_PRIOR
    readings_max: int = READINGS_MAX

    def __post_init__(self) -> None:
        require(self.noise is not Noise.DRIFT, "a pair is measured at one time: slow drift is not in D")


@dataclass(frozen=True, slots=True)
class BisectionRates:
    """Shares of simulated bisections, and what they cost on average.

    `named_right`: the culprit alone; `named_range`: a range of builds that could not be measured apart, which holds
    it; `named_wrong`: anything else. `readings_mean`: pairs of ends and search; `confirmation_pairs_mean`: pairs
    of the gates, counted apart; `builds_mean`: distinct builds measured, the good end included.
    """

    bisection_count: int
    named_right: float
    named_range: float
    named_wrong: float
    ends_equal: float
    gave_up: float
    readings_mean: float
    readings_max: int
    confirmation_pairs_mean: float
    builds_mean: float


def simulate_bisections(world: BisectionWorld, policy: Policy, *, seed: int, bisection_count: int) -> BisectionRates:
    """The rates in a world under a confirmation's `policy`. Each bisection has a culprit and noise of its own."""
    generator = np.random.default_rng(seed)
    runs = [_one_bisection(world, policy, generator) for _ in range(bisection_count)]
    return _rates(runs)


@dataclass(frozen=True, slots=True)
class _Run:
    culprit: int
    ended: Ended
    evidence: Evidence


def _one_bisection(world: BisectionWorld, policy: Policy, generator: np.random.Generator) -> _Run:
    last = world.candidate_count
    asked = Bisection(last, "simulated", METRIC, policy, world.prior, readings_max=world.readings_max)
    culprit = int(generator.integers(1, last + 1)) if world.step else 0
    broken = {int(build) for build in np.flatnonzero(generator.random(last + 1) < world.skip_share)} - {0, last}
    evidence = Evidence()
    installed = {0}
    while True:
        install = tuple(0.0 if build in installed else world.install_readings for build in range(last + 1))
        step = next_step(asked, evidence, Costs(1.0, install))
        if isinstance(step, Ended):
            return _Run(culprit, step, evidence)
        if unusable := {step.baseline, step.candidate} & broken:
            evidence = Evidence(evidence.readings, evidence.skipped | unusable)
            continue
        installed |= {step.baseline, step.candidate}
        reading = _reading(world, step, culprit, generator)
        evidence = Evidence((*evidence.readings, reading), evidence.skipped)


def _reading(world: BisectionWorld, pair: Pair, culprit: int, generator: np.random.Generator) -> PairReading:
    """Both arms around 1, as readings of the metric."""
    better = metric_named(METRIC).better
    logs = _trial_logs(world, generator)
    for arm, build in enumerate((pair.baseline, pair.candidate)):
        if culprit and build >= culprit:
            logs[arm] += log_from_share(world.step, better)
    sign = 1.0 if better is Better.LOWER else -1.0
    return PairReading(pair, math.exp(sign * logs[0]), math.exp(sign * logs[1]))


def _trial_logs(world: BisectionWorld, generator: np.random.Generator) -> list[float]:
    """Oriented logs of the two trials of a pair, around no effect."""
    if world.noise is Noise.T3:
        values = world.cv * generator.standard_t(3, 2) / math.sqrt(3)
    else:
        values = world.cv * generator.standard_normal(2)
    if world.noise is Noise.OUTLIER:
        values = values + (generator.random(2) < OUTLIER_SHARE) * OUTLIER_SCALES * world.cv
    if world.noise is Noise.BIMODAL:
        values = values + (generator.random(2) < 0.5) * 2.0 * world.cv
    return [float(value) for value in values]


def _rates(runs: Sequence[_Run]) -> BisectionRates:
    count = len(runs)
    named = [run for run in runs if run.ended.outcome is Outcome.NAMED]
    holding = [run for run in named if run.ended.first <= run.culprit <= run.ended.last]
    alone = [run for run in holding if run.ended.first == run.ended.last]
    readings = [run.evidence.reading_count for run in runs]
    confirming = [sum(each.pair.purpose is Purpose.CONFIRMATION for each in run.evidence.readings) for run in runs]
    builds = [len({build for each in run.evidence.readings for build in _builds(each)}) for run in runs]
    outcomes = [run.ended.outcome for run in runs]
    return BisectionRates(
        bisection_count=count,
        named_right=len(alone) / count,
        named_range=(len(holding) - len(alone)) / count,
        named_wrong=(len(named) - len(holding)) / count,
        ends_equal=outcomes.count(Outcome.ENDS_EQUAL) / count,
        gave_up=outcomes.count(Outcome.GAVE_UP) / count,
        readings_mean=sum(readings) / count,
        readings_max=max(readings),
        confirmation_pairs_mean=sum(confirming) / count,
        builds_mean=sum(builds) / count,
    )


def _builds(reading: PairReading) -> tuple[int, int]:
    return reading.pair.baseline, reading.pair.candidate
