"""Rows of the error table about whole suites: the gate under both policies, a stored baseline, and the sign-off."""

from __future__ import annotations

from functools import partial

from checks.error_table import Figure, Figures, Promise, Row, Section, Simulate, at_least, at_most
from checks.gate import Key
from checks.policy import Policy
from checks.simulation import Noise, Rates, World, simulate_gate, simulate_stored
from checks.simulation_signoff import simulate_signoff, with_margin

HISTORY = 6  # past rounds
CPU_KEYS: tuple[Key, ...] = (
    ("offline", "output_tokens_per_s"),
    ("server", "tpot_s_median"),
    ("server", "ttft_s_median"),
)
GPU_KEYS: tuple[Key, ...] = tuple(
    (scenario, metric) for scenario in "ab" for metric in ("output_tokens_per_s", "tpot_s_median", "e2e_s_median")
)
CPU_CVS = {2: (0.02, 0.02, 0.05), 3: (0.03, 0.03, 0.07), 4: (0.04, 0.04, 0.08)}
EQUAL = (0.0, 0.0, 0.0)
GPU_CV = 0.01
SIGNOFF_METRIC = "tpot_s_median"

SELDOM_BLOCKED = at_most(Figure.REGRESSED, 0.01)
MOSTLY_PASSED = at_least(Figure.PASSED, 0.95)
SURELY_BLOCKED = at_least(Figure.REGRESSED, 0.99)
SELDOM_PASSED = at_most(Figure.PASSED, 0.025)
AT_MOST_8_PAIRS = at_most(Figure.PAIRS_MAX, 8)
AT_MOST_10_PAIRS = at_most(Figure.PAIRS_MAX, 10)


def gate_rows(cpu: Policy, gpu: Policy) -> tuple[Row, ...]:
    """Three primaries on a shared CPU host, six on a dedicated GPU, equal and worse, in every kind of noise."""
    return (*_cpu_rows(cpu), *_gpu_rows(gpu))


def stored_rows(cpu: Policy) -> tuple[Row, ...]:
    """One trial against a stored baseline, where days differ exactly as the CPU policy declares."""

    def row(name: str, baseline_count: int, tpot: float = 0.0, promises: tuple[Promise, ...] = ()) -> Row:
        world = World(CPU_KEYS, CPU_CVS[3], (0.0, tpot, 0.0))
        return Row(Section.STORED, f"stored, {name}", partial(_stored, world, cpu, baseline_count), promises)

    return (
        row("equal builds, 1 trial", 1, promises=(SELDOM_BLOCKED,)),
        row("equal builds, 5 trials", 5, promises=(SELDOM_BLOCKED,)),
        row("TPOT 30 % worse, 5 trials", 5, 0.30),
        row("TPOT 50 % worse, 5 trials", 5, 0.50),
        row("TPOT 100 % worse, 5 trials", 5, 1.0),
    )


def signoff_rows(gpu: Policy) -> tuple[Row, ...]:
    """One metric with a CV of 1 %, ten pairs, six past rounds of history: power and width at three margins."""

    def row(margin: float, worse: float = 0.0, *promises: Promise) -> Row:
        build = f"{worse * 100:.0f} % worse" if worse else "equal builds"
        name = f"sign-off, margin {margin * 100:.0f} %, {build}"
        return Row(Section.SIGNOFF, name, partial(_signoff, with_margin(gpu, margin), worse), promises)

    narrow = at_most(Figure.HALF_WIDTH, 0.0098)
    return (
        row(0.03, 0.0, narrow, at_least(Figure.PASSED, 0.995)),
        row(0.02, 0.0, narrow, at_least(Figure.PASSED, 0.975)),
        row(0.01, 0.0, narrow, at_least(Figure.PASSED, 0.50)),
        row(0.03, 0.03),
        row(0.02, 0.02),
        row(0.01, 0.01),
    )


