"""A whole suite, at one look and over all of them: what holds whatever the readings are."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from checks.effects import log_differences, metric_named
from checks.estimate import noise_multiplier
from checks.gate import Key, PairedReadings, judge_metric, judge_suite, suite_pair_limit
from checks.prior import NO_PRIOR
from redline.model import Comparison, Finding
from tests.checks.made_up_pairs import (
    DESCRIPTIVES,
    FAST,
    NOISY,
    QUIET,
    RANK,
    SEED,
    SLOW,
    SUITE_IMPROVED,
    SUITE_NO_WORSE,
    SUITE_REGRESSED,
    SUITE_UNDECIDED,
    TAIL,
    MadeUpSuite,
    Truth,
    all_finite,
    figures,
    log_of,
    look_of,
    shuffled,
    suites,
    truths,
)
from tests.checks.policies import CPU

properties = settings(deadline=None, max_examples=60)

PASSES = (Finding.NO_WORSE, Finding.IMPROVED)
BAD = st.sampled_from((math.nan, math.inf, -math.inf, 0.0, -1.0))
SHARE = st.floats(0.0, 1.0)  # where, or at which look: mapped to what the suite has


def by_key(comparisons: tuple[Comparison, ...]) -> dict[Key, Comparison]:
    """The comparisons by (scenario, metric)."""
    return {(each.scenario, each.metric): each for each in comparisons}


def alike(one: Comparison, other: Comparison) -> None:
    """Assert that two comparisons agree up to rounding."""
    assert one.finding is other.finding
    assert figures(one) == pytest.approx(figures(other), rel=1e-6, abs=1e-9)


def test_the_examples_are_of_every_kind():
    """The four named suites have the four findings: the properties see each."""
    found = [suite.judge(4).finding for suite in (SUITE_NO_WORSE, SUITE_REGRESSED, SUITE_IMPROVED, SUITE_UNDECIDED)]
    assert found == [Finding.NO_WORSE, Finding.REGRESSED, Finding.IMPROVED, Finding.INCONCLUSIVE]


# --- swap, scale, order ----------------------------------------------------------------------------------------


@properties
@given(suites(), SHARE)
@example(SUITE_REGRESSED, 0.2)
@example(SUITE_IMPROVED, 0.2)
def test_swapping_the_arms_mirrors_every_primary_and_with_them_the_suite(suite, share):
    """A primary is improved one way exactly where its lower bound is above zero the other way.

    So a regressed suite has an improved primary with the arms swapped, and the day is as noisy either way.
    """
    count = look_of(suite, share)
    there = suite.judge(count)
    mirrored = [replace(each, baseline=each.candidate, candidate=each.baseline) for each in suite.pairs(count)]
    back = judge_suite(mirrored, suite.priors, suite.policy, {})
    for one, other in zip(there.comparisons, back.comparisons, strict=True):
        assert log_of(one.effect, one.metric) == pytest.approx(-log_of(other.effect, one.metric), rel=1e-6, abs=1e-9)
        assert (one.df, one.noise_multiplier) == pytest.approx((other.df, other.noise_multiplier), rel=1e-9)
        if one.primary:
            assert (one.finding is Finding.IMPROVED) == (other.effect_low > 0)
            assert (other.finding is Finding.IMPROVED) == (one.effect_low > 0)
    if there.finding is Finding.REGRESSED:
        assert any(each.primary and each.finding is Finding.IMPROVED for each in back.comparisons)
    if there.finding is Finding.IMPROVED:
        assert back.finding is Finding.REGRESSED or any(each.effect_low > 0 for each in back.comparisons)


@properties
@given(suites(), SHARE, st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=5))
@example(SUITE_REGRESSED, 0.2, [1000.0, 1e-3, 2.0, 1.0, 1.0])
def test_the_units_of_the_metrics_do_not_matter(suite, share, factors):
    """Every metric in a unit of its own: the same finding and the same comparisons but for the medians."""
    count = look_of(suite, share)
    plain = suite.judge(count)
    scaled = judge_suite(
        [
            replace(
                each,
                baseline=tuple(value * factor for value in each.baseline),
                candidate=tuple(value * factor for value in each.candidate),
            )
            for each, factor in zip(suite.pairs(count), factors, strict=False)
        ],
        suite.priors,
        suite.policy,
        {},
    )
    assert scaled.finding is plain.finding
    for one, other in zip(plain.comparisons, scaled.comparisons, strict=True):
        alike(one, replace(other, baseline=one.baseline, candidate=one.candidate))


@properties
@given(suites(), SHARE, SEED)
@example(SUITE_REGRESSED, 0.2, 1)
def test_the_order_of_pairs_does_not_matter_within_a_look(suite, share, seed):
    """The same pairs in another order, at one look without anything frozen: the same finding and comparisons."""
    count = look_of(suite, share)
    plain = suite.judge(count)
    mixed = judge_suite(shuffled(suite, count, seed), suite.priors, suite.policy, {})
    assert (mixed.finding, mixed.finished) == (plain.finding, plain.finished)
    for one, other in zip(plain.comparisons, mixed.comparisons, strict=True):
        alike(one, other)


@properties
@given(suites(), SHARE, st.permutations(range(5)))
@example(SUITE_REGRESSED, 0.2, [2, 1, 0, 4, 3])
@example(SUITE_IMPROVED, 0.2, [2, 1, 0, 4, 3])
def test_the_order_of_metrics_does_not_matter(suite, share, order):
    """The metrics in another order: the same finding, and per metric the same comparison."""
    count = look_of(suite, share)
    pairs = suite.pairs(count)
    plain = suite.judge(count)
    mixed = judge_suite([pairs[index] for index in order if index < len(pairs)], suite.priors, suite.policy, {})
    assert (mixed.finding, mixed.finished, mixed.pair_limit) == (plain.finding, plain.finished, plain.pair_limit)
    found = by_key(mixed.comparisons)
    for key, one in by_key(plain.comparisons).items():
        alike(one, found[key])


# --- what decides, and what does not ---------------------------------------------------------------------------


@properties
@given(suites(), SHARE)
@example(SUITE_NO_WORSE, 0.2)
@example(SUITE_REGRESSED, 0.2)
@example(SUITE_IMPROVED, 0.2)
@example(SUITE_UNDECIDED, 1.0)
def test_the_suite_is_the_worst_of_its_primaries(suite, share):
    """Regressed if any primary is; passed only if all are; finished when conclusive or at the last look."""
    state = suite.judge(look_of(suite, share))
    found = [each.finding for each in state.comparisons if each.primary]
    assert (state.finding is Finding.REGRESSED) == (Finding.REGRESSED in found)
    assert (state.finding in PASSES) == all(each in PASSES for each in found)
    assert (state.finding is Finding.IMPROVED) == (state.finding in PASSES and Finding.IMPROVED in found)
    assert state.finished == (state.finding is not Finding.INCONCLUSIVE or state.pair_count == state.pair_limit)
    assert set(state.frozen) == {
        (each.scenario, each.metric)
        for each in state.comparisons
        if each.primary and each.finding is not Finding.INCONCLUSIVE
    }


@properties
@given(suites(), SHARE, truths(("tpot_s_median",)))
@example(SUITE_NO_WORSE, 0.2, SLOW)
@example(SUITE_IMPROVED, 0.2, SLOW)
@example(SUITE_UNDECIDED, 1.0, SLOW)
def test_adding_a_regressed_primary_makes_any_suite_regressed(suite, share, more):
    """One more primary, judged within the larger suite: where it is regressed the suite is, whatever the others say."""
    larger = replace(suite, truths=(*suite.truths, more))
    state = larger.judge(look_of(larger, share))
    (added,) = (each for each in state.comparisons if each.scenario == f"s{len(suite.truths)}")
    if added.finding is Finding.REGRESSED:
        assert state.finding is Finding.REGRESSED
    if added.finding is Finding.INCONCLUSIVE:
        assert state.finding in {Finding.INCONCLUSIVE, Finding.REGRESSED}
    certain = replace(suite, truths=(*suite.truths, replace(SLOW, effect=3.0)))
    assert certain.judge(look_of(certain, share)).finding is Finding.REGRESSED


@properties
@given(suites(), SHARE, st.integers(0, 2), st.floats(0.0, 1.0))
@example(SUITE_NO_WORSE, 0.2, 0, 0.5)
@example(SUITE_IMPROVED, 0.2, 1, 0.8)
def test_a_suite_is_never_judged_better_for_a_worse_primary(suite, share, index, shift):
    """A candidate that is worse in one primary and the same in all others never gets a better finding."""
    count = look_of(suite, share)
    deciding = suite.without_descriptives().truths
    index %= len(deciding)
    changed = list(suite.truths)
    changed[index] = replace(changed[index], effect=changed[index].effect + shift)
    plain, worse = suite.judge(count), replace(suite, truths=tuple(changed)).judge(count)
    assert RANK[worse.finding] >= RANK[plain.finding]


@properties
@given(suites(descriptives_max=3), SHARE, st.lists(truths(DESCRIPTIVES), max_size=2), BAD)
@example(SUITE_NO_WORSE, 0.2, [TAIL], math.nan)
@example(SUITE_UNDECIDED, 0.2, [TAIL], 0.0)
def test_descriptive_metrics_never_change_anything_that_decides(suite, share, others, bad):
    """None, others, or unreadable ones: the same finding, frozen primaries and primary comparisons, to the bit."""
    count = look_of(suite, share)
    alone = suite.without_descriptives().judge(count)
    primaries = len(alone.comparisons)
    unreadable = [
        replace(each, candidate=(bad,) * count) if each.metric in DESCRIPTIVES else each for each in suite.pairs(count)
    ]
    swapped_out = replace(suite, truths=(*suite.without_descriptives().truths, *others))
    for state in (
        suite.judge(count),
        swapped_out.judge(count),
        judge_suite(unreadable, suite.priors, suite.policy, {}),
    ):
        assert (state.finding, state.finished, state.pair_limit, state.frozen) == (
            alone.finding,
            alone.finished,
            alone.pair_limit,
            alone.frozen,
        )
        assert state.comparisons[:primaries] == alone.comparisons
        assert all(not each.primary for each in state.comparisons[primaries:])


# --- error rates and noise ---------------------------------------------------------------------------------------


@properties
@given(st.lists(truths(), min_size=1, max_size=3), SHARE)
@example([QUIET, SLOW, FAST], 0.2)
def test_each_primary_is_judged_at_its_share_of_alpha_with_the_days_noise(some, share):
    """A primary of a suite is `judge_metric` with the number of primaries and the noise of all primaries together."""
    suite = MadeUpSuite((*some, TAIL), CPU)
    count = look_of(suite, share)
    state = suite.judge(count)
    deciding = suite.pairs(count)[:-1]
    multiplier = noise_multiplier(
        [log_differences(metric_named(each.metric), each.baseline, each.candidate) for each in deciding],
        [suite.priors[each.key] for each in deciding],
    )
    assert multiplier >= 1
    looks = CPU.looks(state.pair_limit)
    for pairs, found in zip(deciding, state.comparisons, strict=False):
        assert found == judge_metric(
            pairs, suite.priors[pairs.key], CPU, looks=looks, primary_count=len(deciding), multiplier=multiplier
        )


@properties
@given(SEED, st.integers(5, 10))
def test_a_noisy_day_in_one_metric_widens_the_others(seed, count):
    """A primary that history describes well is believed less where another is far noisier than its own history."""
    quiet = Truth("tpot_s_median", 0.01, 0.0, 100.0, seed)  # quieter today than history: the guard plays no part
    other = Truth("ttft_s_median", 0.01, 0.0, 1.0, seed + 1)
    calm, noisy = (
        judge_suite(
            [quiet.pairs("s0", count), replace(other, cv=cv).pairs("s1", count)],
            {("s0", quiet.metric): quiet.prior(), ("s1", other.metric): other.prior()},
            CPU,
            {},
        ).comparisons[0]
        for cv in (0.001, 1.0)
    )
    assert calm.noise_multiplier == 1
    assert noisy.noise_multiplier > 1
    assert noisy.effect_high > calm.effect_high
    assert noisy.effect_low < calm.effect_low


# --- the sequence of looks -----------------------------------------------------------------------------------------


def spoiled(pairs: PairedReadings, first: int, value: float) -> PairedReadings:
    """The candidate's readings from pair `first` on replaced by one value."""
    tail = (value,) * max(0, len(pairs.candidate) - first)
    return replace(pairs, candidate=(*pairs.candidate[:first], *tail))


