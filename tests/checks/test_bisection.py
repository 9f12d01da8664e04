"""Bisection: the posterior is the textbook's, the next pair tells most, and nothing is named without confirmation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from checks.bisection import (
    END_PAIRS,
    Bisection,
    Costs,
    Ended,
    Evidence,
    Outcome,
    Pair,
    PairReading,
    Purpose,
    likeliest,
    next_step,
    posterior_of,
)
from checks.culprit import (
    BAD_MARGINS_MIN,
    GOOD_SD_MARGINS,
    SCALE_OF_SD,
    LevelReading,
    Posterior,
    equal_weights,
    gains,
    posterior,
)
from checks.prior import NO_PRIOR, VariancePrior
from checks.simulation import Noise
from checks.simulation_bisection import BisectionWorld, simulate_bisections
from redline.model import Finding
from tests.checks.policies import CPU, GPU

POLICY = GPU.for_confirmation()
METRIC = "tpot_s_median"
MARGIN = math.log(1.02)
WOBBLE = (0.004, -0.006, 0.009, -0.003, 0.001, -0.008, 0.006, -0.001, 0.003, -0.005, 0.007, -0.002)


def asked(last=64, **more):
    """A bisection of TPOT on the GPU policy."""
    return Bisection(last, "server", METRIC, POLICY, **more)


def free(last):
    """Every build installed, every reading a second."""
    return Costs(1.0, (0.0,) * (last + 1))


def reading(pair, difference):
    """A pair whose candidate differs by so much (oriented log; TPOT: lower is better)."""
    return PairReading(pair, 0.02, 0.02 * math.exp(difference))


def walk(question, level, *, broken=(), costs=None, pairs_max=200):
    """(answer, evidence) where D is `level(candidate) - level(baseline)` plus a fixed wobble; some builds broken."""
    evidence = Evidence()
    for count in range(pairs_max):
        step = next_step(question, evidence, costs or free(question.last))
        if isinstance(step, Ended):
            return step, evidence
        if bad := {step.baseline, step.candidate} & set(broken):
            evidence = Evidence(evidence.readings, evidence.skipped | bad)
            continue
        difference = level(step.candidate) - level(step.baseline) + WOBBLE[count % len(WOBBLE)]
        evidence = Evidence((*evidence.readings, reading(step, difference)), evidence.skipped)
    raise AssertionError("no answer")


def stepped(culprit, size=0.03):
    """Levels of a single step."""
    return lambda build: size * (build >= culprit)


# --- the posterior --------------------------------------------------------------------------------------------


def test_the_posterior_is_that_of_a_plain_integration():
    """Three candidates, one confirming pair, a prior and weights: the same as scipy's densities on fine grids."""
    weights, prior = (1.0, 2.0, 1.0), VariancePrior(6.0, 2e-4)
    values = {0: (0.004, -0.012, 0.009), 1: (0.011, 0.018), 3: (0.033, 0.021, 0.041)}
    readings = [LevelReading(build, value) for build, several in values.items() for value in several]
    readings.append(LevelReading(3, 0.012, against=1))
    found = posterior(weights, readings, prior, MARGIN)

    good = GOOD_SD_MARGINS * MARGIN * np.linspace(-4, 4, 81)
    bad = np.linspace(BAD_MARGINS_MIN * MARGIN, 0.12, 241)
    log_scales = np.linspace(math.log(0.003), math.log(0.05), 61)
    mass = np.zeros(3)
    for culprit, log_scale in itertools.product((1, 2, 3), log_scales):
        scale = math.exp(log_scale)
        variance = (scale / SCALE_OF_SD) ** 2
        # Density of ln(scale), up to a constant: that of ln(variance) for a scaled inverse chi-square.
        weight = stats.invgamma.pdf(variance, prior.df / 2, scale=prior.df * prior.variance / 2) * variance
        zero = np.prod(stats.t.pdf(values[0], 4, scale=scale))
        on_good, on_bad = stats.norm.pdf(good, scale=GOOD_SD_MARGINS * MARGIN), np.ones(len(bad))
        for each in readings[3:]:
            is_bad = each.against < culprit <= each.build
            levels = bad if is_bad else good
            density = stats.t.pdf(each.difference, 4, loc=levels, scale=scale)
            on_good, on_bad = (on_good, on_bad * density) if is_bad else (on_good * density, on_bad)
        mass[culprit - 1] += weights[culprit - 1] * weight * zero * on_good.sum() * on_bad.sum()
    assert found.shares == pytest.approx(mass / mass.sum(), rel=0.05)


