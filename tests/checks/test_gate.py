"""The gate: what holds for any data, and the situations it must refuse or say."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.effects import log_from_share, share_from_log
from checks.gate import PairedReadings, judge_metric, judge_suite, suite_pair_limit
from checks.prior import NO_PRIOR, VariancePrior
from redline.metrics import Better
from redline.model import Finding
from tests.checks.policies import CPU, GPU

LOOKS = tuple(range(3, 11))
READINGS = st.lists(st.floats(0.5, 2.0).map(lambda value: round(value, 6)), min_size=3, max_size=10)
ARMS = READINGS.flatmap(
    lambda before: st.tuples(st.just(before), st.lists(st.floats(0.5, 2.0), min_size=len(before), max_size=len(before)))
).filter(lambda arms: arms[0] != arms[1])
PRIORS = st.sampled_from([NO_PRIOR, VariancePrior(5.0, 0.002)])

QUIET = (0.100, 0.101, 0.099, 0.1005, 0.0995, 0.1002, 0.0998, 0.1001, 0.0999, 0.1003)
SLOW = tuple(round(value * 1.5 + 0.0001 * index, 6) for index, value in enumerate(QUIET))
SAME = tuple(round(value * 1.001 + 0.00007 * (-1) ** index, 6) for index, value in enumerate(QUIET))
ODD = (0.10, 0.16, 0.09, 0.13, 0.08, 0.15, 0.11, 0.14, 0.07, 0.12)


def judged(before, after, prior=NO_PRIOR, metric="tpot_s_median", policy=CPU):
    """One metric at the look with this many pairs."""
    pairs = PairedReadings("server", metric, tuple(before), tuple(after))
    return judge_metric(pairs, prior, policy, looks=LOOKS, primary_count=3)


@given(ARMS, PRIORS)
def test_swapping_the_arms_mirrors_the_estimate(arms, prior):
    """With the arms swapped the effect is the same one in the other direction, with the same p."""
    there, back = judged(arms[0], arms[1], prior), judged(arms[1], arms[0], prior)
    assert math.log1p(there.effect) == pytest.approx(-math.log1p(back.effect), abs=1e-9)
    assert there.p_two_sided == pytest.approx(back.p_two_sided, rel=1e-6, abs=1e-9)
    assert not (there.finding is Finding.REGRESSED and back.finding is Finding.REGRESSED)


@given(ARMS, PRIORS, st.floats(0.001, 1000.0))
def test_the_unit_does_not_matter(arms, prior, scale):
    """Readings in another unit (every one multiplied by the same number) give the same figures."""
    plain = judged(arms[0], arms[1], prior)
    scaled = judged([value * scale for value in arms[0]], [value * scale for value in arms[1]], prior)
    assert scaled.effect == pytest.approx(plain.effect, abs=1e-6)
    assert scaled.effect_high == pytest.approx(plain.effect_high, rel=1e-5, abs=1e-5)


@given(ARMS, PRIORS, st.floats(0.8, 1.25))
def test_a_slower_candidate_shifts_the_estimate_and_nothing_else(arms, prior, factor):
    """Slowing the candidate by a factor adds its logarithm to the effect and leaves the width alone."""
    plain, slower = judged(arms[0], arms[1], prior), judged(arms[0], [value * factor for value in arms[1]], prior)
    assert math.log1p(slower.effect) == pytest.approx(math.log1p(plain.effect) + math.log(factor), abs=1e-6)
    assert slower.df == pytest.approx(plain.df, rel=1e-6)


@given(ARMS, PRIORS, st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter_within_a_look(arms, prior, random):
    """At one look, the same pairs in another order give the same comparison."""
    order = list(range(len(arms[0])))
    random.shuffle(order)
    plain = judged(arms[0], arms[1], prior)
    mixed = judged([arms[0][index] for index in order], [arms[1][index] for index in order], prior)
    assert mixed.effect == pytest.approx(plain.effect, abs=1e-9)
    assert mixed.effect_high == pytest.approx(plain.effect_high, rel=1e-6)


@given(ARMS, PRIORS)
def test_regressed_means_more_than_half_the_margin(arms, prior):
    """A regressed metric's estimate lies above half its margin, and its interval above zero."""
    found = judged(arms[0], arms[1], prior)
    if found.finding is Finding.REGRESSED:
        assert math.log1p(found.effect) > math.log1p(found.margin) / 2 - 1e-9
        assert found.effect_low > 0
    if found.finding is Finding.NO_WORSE:
        assert found.effect_high < found.margin


@given(st.floats(-0.9, 0.9))
def test_shares_and_logs_are_inverse(share):
    """A share becomes a log and the same share again, in both directions of better."""
    for better in Better:
        assert share_from_log(log_from_share(share, better), better) == pytest.approx(share, abs=1e-12)


def test_half_the_throughput_is_fifty_percent_worse():
    """A throughput that halves is 50 % worse; a latency that doubles is 100 % worse."""
    halved = judged(SLOW, [value / 2 for value in SLOW], metric="output_tokens_per_s")
    doubled = judged(SLOW, [value * 2 for value in SLOW])
    assert halved.effect == pytest.approx(0.5)
    assert doubled.effect == pytest.approx(1.0)
    assert (halved.finding, doubled.finding) == (Finding.REGRESSED, Finding.REGRESSED)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -0.1])