@properties
@given(suites(), st.dictionaries(st.integers(0, 4), st.sampled_from((1e-6, 1e6, math.nan, 0.0, math.inf)), max_size=3))
@example(SUITE_REGRESSED, {1: 1e-6})
@example(MadeUpSuite((QUIET, NOISY, TAIL), CPU), {0: 1e6})
@example(MadeUpSuite((QUIET, NOISY), CPU), {0: math.nan})
@example(MadeUpSuite((FAST, NOISY), CPU), {0: 1e-6})
def test_more_evidence_never_flips_what_is_frozen(suite, later):
    """Over all looks: a primary once decided keeps its comparison to the bit, though its next readings are wild.

    `later`: what a metric reads once it is decided: a millionth, a million, or nothing usable. The suite ends by
    its last look, and its finding is that of the frozen primaries.
    """
    limit = suite_pair_limit(list(suite.priors), suite.priors, suite.policy)
    decided_at: dict[Key, int] = {}
    frozen: dict[Key, Comparison] = {}
    states = []
    for count in suite.policy.looks(limit):
        pairs = [
            spoiled(each, decided_at.get(each.key, count), later[number]) if number in later else each
            for number, each in enumerate(suite.pairs(count))
        ]
        state = judge_suite(pairs, suite.priors, suite.policy, frozen)
        found = by_key(state.comparisons)
        assert all(state.frozen[key] == found[key] == comparison for key, comparison in frozen.items())
        assert all_finite(state)
        decided_at |= {key: count for key in state.frozen if key not in decided_at}
        frozen = dict(state.frozen)
        states.append(state)
    finished = next(index for index, state in enumerate(states) if state.finished)
    assert states[-1].finished
    assert all(not state.finished for state in states[:finished])
    if states[finished].finding in {Finding.REGRESSED, *PASSES}:
        assert {state.finding for state in states[finished:]} == {states[finished].finding}


