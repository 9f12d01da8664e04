"""Which build is the first bad one: a posterior over the builds, and what one more reading would tell. Pure.

Builds are numbered 0 (good) to N (bad) in their order; the culprit c is the first bad one, 1 <= c <= N. A reading of
build k is D = x_k - x_0, the oriented log difference of a pair. It scatters about one level for k < c and about
another for k >= c, as Student's t with 4 degrees of freedom, so that one odd pair does not decide. The good level is
nearly 0, because good builds are compared with a good one, and build 0 against itself is 0 exactly; the bad level is
at least half the margin. Both and the scale are integrated out on grids; the culprit enters only through which builds
are on which side.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from checks.estimate import MAD_TO_SD
from checks.prior import VariancePrior
from redline.model import require

Floats = NDArray[np.float64]

NOISE_DF = 4.0
SCALE_OF_SD = 0.831
"""Scale of the t4 that fits normal noise of standard deviation 1 best (maximum likelihood)."""

GOOD_SD_MARGINS = 0.2
"""How far good builds may lie from build 0 without harm: standard deviation of their level, in margins."""

GOOD_POINTS = 11
GOOD_REACH = 2.5  # standard deviations
BAD_POINTS = 25
BAD_REACH = 4.5  # standard errors of the bad end's mean
BAD_MARGINS_MIN = 0.5
SCALE_POINTS = 9
SCALE_REACH = 1.1  # in ln: a factor of three either way
SCALE_SHARE_MIN = 1e-3
"""The scale is never taken for smaller than this share of the largest reading: luck is no precision."""

RESIDUALS_MIN = 3
"""Readings of a build from which on they say something about the scale's rough place."""

GAIN_POINTS = 129
RATIO_STEP = 0.25
RATIO_MAX = 12.0


