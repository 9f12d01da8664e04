"""What the gate does not see, in figures: small losses, seldom ones, and those in metrics that do not decide.

Pure: the random numbers come from a seed that is an argument, the verdicts from the shipped gate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from checks.effects import log_from_share, metric_named
from checks.gate import Key, PairedReadings, SuiteState, judge_look_by_look, suite_pair_limit
from checks.policy import Policy
from checks.prior import NO_PRIOR, VariancePrior, fit_prior
from checks.simulation import HISTORY_PAIRS, World, simulate_gate
from redline.metrics import Better
from redline.model import Finding, require

EFFECT_STEPS = 8
"""Halvings of the range in which a smallest loss is looked for."""


@dataclass(frozen=True, slots=True)
class BlindSpot:
    """A kind of regression. Each metric has the CV of one trial; candidate trials are worse by an oriented share.

    `slow_share`: the share of the candidate's deployments that are worse at all (1: every one). A deployment serves one
    scenario, so that its metrics are worse together. `effects` and `cvs` are in the order of `keys`, primaries or not.
    """

    keys: tuple[Key, ...]
    cvs: tuple[float, ...]
    effects: tuple[float, ...]
    slow_share: float = 1.0
    history_rounds: int = 0

    def __post_init__(self) -> None:
        require(len(self.keys) == len(self.cvs) == len(self.effects), "keys, cvs and effects must be of one length")
        require(0 <= self.slow_share <= 1, "slow_share must be in [0, 1]")


@dataclass(frozen=True, slots=True)
class Sight:
    """Shares of simulated suites. `noticed`: those where any metric at all, primary or not, is called regressed."""

    suite_count: int
    blocked: float
    passed: float
    undecided: float
    noticed: float


def look_for(spot: BlindSpot, policy: Policy, *, seed: int, suite_count: int) -> Sight:
    """How often the gate blocks, passes, cannot tell, and points at a metric. Raises ValueError below one suite."""
    require(suite_count >= 1, "suite_count must be at least 1")
    generator = np.random.default_rng(seed)
    states = [_one_suite(spot, policy, generator) for _ in range(suite_count)]
    findings = [state.finding for state in states]
    regressed = [any(each.finding is Finding.REGRESSED for each in state.comparisons) for state in states]
    return Sight(
        suite_count=suite_count,
        blocked=findings.count(Finding.REGRESSED) / suite_count,
        passed=sum(finding in {Finding.NO_WORSE, Finding.IMPROVED} for finding in findings) / suite_count,
        undecided=findings.count(Finding.INCONCLUSIVE) / suite_count,
        noticed=sum(regressed) / suite_count,
    )


def smallest_blocked(
    world: World, policy: Policy, *, share: float, effect_max: float, seed: int, suite_count: int
) -> float:
    """The smallest loss in the world's first metric (oriented share) that is blocked in `share` of its suites.

    Halves [0, effect_max] eight times; every loss meets the same noise. Raises ValueError if not even `effect_max`
    is blocked as often.
    """

    def blocked(effect: float) -> float:
        worse = replace(world, effects=(effect, *world.effects[1:]))
        return simulate_gate(worse, policy, seed=seed, suite_count=suite_count).regressed

    require(0 < share < 1, "share must be in (0, 1)")
    require(blocked(effect_max) >= share, f"a loss of {effect_max:.1%} is blocked in less than {share:.0%} of suites")
    low, high = 0.0, effect_max
    for _ in range(EFFECT_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if blocked(middle) >= share else (middle, high)
    return high


def _one_suite(spot: BlindSpot, policy: Policy, generator: np.random.Generator) -> SuiteState:
    """The gate's last state on one simulated suite."""
    priors = {key: _prior(cv, spot.history_rounds, generator) for key, cv in zip(spot.keys, spot.cvs, strict=True)}
    limit = suite_pair_limit(spot.keys, priors, policy)
    slow = {
        scenario: generator.random(limit) < spot.slow_share for scenario in dict.fromkeys(key[0] for key in spot.keys)
    }
    arms = []
    for (scenario, metric), cv, effect in zip(spot.keys, spot.cvs, spot.effects, strict=True):
        better = metric_named(metric).better
        logs = cv * generator.standard_normal((2, limit))
        logs[1] += slow[scenario] * log_from_share(effect, better)
        values = np.exp(logs if better is Better.LOWER else -logs).tolist()
        arms.append(PairedReadings(scenario, metric, tuple(values[0]), tuple(values[1])))
    state = judge_look_by_look(arms, priors, policy)
    assert state is not None  # there are as many pairs as the suite may take
    return state


def _prior(cv: float, rounds: int, generator: np.random.Generator) -> VariancePrior:
    """What so many past rounds of six pairs each say about the variance of D; NO_PRIOR without any."""
    if rounds == 0:
        return NO_PRIOR
    df = HISTORY_PAIRS - 1
    return fit_prior([(2 * cv**2 * float(generator.chisquare(df)) / df, float(df)) for _ in range(rounds)])
