"""The rules that others use, so that their error rates can be measured on the same data as ours.

Readings are plain, positive and finite, and larger is worse: a throughput goes in as its inverse (time per token).
A pull request's rule gets two arms of shape (suites, metrics, runs) and says of every suite whether any metric is
flagged, shape (suites,). A nightly rule gets one reading per night, shape (series, nights), and says which nights
are flagged, same shape; a night with too little history is not flagged. Every rule here is one-sided: what got
faster is never flagged. All raise ValueError for readings of another kind.

Otava, which is more than a formula, is run from its own package: `redline/otava`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import special, stats

Readings: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

VLLM_NIGHTS = 7
VLLM_SIGMAS = 2.0
VLLM_WORSE_SHARE_MIN = 0.01
RUSTC_NIGHTS = 30
RUSTC_FENCE = 3.0
BENCHER_NIGHTS_MIN = 2
BENCHER_NIGHTS_MAX = 64
BENCHER_QUANTILE = 0.99


# --- pull requests ------------------------------------------------------------------------------------------


def one_run_against_stored(stored: Readings, candidate: Readings, *, worse_share: float) -> Flags:
    """One run of the candidate against one stored run: any metric more than `worse_share` worse, .05 is 5 %.

    What many projects do by hand and github-action-benchmark and CodSpeed do with larger shares (100 and 10 %).
    The stored run is usually of another day: whoever simulates that puts the day into the readings.
    """
    _check_arms(stored, candidate)
    if stored.shape[2] != 1:
        raise ValueError(f"expected one run per arm, found {stored.shape[2]}")
    return _any_metric(candidate[..., 0] > stored[..., 0] * (1 + worse_share))


def benchstat(baseline: Readings, candidate: Readings, *, alpha: float = 0.05) -> Flags:
    """Any metric whose two-sided Mann-Whitney p < `alpha` and whose median is worse; no correction for many metrics.

    p is exact; with ties it is the exact one of the midranks, where benchstat itself has a tie-corrected table.
    Source: golang.org/x/perf/benchmath, AssumeNothing; its documentation asks for 10 runs and interleaving.
    """
    _check_arms(baseline, candidate)
    p = stats.mannwhitneyu(candidate, baseline, alternative="two-sided", method="exact", axis=-1).pvalue
    return _any_metric((np.asarray(p) < alpha) & (np.median(candidate, axis=-1) > np.median(baseline, axis=-1)))


def welch(baseline: Readings, candidate: Readings, *, alpha: float = 0.05) -> Flags:
    """Any metric whose two-sided Welch p < `alpha` and whose mean is worse, so `alpha` / 2 towards worse.

    Two-sided because the tools that use it print that p (hyperfine's welch_ttest.py, criterion.rs, pyperf's t-test
    in spirit). Arms without any spread differ if their means do. Needs two runs. Source: Welch 1947.
    """
    _check_arms(baseline, candidate)
    count = baseline.shape[2]
    if count < 2:
        raise ValueError("expected two runs or more per arm, found 1")
    worse_by = candidate.mean(axis=-1) - baseline.mean(axis=-1)
    parts = np.stack((baseline.var(axis=-1, ddof=1), candidate.var(axis=-1, ddof=1))) / count
    variance = parts.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = variance**2 * (count - 1) / (parts**2).sum(axis=0)
        p = 2 * special.stdtr(df, -np.abs(worse_by) / np.sqrt(variance))
    return _any_metric(np.where(variance > 0, p < alpha, worse_by != 0) & (worse_by > 0))


# --- nightlies ----------------------------------------------------------------------------------------------


def previous_night(series: Readings, *, worse_share: float) -> Flags:
    """More than `worse_share` worse than the night before, .05 is 5 %."""
    _check_series(series)
    flags = np.zeros(series.shape, dtype=np.bool_)
    flags[:, 1:] = series[:, 1:] > series[:, :-1] * (1 + worse_share)
    return flags


def vllm_nightly(series: Readings) -> Flags:
    """At least 2 sigma and at least 1 % worse than the mean of the last 7 nights, sigma their population one.

    vLLM's own report also judges with fewer nights; here the first 7 nights are never flagged. A flagged night
    stays in the mean of the nights that follow. Source: vllm-project/ci-infra, claude-skills/vllm-nightly-perf.
    """
    _check_series(series)
    flags = np.zeros(series.shape, dtype=np.bool_)
    if series.shape[1] > VLLM_NIGHTS:
        past = sliding_window_view(series[:, :-1], VLLM_NIGHTS, axis=1)
        mean, tonight = past.mean(axis=-1), series[:, VLLM_NIGHTS:]
        flags[:, VLLM_NIGHTS:] = (tonight - mean >= VLLM_SIGMAS * past.std(axis=-1)) & (
            tonight - mean >= VLLM_WORSE_SHARE_MIN * mean
        )
    return flags


def rustc_perf(series: Readings) -> Flags:
    """Worse than the night before by Q3 + 3 IQR or more of the absolute relative changes in the last 30 nights.

    This is rustc-perf's "significant". Its "relevant", which is what it alerts on, asks for a magnitude as well and
    flags less; its .2 % for less than 30 values is left out, as noise of 1 % would make every other night a flag.
    The quartiles are its own: medians of the 14 smallest and the 14 largest of the 29 changes.
    Source: rust-lang/rustc-perf, site/src/comparison.rs, HistoricalData.
    """
    _check_series(series)
    flags = np.zeros(series.shape, dtype=np.bool_)
    if series.shape[1] > RUSTC_NIGHTS:
        relative = np.diff(series, axis=1) / series[:, :-1]
        changes = np.sort(sliding_window_view(np.abs(relative[:, :-1]), RUSTC_NIGHTS - 1, axis=1), axis=-1)
        half = (RUSTC_NIGHTS - 1) // 2
        first, third = np.median(changes[..., :half], axis=-1), np.median(changes[..., -half:], axis=-1)
        flags[:, RUSTC_NIGHTS:] = relative[:, RUSTC_NIGHTS - 1 :] >= third + RUSTC_FENCE * (third - first)
        flags[:, RUSTC_NIGHTS:] &= relative[:, RUSTC_NIGHTS - 1 :] > 0
    return flags


def bencher(series: Readings) -> Flags:
    """Above the .99 t prediction limit of the last 64 nights (at least 2): mean + t s sqrt(1 + 1/n).

    A history without any spread flags nothing, as in Bencher. Source: bencherdev/bencher, lib/bencher_boundary
    since v0.6.3 (pull request 797; before, the standard deviation was divided by n and the root was missing).
    """
    _check_series(series)
    flags = np.zeros(series.shape, dtype=np.bool_)
    for night in range(BENCHER_NIGHTS_MIN, series.shape[1]):
        past = series[:, max(0, night - BENCHER_NIGHTS_MAX) : night]
        count = past.shape[1]
        spread = past.std(axis=1, ddof=1)
        reach = float(special.stdtrit(count - 1, BENCHER_QUANTILE)) * np.sqrt(1 + 1 / count)
        flags[:, night] = (spread > 0) & (series[:, night] > past.mean(axis=1) + reach * spread)
    return flags


# --- all of them --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SuiteRule:
    """A pull request's rule: `flags(baseline, candidate)` with `run_count` runs of each arm."""

    name: str
    run_count: int
    flags: Callable[[Readings, Readings], Flags]


