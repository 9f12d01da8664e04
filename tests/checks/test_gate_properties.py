"""One metric at one look: what holds whatever the readings are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from checks.boundaries import bounds, critical_value
from checks.estimate import estimate
from checks.footnotes import SLOWER_WITHIN
from checks.gate import PairedReadings, judge_metric
from checks.prior import NO_PRIOR, VariancePrior
from redline.model import Comparison, Finding
from tests.checks.made_up_pairs import HISTORY, RANK, SEED, Truth, figures, log_of, truths
from tests.checks.policies import CPU

properties = settings(deadline=None, max_examples=80)

LOOKS = tuple(range(3, 11))
COUNT = st.integers(3, 10)
PRIMARY_COUNT = st.sampled_from((1, 3))
EQUAL_ALPHAS = replace(CPU, alpha_regressed=CPU.alpha_no_worse)  # the bounds of one metric are then symmetric

# One of each kind, so that no property holds only because nothing was ever decided.
REGRESSED = Truth("tpot_s_median", 0.01, 0.3, None, 1)
IMPROVED = Truth("output_tokens_per_s", 0.01, -0.3, 1.0, 2)
WITHIN = Truth("ttft_s_median", 0.01, 0.1, 1.0, 3)


def judged(pairs: PairedReadings, prior: VariancePrior, policy=CPU, primary_count=3, looks=LOOKS) -> Comparison:
    """The metric at the look with this many pairs."""
    return judge_metric(pairs, prior, policy, looks=looks, primary_count=primary_count)


def swapped(pairs: PairedReadings) -> PairedReadings:
    """Baseline and candidate exchanged."""
    return replace(pairs, baseline=pairs.candidate, candidate=pairs.baseline)


def times(values: tuple[float, ...], factor: float) -> tuple[float, ...]:
    """Every reading multiplied."""
    return tuple(value * factor for value in values)


def mirrored(one: float, other: float, metric: str) -> bool:
    """True if two shares are one effect seen from either side."""
    return log_of(one, metric) == pytest.approx(-log_of(other, metric), rel=1e-6, abs=1e-9)


def test_the_examples_are_of_every_kind():
    """The three named truths are regressed, improved and slower within the margin: the properties see each."""
    found = [judged(truth.pairs("s", 6), truth.prior()) for truth in (REGRESSED, IMPROVED, WITHIN)]
    assert [each.finding for each in found] == [Finding.REGRESSED, Finding.IMPROVED, Finding.NO_WORSE]
    assert SLOWER_WITHIN in found[2].warnings


# --- swapping the arms ---------------------------------------------------------------------------------------


@properties
@given(truths(), COUNT, PRIMARY_COUNT)
@example(REGRESSED, 6, 3)
@example(IMPROVED, 6, 3)
@example(WITHIN, 6, 3)
def test_swapping_the_arms_mirrors_location_and_keeps_the_width(truth, count, primary_count):
    """The effect changes sign; p, df, prior weight, clipped pairs and the detectable effect are the same."""
    pairs = truth.pairs("s", count)
    there = judged(pairs, truth.prior(), primary_count=primary_count)
    back = judged(swapped(pairs), truth.prior(), primary_count=primary_count)
    assert mirrored(there.effect, back.effect, truth.metric)
    assert (there.baseline, there.candidate) == (back.candidate, back.baseline)
    for name in ("p_two_sided", "df", "prior_df", "clipped_count", "effect_detectable", "pair_count"):
        assert getattr(there, name) == pytest.approx(getattr(back, name), rel=1e-9), name


@properties
@given(truths(), COUNT, PRIMARY_COUNT)
@example(REGRESSED, 6, 3)
@example(IMPROVED, 6, 3)
@example(WITHIN, 6, 3)
def test_swapping_the_arms_mirrors_the_verdict(truth, count, primary_count):
    """Improved one way is exactly a lower bound above zero the other way: both are read at alpha / primaries.

    So regressed becomes improved. Improved becomes regressed, or "slower, within the margin", as only the upper
    bound has a margin. The shipped rule is not symmetric beyond that, and is not meant to be.
    """
    pairs = truth.pairs("s", count)
    there = judged(pairs, truth.prior(), primary_count=primary_count)
    back = judged(swapped(pairs), truth.prior(), primary_count=primary_count)
    for one, other in ((there, back), (back, there)):
        assert (one.finding is Finding.IMPROVED) == (other.effect_low > 0)
        if one.finding is Finding.REGRESSED:
            assert other.finding is Finding.IMPROVED
        if one.finding is Finding.IMPROVED:
            within = other.finding is Finding.NO_WORSE and SLOWER_WITHIN in other.warnings
            assert within or other.finding is Finding.REGRESSED


@properties
@given(truths(), COUNT)
@example(REGRESSED, 6)
@example(WITHIN, 6)
def test_swapping_the_arms_mirrors_the_interval_at_equal_alphas(truth, count):
    """With one primary and both alphas alike, the lower bound one way is minus the upper bound the other way."""
    pairs = truth.pairs("s", count)
    there = judged(pairs, truth.prior(), EQUAL_ALPHAS, 1)
    back = judged(swapped(pairs), truth.prior(), EQUAL_ALPHAS, 1)
    assert mirrored(there.effect_low, back.effect_high, truth.metric)
    assert mirrored(there.effect_high, back.effect_low, truth.metric)


# --- what must not matter ------------------------------------------------------------------------------------


@properties
@given(truths(), COUNT, st.floats(1e-6, 1e6))
def test_the_unit_does_not_matter(truth, count, factor):
    """Both arms multiplied by one factor: every figure but the two medians is the same."""
    pairs = truth.pairs("s", count)
    plain = judged(pairs, truth.prior())
    scaled = judged(
        replace(pairs, baseline=times(pairs.baseline, factor), candidate=times(pairs.candidate, factor)), truth.prior()
    )
    assert scaled.baseline == pytest.approx(plain.baseline * factor)
    same(plain, scaled, but=("baseline", "candidate"))


@properties
@given(truths(), COUNT, SEED)
def test_what_the_arms_of_a_pair_share_does_not_matter(truth, count, seed):
    """A host twice as slow for some pairs slows both arms of them: nothing but the medians changes."""
    pairs = truth.pairs("s", count)
    factors = Truth("ttft_s_median", 0.7, 0.0, None, seed).pairs("", count).baseline
    slowed = replace(
        pairs,
        baseline=tuple(value * factor for value, factor in zip(pairs.baseline, factors, strict=True)),
        candidate=tuple(value * factor for value, factor in zip(pairs.candidate, factors, strict=True)),
    )
    # Two groups of deployments are looked for in the readings themselves: that warning may come or go.
    same(judged(pairs, truth.prior()), judged(slowed, truth.prior()), but=("baseline", "candidate"), warnings=False)


@properties
@given(truths(), COUNT, st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter_within_a_look(truth, count, random):
    """The same pairs in another order: the same comparison, warnings included."""
    pairs = truth.pairs("s", count)
    order = random.sample(range(count), count)
    mixed = replace(
        pairs,
        baseline=tuple(pairs.baseline[index] for index in order),
        candidate=tuple(pairs.candidate[index] for index in order),
    )
    same(judged(pairs, truth.prior()), judged(mixed, truth.prior()))


def same(one: Comparison, other: Comparison, *, but: tuple[str, ...] = (), warnings: bool = True) -> None:
    """Assert that two comparisons agree up to rounding."""
    expected, found = figures(one), figures(other)
    for name in set(expected) - set(but):
        assert found[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-9), name
    assert (one.finding, one.method) == (other.finding, other.method)
    assert not warnings or one.warnings == other.warnings


# --- what must matter ----------------------------------------------------------------------------------------


@properties
@given(truths(), COUNT, st.floats(-0.5, 0.5))
@example(REGRESSED, 6, -0.5)
@example(IMPROVED, 6, 0.5)
@example(WITHIN, 6, 0.2)
def test_a_worse_candidate_shifts_everything_by_as_much(truth, count, shift):
    """A candidate worse by so much in logs moves the effect and both bounds by that and leaves the width alone."""
    plain = judged(truth.pairs("s", count), truth.prior())
    worse = judged(replace(truth, effect=truth.effect + shift).pairs("s", count), truth.prior())
    for name in ("effect", "effect_low", "effect_high"):
        before, after = (log_of(getattr(each, name), truth.metric) for each in (plain, worse))
        if abs(before) < 15 and abs(after) < 15:  # beyond 20 a bound is capped
            assert after == pytest.approx(before + shift, rel=1e-6, abs=1e-6), name
    for name in ("df", "prior_df", "clipped_count", "effect_detectable"):
        assert getattr(worse, name) == pytest.approx(getattr(plain, name), rel=1e-6), name


@properties
@given(truths(), COUNT, st.floats(0.0, 1.0))
@example(IMPROVED, 6, 0.6)
@example(WITHIN, 6, 0.3)
def test_worse_is_never_judged_better(truth, count, shift):
    """Improved, no worse, inconclusive, regressed: a worse candidate never moves towards the front of that list."""
    plain = judged(truth.pairs("s", count), truth.prior())
    worse = judged(replace(truth, effect=truth.effect + shift).pairs("s", count), truth.prior())
    assert RANK[worse.finding] >= RANK[plain.finding]


@properties
@given(truths(), COUNT, PRIMARY_COUNT)
@example(REGRESSED, 6, 3)
@example(IMPROVED, 6, 3)
@example(WITHIN, 6, 3)
def test_the_finding_is_what_the_printed_interval_says(truth, count, primary_count):
    """The interval holds the effect; regressed, no worse and inconclusive are read from it, improved lies beyond it."""
    found = judged(truth.pairs("s", count), truth.prior(), primary_count=primary_count)
    assert found.effect_low <= found.effect <= found.effect_high
    match found.finding:
        case Finding.IMPROVED:
            assert found.effect_high < 0
        case Finding.NO_WORSE:
            assert found.effect_high < found.margin
        case Finding.REGRESSED:
            assert found.effect_low > 0
            assert found.effect_high >= found.margin
        case _:
            assert found.effect_low <= 0
            assert found.effect_high >= found.margin
    assert (found.pairs_needed is not None) == (found.finding is Finding.INCONCLUSIVE)


# --- the error rates -----------------------------------------------------------------------------------------


@properties
@given(truths(), COUNT)
def test_the_error_of_a_block_is_split_over_the_primaries_and_that_of_a_pass_is_not(truth, count):
    """Six primaries instead of one: a lower bound further out, exactly as with a sixth of alpha; the same upper one."""
    pairs, prior = truth.pairs("s", count), truth.prior()
    one, six = (judged(pairs, prior, primary_count=number) for number in (1, 6))
    sixth = judged(pairs, prior, replace(CPU, alpha_regressed=CPU.alpha_regressed / 6), 1)
    assert six.effect_low < one.effect_low or capped(one.effect_low, truth.metric)
    assert six.effect_low == sixth.effect_low
    assert six.effect_high == one.effect_high


@properties
@given(truths(), COUNT)
def test_each_alpha_moves_its_own_bound(truth, count):
    """A stricter alpha for "no worse" raises the upper bound alone; a stricter one for blocking the lower alone."""
    pairs, prior = truth.pairs("s", count), truth.prior()
    plain = judged(pairs, prior)
    careful_pass = judged(pairs, prior, replace(CPU, alpha_no_worse=CPU.alpha_regressed))
    careful_block = judged(pairs, prior, replace(CPU, alpha_regressed=CPU.alpha_regressed / 2))
    assert careful_pass.effect_low == plain.effect_low
    assert careful_pass.effect_high > plain.effect_high or capped(plain.effect_high, truth.metric)
    assert careful_block.effect_high == plain.effect_high
    assert careful_block.effect_low < plain.effect_low or capped(plain.effect_low, truth.metric)


@properties
@given(truths(), st.integers(4, 10))
def test_looking_more_than_once_is_paid_for(truth, count):
    """One look alone, at the same pairs and alpha, has the narrower interval: the others have spent nothing."""
    pairs, prior = truth.pairs("s", count), truth.prior()
    alone, last = judged(pairs, prior, looks=(count,)), judged(pairs, prior, looks=tuple(range(3, count + 1)))
    assert last.effect_low < alone.effect_low or capped(alone.effect_low, truth.metric)
    assert last.effect_high > alone.effect_high or capped(alone.effect_high, truth.metric)


def capped(share: float, metric: str) -> bool:
    """True if a bound is so far out that it was cut at 20 in logs, to stay a number."""
    return abs(log_of(share, metric)) > 19.9


@properties
@given(st.sampled_from((0.02 / 6, 0.02, 0.025)), st.integers(5, 10), st.integers(0, 7), st.floats(1.5, 60.0))
def test_few_degrees_of_freedom_widen_every_look(alpha, count_max, index, df):
    """The normal bound of that very look is the limit for many df; with few it is further out."""
    looks = tuple(range(3, count_max + 1))
    index %= len(looks)
    normal = bounds(alpha, looks)[index]
    assert critical_value(alpha, looks, looks[index], 1e12) == pytest.approx(normal, rel=1e-6)
    assert critical_value(alpha, looks, looks[index], df) > critical_value(alpha, looks, looks[index], df + 5) > normal


@pytest.mark.parametrize("looks", [(3, 4), tuple(range(3, 9)), tuple(range(3, 11))])
def test_the_bounds_of_all_looks_together_spend_alpha_and_no_more(looks):
    """Paths without any effect cross one of the bounds as often as alpha says, and one look's is the plain quantile."""
    alpha, path_count = 0.025, 100_000
    generator = np.random.default_rng(20261121)
    sums = np.cumsum(generator.standard_normal((path_count, looks[-1])), axis=1)
    z = sums[:, [count - 1 for count in looks]] / np.sqrt(looks)
    crossed = float((z > np.array(bounds(alpha, looks))).any(axis=1).mean())
    assert crossed == pytest.approx(alpha, abs=4 * math.sqrt(alpha / path_count))
    assert bounds(alpha, looks[-1:]) == pytest.approx((1.959964,), abs=1e-6)


