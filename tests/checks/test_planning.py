"""The plan of a suite: expected pairs and outcomes agree with the gate's own simulation, and assumptions are named."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from checks.effects import log_from_share, metric_named
from checks.gate import suite_pair_limit
from checks.planning import expected_pairs, expected_variances, plan_suite
from checks.power import detectable_log
from checks.prior import VariancePrior
from checks.simulation import World, simulate_gate
from tests.checks.policies import CPU, GPU, SIX, THREE

SUITES = 200
CPU_CVS = (0.03, 0.03, 0.07)


def priors_of(cvs, keys=THREE, df=8.0):
    """A history that knows the CV of one trial of each key."""
    return {key: VariancePrior(df, 2 * cv**2) for key, cv in zip(keys, cvs, strict=True)}


def three_errors(share, count=SUITES):
    """Three binomial standard errors of a difference of two simulated shares."""
    return 3 * math.sqrt(2 * max(share * (1 - share), 0.01) / count)


@pytest.mark.parametrize("effect", [0.0, 0.10])
def test_expected_pairs_are_those_of_the_gates_own_simulation(effect):
    """Without history, where nothing but the noise matters, two independent simulations agree."""
    assumed = expected_variances({}, CPU, THREE)
    world = World(THREE, tuple(math.sqrt(assumed[key] / 2) for key in THREE), (effect, 0.0, 0.0))
    planned = expected_pairs({}, CPU, THREE, {THREE[0]: effect}, seed=5, suite_count=SUITES)
    simulated = simulate_gate(world, CPU, seed=6, suite_count=SUITES)
    assert planned.passed == pytest.approx(simulated.passed, abs=three_errors(simulated.passed))
    assert planned.regressed == pytest.approx(simulated.regressed, abs=three_errors(simulated.regressed))
    assert planned.pairs_mean == pytest.approx(simulated.pairs_mean, abs=0.6)


def test_a_plan_with_history_keeps_the_methods_promises():
    """Equal builds pass, a loss at the margin seldom passes, one of twice the margin is found."""
    plan = plan_suite(THREE, priors_of(CPU_CVS), {}, CPU, seed=1, suite_count=SUITES)
    equal, at_margin, twice = (outlook.rates for outlook in plan.outlooks)
    assert equal.regressed <= 0.04
    assert equal.passed >= 0.88
    assert at_margin.passed <= 0.06
    assert at_margin.regressed > 0.8
    assert twice.regressed >= 0.99
    assert twice.pairs_mean < equal.pairs_mean < plan.pair_limit
    assert [outlook.effect for outlook in plan.outlooks] == [0.0, 0.10, 0.20]


def test_the_pair_limit_is_the_gates():
    """The plan's limit and looks are what the gate will use; noisier history needs more pairs."""
    limits = []
    for scale in (1.0, 1.3, 3.0):
        priors = priors_of([cv * scale for cv in CPU_CVS])
        plan = plan_suite(THREE, priors, {}, CPU, seed=1, suite_count=1)
        assert plan.looks == CPU.looks(suite_pair_limit(THREE, priors, CPU))
        limits.append(plan.pair_limit)
    assert limits == sorted(limits)
    assert limits[0] < limits[-1] == CPU.pair_count_max


def test_unknown_noise_is_named_and_assumed_to_be_what_the_margin_supports():
    """Without history no figure of noise is given; the assumed one resolves exactly the margin."""
    plan = plan_suite(THREE, {}, {}, CPU, seed=1, suite_count=1)
    assert plan.assumed == THREE
    assert plan.warnings == ()
    assert {(metric.pair_cv, metric.detectable, metric.half_width) for metric in plan.metrics} == {(None, None, None)}
    for key, variance in expected_variances({}, CPU, THREE).items():
        margin_log = log_from_share(CPU.of(key[1]).margin, metric_named(key[1]).better)
        assert detectable_log(variance, plan.pair_limit) == pytest.approx(margin_log)