def test_impossible_readings_are_refused(bad):
    """A missing, infinite, zero or negative reading raises for one metric and makes a suite invalid."""
    after = (*SAME[:3], bad)
    with pytest.raises(ValueError, match="reading 4 of 4"):
        judged(QUIET[:4], after)
    state = judge_suite([PairedReadings("server", "tpot_s_median", QUIET[:4], after)], {}, CPU, {})
    assert (state.finding, state.finished) == (Finding.INVALID, True)
    (comparison,) = state.comparisons
    figures = (comparison.effect, comparison.effect_low, comparison.effect_high, comparison.baseline, comparison.df)
    assert figures == (0.0,) * 5
    assert "reading 4 of 4" in comparison.warnings[0]


def test_unequal_arms_are_refused():
    """Arms of different length are no pairs."""
    with pytest.raises(ValueError, match="4 baseline readings but 3"):
        judged(QUIET[:4], SAME[:3])


def test_one_measurement_read_twice_is_refused():
    """Arms that agree to the last bit in every pair are one measurement, not two."""
    with pytest.raises(ValueError, match="read twice"):
        judged(QUIET[:3], QUIET[:3])


def test_a_metric_that_lacks_pairs_is_invalid():
    """A primary with fewer readings than the suite has pairs makes the suite invalid, with the number."""
    pairs = [
        PairedReadings("server", "tpot_s_median", QUIET[:5], SAME[:5]),
        PairedReadings("server", "ttft_s_median", QUIET[:4], SAME[:4]),
    ]
    state = judge_suite(pairs, {}, CPU, {})
    assert state.finding is Finding.INVALID
    assert "1 of 5 pairs are missing" in state.comparisons[1].warnings[0]


def test_a_regression_elsewhere_outweighs_an_invalid_metric():
    """A primary proven regressed on valid readings stays so although another primary could not be read."""
    pairs = [
        PairedReadings("server", "tpot_s_median", QUIET[:5], SLOW[:5]),
        PairedReadings("server", "ttft_s_median", QUIET[:5], (math.nan,) * 5),
    ]
    assert judge_suite(pairs, {}, CPU, {}).finding is Finding.REGRESSED


def test_an_unreadable_descriptive_metric_decides_nothing():
    """A descriptive metric without readings is listed as invalid; the suite is judged by its primaries."""
    pairs = [
        PairedReadings("server", "tpot_s_median", QUIET[:6], SAME[:6]),
        PairedReadings("server", "ttft_s_p99", QUIET[:6], (math.nan,) * 6),
    ]
    state = judge_suite(pairs, {}, CPU, {})
    assert state.finding is Finding.NO_WORSE
    assert [item.finding for item in state.comparisons] == [Finding.NO_WORSE, Finding.INVALID]


def test_before_the_first_look_nothing_is_said():
    """With fewer pairs than the first look the suite is unfinished and holds no comparison."""
    state = judge_suite([PairedReadings("server", "tpot_s_median", QUIET[:2], SLOW[:2])], {}, CPU, {})
    assert (state.finding, state.finished, state.comparisons) == (Finding.INCONCLUSIVE, False, ())


@settings(max_examples=50)
@given(st.lists(st.floats(0.5, 2.0), min_size=7, max_size=7))
def test_a_frozen_finding_never_flips(later):
    """What is decided at one look stays decided, whatever the following pairs say."""
    first = PairedReadings("server", "tpot_s_median", QUIET[:3], SAME[:3])
    noisy = PairedReadings("server", "ttft_s_median", QUIET[:3], ODD[:3])
    state = judge_suite([first, noisy], {}, CPU, {})
    decided = dict(state.frozen)
    assert decided[first.key].finding is Finding.NO_WORSE
    assert not state.finished
    for count in range(4, 11):
        pairs = [
            replace(first, baseline=QUIET[:count], candidate=(*SAME[:3], *later)[:count]),
            replace(noisy, baseline=QUIET[:count], candidate=ODD[:count]),
        ]
        state = judge_suite(pairs, {}, CPU, state.frozen)
        assert state.comparisons[0] == decided[first.key]
        if state.finished:
            break
    assert state.finished


def test_the_last_look_says_what_would_decide_it():
    """An undecided metric at the last look is inconclusive, finished, and names a larger number of pairs."""
    state = judge_suite([PairedReadings("server", "tpot_s_median", QUIET, ODD)], {}, CPU, {})
    assert (state.finding, state.finished, state.pair_count) == (Finding.INCONCLUSIVE, True, 10)
    needed = state.comparisons[0].pairs_needed
    assert needed is not None
    assert needed > 10


def test_more_pairs_than_planned_are_refused():
    """The bounds spend their error over the planned looks: an eleventh pair has none."""
    pairs = PairedReadings("server", "tpot_s_median", (*QUIET, 0.1), (*SAME, 0.1))
    with pytest.raises(ValueError, match="at most 10"):
        judge_suite([pairs], {}, CPU, {})


