"""Where noise comes from: variance components of a nested, unbalanced design by the method of moments.

x = level 1 + level 2 + ... + finest level, each a random effect nested in the one before it: day, deployment,
repeat. Mean squares are set equal to their expectations, from the finest level upwards (Henderson's method 1
for nested designs). An estimate below 0 is reported as 0, with the upper end of its interval: what is not
seen may still be there. A level with one group has no degrees of freedom and is unknown, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

TAIL = 0.025  # on each side of an interval: 95 %

_Floats = NDArray[np.float64]
_Codes = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Component:
    """The variance that one level adds (squared logs), with an approximate 95 % interval.

    `df`: degrees of freedom of the level's mean square. `variance`, `low` and `high` are None where the level
    cannot be estimated; `unknown_because` then says why.
    """

    level: str
    df: int
    variance: float | None = None
    low: float | None = None
    high: float | None = None
    unknown_because: str = ""


@dataclass(frozen=True, slots=True)
class _MeanSquares:
    """Of each level, coarse to fine: `df` and `squares` of shape (levels,); `expected` of shape (levels, levels).

    E(squares[s]) = sum over t >= s of expected[s, t] * variance[t].
    """

    df: _Codes
    squares: _Floats
    expected: _Floats


def nested_components(
    values: Sequence[float],
    strata: Sequence[Hashable],
    levels: Sequence[tuple[str, Sequence[Hashable]]],
    finest: str,
) -> tuple[Component, ...]:
    """One component per level, coarse to fine, the last one `finest`: each value on its own.

    `values`: logs, shape (n,). `strata`: a label per value whose differences are no noise (the build); means are
    taken within them. `levels`: (name, a label per value), coarse to fine; labels are read within the level
    before, so the first deployment of two days may share a label.

    Intervals: chi-square for the finest level, modified large samples for the others.

    Raises:
        ValueError: no values, one that is not finite, or labels of another length.
    Source: Searle, Casella and McCulloch, Variance Components; for the intervals Ting, Burdick, Graybill,
    Jeyaratnam and Lu 1990, in Burdick and Graybill, Confidence Intervals on Variance Components.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0 or not np.isfinite(x).all():
        raise ValueError("values must be finite, and at least one")
    if any(len(labels) != len(x) for labels in (strata, *(labels for _, labels in levels))):
        raise ValueError(f"every level needs one label for each of {len(x)} values")
    partitions = [_codes(list(strata))]
    for _, labels in levels:
        partitions.append(_codes(list(zip(partitions[-1].tolist(), labels, strict=True))))
    partitions.append(np.arange(len(x)))
    names = [*(name for name, _ in levels), finest]
    table = _mean_squares(x, partitions)
    found: list[Component] = []
    weights: dict[int, _Floats] = {}
    for level in reversed(range(len(names))):
        reason = _unknown_because(names, table, level, weights)
        if reason:
            found.append(Component(names[level], int(table.df[level]), unknown_because=reason))
            continue
        weights[level] = _weights(table, level, weights)
        variance = float(weights[level] @ table.squares)
        low, high = _interval(variance, weights[level], table)
        estimate = max(variance, 0.0)
        found.append(Component(names[level], int(table.df[level]), estimate, max(low, 0.0), max(high, estimate)))
    return tuple(reversed(found))


def _codes(labels: Sequence[Hashable]) -> _Codes:
    """Labels as numbers from 0, in the order of their first appearance."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(label, len(known)) for label in labels], dtype=np.intp)


def _mean_squares(x: _Floats, partitions: Sequence[_Codes]) -> _MeanSquares:
    sizes = [np.bincount(codes) for codes in partitions]
    means = [(np.bincount(codes, x) / size)[codes] for codes, size in zip(partitions, sizes, strict=True)]
    count = len(partitions) - 1
    df = np.array([len(sizes[level + 1]) - len(sizes[level]) for level in range(count)], dtype=np.intp)
    squares = np.zeros(count)
    expected = np.zeros((count, count))
    for level in range(count):
        if df[level] == 0:
            continue
        squares[level] = float(((means[level + 1] - means[level]) ** 2).sum()) / df[level]
        for finer in range(level, count):
            inner = sizes[finer + 1][partitions[finer + 1]]
            own, above = (inner / sizes[each][partitions[each]] for each in (level + 1, level))
            expected[level, finer] = float((own - above).sum()) / df[level]
    return _MeanSquares(df, squares, expected)


def _unknown_because(names: Sequence[str], table: _MeanSquares, level: int, weights: dict[int, _Floats]) -> str:
    if table.df[level] == 0:
        where = names[level - 1] if level else "system"
        return f"no {where} has two {names[level]}s"
    hidden = [names[finer] for finer in range(level + 1, len(names)) if finer not in weights]
    return f"cannot be told apart from the {hidden[0]}" if hidden else ""


def _weights(table: _MeanSquares, level: int, finer: dict[int, _Floats]) -> _Floats:
    """The combination of mean squares whose expectation is this level's variance."""
    combined = np.zeros(len(table.df))
    combined[level] = 1.0
    for other in range(level + 1, len(table.df)):
        combined -= table.expected[level, other] * finer[other]
    return np.asarray(combined / table.expected[level, level])


def _interval(variance: float, weights: _Floats, table: _MeanSquares) -> tuple[float, float]:
    """The 95 % interval of a combination of independent mean squares: modified large samples."""
    parts = weights * table.squares
    positive = [level for level in range(len(parts)) if weights[level] > 0]
    negative = [level for level in range(len(parts)) if weights[level] < 0]
    below = sum((_shrink(table.df[level]) * parts[level]) ** 2 for level in positive)
    below += sum((_stretch(table.df[level]) * parts[level]) ** 2 for level in negative)
    above = sum((_stretch(table.df[level]) * parts[level]) ** 2 for level in positive)
    above += sum((_shrink(table.df[level]) * parts[level]) ** 2 for level in negative)
    for plus in positive:
        for minus in negative:
            df = (float(table.df[plus]), float(table.df[minus]))
            product = float(parts[plus] * -parts[minus])
            high, low = float(special.fdtri(*df, 1 - TAIL)), float(special.fdtri(*df, TAIL))
            shrink, stretch = (_shrink(df[0]), _shrink(df[1])), (_stretch(df[0]), _stretch(df[1]))
            below += ((high - 1) ** 2 - (shrink[0] * high) ** 2 - stretch[1] ** 2) / high * product
            above += ((1 - low) ** 2 - (stretch[0] * low) ** 2 - shrink[1] ** 2) / low * product
    return variance - math.sqrt(max(float(below), 0.0)), variance + math.sqrt(max(float(above), 0.0))


def chi_square_quantile(df: float, share: float) -> float:
    """The value below which `share` of chi-square with `df` lies."""
    return 2.0 * float(special.gammaincinv(df / 2.0, share))


def _shrink(df: float) -> float:
    """1 - df / upper chi-square quantile: how far down a mean square may truly lie, as a share of it."""
    return 1.0 - df / chi_square_quantile(df, 1 - TAIL)


def _stretch(df: float) -> float:
    """df / lower chi-square quantile - 1: how far up."""
    return df / chi_square_quantile(df, TAIL) - 1.0