@dataclass(frozen=True, slots=True)
class NightlyRule:
    """A nightly rule: `flags(series)`; nothing is flagged in the first `nights_before` nights."""

    name: str
    nights_before: int
    flags: Callable[[Readings], Flags]


SUITE_RULES = (
    SuiteRule("one run against a stored one, any > 5 %", 1, partial(one_run_against_stored, worse_share=0.05)),
    SuiteRule("one run against a stored one, any > 10 %", 1, partial(one_run_against_stored, worse_share=0.10)),
    SuiteRule("benchstat, 10 interleaved runs", 10, benchstat),
    SuiteRule("Welch, 5 interleaved runs", 5, welch),
)

NIGHTLY_RULES = (
    NightlyRule("5 % worse than the night before", 1, partial(previous_night, worse_share=0.05)),
    NightlyRule("10 % worse than the night before", 1, partial(previous_night, worse_share=0.10)),
    NightlyRule("vLLM nightly, 2 sigma of 7 nights and 1 %", VLLM_NIGHTS, vllm_nightly),
    NightlyRule("rustc-perf fence, 30 nights", RUSTC_NIGHTS, rustc_perf),
    NightlyRule("Bencher t-test .99, 64 nights", BENCHER_NIGHTS_MIN, bencher),
)


def _any_metric(flagged: NDArray[np.bool_]) -> Flags:
    return np.asarray(flagged.any(axis=1))


def _check_arms(baseline: Readings, candidate: Readings) -> None:
    if baseline.ndim != 3 or baseline.shape != candidate.shape or 0 in baseline.shape[1:]:
        raise ValueError(
            f"arms must have one shape (suites, metrics, runs), found {baseline.shape} and {candidate.shape}"
        )
    for arm in (baseline, candidate):
        _check_values(arm)


def _check_series(series: Readings) -> None:
    if series.ndim != 2:
        raise ValueError(f"expected shape (series, nights), found {series.shape}")
    _check_values(series)


def _check_values(values: Readings) -> None:
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError("every reading must be finite and above 0")
