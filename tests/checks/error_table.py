"""The error table of docs/method.md: `python -m tests.checks.error_table [suites]` prints it anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from checks.policy import Policy
from checks.simulation import Noise, Rates, World, simulate_gate, simulate_stored
from tests.checks.policies import CPU, GPU, SIX, THREE

SEED = 20261121
SUITES = 2000
HISTORY = 6  # past rounds
EQUAL = (0.0, 0.0, 0.0)
EQUAL_SIX = (0.0,) * 6
CVS = {2: (0.02, 0.02, 0.05), 3: (0.03, 0.03, 0.07), 4: (0.04, 0.04, 0.08)}

Simulate = Callable[..., Rates]


def cpu(cv: int, effects: tuple[float, ...] = EQUAL, noise: Noise = Noise.NORMAL, history: int = 0) -> Simulate:
    """Three primaries (throughput, TPOT, TTFT) on a CPU host."""
    return partial(simulate_gate, World(THREE, CVS[cv], effects, noise, history), CPU)


def gpu(first: float = 0.0, noise: Noise = Noise.NORMAL, history: int = HISTORY, day: float = 1.0) -> Simulate:
    """Six primaries with a CV of 1 %; the first has an effect."""
    return partial(simulate_gate, World(SIX, (0.01,) * 6, (first, *EQUAL_SIX[1:]), noise, history, day), GPU)


def stored(baseline_count: int, effects: tuple[float, ...] = EQUAL, policy: Policy = CPU) -> Simulate:
    """One trial against a stored baseline of so many trials."""
    return partial(simulate_stored, World(THREE, CVS[3], effects), policy, baseline_count=baseline_count)


ROWS: dict[str, Simulate] = {
    "cpu, equal builds, CV 2 %": cpu(2),
    "cpu, equal builds, CV 3 %": cpu(3),
    "cpu, equal builds, CV 4 %": cpu(4),
    "cpu, equal builds, CV 3 %, t3": cpu(3, noise=Noise.T3),
    "cpu, equal builds, CV 3 %, drift": cpu(3, noise=Noise.DRIFT),
    "cpu, equal builds, CV 3 %, outliers": cpu(3, noise=Noise.OUTLIER),
    "cpu, equal builds, CV 3 %, bimodal": cpu(3, noise=Noise.BIMODAL),
    "cpu, equal builds, CV 3 %, history": cpu(3, history=HISTORY),
    "cpu, throughput 10 % worse, CV 3 %": cpu(3, (0.10, 0.0, 0.0)),
    "cpu, throughput 15 % worse, CV 3 %": cpu(3, (0.15, 0.0, 0.0)),
    "cpu, throughput 15 % worse, CV 4 %": cpu(4, (0.15, 0.0, 0.0)),
    "cpu, TPOT 15 % worse, CV 4 %": cpu(4, (0.0, 0.15, 0.0)),
    "cpu, TPOT 100 % worse, CV 4 %": cpu(4, (0.0, 1.0, 0.0)),
    "gpu, equal builds": gpu(),
    "gpu, equal builds, t3": gpu(noise=Noise.T3),
    "gpu, equal builds, drift": gpu(noise=Noise.DRIFT),
    "gpu, equal builds, outliers": gpu(noise=Noise.OUTLIER),
    "gpu, equal builds, bimodal": gpu(noise=Noise.BIMODAL),
    "gpu, equal builds, day 2 x as noisy": gpu(day=2.0),
    "gpu, equal builds, no history": gpu(history=0),
    "gpu, one metric 3 % worse": gpu(0.03),
    "gpu, one metric 5 % worse": gpu(0.05),
    "stored, equal builds, 1 trial": stored(1),
    "stored, equal builds, 5 trials": stored(5),
    "stored, TPOT 30 % worse, 5 trials": stored(5, (0.0, 0.30, 0.0)),
    "stored, TPOT 50 % worse, 5 trials": stored(5, (0.0, 0.50, 0.0)),
    "stored, TPOT 100 % worse, 5 trials": stored(5, (0.0, 1.0, 0.0)),
}


def row(name: str, rates: Rates) -> str:
    """One line of the table: shares in percent, pairs."""
    shares = " | ".join(f"{share * 100:.1f}" for share in (rates.regressed, rates.passed, rates.inconclusive))
    return f"| {name} | {shares} | {rates.pairs_mean:.1f} | {rates.pairs_max} |"


if __name__ == "__main__":
    suite_count = int(sys.argv[1]) if len(sys.argv) > 1 else SUITES
    for name, simulate in ROWS.items():
        print(row(name, simulate(seed=SEED, suite_count=suite_count)), flush=True)