def test_one_wild_reading_does_not_turn_the_posterior():
    """A pair that is 50 % off at a build that read well five times costs some certainty and no more."""
    quiet = [LevelReading(0, each) for each in WOBBLE[:5]] + [LevelReading(8, 0.03 + each) for each in WOBBLE[:5]]
    quiet += [LevelReading(4, each) for each in WOBBLE[:5]]
    before = posterior(equal_weights(8), quiet, NO_PRIOR, MARGIN)
    after = posterior(equal_weights(8), [*quiet, LevelReading(4, 0.5)], NO_PRIOR, MARGIN)
    assert before.between(4, 8) > 0.99
    assert after.between(4, 8) > 0.95


def test_weights_speak_where_readings_do_not():
    """Before anything but the ends is read, the posterior is the prior; span and top are read from it."""
    readings = [LevelReading(end, 0.03 * (end > 0) + each) for end in (0, 4) for each in WOBBLE[:5]]
    found = posterior((1.0, 5.0, 1.0, 1.0), readings, NO_PRIOR, MARGIN)
    assert found.shares == pytest.approx([0.125, 0.625, 0.125, 0.125])
    assert [build for build, _ in found.top(2)] == [2, 1]
    assert found.span(0.6) == (2, 2)
    assert found.bad_shares == pytest.approx([0, 0.125, 0.75, 0.875, 1])


@given(
    st.lists(st.tuples(st.integers(0, 6), st.floats(-1, 1)), max_size=20),
    st.floats(-0.2, 0.2),
    st.sampled_from([NO_PRIOR, VariancePrior(8.0, 2e-4)]),
)
@settings(max_examples=60, deadline=None)
def test_any_readings_give_a_distribution(several, end, prior):
    """Shares are finite, not negative, and add up to 1, whatever was read."""
    readings = [LevelReading(0, 0.0), LevelReading(6, end), *(LevelReading(*each) for each in several)]
    found = posterior(equal_weights(6), readings, prior, MARGIN)
    assert np.isfinite(found.shares).all() and (found.shares >= 0).all()
    assert found.shares.sum() == pytest.approx(1)
    assert np.isfinite(gains(found)).all() and found.scale > 0


@pytest.mark.parametrize(
    ("weights", "readings", "margin", "said"),
    [
        ((1.0, 1.0), [LevelReading(0, 0.0)], MARGIN, "both ends"),
        ((1.0, 1.0), [LevelReading(0, 0.0), LevelReading(2, math.nan)], MARGIN, "finite"),
        ((1.0, 1.0), [LevelReading(0, 0.0), LevelReading(2, 0.0), LevelReading(3, 0.0)], MARGIN, "build 3"),
        ((0.0, 0.0), [LevelReading(0, 0.0), LevelReading(2, 0.0)], MARGIN, "weights"),
        ((1.0, 1.0), [LevelReading(0, 0.0), LevelReading(2, 0.0)], 0.0, "margin_log"),
    ],
)
def test_what_cannot_be_computed_is_refused(weights, readings, margin, said):
    """Never a NaN that spreads."""
    with pytest.raises(ValueError, match=said):
        posterior(weights, readings, NO_PRIOR, margin)


def test_a_reading_tells_most_where_it_is_most_open():
    """No gain where the side is certain, most at even chances, more for a larger step, never above ln 2."""
    even = np.full(4, 0.25)
    small, large = (gains(Posterior(even, 0.0, step, 0.01)) for step in (0.02, 0.06))
    assert small[0] == pytest.approx(0, abs=1e-9) and small[4] == pytest.approx(0, abs=1e-9)
    assert np.argmax(small) == 2
    assert small[2] < large[2] < math.log(2)


# --- the steps ------------------------------------------------------------------------------------------------


def test_both_ends_are_read_first_and_in_turns():
    """Five readings of each end before anything else."""
    evidence = Evidence()
    seen = []
    for number in range(2 * END_PAIRS):
        step = next_step(asked(), evidence, free(64))
        assert isinstance(step, Pair) and step.purpose is Purpose.END and step.baseline == 0
        seen.append(step.candidate)
        difference = 0.03 * (step.candidate > 0) + WOBBLE[number]
        evidence = Evidence((*evidence.readings, reading(step, difference)))
    assert seen == [0, 64] * END_PAIRS
    after = next_step(asked(), evidence, free(64))
    assert after == next_step(asked(), evidence, free(64))  # from the evidence alone
    assert isinstance(after, Pair) and after.purpose is Purpose.SEARCH
    assert after.candidate == 32


