"""Due times: a function of the scenario, ascending, and of the distribution they are called after."""

from __future__ import annotations

import hashlib
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from redline import content
from redline.load import loadgen
from redline.load.arrivals import offsets_ns, schedule_ns
from redline.model import Arrivals, Concurrency, Offline, Scenario, Server, SingleStream
from redline.units import NS_PER_S

ROOT = Path(__file__).parents[2]
SCENARIO = content.scenario(ROOT / "scenarios" / "server-short.toml")
MANY = 20_000
SAME_INSTANT: tuple[Arrivals, ...] = (Offline(8), Concurrency(8), SingleStream())
RANDOM_PROCESSES: tuple[Server, ...] = (
    Server(40.0),
    Server(40.0, "gamma", 1.0),
    Server(40.0, "gamma", 0.25),
    Server(40.0, "gamma", 4.0),
    Server(40.0, "loadgen"),
)
RATES_PER_S = st.floats(1e-3, 1e5)
SHAPES = st.floats(1e-2, 1e3)
ARRIVALS: st.SearchStrategy[Arrivals] = st.one_of(
    st.sampled_from(SAME_INSTANT),
    st.builds(Server, RATES_PER_S, st.sampled_from(["poisson", "constant", "loadgen"])),
    st.builds(Server, RATES_PER_S, st.just("gamma"), SHAPES),
)


def made(arrivals: Arrivals, request_count: int, seed: int = 5) -> tuple[int, ...]:
    """A schedule of a seed."""
    return schedule_ns(arrivals, request_count, random.Random(seed), loadgen_seed=seed)


def gaps_s(due_ns: Sequence[int]) -> list[float]:
    """Seconds between due times, the wait for the first one left out (LoadGen has none)."""
    return [(later - earlier) / NS_PER_S for earlier, later in pairwise(due_ns)]


def digest(numbers: Sequence[int]) -> str:
    """SHA-256 of the numbers in decimal, with commas."""
    return hashlib.sha256(",".join(map(str, numbers)).encode()).hexdigest()


# --- identity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrivals", "first", "sha256"),
    [
        (
            Server(10.0),
            (39131484, 55483330, 160732892),
            "f8c3d9eae2d87242524ca6b477a728f8ffcd74dd42189bb688e3d5f00764dec0",
        ),
        (
            Server(10.0, "gamma", 0.25),
            (6254401, 108360501, 155261197),
            "8a8fd9ce4590c1a3e691d7551c2b838c4c157eeff44521f495ed29b5831a417f",
        ),
    ],
)
def test_schedules_are_the_ones_that_results_were_stored_with(
    arrivals: Server, first: tuple[int, ...], sha256: str
) -> None:
    """Scenario hashes are made of due times: a changed schedule orphans every stored result and baseline."""
    due_ns = made(arrivals, 5000, seed=7)
    assert due_ns[:3] == first
    assert digest(due_ns) == sha256


def test_a_scenarios_schedule_is_its_own() -> None:
    """The shipped server scenario has the due times it always had; another seed has others."""
    twelve_per_s = replace(SCENARIO, arrivals=Server(12.0), request_count=24, seed=20240402)
    assert offsets_ns(twelve_per_s)[:4] == (65150707, 325073588, 384632784, 468767428)
    assert digest(offsets_ns(twelve_per_s)) == "05d5abf01f850f11fdedd6f66fdf5b1a5a72c044a39b158e449686ecf9a77840"
    assert offsets_ns(replace(twelve_per_s, seed=1)) != offsets_ns(twelve_per_s)


def test_process_loadgen_is_loadgens_schedule_of_the_scenarios_seed() -> None:
    """The scenario's seed is schedule_rng_seed, and only its low 32 bits count."""

    def of_seed(seed: int) -> Scenario:
        return replace(SCENARIO, arrivals=Server(25.0, "loadgen"), request_count=300, seed=seed)

    due_ns = offsets_ns(of_seed(2085463073848966840))
    assert due_ns == loadgen.server_offsets_ns(300, 25.0, 2085463073848966840)
    assert due_ns == offsets_ns(of_seed(2085463073848966840 % 2**32))
    assert due_ns != offsets_ns(of_seed(2085463073848966841))


def test_process_loadgen_refuses_to_guess_its_seed() -> None:
    """Without LoadGen's seed there is an error, not another schedule."""
    with pytest.raises(ValueError, match="loadgen_seed"):
        schedule_ns(Server(10.0, "loadgen"), 3, random.Random(1))


# --- shape --------------------------------------------------------------------------------------------------


