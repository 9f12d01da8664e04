"""Each rule against a plain transcription of its source, on random data, and against what is known of its rate."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from scipy import stats

from checks.other_rules import (
    NIGHTLY_RULES,
    SUITE_RULES,
    bencher,
    benchstat,
    one_run_against_stored,
    previous_night,
    rustc_perf,
    vllm_nightly,
    welch,
)

SEED = 20261121
NIGHTS = 100


def quiet(series_count: int, cv: float = 0.02, nights: int = NIGHTS) -> np.ndarray:
    """Independent normal noise around 1, shape (series, nights)."""
    return np.exp(cv * np.random.default_rng(SEED).standard_normal((series_count, nights)))


def arms(run_count: int, suite_count: int = 40, worse: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two arms of six metrics with a CV of 1 %; the candidate's first metric is `worse`."""
    generator = np.random.default_rng(SEED)
    baseline, candidate = np.exp(0.01 * generator.standard_normal((2, suite_count, 6, run_count)))
    candidate[:, 0] *= 1 + worse
    return baseline, candidate


# --- nightlies ----------------------------------------------------------------------------------------------


def vllm_says(past: list[float], tonight: float) -> bool:
    """The nightly report's rule, one night."""
    if len(past) < 7:
        return False
    mean, sigma = statistics.fmean(past[-7:]), statistics.pstdev(past[-7:])
    return tonight >= mean + 2 * sigma and tonight / mean - 1 >= 0.01


def rustc_says(past: list[float], tonight: float) -> bool:
    """rustc-perf's HistoricalData, line by line, on the last 30 values."""
    data = past[-30:]
    if len(data) < 30:
        return False
    changes = sorted(abs(before - after) / before for before, after in itertools.pairwise(data))
    middle = len(changes) // 2
    q1, q3 = statistics.median(changes[:middle]), statistics.median(changes[middle + 1 :])
    change = (tonight - data[-1]) / data[-1]
    return abs(change) >= q3 + (q3 - q1) * 3.0 and tonight > data[-1]


def bencher_says(past: list[float], tonight: float) -> bool:
    """Bencher's t-test with its recommended options."""
    data = past[-64:]
    if len(data) < 2:
        return False
    reach = stats.t.ppf(0.99, len(data) - 1) * statistics.stdev(data) * (1 + 1 / len(data)) ** 0.5
    return tonight > statistics.fmean(data) + reach


@pytest.mark.parametrize(
    ("rule", "says"), [(vllm_nightly, vllm_says), (rustc_perf, rustc_says), (bencher, bencher_says)]
)
def test_a_nightly_rule_is_its_source(rule, says):
    """On noise with steps up and down, every night is flagged exactly when the transcription flags it."""
    series = quiet(30)
    series[:, 50:] *= 1.04
    series[:, 80:] /= 1.06
    expected = [[says(list(row[:night]), row[night]) for night in range(NIGHTS)] for row in series]
    flags = rule(series)
    assert flags.tolist() == expected
    assert 0 < flags.mean() < 0.2


def test_the_night_before_decides_the_fixed_rule():
    """4.9 % is nothing, 5.1 % is flagged once, and the new level is not flagged again; falling never is."""
    series = np.array([[100.0, 104.9, 104.9, 110.3, 110.3, 80.0]])
    assert previous_night(series, worse_share=0.05).tolist() == [[False, False, False, True, False, False]]


@pytest.mark.parametrize("rule", NIGHTLY_RULES, ids=lambda rule: rule.name)
def test_a_nightly_rule_knows_no_future(rule):
    """What is said of a night does not change when nights are added, nor with the unit of the readings."""
    series = quiet(200)
    series[:, 60:] *= 1.05
    flags = rule.flags(series)
    for nights in (0, 1, 2, 8, 31, 61, 99):
        assert (rule.flags(series[:, :nights]) == flags[:, :nights]).all()
    assert (rule.flags(1000 * series) == flags).all()


@pytest.mark.parametrize("rule", NIGHTLY_RULES, ids=lambda rule: rule.name)
def test_a_nightly_rule_waits_for_its_history_and_watches_one_side(rule):
    """The first nights are never flagged however bad; after them +30 % is flagged and -30 % is not."""
    early, late = quiet(50), quiet(50)
    early[:, : rule.nights_before] = 2.0 ** np.arange(rule.nights_before)
    assert not rule.flags(early)[:, : rule.nights_before].any()
    late[:, 70] *= 1.3
    assert rule.flags(late)[:, 70].all()
    late[:, 70] /= 1.3**2
    assert not rule.flags(late)[:, 70].any()


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [(vllm_nightly, 6.0, 7.6), (bencher, 0.8, 1.4), (rustc_perf, 0.02, 0.4)],
)
def test_quiet_nights_are_flagged_as_often_as_known(rule, low, high):
    """Flags per 100 quiet nights, CV 2 %: vLLM's rule near 6.8, Bencher near 1.1, rustc-perf near .15."""
    flags = rule(quiet(600, nights=130))[:, 30:]
    assert low < 100 * flags.mean() < high