def _cpu_rows(cpu: Policy) -> tuple[Row, ...]:
    def row(
        name: str,
        cv: int,
        *promises: Promise,
        effects: tuple[float, ...] = EQUAL,
        noise: Noise = Noise.NORMAL,
        history: int = 0,
    ) -> Row:
        world = World(CPU_KEYS, CPU_CVS[cv], effects, noise, history)
        return Row(Section.GATE, f"cpu, {name}", _gate(world, cpu), promises)

    return (
        row("equal builds, CV 2 %", 2, SELDOM_BLOCKED, MOSTLY_PASSED, AT_MOST_10_PAIRS),
        row("equal builds, CV 3 %", 3, SELDOM_BLOCKED, MOSTLY_PASSED, AT_MOST_10_PAIRS),
        row("equal builds, CV 4 %", 4, SELDOM_BLOCKED, MOSTLY_PASSED, AT_MOST_10_PAIRS),
        row("equal builds, CV 3 %, t3", 3, SELDOM_BLOCKED, noise=Noise.T3),
        row("equal builds, CV 3 %, drift", 3, SELDOM_BLOCKED, noise=Noise.DRIFT),
        row("equal builds, CV 3 %, outliers", 3, SELDOM_BLOCKED, noise=Noise.OUTLIER),
        row("equal builds, CV 3 %, bimodal", 3, SELDOM_BLOCKED, noise=Noise.BIMODAL),
        row("equal builds, CV 3 %, history", 3, SELDOM_BLOCKED, history=HISTORY),
        row("throughput 10 % worse, CV 3 %", 3, SELDOM_PASSED, effects=(0.10, 0.0, 0.0)),
        row("throughput 15 % worse, CV 3 %", 3, SURELY_BLOCKED, effects=(0.15, 0.0, 0.0)),
        row("throughput 15 % worse, CV 4 %", 4, SURELY_BLOCKED, effects=(0.15, 0.0, 0.0)),
        row("TPOT 15 % worse, CV 4 %", 4, SURELY_BLOCKED, effects=(0.0, 0.15, 0.0)),
        row("TPOT 100 % worse, CV 4 %", 4, SURELY_BLOCKED, effects=(0.0, 1.0, 0.0)),
    )


def _gpu_rows(gpu: Policy) -> tuple[Row, ...]:
    def row(
        name: str,
        *promises: Promise,
        worse: float = 0.0,
        noise: Noise = Noise.NORMAL,
        history: int = HISTORY,
        day_scale: float = 1.0,
    ) -> Row:
        effects = (worse, 0.0, 0.0, 0.0, 0.0, 0.0)
        world = World(GPU_KEYS, (GPU_CV,) * len(GPU_KEYS), effects, noise, history, day_scale)
        return Row(Section.GATE, f"gpu, {name}", _gate(world, gpu), (*promises, AT_MOST_8_PAIRS))

    five_pairs = at_most(Figure.PAIRS_MEAN, 5)
    return (
        row("equal builds", SELDOM_BLOCKED, MOSTLY_PASSED, five_pairs),
        row("equal builds, t3", SELDOM_BLOCKED, noise=Noise.T3),
        row("equal builds, drift", SELDOM_BLOCKED, noise=Noise.DRIFT),
        row("equal builds, outliers", SELDOM_BLOCKED, noise=Noise.OUTLIER),
        row("equal builds, bimodal", SELDOM_BLOCKED, noise=Noise.BIMODAL),
        row("equal builds, day 2 x as noisy", at_most(Figure.REGRESSED, 0.05), day_scale=2.0),
        row("equal builds, no history", SELDOM_BLOCKED, history=0),
        row("one metric 3 % worse", at_least(Figure.REGRESSED, 0.92), SELDOM_PASSED, five_pairs, worse=0.03),
        row("one metric 5 % worse", SURELY_BLOCKED, at_most(Figure.PAIRS_MEAN, 3.6), worse=0.05),
    )


def _gate(world: World, policy: Policy) -> Simulate:
    def simulate(seed: int, count: int) -> Figures:
        return _of_rates(simulate_gate(world, policy, seed=seed, suite_count=count))

    return simulate


def _stored(world: World, policy: Policy, baseline_count: int, seed: int, count: int) -> Figures:
    return _of_rates(simulate_stored(world, policy, baseline_count=baseline_count, seed=seed, suite_count=count))


def _of_rates(rates: Rates) -> Figures:
    return {
        Figure.REGRESSED: rates.regressed,
        Figure.PASSED: rates.passed,
        Figure.UNDECIDED: rates.inconclusive,
        Figure.PAIRS_MEAN: rates.pairs_mean,
        Figure.PAIRS_MAX: rates.pairs_max,
    }


def _signoff(policy: Policy, worse: float, seed: int, count: int) -> Figures:
    rates = simulate_signoff(
        policy,
        SIGNOFF_METRIC,
        cv=GPU_CV,
        effect=worse,
        history_rounds=HISTORY,
        seed=seed,
        suite_count=count,
    )
    return {
        Figure.REGRESSED: rates.regressed,
        Figure.PASSED: rates.passed,
        Figure.UNDECIDED: rates.inconclusive,
        Figure.HALF_WIDTH: rates.half_width,
        Figure.PAIRS_MEAN: rates.pair_counts[0] if len(rates.pair_counts) == 1 else float("nan"),
    }
