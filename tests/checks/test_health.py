"""Do A/A rounds support a policy? Quiet machines do, noisy ones never, few rounds never; every check can refuse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from checks.false_alarms import AARound, count_alarms, exact_interval, gates_needed, judged_again, resample
from checks.gate import Key, PairedReadings, judge_suite, suite_pair_limit
from checks.health import SuiteHealth, Support, suite_health, together
from checks.metric_health import Margin, WindowReading, metric_health, pair_df_needed, variance_high
from checks.power import detectable_log, repeats_best
from checks.prior import NO_PRIOR, VariancePrior, fit_prior
from checks.successive import Values, drift, lag_one, round_offset
from redline.metrics import CATALOGUE, Better
from redline.model import Comparison, Finding
from tests.checks.policies import CPU, THREE
from tests.checks.test_variance_components import span

TPOT = ("server", "tpot_s_median")


def paired(key: Key, logs: NDArray[np.float64]) -> PairedReadings:
    """Readings around 1 from oriented logs of shape (2, pairs)."""
    sign = 1.0 if CATALOGUE[key[1]].better is Better.LOWER else -1.0
    baseline, candidate = (tuple(float(value) for value in np.exp(sign * arm)) for arm in logs)
    return PairedReadings(*key, baseline, candidate)


def round_of(logs: Mapping[Key, NDArray[np.float64]], number: int = 0, day: str = "d") -> AARound:
    """A round without history."""
    pairs = tuple(paired(key, each) for key, each in logs.items())
    return AARound(f"r{number}", day, "build", pairs, {})


def rounds_of(
    seed: int, cvs: Sequence[float], round_count: int, pair_count: int = 6, *, offset: float = 0.0, ar: float = 0.0
) -> tuple[AARound, ...]:
    """Rounds of a fixed length. `offset`: of a round's candidate; `ar`: share that a trial keeps of the last."""
    generator = np.random.default_rng(seed)
    rounds = []
    for number in range(round_count):
        logs = {}
        for key, cv in zip(THREE, cvs, strict=True):
            values = cv * generator.standard_normal((2, pair_count))
            for index in range(1, pair_count):
                values[:, index] += ar * values[:, index - 1]
            values[1] += offset * generator.standard_normal()
            logs[key] = values
        rounds.append(round_of(logs, number, f"d{number % 3}"))
    return tuple(rounds)


def gates(seed: int, cvs: Sequence[float], gate_count: int) -> tuple[list[AARound], list[Finding]]:
    """A/A gates as the policy runs them, each with the history of those before it, and what each of them found."""
    generator = np.random.default_rng(seed)
    past: dict[Key, list[tuple[float, float]]] = {key: [] for key in THREE}
    rounds, findings = [], []
    for number in range(gate_count):
        priors = {key: fit_prior(past[key]) for key in THREE}
        limit = suite_pair_limit(THREE, priors, CPU)
        logs = {key: cv * generator.standard_normal((2, limit)) for key, cv in zip(THREE, cvs, strict=True)}
        frozen: Mapping[Key, Comparison] = {}
        for count in CPU.looks(limit):
            pairs = tuple(paired(key, logs[key][:, :count]) for key in THREE)
            state = judge_suite(pairs, priors, CPU, frozen)
            frozen = state.frozen
            if state.finished:
                rounds.append(AARound(f"r{number}", f"d{number % 3}", "build", pairs, priors))
                findings.append(state.finding)
                for key in THREE:
                    differences = logs[key][1, :count] - logs[key][0, :count]
                    past[key].append((float(differences.var(ddof=1)), count - 1.0))
                break
    return rounds, findings


def judged(rounds: Sequence[AARound]) -> SuiteHealth:
    """The health of these rounds, with hardly any resampling: that has tests of its own."""
    return suite_health(rounds, {}, THREE, {}, CPU, seed=1, suite_count=5)