@given(ARRIVALS, st.integers(0, 200), st.integers(0, 2**63 - 1))
def test_due_times_ascend_from_zero_or_later(arrivals: Arrivals, request_count: int, seed: int) -> None:
    """One due time a request, none negative, none before the one in front of it; the same seed, the same times."""
    due_ns = made(arrivals, request_count, seed)
    assert len(due_ns) == request_count
    assert list(due_ns) == sorted(due_ns)
    assert all(due >= 0 for due in due_ns)
    assert {type(due) for due in due_ns} <= {int}
    assert due_ns == made(arrivals, request_count, seed)


@given(ARRIVALS, st.integers(0, 100), st.integers(0, 100))
def test_a_longer_schedule_begins_with_the_shorter_one(arrivals: Arrivals, count: int, more: int) -> None:
    """Raising request_count appends: nothing is stretched to an end, as vLLM bench does."""
    assert made(arrivals, count + more)[:count] == made(arrivals, count)


@pytest.mark.parametrize("arrivals", SAME_INSTANT, ids=lambda arrivals: arrivals.kind)
def test_what_waits_for_its_turn_is_due_at_once(arrivals: Arrivals) -> None:
    """Offline and the closed loops hold no request back by the clock."""
    assert made(arrivals, 4) == (0, 0, 0, 0)


def test_constant_gaps_do_not_drift() -> None:
    """Request k is due at k / rate to the nearest nanosecond, however many came before."""
    due_ns = made(Server(3.0, "constant"), 300_001)
    assert due_ns[:4] == (0, 333333333, 666666667, NS_PER_S)
    assert due_ns[-1] == 100_000 * NS_PER_S


# --- distribution -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrivals", RANDOM_PROCESSES, ids=lambda server: f"{server.process} {server.burstiness}")
def test_gaps_have_the_stated_mean_and_spread(arrivals: Server) -> None:
    """Mean 1 / rate and coefficient of variation 1 / sqrt(burstiness), each within four standard errors.

    Source: for n gamma gaps of shape k the mean's relative standard error is 1 / sqrt(k n). That of the
    coefficient of variation is sqrt((1 + k) / (2 k n)): the delta method with gamma's first four moments.
    """
    shape = arrivals.burstiness
    gaps = gaps_s(made(arrivals, MANY + 1))
    mean = statistics.fmean(gaps)
    assert mean * arrivals.rate_per_s == pytest.approx(1.0, abs=4 / math.sqrt(shape * MANY))
    variation = statistics.pstdev(gaps) / mean
    error = math.sqrt((1 + shape) / (2 * shape * MANY))
    assert variation * math.sqrt(shape) == pytest.approx(1.0, abs=4 * error)


@pytest.mark.parametrize("arrivals", RANDOM_PROCESSES, ids=lambda server: f"{server.process} {server.burstiness}")
def test_gaps_have_the_stated_distribution(arrivals: Server) -> None:
    """Kolmogorov-Smirnov against the exact gamma law; the seed is fixed, so the outcome is."""
    shape = arrivals.burstiness
    gaps = gaps_s(made(arrivals, MANY + 1))
    assert stats.kstest(gaps, stats.gamma(shape, scale=1 / (arrivals.rate_per_s * shape)).cdf).pvalue > 0.001


@pytest.mark.parametrize("arrivals", RANDOM_PROCESSES, ids=lambda server: f"{server.process} {server.burstiness}")
def test_gaps_know_nothing_of_each_other(arrivals: Server) -> None:
    """The correlation of neighbouring gaps is within four standard errors of none."""
    gaps = gaps_s(made(arrivals, MANY + 1))
    assert abs(statistics.correlation(gaps[:-1], gaps[1:])) < 4 / math.sqrt(MANY)


def test_a_poisson_count_scatters_like_its_mean() -> None:
    """Arrivals per second have variance equal to their mean; burstier gaps have more, smoother ones less."""

    def dispersion(arrivals: Server) -> float:
        seconds = [due // NS_PER_S for due in made(arrivals, MANY)]
        counts = [seconds.count(second) for second in range(seconds[-1])]
        return statistics.pvariance(counts) / statistics.fmean(counts)

    poisson = dispersion(Server(40.0))
    # 500 windows: the ratio's standard error is sqrt(2 / 500).
    assert poisson == pytest.approx(1.0, abs=4 * math.sqrt(2 / 500))
    assert dispersion(Server(40.0, "gamma", 0.25)) > 2 * poisson
    assert dispersion(Server(40.0, "gamma", 4.0)) < poisson / 2
