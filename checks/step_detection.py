"""Did a series get worse, and since when? A generalised likelihood ratio over every night it could have begun.

For each night t of the window the mean from t on is compared with the mean before it, both clipped, with one
moderated variance; the largest z names the night. Tonight is also looked at alone, unclipped, so that a large step
is seen at once. Source: generalised likelihood ratio for a change in mean, Siegmund and Venkatraman 1995
(doi:10.1214/aos/1176324466); t to z by Wallace 1959.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from checks.estimate import MAD_TO_SD
from checks.policy import NightlyPolicy
from checks.prior import NO_PRIOR, VariancePrior

CLIP_SCALES = 3.0
SCALE_NIGHTS_MAX = 30
FINEST_MIN = 1e-12  # closer readings (logs) are one number
Z_MAX = 40.0
T_MAX = 1e100  # of a rise without any spread
COULD_BE_DROP = 6.0
"""Nights whose z^2 lies at most this far below the best one's could be the first as well: docs/method.md has how
often the true one is among them."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is too large for chance, in a series of oriented logs.

    `first_bad`: index of the first night on the new level; `could_be`: every index it could also have begun at,
    `first_bad` included, ascending; `size`: how much worse, a difference of oriented logs; `tonight_alone`: only
    the last reading says so.
    """

    first_bad: int
    could_be: tuple[int, ...]
    size: float
    z: float
    tonight_alone: bool


def find_step(readings: Sequence[float], policy: NightlyPolicy, prior: VariancePrior = NO_PRIOR) -> Step | None:
    """The step towards worse in a series on one level, or None; `readings` are oriented logs, tonight's last.

    `prior`: the variance of one night's reading. Before `policy.nights_min` nights nothing is said.

    Raises:
        ValueError: a reading that is not finite.
    """
    values = np.asarray(readings, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("every night's reading must be finite: leave out the nights that have none")
    tonight = len(values) - 1
    if tonight < policy.nights_min:
        return None
    finest = _finest(values[:-1])
    median, clip = _scale(values[:-1], prior, finest)
    clipped = np.clip(values - median, -clip, clip)
    splits = np.arange(max(policy.nights_min, tonight - policy.window_nights + 1), tonight + 1)
    z = _z_of_splits(clipped, splits, prior, finest)
    best = int(np.argmax(z))
    z_alone = _z_alone(clipped[:tonight], float(values[tonight] - median), prior, finest)
    stepped = bool(z[best] > policy.z_step)
    near = set(splits[z**2 >= z[best] ** 2 - COULD_BE_DROP].tolist()) if stepped else set()
    lasting = stepped and _lasts(values, int(splits[best]))
    if z_alone > policy.z_tonight and z_alone > z[best] and not lasting:
        size = float(values[tonight] - np.median(values[:tonight]))
        return Step(tonight, tuple(sorted(near | {tonight})), size, z_alone, tonight_alone=not stepped)
    if not stepped:
        return None
    first_bad = int(splits[best])
    size = float(np.median(values[first_bad:]) - np.median(values[:first_bad]))
    return Step(first_bad, tuple(sorted(near)), size, float(z[best]), first_bad == tonight)


def _scale(before: NDArray[np.float64], prior: VariancePrior, finest: float) -> tuple[float, float]:
    """(median, clip distance) of the nights before tonight: MAD and prior share the scale by their weight."""
    median = median_of(before)
    count = min(len(before), SCALE_NIGHTS_MAX)
    mad_variance = max((MAD_TO_SD * median_of(np.abs(before - median))) ** 2, finest**2)
    return median, CLIP_SCALES * math.sqrt((prior.df * prior.variance + count * mad_variance) / (prior.df + count))


def _finest(values: NDArray[np.float64]) -> float:
    """Half the smallest step between two readings: rounded readings scatter by no less than they are rounded to.

    0 where all readings are one number.
    """
    gaps = np.diff(np.sort(values))
    gaps = gaps[gaps > FINEST_MIN]
    return float(gaps.min()) / 2 if len(gaps) else 0.0


def median_of(values: NDArray[np.float64]) -> float:
    """As numpy's, four times as fast on a few hundred values: it is most of what a year of nights costs."""
    ordered, middle = np.sort(values), len(values) // 2
    return float(ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)


def _lasts(values: NDArray[np.float64], first_bad: int) -> bool:
    """True if the nights from `first_bad` to last night already lie at more than half of tonight's rise.

    Tonight is not clipped when it is looked at alone, so its z would else beat every lasting step's, night after
    night, and the step would never be named.
    """
    if first_bad == len(values) - 1:
        return False
    before = float(np.median(values[:first_bad]))
    return float(np.median(values[first_bad:-1])) - before > (float(values[-1]) - before) / 2


def _z_of_splits(
    clipped: NDArray[np.float64], splits: NDArray[np.int64], prior: VariancePrior, finest: float
) -> NDArray[np.float64]:
    """z of "worse from this night on", shape (splits,), 0 where there is no spread to judge by."""
    count = len(clipped)
    sums, squares = np.cumsum(clipped), np.cumsum(clipped**2)
    before, after = splits.astype(np.float64), (count - splits).astype(np.float64)
    sum_before, sum_after = sums[splits - 1], sums[-1] - sums[splits - 1]
    spread_before = squares[splits - 1] - sum_before**2 / before
    spread_after = squares[-1] - squares[splits - 1] - sum_after**2 / after
    df = prior.df + count - 2.0
    variance = np.maximum((prior.df * prior.variance + spread_before + spread_after) / df, finest**2)
    rise = sum_after / after - sum_before / before
    return _z_of_t(rise, np.sqrt(variance * (1 / before + 1 / after)), df)


def _z_alone(clipped_before: NDArray[np.float64], tonight: float, prior: VariancePrior, finest: float) -> float:
    """z of tonight's unclipped reading against the nights before it."""
    count = len(clipped_before)
    mean = float(clipped_before.sum()) / count
    df = prior.df + count - 1.0
    from_mean = clipped_before - mean
    variance = max((prior.df * prior.variance + float(from_mean @ from_mean)) / df, finest**2)
    rise, standard_error = tonight - mean, math.sqrt(variance * (1 + 1 / count))
    if rise <= 0:
        return 0.0
    t = rise / standard_error if standard_error > 0 else math.inf
    return min(math.sqrt(df * math.log1p(t * t / df)) * (8 * df + 1) / (8 * df + 3), Z_MAX) if t < T_MAX else Z_MAX


def _z_of_t(rise: NDArray[np.float64], standard_error: NDArray[np.float64], df: float) -> NDArray[np.float64]:
    """The normal quantile of a t with `df`, 0 for what is no rise; at most `Z_MAX`."""
    t = np.divide(rise, standard_error, out=np.where(rise > 0, T_MAX, 0.0), where=standard_error > 0)
    t = np.clip(t, 0.0, T_MAX)
    return np.asarray(np.minimum(np.sqrt(df * np.log1p(t * t / df)) * (8 * df + 1) / (8 * df + 3), Z_MAX))
