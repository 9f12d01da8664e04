"""A suite given readings that cannot be: refused or marked, never propagated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from checks.gate import Key, PairedReadings, judge_suite, suite_pair_limit
from checks.prior import NO_PRIOR, VariancePrior
from redline.model import Comparison, Finding
from tests.checks.made_up_pairs import (
    PRIMARIES,
    QUIET,
    SEED,
    SUITE_NO_WORSE,
    SUITE_REGRESSED,
    all_finite,
    look_of,
    suites,
)
from tests.checks.policies import CPU

properties = settings(deadline=None, max_examples=60)

SHARE = st.floats(0.0, 1.0)
BAD = st.sampled_from((math.nan, math.inf, -math.inf, 0.0, -1.0))


@properties
@given(suites(), SHARE, SEED, st.lists(BAD, min_size=1, max_size=4))
@example(SUITE_NO_WORSE, 0.2, 1, [math.nan])
@example(SUITE_REGRESSED, 0.2, 2, [0.0, math.inf])
def test_impossible_readings_are_marked_where_they_are_and_nowhere_else(suite, share, seed, bad):
    """Some readings spoiled: those metrics are INVALID with a reason, no figure anywhere is NaN or infinite.

    An unreadable primary is never a pass; a regression proven on the others stands.
    """
    count = look_of(suite, share)
    generator = np.random.default_rng(seed)
    pairs, hit = suite.pairs(count), set()
    for value in bad:
        number, index = int(generator.integers(len(pairs))), int(generator.integers(count))
        arm = ("baseline", "candidate")[int(generator.integers(2))]
        values = getattr(pairs[number], arm)
        pairs[number] = replace(pairs[number], **{arm: (*values[:index], value, *values[index + 1 :])})
        hit.add(pairs[number].key)
    state = judge_suite(pairs, suite.priors, suite.policy, {})
    marked_as_expected(state.comparisons, hit)
    assert all_finite(state)
    found = [each.finding for each in state.comparisons if each.primary]
    if Finding.INVALID in found:
        assert state.finding is (Finding.REGRESSED if Finding.REGRESSED in found else Finding.INVALID)
        assert state.finished


@properties
@given(suites(), st.integers(0, 4), st.booleans(), st.integers(1, 3))
@example(SUITE_NO_WORSE, 0, True, 1)
@example(SUITE_NO_WORSE, 2, False, 3)
def test_missing_readings_are_marked_where_they_are_and_nowhere_else(suite, number, of_one_arm, missing):
    """A metric that lacks pairs, in one arm or both, is INVALID; the others are judged as if it were not there."""
    count = look_of(suite, 0.99)
    pairs = suite.pairs(count)
    number %= len(pairs)
    if number == 0 and len(suite.without_descriptives().truths) == 1 and not of_one_arm:
        return  # the only primary with fewer readings in both arms is simply at an earlier look
    kept = count - missing
    short = pairs[number]
    pairs[number] = replace(
        short, baseline=short.baseline[:kept], candidate=short.candidate if of_one_arm else short.candidate[:kept]
    )
    state = judge_suite(pairs, suite.priors, suite.policy, {})
    marked_as_expected(state.comparisons, {short.key})
    assert all_finite(state)


@properties
@given(suites(descriptives_max=0), st.integers(0, 2), st.booleans())
@example(SUITE_NO_WORSE.without_descriptives(), 0, True)
@example(SUITE_REGRESSED, 1, False)
def test_a_surplus_reading_in_a_primary_is_never_a_pass(suite, number, of_one_arm):
    """A primary with a reading more than the others: somebody miscounted, and whoever lacks it is INVALID.

    Only a regression of the longer one stands: all its pairs are whole.
    """
    limit = suite_pair_limit(list(suite.priors), suite.priors, suite.policy)
    pairs, longer = suite.pairs(limit - 1), suite.pairs(limit)
    number %= len(pairs)
    whole = longer[number]
    pairs[number] = replace(whole, baseline=pairs[number].baseline) if of_one_arm else whole
    state = judge_suite(pairs, suite.priors, suite.policy, {})
    valid = set() if of_one_arm else {whole.key}
    marked_as_expected(state.comparisons, {each.key for each in pairs} - valid)
    assert all_finite(state)
    if len(pairs) > 1 or of_one_arm:
        assert state.finding in {Finding.INVALID, Finding.REGRESSED}


def test_a_surplus_reading_in_a_descriptive_metric_decides_nothing():
    """A descriptive metric with a reading more than there are pairs is INVALID itself; the suite is as without it."""
    pairs = SUITE_NO_WORSE.pairs(4)
    pairs[2] = SUITE_NO_WORSE.pairs(5)[2]
    state = judge_suite(pairs, SUITE_NO_WORSE.priors, CPU, {})
    assert (state.finding, state.pair_count) == (Finding.NO_WORSE, 4)
    assert state.comparisons[2].finding is Finding.INVALID


def marked_as_expected(comparisons: tuple[Comparison, ...], hit: set[Key]) -> None:
    """Assert that these metrics, and no others, are INVALID, with a reason and figures of zero."""
    for each in comparisons:
        assert (each.finding is Finding.INVALID) == ((each.scenario, each.metric) in hit)
        if each.finding is Finding.INVALID:
            assert each.warnings
            assert (each.effect, each.effect_low, each.effect_high, each.p_two_sided) == (0.0, 0.0, 0.0, 1.0)


PLAUSIBLE = st.floats(1e-9, 1e9)
IMPOSSIBLE = st.one_of(st.floats(max_value=0.0), st.sampled_from((math.nan, math.inf)))


def arms_of(readings: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[list[float], list[float]]]:
    """Two lists of equal length, for 3 to 10 pairs."""
    return st.integers(3, 10).flatmap(
        lambda count: st.tuples(*(st.lists(readings, min_size=count, max_size=count) for _ in range(2)))
    )


@properties
@given(
    arms_of(st.one_of(PLAUSIBLE, PLAUSIBLE, PLAUSIBLE, IMPOSSIBLE)),
    st.sampled_from((*PRIMARIES, "ttft_s_p99")),
    st.sampled_from((NO_PRIOR, VariancePrior(7.5, 1e-4))),
)
def test_no_readings_break_a_suite(arms, metric, prior):
    """Ties, wild readings and impossible ones beside a quiet primary: finite figures, never an arithmetic error."""
    quiet = QUIET.pairs("quiet", len(arms[0]))
    state = judge_suite(
        [quiet, PairedReadings("s", metric, tuple(arms[0]), tuple(arms[1]))], {("s", metric): prior}, CPU, {}
    )
    assert all_finite(state)
    assert len(state.comparisons) == 2


@pytest.mark.parametrize("metric", ["tpot_s_median", "output_tokens_per_s"])
@pytest.mark.parametrize(("before", "after"), [(1e-160, 1e160), (1e160, 1e-160), (1.7e308, 1.6e308), (5e-324, 1e300)])
def test_readings_that_no_clock_gives_are_refused(metric, before, after):
    """Finite and positive, yet beyond anything measured: INVALID like a zero, no overflow, nothing infinite."""
    pairs = PairedReadings("s", metric, (before,) * 4, (after,) * 4)
    state = judge_suite([pairs], {}, CPU, {})
    assert state.finding is Finding.INVALID
    assert all_finite(state)