# --- robustness against odd pairs and odd days -----------------------------------------------------------------


@properties
@given(truths(), st.integers(5, 10), st.integers(0, 9), st.sampled_from((-1.0, 1.0)), st.floats(1.0, 20.0))
def test_a_pair_out_of_reach_pulls_no_harder_from_further_out(truth, count, index, sign, further):
    """With history, one wild pair is clipped: taking it further out changes nothing at all."""
    truth = replace(truth, history=truth.history or 1.0)
    pairs = replace(truth, metric="tpot_s_median").pairs("s", count)
    differences = [math.log(after / before) for before, after in zip(pairs.baseline, pairs.candidate, strict=True)]
    index %= count
    wild, wilder = list(differences), list(differences)
    wild[index] += sign * 40 * truth.cv * math.sqrt(max(truth.history or 0.0, 1.0))
    wilder[index] = wild[index] + sign * further
    one, other = estimate(wild, truth.prior()), estimate(wilder, truth.prior())
    assert one.clipped_count >= 1
    for name in ("location", "standard_error", "df", "variance"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-4, abs=1e-7), name


@properties
@given(st.integers(5, 10), SEED)
def test_one_wild_pair_moves_the_estimate_by_no_more_than_the_clip(count, seed):
    """A pair ten times slower, with history: a mean moves by ln(10) / n, the location by a fifth of that at most."""
    truth = Truth("tpot_s_median", 0.02, 0.0, 1.0, seed)
    differences = [math.log(after) for after in truth.pairs("s", count).candidate]
    wild = [*differences[:-1], differences[-1] + math.log(10)]
    moved = estimate(wild, truth.prior()).location - estimate(differences, truth.prior()).location
    assert 0 <= moved < math.log(10) / count / 5


