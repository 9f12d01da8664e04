"""How far out a result must be at each look, so that looking again and again costs no extra false alarms."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

SPENDING_EXPONENT = 1.5  # between O'Brien-Fleming (late) and Pocock (even): decides early when it is plain
GRID_POINTS = 160  # Gauss-Legendre: exact to 1e-12 for up to 100 looks; a trapezoid of 801 was off by 3e-5 to 6e-4
Z_FLOOR = -8.0
BISECTION_STEPS = 60
_LEGENDRE_POINTS, _LEGENDRE_WEIGHTS = np.polynomial.legendre.leggauss(GRID_POINTS)


@functools.lru_cache(maxsize=256)
def bounds(alpha: float, looks: tuple[int, ...], exponent: float = SPENDING_EXPONENT) -> tuple[float, ...]:
    """One-sided normal critical values, one per look, that together spend `alpha`.

    After look n the spent error is alpha * (n / n_max) ** exponent. `looks`: numbers of pairs, ascending. One
    look alone gives the plain quantile.

    Raises:
        ValueError: alpha outside (0, 0.5), or looks that do not ascend from at least 2.
    Source: Lan and DeMets 1983 (doi:10.1093/biomet/70.3.659), power family of Kim and DeMets 1987; the
    recursion is Armitage, McPherson and Rowe 1969 with Gauss-Legendre quadrature.
    """
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be in (0, 0.5), found {alpha}")
    if not looks or looks[0] < 2 or any(later <= earlier for earlier, later in itertools.pairwise(looks)):
        raise ValueError(f"looks must ascend from at least 2, found {looks}")
    information = np.asarray(looks, dtype=np.float64) / looks[-1]
    spent = alpha * information**exponent
    increments = np.diff(np.concatenate(([0.0], spent)))
    critical = [-float(special.ndtri(increments[0]))]
    grid, weights = _nodes(critical[0], math.sqrt(information[0]))
    density = _normal_density(grid, math.sqrt(information[0])) * weights
    for look in range(1, len(looks)):
        step_sd = math.sqrt(information[look] - information[look - 1])
        root = math.sqrt(information[look])
        critical.append(_solve(grid, density, step_sd, root, float(increments[look])))
        following, weights = _nodes(critical[-1], root)
        moves = _normal_density(following[:, None] - grid[None, :], step_sd)
        grid, density = following, (moves @ density) * weights
    return tuple(critical)


def critical_value(alpha: float, looks: tuple[int, ...], pair_count: int, df: float) -> float:
    """How many standard errors the bound lies from the estimate at the look with `pair_count` pairs.

    The normal critical value's tail probability, read from t with `df`. Raises ValueError if it is no look.
    """
    if pair_count not in looks:
        raise ValueError(f"{pair_count} pairs is no look of {looks}")
    z = bounds(alpha, looks)[looks.index(pair_count)]
    return -float(special.stdtrit(df, float(special.ndtr(-z))))


def _solve(grid: NDArray[np.float64], density: NDArray[np.float64], step_sd: float, root: float, spend: float) -> float:
    """The z whose crossing probability at this look, among paths still inside, is `spend`: by bisection."""
    low, high = -2.0, 12.0
    for _ in range(BISECTION_STEPS):
        z = (low + high) / 2
        crossing = float((density * special.ndtr((grid - z * root) / step_sd)).sum())
        low, high = (z, high) if crossing > spend else (low, z)
    return (low + high) / 2


def _normal_density(values: NDArray[np.float64], sd: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * (values / sd) ** 2) / (sd * math.sqrt(2 * math.pi)))


def _nodes(z: float, root: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(points, weights) of the integral over the paths still inside: floor to bound, times sqrt(information)."""
    half = (z - Z_FLOOR) * root / 2
    return Z_FLOOR * root + (_LEGENDRE_POINTS + 1) * half, _LEGENDRE_WEIGHTS * half