def test_quiet_machines_support_the_policy() -> None:
    """A CV of 2 % (TTFT: 4 %) and five gates as they are run: supported in at least 18 of 20 series."""
    found = [judged(gates(seed, (0.02, 0.02, 0.04), 5)[0]) for seed in range(20)]
    assert sum(each.support is Support.SUPPORTED for each in found) >= 18
    for each in found:
        assert all(metric.margin_supported is not None for metric in each.metrics)


def test_noisy_machines_never_do() -> None:
    """A CV of 7 % resolves no 10 %: none of 25 series is supported, however few or many rounds it has."""
    for seed in range(25):
        found = judged(rounds_of(seed, (0.07, 0.07, 0.10), 3 + seed))
        assert found.support is not Support.SUPPORTED
        if seed >= 7:
            assert found.support is Support.NOT_SUPPORTED
            assert any("supports a margin of" in reason for reason in found.reasons)


def test_at_the_edge_support_is_the_exception() -> None:
    """Noise that needs just a little more than the margin is called supported in at most a quarter of 60 series."""
    edge = -math.log1p(-0.10) * math.sqrt(CPU.pair_count_max / 24 / 2) * 1.02
    found = [judged(rounds_of(seed, (edge, 0.01, 0.01), 6)) for seed in range(60)]
    assert sum(each.support is Support.SUPPORTED for each in found) <= 15


def test_few_rounds_are_never_enough() -> None:
    """Below five rounds, or ten degrees of freedom, the quietest machine is not supported, and more are asked for."""
    for count in range(5):
        found = judged(rounds_of(count, (0.005,) * 3, count))
        assert found.support is Support.NOT_ENOUGH
        assert found.rounds_wanted == 5 - count
        assert f"{count} A/A round" in found.reasons[0]
    thin = judged(rounds_of(1, (0.005,) * 3, 7, pair_count=2))
    assert thin.support is Support.NOT_ENOUGH
    assert thin.rounds_wanted == 3


def test_an_open_margin_asks_for_about_as_many_rounds_as_it_takes() -> None:
    """Where the estimate is within the margin and its bound is not, more rounds of this noise would settle it."""
    cvs = (0.036, 0.01, 0.02)
    asked = []
    for seed in range(30):
        found = judged(rounds_of(seed, cvs, 5, pair_count=4))
        (metric,) = [each for each in found.metrics if each.metric == "output_tokens_per_s"]
        if metric.answer is Margin.OPEN:
            assert found.support is Support.NOT_ENOUGH
            asked.append(found.rounds_wanted)
    assert asked
    assert all(wanted is None or wanted >= 1 for wanted in asked)


def test_arms_that_stay_apart_in_a_round_refute_the_policy() -> None:
    """A difference that fresh deployments do not shake off is what a gate takes for an effect."""
    found = judged(rounds_of(3, (0.01,) * 3, 8, offset=0.05))
    assert found.support is Support.NOT_SUPPORTED
    assert any("differ by more than their pairs explain" in reason for reason in found.reasons)


def test_dependent_pairs_refute_the_policy() -> None:
    """Pairs that keep most of the pair before them are fewer pairs than they seem."""
    found = judged(rounds_of(3, (0.01,) * 3, 8, pair_count=10, ar=0.9))
    assert found.support is Support.NOT_SUPPORTED
    assert any("successive pairs are correlated" in reason for reason in found.reasons)


def test_alarms_refute_the_policy_even_in_few_rounds() -> None:
    """Two alarms in three gates have a chance of one in a thousand at 2 %: no more rounds are needed."""
    slower = np.array([[0.0, 0.001, -0.001, 0.0005], [0.5, 0.501, 0.502, 0.499]])
    quiet = np.array([[0.0, 0.001, -0.001, 0.0005], [0.001, 0.0, -0.002, 0.001]])
    rounds = [round_of(dict.fromkeys(THREE, each), number) for number, each in enumerate((slower, slower, quiet))]
    found = judged(rounds)
    assert (found.counted.alarm_count, found.counted.gate_count) == (2, 3)
    assert found.support is Support.NOT_SUPPORTED
    assert any("A/A gates are regressed" in reason for reason in found.reasons)


