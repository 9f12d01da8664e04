"""The error rates of accuracy, re-measured: made-up scores with a known truth, judged by the shipped rules.

Pure: the random numbers come from a seed that is an argument. Scores are 0 or 1, one run per build, and both builds
answer the same items. docs/method.md states the figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from checks.accuracy import non_inferiority, worse_p
from redline.model import Finding, require

ACCURACY = 0.95


@dataclass(frozen=True, slots=True)
class AccuracyWorld:
    """`item_count` items, answered right with probability .95 by the baseline.

    `flip_share` of them differ between two runs of one build, by chance and both ways alike; the candidate loses
    `drop` (a share of all items, 0.02 is two points) on top.
    """

    item_count: int = 1000
    flip_share: float = 0.02
    drop: float = 0.0

    def __post_init__(self) -> None:
        require(self.item_count >= 2, "item_count must be at least 2")
        require(0 <= self.flip_share / 2 <= 1 - ACCURACY, "flip_share must be in [0, 0.1]: there is no more to gain")
        require(0 <= self.drop <= ACCURACY - self.flip_share / 2, "drop must be what the candidate can lose")


@dataclass(frozen=True, slots=True)
class ThresholdRates:
    """How often a build that keeps exactly the share asked for passes, by Redline's rule and by the usual one."""

    passed: float
    passed_usual: float


def simulate_regressed(world: AccuracyWorld, *, alpha: float, seed: int, repetition_count: int) -> float:
    """The share of comparisons in which the candidate is regressed: worse at one-sided `alpha`."""
    generator = np.random.default_rng(seed)
    hits = sum(worse_p(*_scores(world, generator)) < alpha for _ in range(repetition_count))
    return hits / repetition_count


def simulate_point_rule(world: AccuracyWorld, *, share_min: float, seed: int, repetition_count: int) -> float:
    """The share of comparisons in which the candidate's accuracy is below `share_min` of the baseline's.

    That is the rule others use: no allowance for chance.
    """
    generator = np.random.default_rng(seed)
    failed = 0
    for _ in range(repetition_count):
        before, after = _scores(world, generator)
        failed += bool(after.mean() < share_min * before.mean())
    return failed / repetition_count


def simulate_threshold(
    item_count: int, gained: float, *, share_min: float, alpha: float, seed: int, repetition_count: int
) -> ThresholdRates:
    """How often a build passes that keeps exactly `share_min` of an accuracy of .95.

    `gained`: the share of all items that it wins and, besides the loss, loses by chance.
    """
    generator = np.random.default_rng(seed)
    right_count = round(item_count * ACCURACY)
    before = np.array([1.0] * right_count + [0.0] * (item_count - right_count))
    accuracy = float(before.mean())
    passed = passed_usual = 0
    for _ in range(repetition_count):
        lost_share = ((1 - share_min) * accuracy + gained) / accuracy
        after = _flipped(before, lost_share, gained / (1 - accuracy), generator)
        passed += non_inferiority(before, after, share_min, alpha) is Finding.NO_WORSE
        passed_usual += usual_non_inferiority(before, after, share_min, alpha)
    return ThresholdRates(passed / repetition_count, passed_usual / repetition_count)


def usual_non_inferiority(
    before: NDArray[np.float64], after: NDArray[np.float64], share_min: float, alpha: float
) -> bool:
    """Whether the usual test passes: the mean of after - share_min * before is above z of its own standard errors.

    It has no floor under its variance. Source: Laster and Johnson 2003 (Statistics in Medicine 22).
    """
    kept = after - share_min * before
    standard_error = float(kept.std(ddof=1)) / math.sqrt(len(kept))
    return bool(kept.mean() > -float(special.ndtri(alpha)) * standard_error)


def _scores(world: AccuracyWorld, generator: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(baseline, candidate), shape (item_count,) each."""
    before = (generator.random(world.item_count) < ACCURACY).astype(np.float64)
    by_chance = world.flip_share / 2
    after = _flipped(before, (by_chance + world.drop) / ACCURACY, by_chance / (1 - ACCURACY), generator)
    return before, after


def _flipped(
    before: NDArray[np.float64], lost_share: float, gained_share: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """The same answers, but `lost_share` of the right ones turned wrong and `gained_share` of the wrong ones right."""
    after = before.copy()
    after[(before == 1) & (generator.random(len(before)) < lost_share)] = 0
    after[(before == 0) & (generator.random(len(before)) < gained_share)] = 1
    return after