# --- pull requests ------------------------------------------------------------------------------------------


def test_benchstat_is_mann_whitney_and_the_median():
    """Every suite is flagged exactly when scipy's exact test and the medians flag one of its metrics."""
    baseline, candidate = arms(10)
    expected = [
        any(
            stats.mannwhitneyu(after, before, method="exact").pvalue < 0.05 and np.median(after) > np.median(before)
            for before, after in zip(*suite, strict=True)
        )
        for suite in zip(baseline, candidate, strict=True)
    ]
    flags = benchstat(baseline, candidate)
    assert flags.tolist() == expected
    assert 0 < flags.sum() < len(expected)


def test_benchstat_flags_from_the_tabled_critical_value():
    """With 10 runs each, two-sided 5 %: U = 23 is significant, 24 is not (Mann and Whitney's table)."""
    candidate = 10.0 + np.arange(10)
    for wins_lost, significant in ((23, True), (24, False)):
        # The first two baseline runs beat 10 each of the candidate's, the third the rest; seven are below all.
        above = [10.0, 10.0, wins_lost - 20.0]
        baseline = np.concatenate((9.5 + np.array(above), np.linspace(1.0, 2.0, 7)))
        flags = benchstat(baseline[None, None], candidate[None, None])
        assert flags.tolist() == [significant]


def test_welch_is_welch():
    """Every suite is flagged exactly when scipy's Welch test and the means flag one of its metrics."""
    baseline, candidate = arms(5)
    p = stats.ttest_ind(candidate, baseline, axis=-1, equal_var=False).pvalue
    worse = candidate.mean(axis=-1) > baseline.mean(axis=-1)
    flags = welch(baseline, candidate)
    assert flags.tolist() == ((p < 0.05) & worse).any(axis=1).tolist()
    assert 0 < flags.sum() < len(flags)


def test_arms_without_spread_differ_when_their_means_do():
    """Runs that all read the same: worse is flagged, equal and better are not."""
    flat = np.ones((3, 1, 5))
    assert welch(flat, flat * np.array([1.01, 1.0, 0.99])[:, None, None]).tolist() == [True, False, False]
    assert benchstat(flat, flat).tolist() == [False] * 3


def test_one_metric_over_the_limit_blocks():
    """The one-run rule looks at every metric, towards worse only."""
    stored = np.ones((3, 6, 1))
    candidate = stored.copy()
    candidate[0, 5], candidate[1, 0], candidate[2, 3] = 1.051, 1.049, 0.5
    assert one_run_against_stored(stored, candidate, worse_share=0.05).tolist() == [True, False, False]
    assert not one_run_against_stored(stored, candidate, worse_share=0.10).any()


@pytest.mark.parametrize("rule", SUITE_RULES, ids=lambda rule: rule.name)
def test_a_suite_rule_finds_what_is_plain_and_not_what_is_better(rule):
    """One metric 20 % worse is flagged in every suite; all metrics 20 % better never."""
    assert rule.flags(*arms(rule.run_count, worse=0.2)).all()
    baseline, candidate = arms(rule.run_count)
    assert not rule.flags(baseline, candidate / 1.2).any()


@pytest.mark.parametrize(("rule", "low", "high"), [(benchstat, 0.10, 0.145), (welch, 0.105, 0.155)])
def test_six_uncorrected_metrics_block_quiet_suites(rule, low, high):
    """Independent metrics of equal builds: about 12 % of suites are blocked by benchstat, 13 % by Welch."""
    run_count = 10 if rule is benchstat else 5
    assert low < rule(*arms(run_count, suite_count=4000)).mean() < high


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_readings_that_are_none_are_refused(bad):
    """A reading that is missing, infinite, zero or negative raises in every rule."""
    for nightly in NIGHTLY_RULES:
        series = quiet(2)
        series[1, 3] = bad
        with pytest.raises(ValueError, match="finite and above 0"):
            nightly.flags(series)
    for rule in SUITE_RULES:
        baseline, candidate = arms(rule.run_count)
        candidate[0, 0, 0] = bad
        with pytest.raises(ValueError, match="finite and above 0"):
            rule.flags(baseline, candidate)


def test_shapes_that_do_not_fit_are_refused():
    """Arms of different shapes, several runs where one is compared, one where two are needed, a flat series."""
    one, five = arms(1), arms(5)
    with pytest.raises(ValueError, match="one shape"):
        welch(one[0], five[1])
    with pytest.raises(ValueError, match="one shape"):
        benchstat(one[0][:, :0], one[1][:, :0])
    with pytest.raises(ValueError, match="one run per arm"):
        one_run_against_stored(*five, worse_share=0.05)
    with pytest.raises(ValueError, match="two runs or more"):
        welch(*one)
    with pytest.raises(ValueError, match=r"\(series, nights\)"):
        bencher(np.ones(10))