def test_two_groups_are_said() -> None:
    """Deployments that fall into two groups on every day are a warning, with the number of days."""
    generator = np.random.default_rng(4)
    rounds = []
    for number in range(6):
        modes = np.tile([[0.0, 0.12], [0.12, 0.0]], 3)
        rounds.append(
            round_of({key: modes + 0.001 * generator.standard_normal((2, 6)) for key in THREE}, number, f"d{number}")
        )
    found = judged(rounds)
    assert any("two groups on 6 of 6 days" in warning for warning in found.warnings)
    assert not any("two groups" in warning for warning in judged(rounds_of(2, (0.02,) * 3, 6)).warnings)


# --- false alarms -------------------------------------------------------------------------------------------


def test_rounds_are_judged_as_the_gate_judged_them() -> None:
    """Judged again by the same policy with the history it had, every recorded gate ends as it did."""
    rounds, findings = gates(5, (0.045, 0.045, 0.09), 12)
    assert [judged_again(each, CPU) for each in rounds] == findings
    counted = count_alarms(rounds, CPU)
    assert counted.gate_count == 12
    assert counted.short_count == 0
    assert counted.passed_count == sum(finding in (Finding.NO_WORSE, Finding.IMPROVED) for finding in findings)


def test_a_round_that_ends_early_is_not_counted() -> None:
    """A round whose pairs end before this policy would decide says nothing about its alarms."""
    counted = count_alarms(rounds_of(1, (0.06,) * 3, 4, pair_count=3), CPU)
    assert (counted.gate_count, counted.short_count) == (0, 4)
    assert (counted.low, counted.high) == (None, None)


def test_how_many_gates_it_takes() -> None:
    """299 gates without an alarm show 1 %, one fewer does not; alarms cost more of them."""
    for alarms, needed in ((0, 299), (1, 473)):
        assert gates_needed(alarms) == needed
        assert special.bdtr(alarms, needed, 0.01) <= 0.05 < special.bdtr(alarms, needed - 1, 0.01)


def test_exact_interval() -> None:
    """Clopper and Pearson: no alarm in 5 gates allows for 52 %."""
    assert exact_interval(0, 5) == pytest.approx((0.0, 1 - 0.025 ** (1 / 5)))
    low, high = exact_interval(3, 20)
    assert special.bdtrc(2, 20, low) == pytest.approx(0.025)
    assert special.bdtr(3, 20, high) == pytest.approx(0.025)


def test_resampling_finds_what_the_pairs_hold() -> None:
    """Quiet pairs alarm hardly ever and pass; without a pair there is nothing; the seed decides everything."""
    rounds = rounds_of(2, (0.02,) * 3, 6)
    found, again = (resample(rounds, THREE, {}, CPU, seed=9, suite_count=60) for _ in range(2))
    assert found == again
    assert found is not None
    assert found.pair_count == 36
    assert found.alarm_share <= 2 / 60
    assert found.passed_share >= 0.95
    assert resample((), THREE, {}, CPU, seed=9, suite_count=60) is None
    assert resample(rounds, (*THREE, ("other", "tpot_s_median")), {}, CPU, seed=9, suite_count=60) is None


def test_an_overconfident_prior_shows_in_the_resampling() -> None:
    """A prior that promises a tenth of the noise there is makes alarms, and the resampling counts them."""
    rounds = rounds_of(2, (0.10,) * 3, 8)
    sure = {key: VariancePrior(10.0, 2 * 0.01**2) for key in THREE}
    plain, fooled = (resample(rounds, THREE, each, CPU, seed=3, suite_count=80) for each in ({}, sure))
    assert plain is not None
    assert fooled is not None
    assert fooled.alarm_share > plain.alarm_share