def test_a_suite_has_one_to_six_primaries():
    """A seventh primary is refused, and so is a suite without one: no error rate is stated for them."""
    seven = [PairedReadings(f"s{number}", "tpot_s_median", QUIET[:3], SAME[:3]) for number in range(7)]
    with pytest.raises(ValueError, match="found 7"):
        judge_suite(seven, {}, CPU, {})
    with pytest.raises(ValueError, match="found 0"):
        judge_suite([replace(seven[0], metric="ttft_s_p99")], {}, CPU, {})


def test_quiet_history_shortens_the_gate_and_noisy_history_does_not_lengthen_it():
    """The pair limit follows 24 variance / margin^2 of the worst primary within [4, the policy's maximum]."""
    keys = (("server", "tpot_s_median"), ("server", "ttft_s_median"))
    limits = [
        suite_pair_limit(keys, {key: VariancePrior(8.0, variance) for key in keys}, CPU)
        for variance in (1e-5, 0.002, 0.1)
    ]
    assert limits == [4, 6, 10]
    assert suite_pair_limit(keys, {keys[0]: VariancePrior(8.0, 1e-5)}, CPU) == 10
    assert suite_pair_limit(keys, {key: VariancePrior(8.0, 1e-5) for key in keys}, replace(CPU, fixed=True)) == 10


def test_a_fixed_policy_looks_once():
    """A fixed policy is unfinished until its last pair, then judged with the plain quantile."""
    fixed = replace(CPU, fixed=True, pair_count_max=5)
    pairs = PairedReadings("server", "tpot_s_median", QUIET[:4], SLOW[:4])
    assert not judge_suite([pairs], {}, fixed, {}).finished
    state = judge_suite([replace(pairs, baseline=QUIET[:5], candidate=SLOW[:5])], {}, fixed, {})
    assert state.finding is Finding.REGRESSED


def test_improved_needs_one_and_the_rest_no_worse():
    """A suite is improved if one primary is and the other is no worse."""
    pairs = [
        PairedReadings("server", "tpot_s_median", SLOW[:5], QUIET[:5]),
        PairedReadings("server", "ttft_s_median", QUIET[:5], SAME[:5]),
    ]
    assert judge_suite(pairs, {}, CPU, {}).finding is Finding.IMPROVED


def test_a_descriptive_metric_is_looked_at_and_never_blocks():
    """A tripled p99 is flagged "look at" and called regressed, and the suite is still no worse."""
    slow = tuple(value * 3 for value in SLOW)
    pairs = [
        PairedReadings("server", "tpot_s_median", QUIET[:6], SAME[:6]),
        PairedReadings("server", "ttft_s_p99", QUIET[:6], slow[:6], request_count=200),
    ]
    state = judge_suite(pairs, {}, CPU, {})
    described = state.comparisons[1]
    assert (state.finding, described.finding, described.primary) == (Finding.NO_WORSE, Finding.REGRESSED, False)
    assert described.warnings[0].startswith("look at")
    assert "p99 of 200 requests rests on 2" in described.warnings


def test_what_a_pass_must_admit_is_said():
    """No history, a small slowdown, warm-up and a margin that the noise cannot support are warnings."""
    slower = [before * 1.03 for before in SAME]
    within = judged(QUIET, slower)
    assert within.finding is Finding.NO_WORSE
    assert within.warnings[0] == "slower, within the margin"
    assert "no history: prior not used" in within.warnings
    unsupported = judged(QUIET, ODD)
    assert unsupported.effect_detectable > unsupported.margin
    assert any("supports a margin of" in note for note in unsupported.warnings)
    counted = PairedReadings("server", "tpot_s_median", QUIET, SAME, discard_count=1, dropped_count=2)
    state = judge_suite([replace(counted, baseline=QUIET[:6], candidate=SAME[:6])], {}, CPU, {})
    assert "the first window after each start is warm-up and does not count" in state.comparisons[0].warnings
    assert "2 windows were dropped, blind to their result, and measured again" in state.comparisons[0].warnings


def test_two_groups_of_deployments_are_said():
    """An arm whose deployments fall into two tight groups is called bimodal."""
    split = (0.100, 0.1302, 0.1004, 0.1299, 0.1001, 0.1305, 0.1002, 0.1301)
    assert "bimodal deployments: candidate" in judged(QUIET[:8], split).warnings
    assert not any("bimodal" in note for note in judged(QUIET[:8], SAME[:8]).warnings)


def test_history_is_used_and_named():
    """With history the method says so, the df exceed n - 1, and the noise multiplier is at least 1."""
    prior = VariancePrior(8.0, 0.0005)
    found = judged(QUIET[:4], SAME[:4], prior)
    assert found.df > 3
    assert "moderated" in found.method
    assert not any("no history" in note for note in found.warnings)
    pairs = PairedReadings("server", "tpot_s_median", QUIET[:4], ODD[:4])
    assert judge_suite([pairs], {pairs.key: prior}, GPU, {}).comparisons[0].noise_multiplier > 1
