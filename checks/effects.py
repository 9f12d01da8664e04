"""Between shares, which people read, and oriented logs, which are computed with.

A paired difference is D = x_candidate - x_baseline with x = ln(value), negated where higher is better, so
that + is worse. As a share of the baseline that is exp(D) - 1 for a latency and 1 - exp(-D) for a
throughput: a throughput that halves is 50 % worse, a latency that doubles 100 % worse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from redline.metrics import CATALOGUE, Better, Metric

# A picosecond, and a trillion tokens a second: beyond them something is broken, and exp() would overflow further out.
READING_MIN, READING_MAX = 1e-12, 1e12


def share_from_log(difference: float, better: Better) -> float:
    """The oriented share (0.03 is 3 % worse) of an oriented difference of logs."""
    match better:
        case Better.LOWER:
            return math.expm1(difference)
        case Better.HIGHER:
            return -math.expm1(-difference)


def log_from_share(share: float, better: Better) -> float:
    """The oriented difference of logs of an oriented share.

    Raises:
        ValueError: a latency that falls, or a throughput that falls, by 100 % or more has no logarithm.
    """
    match better:
        case Better.LOWER:
            return math.log1p(share)
        case Better.HIGHER:
            return -math.log1p(-share)


def problem_with(values: Sequence[float]) -> str:
    """Why these readings cannot be judged, in words; empty if every one is positive, finite and in range."""
    for number, value in enumerate(values, start=1):
        if not math.isfinite(value):
            return f"reading {number} of {len(values)} is missing or not finite"
        if value <= 0:
            return f"reading {number} of {len(values)} is {value:g}, not positive"
        if not READING_MIN <= value <= READING_MAX:
            return f"reading {number} of {len(values)} is {value:g}, which nothing that is measured here can be"
    return "" if values else "no readings"


def log_differences(metric: Metric, baseline: Sequence[float], candidate: Sequence[float]) -> tuple[float, ...]:
    """Oriented differences of logs, one per pair, in order.

    Raises:
        ValueError: unequal lengths, or a reading that is missing, not finite, zero or negative.
    """
    problem = pairing_problem(baseline, candidate)
    if problem:
        raise ValueError(f"{metric.metric_id}: {problem}")
    return tuple(
        metric.oriented_log(after) - metric.oriented_log(before)
        for before, after in zip(baseline, candidate, strict=True)
    )


def pairing_problem(baseline: Sequence[float], candidate: Sequence[float]) -> str:
    """Why two lists of readings are no pairs, in words; empty if they are.

    Readings that agree to the last bit in every one of three or more pairs are refused: clocks with
    nanosecond resolution do not do that, one measurement read twice does.
    """
    if len(baseline) != len(candidate):
        return f"{len(baseline)} baseline readings but {len(candidate)} candidate readings"
    for arm, values in (("baseline", baseline), ("candidate", candidate)):
        if problem := problem_with(values):
            return f"{arm}: {problem}"
    if len(baseline) >= 3 and tuple(baseline) == tuple(candidate):
        return "both arms hold the same numbers to the last bit: one measurement was read twice"
    return ""


def metric_named(metric_id: str) -> Metric:
    """The metric of an id. Raises ValueError naming the known ones."""
    if metric_id not in CATALOGUE:
        raise ValueError(f"unknown metric {metric_id!r}; known: {', '.join(sorted(CATALOGUE))}")
    return CATALOGUE[metric_id]
