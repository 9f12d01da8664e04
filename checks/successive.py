"""Does the order of measurement matter? Pairs that depend on the one before them are fewer pairs than they seem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

Values: TypeAlias = Sequence[float] | NDArray[np.float64]

PERMUTATIONS = 2_000
TAIL = 0.025
PAIRS_MIN = 3  # in two pairs, order is no information


@dataclass(frozen=True, slots=True)
class LagOne:
    """Correlation of each value with the next one of its round, pooled over rounds.

    `low`, `high`: where 95 % of such correlations lie if the order is chance. That band is not centred on 0:
    in a round of n, deviations from its mean are correlated by -1/n. `p_low`, `p_high`: one-sided, for a
    correlation this far down or up. `value_count`: in rounds long enough to count.
    """

    correlation: float
    low: float
    high: float
    p_low: float
    p_high: float
    value_count: int


@dataclass(frozen=True, slots=True)
class Drift:
    """The common slope of all rounds, in oriented log per step; `p_two_sided` of "no slope"."""

    per_step: float
    df: int
    p_two_sided: float


@dataclass(frozen=True, slots=True)
class Offset:
    """How much further the arms of whole rounds lie apart than their pairs explain.

    `ratio`: variance of the rounds' mean differences around 0 over what pairs explain: about 1 where the
    standard error of the gate is right. `p_high`: of a ratio this large, by F. `mean`: over all pairs.
    """

    ratio: float
    df: int
    p_high: float
    mean: float


def lag_one(rounds: Sequence[Values], *, seed: int) -> LagOne | None:
    """The lag-1 correlation within rounds and its band, by permuting each round's values; None if nothing varies.

    Rounds of fewer than three values are left out.

    Source: permutation test of serial correlation, Wald and Wolfowitz 1943, pooled over rounds.
    """
    usable = [np.asarray(values, dtype=np.float64) for values in rounds if len(values) >= PAIRS_MIN]
    centred = [values - values.mean() for values in usable]
    total = sum(float((values**2).sum()) for values in centred)
    if total <= 0:
        return None
    generator = np.random.default_rng(seed)
    observed = sum(float((values[1:] * values[:-1]).sum()) for values in centred) / total
    by_chance = np.zeros(PERMUTATIONS)
    for values in centred:
        shuffled = generator.permuted(np.tile(values, (PERMUTATIONS, 1)), axis=1)
        by_chance += (shuffled[:, 1:] * shuffled[:, :-1]).sum(axis=1)
    by_chance /= total
    low, high = (float(each) for each in np.quantile(by_chance, (TAIL, 1 - TAIL)))
    p_low, p_high = (
        (1 + int((sign * (by_chance - observed) >= -1e-12).sum())) / (PERMUTATIONS + 1) for sign in (-1.0, 1.0)
    )
    return LagOne(observed, low, high, p_low, p_high, sum(len(values) for values in usable))


def drift(rounds: Sequence[Values]) -> Drift | None:
    """The slope over the steps of a round, one for all of them, each around its own mean; None if it has no error.

    Ordinary least squares with one intercept per round.
    """
    usable = [np.asarray(values, dtype=np.float64) for values in rounds if len(values) >= PAIRS_MIN]
    if not usable:
        return None
    steps = np.concatenate([np.arange(len(values)) - (len(values) - 1) / 2 for values in usable])
    centred = np.concatenate([values - values.mean() for values in usable])
    df = len(centred) - len(usable) - 1
    spread = float((steps**2).sum())
    slope = float((steps * centred).sum()) / spread
    residual = float(((centred - slope * steps) ** 2).sum())
    if residual <= 0:
        return None
    t = slope / math.sqrt(residual / df / spread)
    return Drift(slope, df, float(2 * special.stdtr(df, -abs(t))))


def round_offset(rounds: Sequence[Values]) -> Offset | None:
    """The rounds' mean differences against their pairs' spread; None if the pairs have none. The truth is 0.

    F with (rounds, pooled df): above 1 where the arms of a round stay apart in a way that fresh deployments do not
    shake off. That is what a gate would take for an effect.
    """
    usable = [np.asarray(values, dtype=np.float64) for values in rounds if len(values) >= 2]
    df = sum(len(values) - 1 for values in usable)
    within = sum(float(((values - values.mean()) ** 2).sum()) for values in usable)
    if within <= 0:
        return None
    between = sum(len(values) * float(values.mean()) ** 2 for values in usable) / len(usable)
    ratio = between / (within / df)
    everything: NDArray[np.float64] = np.concatenate(usable)
    return Offset(ratio, df, float(special.fdtrc(len(usable), df, ratio)), float(everything.mean()))