# --- order --------------------------------------------------------------------------------------------------


def test_independent_values_lie_within_their_band() -> None:
    """The band holds 95 % of independent series, short rounds included, though their correlation is below 0."""
    generator = np.random.default_rng(6)
    found = [lag_one([generator.standard_normal(4) for _ in range(6)], seed=seed) for seed in range(200)]
    inside = [each.low <= each.correlation <= each.high for each in found]
    assert 0.90 <= np.mean(inside) <= 0.99
    assert np.mean([each.correlation for each in found]) == pytest.approx(-1 / 4, abs=0.04)
    assert np.mean([each.p_high < 0.05 for each in found]) <= 0.10


def test_dependent_values_lie_outside() -> None:
    """Values that climb in every round are correlated with the next one, those that alternate are the opposite."""
    climbing = lag_one([np.arange(8.0)] * 5, seed=1)
    alternating = lag_one([np.tile([1.0, -1.0], 4)] * 5, seed=1)
    assert climbing.correlation > climbing.high
    assert climbing.p_high < 0.01
    assert alternating.correlation < alternating.low
    assert alternating.p_low < 0.01
    assert lag_one([[1.0, 2.0]] * 5, seed=1) is None
    assert lag_one([[1.0, 1.0, 1.0]], seed=1) is None


def test_drift_is_the_common_slope() -> None:
    """A slope of 1 % a pair is found in rounds of different levels, and its p says so."""
    generator = np.random.default_rng(7)
    rounds: list[Values] = [
        level + 0.01 * np.arange(6) + 0.002 * generator.standard_normal(6) for level in (0.0, 1.0, -2.0)
    ]
    found = drift(rounds)
    assert found.per_step == pytest.approx(0.01, abs=0.001)
    assert found.df == 18 - 3 - 1
    assert found.p_two_sided < 1e-6
    assert drift([[1.0, 2.0]]) is None


def test_offset_of_rounds() -> None:
    """Independent pairs give a ratio around 1 with a uniform p; an offset of each round raises it."""
    generator = np.random.default_rng(8)
    quiet = [round_offset([generator.standard_normal(5) for _ in range(6)]) for _ in range(300)]
    assert np.mean([each.ratio for each in quiet]) == pytest.approx(24 / 22, abs=0.1)
    assert np.mean([each.p_high < 0.1 for each in quiet]) == pytest.approx(0.1, abs=0.05)
    apart = round_offset([3 * generator.standard_normal() + generator.standard_normal(5) for _ in range(6)])
    assert apart.p_high < 0.01


# --- one metric ---------------------------------------------------------------------------------------------


def test_the_margin_is_that_of_the_pooled_variance() -> None:
    """The supported margin is what the policy's most pairs resolve at the upper 80 % bound of the variance of D."""
    rounds = rounds_of(11, (0.03,) * 3, 5)
    found = metric_health(TPOT, rounds, (), CPU, primary=True, seed=1)
    differences = [
        np.log(item.candidate) - np.log(item.baseline) for each in rounds for item in each.pairs if item.key == TPOT
    ]
    pooled = sum(5 * each.var(ddof=1) for each in differences) / 25
    bound = variance_high(pooled, 25)
    assert found.pair_df == 25
    assert found.difference_sd == pytest.approx(math.sqrt(pooled))
    assert found.margin_supported == pytest.approx(math.expm1(detectable_log(bound, CPU.pair_count_max)))
    assert special.gammainc(25 / 2, 25 * pooled / bound / 2) == pytest.approx(0.2)
    assert found.components[0].unknown_because == "no windows"