@pytest.mark.parametrize("culprit", [1, 2, 31, 64])
def test_a_culprit_is_named_and_confirmed(culprit):
    """Wherever it is, the first and the last candidate included; its parent was gated against it."""
    ended, evidence = walk(asked(), stepped(culprit))
    assert (ended.outcome, ended.first, ended.last, ended.parent) == (Outcome.NAMED, culprit, culprit, culprit - 1)
    assert ended.comparison is not None and ended.comparison.finding is Finding.REGRESSED
    assert 0 < ended.comparison.effect_low < 0.03 < ended.comparison.effect_high
    confirming = evidence.of(Purpose.CONFIRMATION, culprit - 1, culprit)
    assert len(confirming) == ended.comparison.pair_count >= 3
    assert evidence.reading_count == len(evidence.readings) - len(confirming)


def test_equal_ends_stop_the_search():
    """No worse within the margin: said, and nothing else is measured; so is a bad end that is better."""
    ended, evidence = walk(asked(), stepped(1, size=0.0))
    assert ended.outcome is Outcome.ENDS_EQUAL and "do not differ" in ended.reason
    assert {each.pair.candidate for each in evidence.readings} == {0, 64}
    better, _ = walk(asked(), stepped(10, size=-0.05))
    assert better.outcome is Outcome.ENDS_EQUAL and "better" in better.reason


def test_a_step_below_the_margin_is_no_culprit():
    """Worse by a quarter of the margin: no worse, as in the gate."""
    ended, _ = walk(asked(), stepped(20, size=0.004))
    assert ended.outcome is Outcome.ENDS_EQUAL


