"""How noisy a recorded series is from night to night, and which step the nightly would see in such noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from checks.estimate import MAD_TO_SD
from checks.nightly import levelled
from checks.policy import NightlyPolicy
from redline.model import LevelChange

SEEN_NIGHTS = 3
"""A step is called seen if it is suspected within this many nights, the first bad one included."""


def night_noise(readings: Sequence[float], changes: Sequence[LevelChange]) -> float:
    """The standard deviation (log, about a CV) of one night's reading, its level changes taken out, from the MAD.

    NaN below three nights.
    """
    if len(readings) < 3:
        return math.nan
    values = levelled(readings, changes)
    return MAD_TO_SD * float(np.median(np.abs(values - np.median(values))))


def step_seen_log(noise: float, nights_before: int, policy: NightlyPolicy, share: float) -> float:
    """The step (log) that a share of series would show within `SEEN_NIGHTS` nights: suspected, not yet confirmed.

    For independent normal nights with the standard deviation `noise`, after `nights_before` nights on one level.
    Infinite before the policy suspects anything. Approximate: t of the last split of `checks.step_detection` at its
    threshold on the last of these nights, with the spread of a non-central t. Simulated with 8 to 120 nights before,
    59 to 62 % of series show what is said to be seen in 50 %, and 92 to 95 % of 90 %: earlier nights help.
    """
    if nights_before < policy.nights_min:
        return math.inf
    df = nights_before + SEEN_NIGHTS - 2.0
    t_needed = -float(special.stdtrit(df, float(special.ndtr(-policy.z_step))))
    spread = math.sqrt(1 + t_needed**2 / (2 * df))
    reach = math.sqrt(1 / nights_before + 1 / SEEN_NIGHTS)
    return noise * reach * (t_needed + float(special.ndtri(share)) * spread)
