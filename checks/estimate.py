"""Effect and standard error of a handful of paired differences: robust location, moderated variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from checks.prior import VariancePrior

CLIP_SCALES = 2.5  # a pair further out than this many scales pulls no harder than one at it
HUBER_STEPS = 20  # fixed scale: converges geometrically, 20 steps leave < 1e-6 of a scale
HUBER_STEP_MIN = 1e-12  # of the clip distance: further steps change nothing but the last bits
MAD_TO_SD = 1.4826
GUARD_P = 0.25  # the prior loses weight once today's variance is in the upper quarter of what it predicts
MULTIPLIER_PRIOR = 4.0  # pseudo-observations at "as noisy as history"
MULTIPLIER_SHARE = 0.5  # metrics of one suite move together: each counts half


@dataclass(frozen=True, slots=True)
class Estimate:
    """Location of D (oriented log), its standard error and what both rest on.

    `df`: degrees of freedom of `standard_error`; `variance`: of one D, moderated; `clipped_count`: pairs
    that were pulled in; `prior_df`: what the prior was worth after the guard.
    """

    location: float
    standard_error: float
    df: float
    variance: float
    clipped_count: int
    pair_count: int
    prior_df: float

    @property
    def p_two_sided(self) -> float:
        """Two-sided p of "no effect" at this look alone: not corrected for looks or other metrics."""
        if self.standard_error == 0:
            return 1.0 if self.location == 0 else 0.0
        return float(2 * special.stdtr(self.df, -abs(self.location) / self.standard_error))


def estimate(differences: Sequence[float], prior: VariancePrior) -> Estimate:
    """The estimate of one metric. Without history: the plain mean and paired t.

    With history: Huber location with clip +-2.5 scales (scale from prior and MAD), variance of the clipped
    residuals moderated by the prior, whose weight shrinks when today is noisier than history.

    Raises:
        ValueError: fewer than two differences, or one that is not finite.
    Source: Huber 1964; Smyth 2004 (doi:10.2202/1544-6115.1027); the guard is ours, measured in docs/method.md.
    """
    values = _checked(differences)
    count = len(values)
    if not prior.known:
        variance = float(values.var(ddof=1))
        return Estimate(float(values.mean()), math.sqrt(variance / count), count - 1.0, variance, 0, count, 0.0)
    location, clip = _huber(values, prior)
    residuals = values - location
    share_inside = max(float(np.mean(np.abs(residuals) < clip)), 0.5)
    s2 = float((np.clip(residuals, -clip, clip) ** 2).sum()) / (count - 1)
    guard = min(1.0, float(special.fdtrc(count - 1, prior.df, s2 / prior.variance)) / GUARD_P)
    prior_df = prior.df * guard
    df = prior_df + count - 1.0
    variance = (prior_df * prior.variance + (count - 1) * s2) / df
    return Estimate(
        location,
        math.sqrt(variance / count) / share_inside,
        df,
        variance,
        int(np.sum(np.abs(residuals) >= clip)),
        count,
        prior_df,
    )


def noise_multiplier(differences: Sequence[Sequence[float]], priors: Sequence[VariancePrior]) -> float:
    """How many times as noisy (in variance) as history today is, pooled over a suite's metrics; at least 1.

    Multiply every prior's variance by it before `estimate`. Metrics without history, or with fewer than two
    differences, do not take part.
    """
    numerator = denominator = MULTIPLIER_PRIOR
    for series, prior in zip(differences, priors, strict=True):
        if not prior.known or len(series) < 2:
            continue
        values = _checked(series)
        location, clip = _huber(values, prior)
        squares = float((np.clip(values - location, -clip, clip) ** 2).sum())
        numerator += MULTIPLIER_SHARE * squares / prior.variance
        denominator += MULTIPLIER_SHARE * (len(values) - 1)
    return max(1.0, numerator / denominator)


def _checked(differences: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        raise ValueError(f"a spread needs at least 2 pairs, found {len(values)}")
    if not np.isfinite(values).all():
        raise ValueError("every difference must be finite")
    return values


def _huber(values: NDArray[np.float64], prior: VariancePrior) -> tuple[float, float]:
    """(location, clip): Huber's location at a fixed scale that prior and MAD share by their df."""
    count = len(values)
    median = float(np.median(values))
    mad_variance = (MAD_TO_SD * float(np.median(np.abs(values - median)))) ** 2
    clip = CLIP_SCALES * math.sqrt((prior.df * prior.variance + (count - 1) * mad_variance) / (prior.df + count - 1))
    location = median
    for _ in range(HUBER_STEPS):
        step = float(np.clip(values - location, -clip, clip).mean())
        location += step
        if abs(step) <= HUBER_STEP_MIN * clip:
            break
    return location, clip