@properties
@given(truths(), COUNT, st.floats(1.0, 50.0))
def test_history_loses_its_weight_on_a_day_that_contradicts_it(truth, count, factor):
    """The prior never weighs more than it is worth, the less the noisier today is, and nothing at 50 times."""
    prior = replace(truth, history=1.0).prior()
    pairs = replace(truth, effect=0.0, metric="tpot_s_median").pairs("s", count)
    differences = [math.log(after / before) for before, after in zip(pairs.baseline, pairs.candidate, strict=True)]
    median = float(np.median(differences))
    assume(np.median(np.abs(np.array(differences) - median)) > truth.cv / 2)  # not two alike and a third clipped
    calm, noisy, contradicted = (
        estimate([scale * value for value in differences], prior) for scale in (1.0, factor, 1000.0)
    )
    assert contradicted.prior_df <= noisy.prior_df + 1e-9
    assert noisy.prior_df <= calm.prior_df + 1e-9 <= prior.df + 2e-9
    assert contradicted.prior_df < prior.df / 100


@properties
@given(COUNT, SEED)
def test_a_day_as_history_expects_has_the_whole_prior(count, seed):
    """Where today is quieter than history, the prior counts in full: more df and a narrower interval than without."""
    truth = Truth("tpot_s_median", 0.03, 0.0, 20.0, seed)
    pairs = truth.pairs("s", count)
    found = judged(pairs, truth.prior())
    assert found.prior_df == truth.prior().df
    assert found.df == pytest.approx(count - 1 + truth.prior().df)