@properties
@given(suites(), SEED)
@example(SUITE_NO_WORSE, 1)
@example(SUITE_UNDECIDED, 1)
@example(MadeUpSuite((replace(QUIET, history=1.0), replace(TAIL, cv=0.4, history=5.0)), CPU), 1)
def test_the_pair_limit_depends_on_the_priors_of_the_primaries_alone(suite, seed):
    """Other readings, other looks, other descriptive metrics: the same limit, within the policy's budget."""
    limit = suite_pair_limit(list(suite.priors), suite.priors, suite.policy)
    other_day = replace(
        suite, truths=tuple(replace(each, seed=seed + 1, effect=each.effect + 0.3) for each in suite.truths)
    )
    wild = [replace(each, candidate=(math.nan,) * 3) for each in suite.pairs(3)]
    assert {
        suite.judge(3).pair_limit,
        other_day.judge(4).pair_limit,
        suite.without_descriptives().judge(3).pair_limit,
        judge_suite(wild, suite.priors, suite.policy, {}).pair_limit,
    } == {limit}
    assert 4 <= limit <= suite.policy.pair_count_max
    noisier = {key: prior.scaled(4.0) for key, prior in suite.priors.items()}
    assert suite_pair_limit(list(noisier), noisier, suite.policy) >= limit
    unknown = {**suite.priors, ("s0", suite.truths[0].metric): NO_PRIOR}
    assert suite_pair_limit(list(unknown), unknown, suite.policy) == suite.policy.pair_count_max