def test_partly_known_noise_is_used_where_it_is_known():
    """A metric with history keeps its prior; only the others are assumed."""
    known = priors_of((0.03,), THREE[:1])
    plan = plan_suite(THREE, known, {THREE[0]: 4}, CPU, seed=1, suite_count=1)
    assert plan.assumed == THREE[1:]
    assert plan.metrics[0].round_count == 4
    assert plan.metrics[0].pair_cv == pytest.approx(math.sqrt(2) * 0.03)
    assert expected_variances(known, CPU, THREE)[THREE[0]] == known[THREE[0]].variance


def test_a_margin_that_cannot_be_resolved_is_warned_of_with_what_would_help():
    """The named number of pairs resolves the margin and one fewer does not; quiet metrics are not warned of."""
    priors = priors_of((0.03, 0.06, 0.07))
    plan = plan_suite(THREE, priors, {}, CPU, seed=1, suite_count=1)
    (warning,) = plan.warnings
    assert warning.startswith("TPOT median of server: 10 pairs resolve 14.0 %, the margin is 10.0 %")
    needed = int(warning.split("about ")[1].split()[0])
    margin_log = log_from_share(0.10, metric_named("tpot_s_median").better)
    variance = priors[THREE[1]].variance
    assert detectable_log(variance, needed) <= margin_log < detectable_log(variance, needed - 1)
    quiet = float(warning.split("a CV of a pair of ")[1].split()[0]) / 100
    assert detectable_log(quiet**2, 10) == pytest.approx(margin_log, rel=0.01)


def test_what_is_hardest_to_resolve_is_what_is_made_worse():
    """The outlooks are about the metric that is nearest to being undecided."""
    plan = plan_suite(THREE, priors_of((0.02, 0.02, 0.14)), {}, CPU, seed=1, suite_count=1)
    assert {outlook.key for outlook in plan.outlooks} == {THREE[2]}


def test_descriptive_metrics_change_nothing():
    """Metrics that cannot block are no part of a plan."""
    more = (*THREE, ("server", "ttft_s_p99"))
    few = plan_suite(THREE, priors_of(CPU_CVS), {}, CPU, seed=3, suite_count=20)
    assert plan_suite(more, priors_of(CPU_CVS), {}, CPU, seed=3, suite_count=20) == few


def test_a_throughput_is_never_made_more_than_all_worse():
    """Twice a margin of 60 % has no logarithm: the outlook stays below 100 %."""
    wide = tuple(replace(item, margin=0.6, stored_margin=0.7) for item in CPU.metrics)
    plan = plan_suite(THREE[:1], {}, {}, replace(CPU, metrics=wide), seed=1, suite_count=2)
    assert plan.outlooks[2].effect == 0.95


def test_a_sign_off_takes_its_fixed_number_of_pairs():
    """One look: the pairs do not depend on what is true, and the half-width is that of a t interval."""
    policy = GPU.for_signoff()
    plan = plan_suite(SIX, priors_of((0.01,) * 6, SIX, df=10.0), {}, policy, seed=1, suite_count=30)
    assert plan.looks == (10,)
    assert {outlook.rates.pairs_mean for outlook in plan.outlooks} == {10.0}
    assert plan.metrics[0].half_width == pytest.approx(2.093 * math.sqrt(2e-4 / 10), rel=1e-3)  # t with 19 df


def test_a_plan_is_its_seed():
    """The same seed gives the same plan, another seed other suites."""
    first, again, other = (
        expected_pairs({}, CPU, THREE, {}, seed=seed, suite_count=40).pairs_mean for seed in (1, 1, 2)
    )
    assert first == again != other


def test_no_suite_is_no_plan():
    """Nothing can be said from no suites, or of no primary metric."""
    with pytest.raises(ValueError, match="suite_count"):
        expected_pairs({}, CPU, THREE, {}, seed=1, suite_count=0)
    with pytest.raises(ValueError, match="primary metrics"):
        plan_suite((("server", "ttft_s_p99"),), {}, {}, CPU, seed=1, suite_count=1)