@dataclass(frozen=True, slots=True)
class LevelReading:
    """One pair: build `build` against build `against` (0 but in a confirmation); `difference` in oriented logs."""

    build: int
    difference: float
    against: int = 0


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the readings say. `shares[i]` is the probability that build i + 1 is the culprit; they add up to 1.

    `good`, `bad`: expected levels of D on either side; `scale`: of the t4 noise; all in oriented logs.
    """

    shares: Floats
    good: float
    bad: float
    scale: float

    @property
    def bad_shares(self) -> Floats:
        """Shape (N + 1,): the probability that build k is bad, k = 0 ... N; ascending from 0 to 1."""
        return np.concatenate(([0.0], np.minimum(np.cumsum(self.shares), 1.0)))

    def between(self, good: int, bad: int) -> float:
        """The probability that the culprit is one of the builds `good` + 1 ... `bad`."""
        return float(self.shares[good:bad].sum())

    def top(self, count: int) -> tuple[tuple[int, float], ...]:
        """The most probable builds with their probabilities, the likeliest first; ties by number."""
        order = np.argsort(-self.shares, kind="stable")[:count]
        return tuple((int(index) + 1, float(self.shares[index])) for index in order)

    def span(self, share: float = 0.95) -> tuple[int, int]:
        """First and last of the fewest builds that hold at least `share` of the probability."""
        order = np.argsort(-self.shares, kind="stable")
        enough = int(np.searchsorted(np.cumsum(self.shares[order]), share)) + 1
        chosen = order[:enough]
        return int(chosen.min()) + 1, int(chosen.max()) + 1


def equal_weights(count: int) -> tuple[float, ...]:
    """Every build as likely as any other."""
    return (1.0,) * count


def posterior(
    weights: Sequence[float],
    readings: Sequence[LevelReading],
    prior: VariancePrior,
    margin_log: float,
) -> Posterior:
    """The posterior over builds 1 ... len(weights), whose prior probabilities are proportional to `weights`.

    `readings` must hold some of both ends against build 0. A reading against another build (a confirmation) counts
    for the bad level if the culprit lies between the two, else for the good one. `prior`: of the variance of D;
    `margin_log`: the step that matters, in oriented logs.

    Raises:
        ValueError: an end without readings, a reading that is not finite or of no such build, no usable weights, a
            margin that is not positive.
    """
    count = len(weights)
    require(math.isfinite(margin_log) and margin_log > 0, "margin_log must be positive")
    prior_shares = _prior_shares(weights)
    own = sorted((each for each in readings if each.against == 0), key=lambda each: each.build)
    confirming = [each for each in readings if each.against != 0]
    _check(readings, {each.build for each in own}, count)
    builds = np.array([each.build for each in own])
    values = np.array([each.difference for each in own])
    measured, first = np.unique(builds, return_index=True)
    scales, log_scale = _scales(builds, values, prior)
    good_grid, log_good = _good_levels(margin_log)
    bad_grid = _bad_levels(values[builds == count], scales, margin_log)
    of_good = _log_t(values, good_grid, scales)
    of_good[builds == 0] = _log_t(values[builds == 0], np.zeros(1), scales)  # itself: no level to learn, only the scale
    good = np.cumsum(np.add.reduceat(of_good, first, axis=0), axis=0)[:-1] + log_good[:, None]
    bad = np.cumsum(np.add.reduceat(_log_t(values, bad_grid, scales), first, axis=0)[::-1], axis=0)[::-1][1:]
    for each in confirming:
        inside = (measured[:-1] >= each.against) & (measured[1:] <= each.build)
        value = np.array([each.difference])
        bad = bad + inside[:, None, None] * _log_t(value, bad_grid, scales)
        good = good + ~inside[:, None, None] * _log_t(value, good_grid, scales)
    good_sum, good_level = _over_levels(good, good_grid)
    bad_sum, bad_level = _over_levels(bad, bad_grid)
    joint = good_sum + bad_sum + log_scale  # (splits, scales)
    split = np.searchsorted(measured, np.arange(1, count + 1)) - 1  # of each possible culprit
    mass = np.bincount(split, weights=prior_shares, minlength=len(measured) - 1)
    top = joint.max()
    likelihood = np.exp(joint - top)
    shares = prior_shares * likelihood.sum(axis=1)[split]
    joined = likelihood * mass[:, None]
    joined /= joined.sum()
    return Posterior(
        shares=shares / shares.sum(),
        good=float((joined * good_level).sum()),
        bad=float((joined * bad_level).sum()),
        scale=float((joined * scales).sum()),
    )


def gains(found: Posterior) -> Floats:
    """Shape (N + 1,): by how many nats one reading of each build is expected to cut the posterior's entropy.

    A reading tells of the culprit only through the side that its build is on: the mutual information of a reading
    and that side, at the expected levels and scale.
    """
    ratio = abs(found.bad - found.good) / found.scale
    rounded = min(max(round(ratio / RATIO_STEP), 1), round(RATIO_MAX / RATIO_STEP))
    known = _gain_table(rounded)
    return np.asarray(np.interp(found.bad_shares, np.linspace(0.0, 1.0, GAIN_POINTS), known))


@functools.lru_cache(maxsize=64)
def _gain_table(ratio_steps: int) -> Floats:
    """Shape (GAIN_POINTS,): the information of one reading by the probability that its build is bad."""
    ratio = ratio_steps * RATIO_STEP
    y = np.linspace(-25.0, ratio + 25.0, 1201)
    good, bad = np.exp(_log_t1(y)), np.exp(_log_t1(y - ratio))
    share = np.linspace(0.0, 1.0, GAIN_POINTS)[:, None]
    mixed = share * bad + (1 - share) * good
    terms = share * bad * np.log(bad / mixed) + (1 - share) * good * np.log(good / mixed)
    return np.asarray(np.maximum(terms.sum(axis=1) * (y[1] - y[0]), 0.0))


def _prior_shares(weights: Sequence[float]) -> Floats:
    values = np.asarray(weights, dtype=np.float64)
    usable = values.ndim == 1 and len(values) >= 1 and bool(np.isfinite(values).all()) and bool((values >= 0).all())
    require(usable and float(values.sum()) > 0, "weights must be finite, not negative, and not all zero")
    return np.asarray(values / values.sum())


def _check(readings: Sequence[LevelReading], measured: set[int], count: int) -> None:
    require(0 in measured and count in measured, "both ends need readings against build 0")
    for each in readings:
        require(0 <= each.against <= each.build <= count, f"a reading names build {each.build} of 0 to {count}")
        require(math.isfinite(each.difference), "every difference must be finite")


def _scales(builds: NDArray[np.int64], values: Floats, prior: VariancePrior) -> tuple[Floats, Floats]:
    """(scales, ln of their prior): a grid around what history and the readings of each build suggest.

    The middle is robust (median absolute deviation): a wild reading must not move the grid off the rest.
    """
    residuals, group_count = [], 0
    for build in np.unique(builds):
        group = values[builds == build]
        if build == 0 or len(group) >= RESIDUALS_MIN:
            residuals.append(np.abs(group - (float(np.median(group)) if build else 0.0)))
            group_count += bool(build)
    pooled = np.concatenate(residuals)
    df = max(len(pooled) - group_count, 1)
    variance = (MAD_TO_SD * float(np.median(pooled))) ** 2 * len(pooled) / df
    floor = SCALE_SHARE_MIN * float(np.abs(values).max())
    sd = max(math.sqrt((prior.df * prior.variance + df * variance) / (prior.df + df)), floor, 1e-9)
    scales = SCALE_OF_SD * sd * np.exp(np.linspace(-SCALE_REACH, SCALE_REACH, SCALE_POINTS))
    if not prior.known:
        return scales, np.zeros(SCALE_POINTS)
    variances = (scales / SCALE_OF_SD) ** 2  # scaled inverse chi-square of the variance, per unit of ln scale
    return scales, -0.5 * prior.df * (np.log(variances) + prior.variance / variances)


def _good_levels(margin_log: float) -> tuple[Floats, Floats]:
    """(levels, ln of their prior): normal about 0."""
    z = np.linspace(-GOOD_REACH, GOOD_REACH, GOOD_POINTS)
    return GOOD_SD_MARGINS * margin_log * z, -0.5 * z * z


def _bad_levels(ends: Floats, scales: Floats, margin_log: float) -> Floats:
    """Levels around the bad end's own readings, each as likely as any other beforehand."""
    reach = BAD_REACH * float(scales[len(scales) // 2]) / SCALE_OF_SD / math.sqrt(len(ends))
    low = max(float(np.median(ends)) - reach, BAD_MARGINS_MIN * margin_log)
    return np.linspace(low, max(float(np.median(ends)) + reach, low + reach), BAD_POINTS)


def _log_t(values: Floats, levels: Floats, scales: Floats) -> Floats:
    """ln density of t4 but for a constant, shape (values, levels, scales)."""
    z = (values[:, None, None] - levels[None, :, None]) / scales
    return np.asarray(-0.5 * (NOISE_DF + 1) * np.log1p(z * z / NOISE_DF) - np.log(scales))


def _log_t1(z: Floats) -> Floats:
    """ln density of the standard t4: its constant is 3/8."""
    return np.asarray(math.log(3 / 8) - 0.5 * (NOISE_DF + 1) * np.log1p(z * z / NOISE_DF))


def _over_levels(logs: Floats, levels: Floats) -> tuple[Floats, Floats]:
    """(ln of the mean over levels, expected level), both of shape (splits, scales)."""
    top = logs.max(axis=1, keepdims=True)
    raised = np.exp(logs - top)
    total = raised.sum(axis=1)
    return np.log(total / len(levels)) + top[:, 0], (raised * levels[None, :, None]).sum(axis=1) / total
