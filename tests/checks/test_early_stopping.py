"""MLPerf's early stopping: against exact arithmetic, against the published figures, against the official LoadGen."""

from __future__ import annotations

import re
from fractions import Fraction
from math import comb

import pytest

from checks.early_stopping import chance, estimate_index, find_min_passing, passes, queries_needed
from tests.checks import loadgen_run


def exact_chance(within: int, over: int, share: Fraction) -> Fraction:
    """P(at most `over` of the queries over the limit), summed term by term in whole numbers."""
    total = within + over
    return sum((comb(total, k) * (1 - share) ** k * share ** (total - k) for k in range(over + 1)), Fraction(0))


@pytest.mark.parametrize(("over", "percentile"), [(0, "0.9"), (1, "0.9"), (7, "0.9"), (0, "0.5"), (12, "0.5")])
def test_the_smallest_number_is_found(over, percentile):
    """In exact arithmetic h is enough and h - 1 is not."""
    share = Fraction(percentile)
    found = find_min_passing(over, float(percentile))
    assert exact_chance(found, over, share) <= Fraction(1, 100) < exact_chance(found - 1, over, share)


@pytest.mark.parametrize(("over", "percentile"), [(0, "0.99"), (3, "0.99"), (20, "0.99"), (0, "0.999")])
def test_the_chance_is_the_binomial_one(over, percentile):
    """The incomplete beta function agrees with the sum, also far out."""
    within = 2000
    exact = exact_chance(within, over, Fraction(percentile))
    assert chance(within, over, float(percentile)) == pytest.approx(float(exact), rel=1e-9)


def test_published_figures():
    """459 queries without one over the limit; an estimate needs 64 (p90), 662 (p99) and 6636 (p99.9)."""
    assert queries_needed(0, 0.99) == 459
    assert [queries_needed(1, percentile) for percentile in (0.90, 0.99, 0.999)] == [64, 662, 6636]


def test_tolerance_makes_it_easier():
    """With a tolerance the share to believe in is smaller, and fewer queries are enough."""
    assert find_min_passing(5, 0.99, tolerance=0.005) < find_min_passing(5, 0.99)
    assert find_min_passing(5, 0.99, confidence=0.9) < find_min_passing(5, 0.99)


def test_one_more_over_the_limit_costs_more_than_a_hundred_queries():
    """At p99 every further slow query takes more than 99 fast ones to make up for, ever closer to 99."""
    steps = [find_min_passing(over + 1, 0.99) - find_min_passing(over, 0.99) for over in range(200)]
    assert min(steps) > 99
    assert steps[0] > steps[10] > steps[150]


def test_a_run_passes_from_the_needed_number_on():
    """One query less is not enough."""
    assert passes(662, 1, 0.99)
    assert not passes(661, 1, 0.99)


def test_an_estimate_needs_its_floor():
    """Below the floor there is none; at the floor it is the slowest query; later some are discarded."""
    assert estimate_index(63, 0.9) is None
    assert estimate_index(0, 0.9) is None
    assert estimate_index(64, 0.9) == 63
    discarded = 1000 - 1 - (estimate_index(1000, 0.9) or 0)
    assert queries_needed(discarded + 1, 0.9) <= 1000 < queries_needed(discarded + 2, 0.9)


@pytest.mark.parametrize(
    ("over", "percentile", "confidence", "tolerance"),
    [(-1, 0.99, 0.99, 0.0), (0, 1.0, 0.99, 0.0), (0, 0.99, 1.0, 0.0), (0, 0.5, 0.99, 0.5), (0, 0.9, 0.99, -0.2)],
)
def test_impossible_questions_are_refused(over, percentile, confidence, tolerance):
    """No count below zero, no share that is none."""
    with pytest.raises(ValueError, match="must"):
        find_min_passing(over, percentile, confidence, tolerance)


# --- beside the official LoadGen ------------------------------------------------------------------------------

SLOW, FAST = [0.05, 0.051], [0.0005, 0.001]
LIMIT_NS = 30_000_000


@pytest.mark.parametrize(("queries", "over"), [(300, 0), (300, 1), (400, 3), (500, 25), (400, 150)])
def test_loadgen_asks_for_as_many(tmp_path, queries, over):
    """LoadGen says how many more queries a run with t slow ones would need: h + t less those it had."""
    case = {
        "use_token_latencies": False,
        "e2e_ns_max": LIMIT_NS,
        "min_query_count": queries,
        "delays_s": [SLOW] * over + [FAST],
    }
    said = loadgen_run.run(case, tmp_path)
    # On a busy machine a fast query can become a slow one: the trace knows how many there really were.
    really_over = sum(row["done"] - row["sched"] > LIMIT_NS for row in loadgen_run.traced(tmp_path))
    more = re.search(r"at least (\d+) more queries", said["early_stopping_result"])
    assert really_over >= over
    assert more is not None
    assert int(more[1]) == queries_needed(really_over, 0.99) - queries
    assert said["early_stopping_met"] is False


@pytest.mark.parametrize("queries", [63, 64, 700])
def test_loadgen_estimates_from_the_same_query(tmp_path, queries):
    """SingleStream's estimate of p90 is the latency at our index; there is none with 63 queries."""
    delays = [[0.0, 0.0002 + 0.00001 * (number % 37)] for number in range(queries)]
    case = {
        "scenario": "SingleStream",
        "use_token_latencies": False,
        "min_query_count": queries,
        "delays_s": delays,
    }
    said = loadgen_run.run(case, tmp_path)
    latencies = sorted(row["done"] - row["sched"] for row in loadgen_run.traced(tmp_path))
    index = estimate_index(len(latencies), 0.9)
    assert said["early_stopping_met"] is (index is not None)
    if index is not None:
        assert said["early_stopping_latency_ss"] == latencies[index]