def test_pairing_is_worth_what_the_arms_share() -> None:
    """A time that both arms share is in their correlation and not in D."""
    generator = np.random.default_rng(12)
    rounds = []
    for number in range(10):
        shared = 0.05 * generator.standard_normal(8)
        rounds.append(round_of({TPOT: shared + 0.02 * generator.standard_normal((2, 8))}, number))
    found = metric_health(TPOT, rounds, (), CPU, primary=True, seed=1)
    assert found.arm_correlation == pytest.approx(0.05**2 / (0.05**2 + 0.02**2), abs=0.07)
    assert found.difference_sd == pytest.approx(0.02 * math.sqrt(2), rel=0.15)
    assert found.trial_sd == pytest.approx(math.hypot(0.05, 0.02), rel=0.2)


def test_windows_give_components_and_the_best_number_of_repeats() -> None:
    """Components are recovered from windows; repeats follow from those of a pair and from the seconds they take."""
    generator = np.random.default_rng(14)
    windows = []
    for day in range(6):
        of_day = 0.06 * generator.standard_normal()
        for pair in range(6):
            of_pair = 0.03 * generator.standard_normal()
            for arm in range(2):
                level = of_day + of_pair + 0.01 * generator.standard_normal()
                windows += [
                    WindowReading(
                        system="build",
                        day=f"d{day}",
                        pair=f"{day}/{pair}",
                        deployment=f"{day}/{pair}/{arm}",
                        value=math.exp(level + 0.03 * generator.standard_normal()),
                        start_s=30.0,
                        duration_s=2.0,
                    )
                    for _ in range(4)
                ]
    found = metric_health(TPOT, rounds_of(1, (0.02,) * 3, 5), windows, CPU, primary=True, seed=1)
    for component, sd in zip(found.components, (0.06, math.hypot(0.03, 0.01), 0.03), strict=True):
        low, _, high = span(component)
        assert low <= sd**2 <= high
    assert found.trial_sd is not None
    _, day_variance, _ = span(found.components[0])
    assert found.day_apart_sd == pytest.approx(math.sqrt(2 * day_variance + 2 * found.trial_sd**2))
    best = repeats_best(30.0, 2.0, 0.01**2, 0.03**2)
    assert found.repeats is not None
    assert best / 2 <= found.repeats <= 2 * best
    one_day = metric_health(TPOT, (), windows[:48], CPU, primary=True, seed=1)
    assert one_day.components[0].unknown_because == "all rounds are of one day"
    assert one_day.day_apart_sd is None


def test_pair_df_needed_inverts_the_bound() -> None:
    """The df asked for bring the bound within the ratio, one fewer does not; a hopeless ratio asks for nothing."""
    for ratio in (1.05, 1.2, 1.5):
        df = pair_df_needed(ratio)
        assert df is not None
        assert variance_high(1.0, df) <= ratio**2 < variance_high(1.0, df - 1)
    assert pair_df_needed(1.0) is None
    assert pair_df_needed(1.0001) is None


def test_readings_without_a_logarithm_are_left_out() -> None:
    """A round with a reading of zero is no round of that metric; the others stand."""
    rounds = list(rounds_of(1, (0.02,) * 3, 5))
    broken = [
        PairedReadings(item.scenario, item.metric, (0.0, *item.baseline[1:]), item.candidate)
        if item.key == TPOT
        else item
        for item in rounds[0].pairs
    ]
    rounds[0] = AARound("r0", "d0", "build", tuple(broken), {})
    found = {each.key: each for each in judged(rounds).metrics}
    assert found[TPOT].round_count == 4
    assert found[THREE[0]].round_count == 5
    assert judged(rounds).counted.invalid_count == 1
    assert NO_PRIOR.df == 0


def test_series_of_one_suite_answer_together() -> None:
    """One that refutes decides, whatever its place; else one that supports; a stray one takes nothing from either."""
    yes, no, little = Support.SUPPORTED, Support.NOT_SUPPORTED, Support.NOT_ENOUGH
    assert together([]) is together([little, little]) is little
    assert together([yes, little]) is together([little, yes]) is yes
    assert together([yes, no]) is together([no, yes]) is together([little, no]) is no
