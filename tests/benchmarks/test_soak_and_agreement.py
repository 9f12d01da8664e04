"""The verdicts of the soak and of the comparison with vLLM's own client."""

import numpy as np
import pytest

from benchmarks.load.accuracy import Spread
from benchmarks.load.agreement import METRICS, difference, prompts_of
from benchmarks.load.report import from_stamps
from benchmarks.load.soak import Minute, judge


def minutes(memory_mb: list[float], p99_ms: list[float]) -> list[Minute]:
    """Minutes of these memories and errors."""
    pairs = zip(memory_mb, p99_ms, strict=True)
    return [Minute(n, int(mb * 1e6), Spread(ms / 4, ms, ms * 2, 1000), 0) for n, (mb, ms) in enumerate(pairs)]


def test_a_steady_engine_is_flat():
    """Noise of a percent and a first minute that is still growing are no growth."""
    verdict = judge(minutes([60, 80, 80.2, 79.9, 80.1, 80.0], [0.02, 0.021, 0.019, 0.02, 0.022, 0.02]))
    assert verdict.memory_flat
    assert verdict.error_same


def test_a_leak_is_seen():
    """A megabyte a minute on eighty is growth."""
    verdict = judge(minutes([80 + number for number in range(10)], [0.02] * 10))
    assert not verdict.memory_flat
    assert verdict.memory_growth_share == pytest.approx(8 / 85)


def test_worsening_stamps_are_seen():
    """An error that grows from 0.1 to 0.4 ms is not the same."""
    verdict = judge(minutes([80] * 6, [0.1, 0.1, 0.2, 0.3, 0.4, 0.4]))
    assert not verdict.error_same
    assert verdict.first_p99_ms == pytest.approx(0.1)
    assert verdict.last_p99_ms == pytest.approx(0.4)


def test_two_minutes_are_no_soak():
    """A trend needs three."""
    with pytest.raises(ValueError, match="three minutes"):
        judge(minutes([80, 80], [0.1, 0.1]))


def test_noise_is_no_difference():
    """Ratios that scatter around one: the interval holds zero."""
    found = difference([100, 104, 98, 101], [101, 100, 102, 100])
    assert not found.beyond_noise
    assert found.low < 0 < found.high


def test_a_constant_offset_is_a_difference():
    """Five percent in every pair, whatever the pairs have in common."""
    theirs = [100.0, 140.0, 90.0, 120.0]
    found = difference([value * 1.05 + noise for value, noise in zip(theirs, (0.1, -0.1, 0.1, 0), strict=True)], theirs)
    assert found.beyond_noise
    assert found.share == pytest.approx(0.05, abs=0.002)


def test_one_repeat_has_no_noise():
    """Nothing can be said of a single pair."""
    with pytest.raises(ValueError, match="two paired"):
        difference([1.0], [1.0])


def test_both_clients_figures_come_from_one_formula():
    """Two requests, sent at 0 and 100 ms, chunks after 50 ms and then every 10: worked by hand."""
    made = from_stamps(
        keys=["0", "1"],
        due_ns=np.array([0, 100_000_000]),
        send_ns=np.array([0, 100_000_000]),
        chunk_ns=[np.array([50, 60, 70]) * 1_000_000, np.array([150, 160, 170]) * 1_000_000],
        failed_count=0,
    )
    figures = {metric.name: metric.of(made) * metric.scale for metric in METRICS}
    assert figures["throughput"] == pytest.approx(6 / 0.17)
    assert figures["TTFT p50"] == pytest.approx(50.0)
    assert figures["TPOT p99"] == pytest.approx(10.0)


def test_prompts_are_new_in_every_repeat():
    """The same for one seed, others for another: the prefix cache must not help."""
    assert prompts_of(5, 8, 1) == prompts_of(5, 8, 1)
    assert not set(prompts_of(5, 8, 1)) & set(prompts_of(5, 8, 2))
