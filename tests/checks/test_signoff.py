"""The sign-off: a fixed number of pairs, plain 95 % intervals, and the power that docs and method state."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from checks.gate import PairedReadings, judge_suite
from checks.prior import NO_PRIOR
from checks.simulation import World, simulate_gate
from checks.simulation_signoff import simulate_signoff, with_margin
from redline.model import Finding
from tests.checks.policies import CPU, GPU, SIX, STAND_INS

METRIC = "tpot_s_median"
SEED = 20261121
SUITES = 400
HISTORY = 6  # past rounds


def rates(margin, *, effect=0.0, history=HISTORY):
    """Sign-offs of one metric with a CV of 1 %."""
    return simulate_signoff(
        with_margin(GPU, margin),
        METRIC,
        cv=0.01,
        effect=effect,
        history_rounds=history,
        seed=SEED,
        suite_count=SUITES,
    )


@pytest.mark.parametrize(("margin", "low", "high"), [(0.03, 0.99, 1.0), (0.02, 0.97, 1.0), (0.01, 0.46, 0.64)])
def test_power_to_pass_an_equal_build(margin, low, high):
    """At a CV of 1 % and ten pairs: sure at a margin of 3 %, nearly at 2 %, a coin at 1 %."""
    assert low <= rates(margin).passed <= high


@pytest.mark.parametrize("margin", [0.03, 0.02, 0.01])
def test_a_build_at_the_margin_seldom_passes(margin):
    """False passes: 2.5 % are promised, three standard errors of 400 suites are allowed on top."""
    assert rates(margin, effect=margin).passed <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / SUITES)


def test_the_half_width_is_what_is_stated():
    """About .95 % with six rounds of history, about .99 % without any; always ten pairs."""
    known, unknown = rates(0.03), rates(0.03, history=0)
    assert known.half_width == pytest.approx(0.0095, abs=0.0003)
    assert unknown.half_width == pytest.approx(0.0099, abs=0.0004)
    assert known.pair_counts == unknown.pair_counts == (10,)


@pytest.mark.parametrize("history", [0, HISTORY])
def test_an_equal_build_is_seldom_refused(history):
    """False alarms of one metric at alpha .02, three standard errors allowed on top."""
    assert rates(0.02, history=history).regressed <= 0.02 + 3 * math.sqrt(0.02 * 0.98 / SUITES)


def test_a_whole_suite_of_equal_metrics_is_signed_off():
    """Six primaries at a CV of 1 % and a margin of 3 %: nearly every equal build passes, hardly one is refused."""
    found = simulate_gate(
        World(SIX, (0.01,) * 6, (0.0,) * 6, history_rounds=HISTORY), GPU.for_signoff(), seed=SEED, suite_count=100
    )
    assert found.passed >= 0.95
    assert found.pairs_max == found.pairs_mean == 10


def readings(factor, count=10):
    """Pairs of which the candidate is `factor` times as slow."""
    noise = np.exp(0.01 * np.random.default_rng(3).standard_normal((2, count)))
    return PairedReadings("s", METRIC, tuple(noise[0].tolist()), tuple((factor * noise[1]).tolist()))


def test_without_history_the_interval_is_the_plain_t_interval():
    """The upper bound is that of a two-sided 95 % t interval of ten log differences: no price for looks."""
    pairs = readings(1.0)
    state = judge_suite([pairs], {pairs.key: NO_PRIOR}, GPU.for_signoff(), {})
    differences = np.log(pairs.candidate) - np.log(pairs.baseline)
    plain = stats.t.interval(0.95, 9, differences.mean(), stats.sem(differences))
    assert math.log1p(state.comparisons[0].effect_high) == pytest.approx(plain[1], rel=1e-6)


def test_nothing_is_decided_before_the_last_pair():
    """Twice as slow is plain after three pairs, and the release's question still waits for the tenth."""
    policy, whole = GPU.for_signoff(), readings(2.0)
    for count in range(1, 10):
        part = PairedReadings("s", METRIC, whole.baseline[:count], whole.candidate[:count])
        state = judge_suite([part], {}, policy, {})
        assert (state.finished, state.comparisons) == (False, ())
    final = judge_suite([whole], {}, policy, {})
    assert (final.finished, final.finding) == (True, Finding.REGRESSED)


def test_the_policys_margins_and_errors_are_the_gates():
    """A sign-off changes how many pairs are measured and when they are judged, and nothing else."""
    signoff = CPU.for_signoff()
    assert (signoff.metrics, signoff.accuracy) == (CPU.metrics, CPU.accuracy)
    assert (signoff.alpha_regressed, signoff.alpha_no_worse) == (CPU.alpha_regressed, CPU.alpha_no_worse)
    assert signoff.looks(4) == (CPU.signoff.pair_count,)


def test_a_simulation_needs_noise():
    """Without noise there is nothing to simulate."""
    with pytest.raises(ValueError, match="cv above 0"):
        simulate_signoff(GPU, METRIC, cv=0.0, effect=0.0, history_rounds=0, seed=1, suite_count=1)


def stand_ins(effect):
    """Sign-offs of a stand-in's throughput without history, at the CV that a busy CPU host had, 6 %."""
    return simulate_signoff(
        STAND_INS, "output_tokens_per_s", cv=0.06, effect=effect, history_rounds=0, seed=SEED, suite_count=SUITES
    )


def test_five_pairs_of_stand_ins_keep_the_promises():
    """The coarse policy keeps its errors: an equal build is seldom refused, one at its margin of 30 % seldom passes."""
    quiet = stand_ins(0.0)
    assert quiet.pair_counts == (5,)
    assert quiet.regressed <= 0.02 + 3 * math.sqrt(0.02 * 0.98 / SUITES)
    assert quiet.passed >= 0.95
    assert stand_ins(0.30).passed <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / SUITES)
    assert stand_ins(0.60).regressed >= 0.95
