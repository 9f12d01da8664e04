"""The error table of the gate, re-measured: made-up suites with a known truth, judged by the shipped code.

Pure: the random numbers come from a seed that is an argument. docs/method.md states the figures, the tests
assert them, and the acceptance run regenerates them with more suites.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from checks.effects import log_from_share, metric_named
from checks.gate import Key, PairedReadings, judge_look_by_look, suite_pair_limit
from checks.policy import Policy
from checks.prior import NO_PRIOR, VariancePrior, fit_prior
from checks.stored import compare_stored
from checks.verdict import join
from redline.metrics import Better
from redline.model import Comparison, Finding

HISTORY_PAIRS = 6  # pairs of each past round that a simulated history holds
OUTLIER_SHARE = 0.05
OUTLIER_SCALES = 5.0


class Noise(enum.StrEnum):
    """How trials vary around the truth; each has the stated CV but for OUTLIER and BIMODAL, which add to it."""

    NORMAL = "normal"
    T3 = "t3"
    DRIFT = "drift"
    OUTLIER = "outlier"
    BIMODAL = "bimodal"


@dataclass(frozen=True, slots=True)
class World:
    """A suite's truth: its primaries, the CV of one trial of each, and how much worse the candidate is.

    `effects` are oriented shares; `history_rounds` past rounds feed the prior (0: none); today is `day_scale`
    times as noisy (in standard deviation) as history.
    """

    keys: tuple[Key, ...]
    cvs: tuple[float, ...]
    effects: tuple[float, ...]
    noise: Noise = Noise.NORMAL
    history_rounds: int = 0
    day_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of simulated suites by finding, and the pairs they took."""

    suite_count: int
    shares: Mapping[Finding, float]
    pairs_mean: float
    pairs_max: int

    @property
    def regressed(self) -> float:
        """Share found regressed."""
        return self.shares.get(Finding.REGRESSED, 0.0)

    @property
    def passed(self) -> float:
        """Share found no worse or improved."""
        return self.shares.get(Finding.NO_WORSE, 0.0) + self.shares.get(Finding.IMPROVED, 0.0)

    @property
    def inconclusive(self) -> float:
        """Share undecided at the last look."""
        return self.shares.get(Finding.INCONCLUSIVE, 0.0)


def simulate_gate(world: World, policy: Policy, *, seed: int, suite_count: int) -> Rates:
    """The rates of the gate in a world. Each suite has its own history, readings and sequence of looks."""
    generator = np.random.default_rng(seed)
    outcomes = [_one_suite(world, policy, generator) for _ in range(suite_count)]
    return _rates(outcomes)


def simulate_stored(world: World, policy: Policy, *, baseline_count: int, seed: int, suite_count: int) -> Rates:
    """The rates of one trial against a stored baseline where days differ exactly as the policy declares.

    The declared noise is the whole spread of ln(new / baseline); the baseline's own readings, of one day,
    spread by the world's CV.
    """
    generator = np.random.default_rng(seed)
    outcomes = []
    for _ in range(suite_count):
        comparisons: list[Comparison] = []
        for (scenario, metric), cv, effect in zip(world.keys, world.cvs, world.effects, strict=True):
            day = policy.of(metric).stored_noise_share * generator.standard_normal()
            logs = cv * generator.standard_normal(baseline_count)
            shift = _shift(metric, effect) + day + float(logs.mean())
            comparisons.append(
                compare_stored(
                    scenario,
                    metric,
                    _values(metric, logs),
                    _values(metric, np.array([shift]))[0],
                    policy,
                    primary_count=len(world.keys),
                )
            )
        outcomes.append((join(comparisons).finding, 1))
    return _rates(outcomes)


def _one_suite(world: World, policy: Policy, generator: np.random.Generator) -> tuple[Finding, int]:
    priors = {
        key: _prior(world, cv, generator) if world.history_rounds else NO_PRIOR
        for key, cv in zip(world.keys, world.cvs, strict=True)
    }
    limit = suite_pair_limit(world.keys, priors, policy)
    baseline: dict[Key, tuple[float, ...]] = {}
    candidate: dict[Key, tuple[float, ...]] = {}
    for key, cv, effect in zip(world.keys, world.cvs, world.effects, strict=True):
        arms = _trials(world.noise, cv * world.day_scale, limit, generator)
        baseline[key] = _values(key[1], arms[0])
        candidate[key] = _values(key[1], arms[1] + _shift(key[1], effect))
    pairs = [PairedReadings(*key, baseline[key], candidate[key]) for key in world.keys]
    state = judge_look_by_look(pairs, priors, policy)
    assert state is not None  # there are as many pairs as the suite may take
    return state.finding, state.pair_count


def _prior(world: World, cv: float, generator: np.random.Generator) -> VariancePrior:
    rounds = []
    for _ in range(world.history_rounds):
        before, after = _trials(world.noise, cv, HISTORY_PAIRS, generator)
        rounds.append((float((after - before).var(ddof=1)), float(HISTORY_PAIRS - 1)))
    return fit_prior(rounds)


def _trials(noise: Noise, cv: float, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Oriented logs of trials around no effect, shape (2, count): the arms, in order A B, B A, A B, ..."""
    values = cv * generator.standard_normal((2, count))
    match noise:
        case Noise.NORMAL:
            pass
        case Noise.T3:
            values = cv * generator.standard_t(3, (2, count)) / math.sqrt(3)
        case Noise.DRIFT:
            # Creep of 0.3 CV a trial plus a slow swing of one CV: what the alternating order has to cancel.
            clock = np.arange(2 * count).reshape(count, 2)
            clock[1::2] = clock[1::2, ::-1]
            values = values + cv * (0.3 * clock.T + np.sin(clock.T / 4))
        case Noise.OUTLIER:
            values = values + (generator.random((2, count)) < OUTLIER_SHARE) * OUTLIER_SCALES * cv
        case Noise.BIMODAL:
            values = values + (generator.random((2, count)) < 0.5) * 2.0 * cv
    return np.asarray(values)


def _shift(metric: str, effect: float) -> float:
    return log_from_share(effect, metric_named(metric).better)


def _values(metric: str, logs: NDArray[np.float64]) -> tuple[float, ...]:
    """Readings around 1 from oriented logs."""
    sign = 1.0 if metric_named(metric).better is Better.LOWER else -1.0
    return tuple(float(value) for value in np.exp(sign * logs))


def _rates(outcomes: Sequence[tuple[Finding, int]]) -> Rates:
    count = len(outcomes)
    findings = [finding for finding, _ in outcomes]
    return Rates(
        suite_count=count,
        shares={finding: findings.count(finding) / count for finding in dict.fromkeys(findings)},
        pairs_mean=sum(pairs for _, pairs in outcomes) / count,
        pairs_max=max(pairs for _, pairs in outcomes),
    )