# --- refused, never propagated ---------------------------------------------------------------------------------


@properties
@given(
    truths(),
    COUNT,
    st.integers(0, 9),
    st.booleans(),
    st.one_of(st.sampled_from((math.nan, math.inf, -math.inf, 0.0, -0.0)), st.floats(max_value=0.0)),
)
def test_one_impossible_reading_anywhere_is_refused(truth, count, index, of_baseline, bad):
    """NaN, infinite, zero or negative, in either arm, at any place: ValueError, naming the reading."""
    pairs = truth.pairs("s", count)
    index %= count
    arm = "baseline" if of_baseline else "candidate"
    values = getattr(pairs, arm)
    broken = replace(pairs, **{arm: (*values[:index], bad, *values[index + 1 :])})
    with pytest.raises(ValueError, match=f"{arm}: reading {index + 1} of {count}"):
        judged(broken, truth.prior())


@properties
@given(truths(), st.integers(4, 10), st.booleans())
def test_a_missing_or_surplus_reading_is_refused(truth, count, of_baseline):
    """Arms of unequal length are no pairs, whichever is the longer one."""
    pairs = truth.pairs("s", count)
    shorter = replace(pairs, baseline=pairs.baseline[:-1]) if of_baseline else replace(pairs, candidate=())
    with pytest.raises(ValueError, match="baseline readings but"):
        judged(shorter, truth.prior())


@properties
@given(
    st.integers(3, 10).flatmap(
        lambda count: st.tuples(*(st.lists(st.floats(1e-9, 1e9), min_size=count, max_size=count) for _ in range(2)))
    ),
    st.sampled_from(("tpot_s_median", "output_tokens_per_s")),
    HISTORY,
)
@example(([1e-9, 1e9, 1.0], [1e9, 1e-9, 1.0]), "output_tokens_per_s", None)
def test_plausible_readings_give_finite_figures(arms, metric, history):
    """Readings between a billionth and a billion, ties and all, give numbers, never NaN or infinity."""
    assume(arms[0] != arms[1])
    prior = NO_PRIOR if history is None else VariancePrior(7.5, history * 1e-3)
    found = judged(PairedReadings("s", metric, tuple(arms[0]), tuple(arms[1])), prior, primary_count=6)
    assert all(math.isfinite(value) for value in figures(found).values())
    assert 0 <= found.p_two_sided <= 1
    assert found.finding in RANK
