"""The shipped statistics against the terse reference, on random data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.accuracy import compare
from checks.boundaries import bounds, critical_value
from checks.effects import log_from_share
from checks.estimate import estimate, noise_multiplier
from checks.gate import PairedReadings, judge_metric
from checks.policy import AccuracyPolicy
from checks.power import detectable_log, items_needed, pair_limit, repeats_best
from checks.prior import NO_PRIOR, VariancePrior, fit_prior
from redline.metrics import Better
from redline.model import Finding, ItemScores
from tests.checks.policies import CPU
from tests.oracle import method_reference as oracle

DIFFERENCES = st.lists(st.floats(-0.5, 0.5).map(lambda value: round(value, 6)), min_size=3, max_size=10).filter(
    lambda values: len(set(values)) == len(values)
)
PRIORS = st.one_of(st.just(NO_PRIOR), st.builds(VariancePrior, df=st.floats(0.5, 9.9), variance=st.floats(1e-5, 1e-2)))


def as_oracle(prior: VariancePrior) -> tuple[float, float | None]:
    """The reference's form of a prior."""
    return (prior.df, prior.variance) if prior.known else (0.0, None)


@given(DIFFERENCES, PRIORS)
def test_estimate_equals_the_reference(differences, prior):
    """Location, standard error, df, variance and clipped count are the reference's."""
    found = estimate(differences, prior)
    expected = oracle.estimate(differences, *as_oracle(prior))
    assert (found.location, found.standard_error, found.df, found.variance) == pytest.approx(expected[:4], rel=1e-9)
    assert found.clipped_count == expected[4]


@given(st.lists(st.tuples(DIFFERENCES, PRIORS), min_size=1, max_size=6))
def test_noise_multiplier_equals_the_reference(metrics):
    """The day's noise relative to history is the reference's."""
    series, priors = [list(values) for values, _ in metrics], [prior for _, prior in metrics]
    expected = oracle.noise_multiplier(series, [as_oracle(prior) for prior in priors])
    assert noise_multiplier(series, priors) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.tuples(st.floats(1e-6, 1e-2), st.integers(1, 12)), max_size=15))
def test_prior_equals_the_reference(history):
    """The fitted prior is the reference's, and NO_PRIOR where the reference has none."""
    df, variance = oracle.fit_prior(history)
    found = fit_prior([(s2, float(count)) for s2, count in history])
    assert (found.df, found.variance) == pytest.approx((df, variance or 0.0), rel=1e-9)


@pytest.mark.parametrize("alpha", [0.02, 0.02 / 3, 0.02 / 6, 0.025])
@pytest.mark.parametrize("looks", [(8,), (3, 4), tuple(range(3, 9)), tuple(range(3, 11))])
def test_bounds_equal_the_reference(alpha, looks):
    """The group-sequential critical values are the reference's, whose trapezoid of 801 points is off by 3e-5."""
    assert bounds(alpha, looks) == pytest.approx(oracle.gs_bounds(alpha, looks), abs=5e-5)


@settings(max_examples=60)
@given(DIFFERENCES, PRIORS)
def test_metric_equals_the_reference(differences, prior):
    """Finding and interval of one metric are the reference's, at its look."""
    looks = tuple(range(3, 11))
    expected = oracle.read_metric(
        differences,
        as_oracle(prior),
        log_from_share(CPU.of("tpot_s_median").margin, Better.LOWER),
        looks,
        CPU.alpha_regressed / 3,
        CPU.alpha_no_worse,
    )
    candidate = tuple(math.exp(value) for value in differences)
    pairs = PairedReadings("server", "tpot_s_median", (1.0,) * len(differences), candidate)
    found = judge_metric(pairs, prior, CPU, looks=looks, primary_count=3)
    assert found.finding.value == expected["verdict"].replace("_", " ")
    assert math.log1p(found.effect) == pytest.approx(expected["est"], abs=1e-9)
    close = 1e-6 + 3e-4 * (expected["hi"] - expected["lo"])  # the reference's integral is off by so much
    assert math.log1p(found.effect_low) == pytest.approx(max(expected["lo"], -20), abs=close)
    assert math.log1p(found.effect_high) == pytest.approx(min(expected["hi"], 20), abs=close)
    assert found.p_two_sided == pytest.approx(expected["p_two_sided"], rel=1e-6, abs=1e-12)


def test_power_equals_the_reference():
    """Pair limit, minimum detectable effect, repeats and items needed are the reference's."""
    for variance in (1e-5, 1e-4, 2e-4, 1e-3):
        assert pair_limit(variance, 0.03, floor=4, budget=8) == oracle.n_max_for(variance, 0.03)
        assert detectable_log(variance, 8) == pytest.approx(oracle.mde(variance, 8))
    assert repeats_best(25, 5, 0.023**2, 0.031**2) == oracle.repeats(25, 5, 0.023**2, 0.031**2)
    for flips in (0.02, 0.05):
        assert items_needed(flips, 0.8, 0.99) == oracle.items_needed(flips, 0.8)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.2), st.booleans())
def test_accuracy_equals_the_reference(seed, flips, graded):
    """Accuracies, change, p and interval are the reference's; a pass is never one where the reference has none."""
    generator = np.random.default_rng(seed)
    before = (generator.random(600) < 0.8).astype(float)
    after = np.where(generator.random(600) < flips, 1 - before, before)
    if graded:
        before, after = before * 0.75, after * 0.75
    if (before == after).all():
        return
    expected = oracle.accuracy(before, after)
    keys = [f"item-{number:03d}" for number in range(600)]
    found = compare(
        ItemScores("skill", dict(zip(keys, before.tolist(), strict=True)), 1),
        ItemScores("skill", dict(zip(keys, after.tolist(), strict=True)), 1),
        AccuracyPolicy(alpha=0.025, share_min=0.99, run_count=1),
    )
    assert (found.baseline, found.candidate, found.change) == pytest.approx(
        (expected["acc_base"], expected["acc_cand"], expected["diff"])
    )
    assert (found.change_low, found.change_high) == pytest.approx(expected["ci"])
    assert (found.lost_count, found.gained_count) == (expected["lost"], expected["gained"])
    assert found.worse_p == pytest.approx(expected["worse_p"], rel=1e-9, abs=1e-12)
    if found.share_finding is Finding.NO_WORSE:
        assert expected["ni"] == "pass"
    if expected["ni"] == "fail":
        assert found.share_finding is Finding.REGRESSED


def test_critical_value_refuses_what_is_no_look():
    """A number of pairs that was not planned as a look has no bound."""
    with pytest.raises(ValueError, match="no look"):
        critical_value(0.02, (3, 4, 5), 6, 5.0)
