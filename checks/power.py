"""What an amount of measuring can and cannot resolve, and how much more would."""

from __future__ import annotations

import math

from scipy import special

RESOLUTION = 24.0  # (2.7 + 2.2)^2: about 95 % conclusive at no effect and at the margin, six primaries with a prior
POWER_AIMED = 0.80


def pair_limit(variance: float, margin_log: float, *, floor: int, budget: int) -> int:
    """The most pairs worth running: ceil(24 variance / margin^2), within [floor, budget].

    `variance` of one difference of logs, from history. Raises ValueError for a margin that is not positive.
    """
    if margin_log <= 0:
        raise ValueError("the margin must be positive")
    return min(max(math.ceil(RESOLUTION * variance / margin_log**2), floor), budget)


def detectable_log(variance: float, pair_count_max: int) -> float:
    """The minimum detectable effect (oriented log): the smallest margin that this noise and budget resolve."""
    return math.sqrt(RESOLUTION * variance / pair_count_max)


def pairs_to_decide(
    location: float,
    variance: float,
    pair_count: int,
    margin_log: float,
    *,
    alpha_regressed: float,
    alpha_no_worse: float,
) -> int:
    """About how many pairs would decide it with 80 % power, if the truth is what was estimated.

    The cheaper of "upper bound below the margin" and "lower bound above zero"; always more than `pair_count`.
    A rough figure: the estimate itself is uncertain.
    """
    z_power = float(special.ndtri(POWER_AIMED))
    needed = []
    for distance, alpha in ((margin_log - location, alpha_no_worse), (location, alpha_regressed)):
        if distance > 0:
            needed.append(variance * ((z_power - float(special.ndtri(alpha))) / distance) ** 2)
    return max(math.ceil(min(needed)), pair_count + 1)


def repeats_best(start_s: float, repeat_s: float, variance_deployment: float, variance_repeat: float) -> int:
    """Repeats per deployment that spend time best: sqrt(t_start/t_repeat * var_repeat/var_deployment), at least 1.

    Source: two-stage sampling with costs, Cochran, Sampling Techniques, 10.6.
    """
    ratio = start_s / repeat_s * variance_repeat / max(variance_deployment, 1e-12)
    return max(1, round(math.sqrt(ratio)))


def items_needed(
    flip_share: float,
    accuracy: float,
    share_min: float,
    run_count: int = 1,
    *,
    alpha: float = 0.025,
    power: float = 0.9,
) -> int:
    """Items for an equal build to pass non-inferiority at `share_min` of the baseline with `power`.

    (z_alpha + z_power)^2 flips / (runs m^2) with m = (1 - share_min) accuracy; never below z_alpha^2 / m, the
    number below which even answers without a single flip prove nothing (see `checks.accuracy`).

    Raises:
        ValueError: accuracy or share_min outside (0, 1), run_count below 1.
    """
    if not (0 < accuracy <= 1 and 0 < share_min < 1 and run_count >= 1 and flip_share >= 0):
        raise ValueError("accuracy must be in (0, 1], share_min in (0, 1), run_count at least 1, flip_share at least 0")
    slack = (1 - share_min) * accuracy
    z_alpha, z_power = -float(special.ndtri(alpha)), float(special.ndtri(power))
    by_flips = (z_alpha + z_power) ** 2 * flip_share / run_count / slack**2
    return math.ceil(max(by_flips, z_alpha**2 / slack))
