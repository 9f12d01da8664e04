"""The warnings of one comparison: values, which reports print as footnotes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from checks.bimodality import two_groups
from checks.effects import log_from_share
from redline.metrics import CATALOGUE
from redline.model import Comparison

REST_COUNT_MIN = 10  # a percentile that rests on fewer requests is said to
NOISY_DAY = 1.5  # times the variance of history
REQUEST_P99 = frozenset({"ttft_s_p99", "tpot_s_p99"})  # ITL's is taken over tokens, not requests

NO_HISTORY = "no history: prior not used"
BIMODAL = "bimodal deployments"
SLOWER_WITHIN = "slower, within the margin"


def footnotes(
    comparison: Comparison,
    *,
    prior_known: bool,
    arms: tuple[Sequence[float], Sequence[float]],
    request_count: int | None,
    discard_count: int,
    dropped_count: int,
) -> tuple[str, ...]:
    """What a reader must know beside the figures, most important first."""
    notes = []
    if comparison.effect_low > 0 and comparison.effect_high < comparison.margin:
        notes.append(SLOWER_WITHIN)
    if comparison.effect_detectable > comparison.margin:
        notes.append(
            f"this noise supports a margin of {comparison.effect_detectable:.1%} at best, "
            f"the policy's is {comparison.margin:.1%}"
        )
    gap_min = abs(log_from_share(comparison.margin, CATALOGUE[comparison.metric].better)) / 2
    for arm, values in zip(("baseline", "candidate"), arms, strict=True):
        if two_groups([math.log(value) for value in values], gap_min):
            notes.append(f"{BIMODAL}: {arm}")
    if not prior_known:
        notes.append(NO_HISTORY)
    if comparison.noise_multiplier > NOISY_DAY:
        notes.append(f"today is {comparison.noise_multiplier:.1f} times as noisy as history (in variance)")
    if comparison.clipped_count:
        notes.append(f"{comparison.clipped_count} of {comparison.pair_count} pairs lie far out and were clipped")
    if (note := tail_note(comparison.metric, request_count)) is not None:
        notes.append(note)
    if discard_count:
        window = "window" if discard_count == 1 else f"{discard_count} windows"
        notes.append(f"the first {window} after each start is warm-up and does not count")
    if dropped_count:
        notes.append(f"{dropped_count} windows were dropped, blind to their result, and measured again")
    return tuple(notes)


def tail_note(metric: str, request_count: int | None) -> str | None:
    """`p99 of 200 requests rests on 2`, or None where it rests on ten or more, or on no count of requests.

    sorted[int(0.99 n)] and what lies above it.
    """
    if request_count is None or metric not in REQUEST_P99:
        return None
    rest = request_count - min(int(request_count * 0.99), request_count - 1)
    return f"p99 of {request_count} requests rests on {rest}" if rest < REST_COUNT_MIN else None