def test_noise_beyond_all_bounds_gives_up():
    """Ends that cannot be told apart in twelve pairs end the search inconclusive, with the comparison at hand."""
    loud = itertools.cycle((0.3, -0.28, 0.25, -0.31))
    evidence = Evidence()
    while not isinstance(step := next_step(asked(), evidence, free(64)), Ended):
        difference = next(loud) if step.candidate else WOBBLE[len(evidence.readings) // 2]
        evidence = Evidence((*evidence.readings, reading(step, difference)))
    assert step.outcome is Outcome.GAVE_UP and "could not be told apart" in step.reason
    assert step.comparison is not None and step.comparison.pair_count == POLICY.pair_count_max


def test_builds_that_cannot_be_measured_are_left_out():
    """The culprit beside a broken build is named as a range, and the range's ends were gated against each other."""
    ended, evidence = walk(asked(), stepped(31), broken=(30, 31))
    assert (ended.outcome, ended.first, ended.last) == (Outcome.NAMED, 30, 32)
    assert "one of 3" in ended.reason
    assert evidence.of(Purpose.CONFIRMATION, 29, 32)
    alone, _ = walk(asked(), stepped(31), broken=(20, 40))
    assert (alone.first, alone.last) == (31, 31)


def test_nothing_between_the_ends_can_be_measured():
    """Then every candidate is one of the range, and the ends' own comparison is the confirmation."""
    ended, _ = walk(asked(5), stepped(3), broken=(1, 2, 3, 4))
    assert (ended.outcome, ended.first, ended.last) == (Outcome.NAMED, 1, 5)
    with pytest.raises(ValueError, match="end"):
        next_step(asked(5), Evidence(skipped=frozenset({5})), free(5))


@pytest.mark.parametrize(("size", "outcome"), [(0.03, Outcome.NAMED), (0.0, Outcome.ENDS_EQUAL)])
def test_a_single_candidate_is_only_confirmed(size, outcome):
    """Two builds leave nothing to search: the gate's pairs are all that is measured."""
    ended, evidence = walk(asked(1), stepped(1, size))
    assert ended.outcome is outcome
    assert {each.pair for each in evidence.readings} == {Pair(0, 1, Purpose.CONFIRMATION)}


def test_a_culprit_that_is_not_confirmed_is_not_named():
    """Builds that differ from the good one only when measured against it: the gate of neighbours finds nothing."""
    ended, _ = walk(asked(), lambda build: 0.0)
    assert ended.outcome is Outcome.ENDS_EQUAL
    readings: list[PairReading] = []
    while not isinstance(step := next_step(asked(), Evidence(tuple(readings)), free(64)), Ended):
        against_good = step.purpose is not Purpose.CONFIRMATION and step.candidate >= 20
        readings.append(reading(step, 0.03 * against_good + WOBBLE[len(readings) % len(WOBBLE)]))
    assert step.outcome is Outcome.GAVE_UP
    assert "confirm" in step.reason or "stood out" in step.reason
    begun = Evidence(tuple(readings)).confirmed_pairs
    assert len(begun) == len(set(begun)) >= 1  # nothing is put to the gate twice


def test_the_bound_ends_the_search():
    """With too few readings allowed it says where the culprit probably is, and names nobody; raised, it goes on."""
    short, evidence = walk(asked(readings_max=14), stepped(31))
    assert short.outcome is Outcome.GAVE_UP and "14 readings" in short.reason
    assert short.posterior is not None and short.posterior.span()[0] <= 31 <= short.posterior.span()[1]
    assert isinstance(next_step(asked(), evidence, free(64)), Pair)
    with pytest.raises(ValueError, match="readings_max"):
        asked(readings_max=9)


def test_two_steps_are_seen_to_be_two():
    """A confirmed culprit that explains half of what the ends differ by says that there may be another."""
    ended, _ = walk(asked(), lambda build: 0.06 * (build >= 20) + 0.06 * (build >= 50), pairs_max=300)
    assert ended.outcome is Outcome.NAMED
    assert ended.first in (20, 50)
    assert "there may be another" in ended.reason


def test_a_dear_install_keeps_to_what_is_installed():
    """With installs a hundred readings dear, an installed build that still tells something is read on."""
    readings = [reading(Pair(0, end, Purpose.END), 0.03 * (end > 0) + each) for each in WOBBLE[:5] for end in (0, 64)]
    readings.append(reading(Pair(0, 32, Purpose.SEARCH), 0.012))
    evidence = Evidence(tuple(readings))
    dear = Costs(1.0, tuple(0.0 if build in (0, 32, 64) else 100.0 for build in range(65)))
    chosen = next_step(asked(), evidence, dear)
    assert isinstance(chosen, Pair) and chosen.candidate == 32
    found = posterior_of(asked(), evidence)
    assert found is not None
    assert likeliest(asked(), evidence, found)[1] - likeliest(asked(), evidence, found)[0] == 1


def test_a_descriptive_metric_can_be_followed():
    """What is no primary metric of the gate can still be bisected; one without an entry cannot."""
    assert not CPU.of("ttft_s_p99").primary
    Bisection(4, "server", "ttft_s_p99", CPU.for_confirmation())
    with pytest.raises(ValueError, match="no entry"):
        Bisection(4, "server", "exact_match", CPU.for_confirmation())


# --- whole bisections -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("candidate_count", [64, 256])
def test_a_step_of_three_percent_is_found(candidate_count):
    """The acceptance figures at a CV of 1 % for one trial; readings include the ends', not the confirmation's."""
    rates = simulate_bisections(BisectionWorld(candidate_count), POLICY, seed=20261121, bisection_count=100)
    assert rates.named_right >= 0.97
    assert rates.named_wrong <= 0.01
    assert rates.readings_mean <= 40
    assert rates.readings_mean + rates.confirmation_pairs_mean <= 45


def test_noise_of_other_shapes_costs_answers_not_errors():
    """Heavy tails, and builds that cannot be measured: no wrong name; a range holds the culprit."""
    heavy = BisectionWorld(64, noise=Noise.T3)
    holes = BisectionWorld(64, skip_share=0.3)
    for world in (heavy, holes):
        rates = simulate_bisections(world, POLICY, seed=7, bisection_count=25)
        assert rates.named_wrong <= 0.025
        assert rates.named_right + rates.named_range >= 0.9
    assert simulate_bisections(holes, POLICY, seed=7, bisection_count=25).named_range > 0.1


def test_equal_builds_name_nobody():
    """No step at all: never a culprit."""
    rates = simulate_bisections(BisectionWorld(64, step=0.0), POLICY, seed=3, bisection_count=100)
    assert rates.named_right == rates.named_range == rates.named_wrong == 0
    assert rates.ends_equal >= 0.9


def test_a_simulation_is_its_seed():
    """The same seed gives the same rates, another seed other ones."""
    first, again, other = (
        simulate_bisections(BisectionWorld(16), POLICY, seed=seed, bisection_count=8) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
