"""MLPerf's early stopping: how many queries it takes to believe a percentile. Pure.

A run of n queries of which t are over the limit shows that a share p of all queries would be within it, with
confidence c, if that few over the limit would be seen with a chance of at most 1 - c were the true share smaller:
the binomial distribution's P(at most t of n, each over with chance 1 - p). LoadGen counts the other n - t, and
calls the smallest number that is enough h. It tests TTFT and TPOT one by one, each with its own t.

Source: `early_stopping.cc`, `early_stopping.adoc` and `results.cc` of mlcommons/inference. tests/checks runs the
official LoadGen beside it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import lru_cache

from scipy.special import betainc

from redline.model import require

CONFIDENCE = 0.99
TOLERANCE = 0.0
"""What LoadGen runs with."""


def chance(within_count: int, over_count: int, percentile: float, tolerance: float = TOLERANCE) -> float:
    """The chance of at most `over_count` over the limit among `within_count + over_count` queries.

    Each is within it with chance `percentile - tolerance`, a share in (0, 1). `within_count` at least 1.
    Source: the binomial distribution as a regularised incomplete beta function (DLMF 8.17.5).
    """
    return float(betainc(within_count, over_count + 1, percentile - tolerance))


@lru_cache(maxsize=65_536)
def find_min_passing(
    over_count: int, percentile: float, confidence: float = CONFIDENCE, tolerance: float = TOLERANCE
) -> int:
    """h: how many queries must be within the limit beside `over_count` over it for the run to pass.

    Raises ValueError for a negative count or a share outside (0, 1).
    Source: `MinPassingQueriesFinder` of LoadGen; the smallest h with chance(h, over_count) <= 1 - confidence.
    """
    require(over_count >= 0, "over_count must not be negative")
    require(0 < confidence < 1, "confidence must be in (0, 1)")
    require(0 < percentile - tolerance <= percentile < 1, "percentile, and it less tolerance, must be in (0, 1)")

    def believed(within_count: int) -> bool:
        return chance(within_count, over_count, percentile, tolerance) <= 1 - confidence

    enough = 1
    while not believed(enough):
        enough *= 2
    candidates = range(1, enough + 1)
    return candidates[bisect_left(candidates, x=True, key=believed)]


def queries_needed(over_count: int, percentile: float) -> int:
    """n = h + t: how many queries a run with `over_count` over the limit must have to pass."""
    return find_min_passing(over_count, percentile) + over_count


def passes(query_count: int, over_count: int, percentile: float) -> bool:
    """True if LoadGen lets a Server run pass: query_count >= h + over_count."""
    return query_count >= queries_needed(over_count, percentile)


def estimate_index(query_count: int, percentile: float) -> int | None:
    """Which of the latencies, ascending, is the early stopping estimate of a percentile; None for too few queries.

    The largest t of which n >= h(t) + t holds: the t - 1 slowest are discarded, the next one is the estimate.
    At least one t is needed, so p90 wants 64 queries, p99 662 and p99.9 6636.
    Source: `PerformanceSummary::EarlyStopping` of LoadGen, SingleStream.
    """
    allowed = bisect_right(
        range(1, query_count + 1), query_count, key=lambda over_count: queries_needed(over_count, percentile)
    )
    return query_count - allowed if allowed > 0 else None
