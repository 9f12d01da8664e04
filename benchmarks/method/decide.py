"""How long Redline's decisions take, without any measuring: `python -m benchmarks.method.decide`.

One gate (six primary and ten descriptive metrics, 8 pairs, with history), once with nothing computed before and once
again, and every look of it one after the other; and a year of nights of 200 series, each judged night by night, as it
would have been, their confirming gates included. Imports are not counted. Figures are CPU time of this process, which
is the time that passes on a machine that does nothing else. The exit status is 1 if the median misses a target.
"""

# ruff: noqa: T201  # a command of its own

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from checks.boundaries import bounds
from checks.gate import Key, PairedReadings, SuiteState, judge_suite, suite_pair_limit
from checks.policy import Policy
from checks.prior import VariancePrior
from checks.simulation_nightly import NightWorld, Truth, simulate_nightly
from redline.content import load

POLICIES = Path(__file__).resolve().parents[2] / "checks" / "policies"
SEED = 20261121
CV = 0.01  # of one trial
PRIOR = VariancePrior(7.5, 0.0007)  # noisy enough that the gate may take all 8 pairs
PRIMARIES = ("output_tokens_per_s", "tpot_s_median", "e2e_s_median")
DESCRIPTIVES = ("e2e_s_p99", "ttft_s_p99", "tpot_s_p99", "itl_s_p99")
DESCRIPTIVE_COUNT = 10
GATE_TARGET_S = 0.050
NIGHTLY_TARGET_S = 20.0
NIGHTS = 365
SERIES = 200
# What becomes of the series, as shares: most stay quiet, some step with the build or with the machine, some creep.
LIVES = (
    (0.85, Truth.QUIET, 0.0),
    (0.05, Truth.BUILD, 0.03),
    (0.05, Truth.ENVIRONMENT, 0.05),
    (0.05, Truth.CREEP, 0.06),
)


@dataclass(frozen=True, slots=True)
class Timing:
    """One row: what was done, CPU seconds of each time it was done, and at most how long it should take (or None)."""

    name: str
    seconds: tuple[float, ...]
    target_s: float | None

    @property
    def median_s(self) -> float:
        """The figure that counts."""
        return statistics.median(self.seconds)

    @property
    def missed(self) -> bool:
        """True if there is a target and it was not met."""
        return self.target_s is not None and self.median_s > self.target_s


@dataclass(frozen=True, slots=True)
class GateCase:
    """A suite of six primary and ten descriptive metrics that stays undecided up to its last look."""

    policy: Policy
    pairs: tuple[PairedReadings, ...]
    priors: Mapping[Key, VariancePrior]

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of pairs at which it is judged."""
        return self.policy.looks(suite_pair_limit([each.key for each in self.pairs], self.priors, self.policy))

    def judge(self, count: int) -> SuiteState:
        """The decision after so many pairs, nothing frozen before."""
        pairs = [
            PairedReadings(each.scenario, each.metric, each.baseline[:count], each.candidate[:count])
            for each in self.pairs
        ]
        return judge_suite(pairs, self.priors, self.policy, {})


def gate_case(seed: int = SEED) -> GateCase:
    """The suite, at the shipped GPU policy. The candidate is worse by half the margin: the hardest to decide."""
    policy = load(POLICIES / "gpu.toml", Policy)
    keys = [(scenario, metric) for scenario in ("offline", "server") for metric in PRIMARIES]
    keys += [(f"s{number // 4}", DESCRIPTIVES[number % 4]) for number in range(DESCRIPTIVE_COUNT)]
    generator = np.random.default_rng(seed)
    pairs = []
    for scenario, metric in keys:
        before, after = np.exp(CV * generator.standard_normal((2, policy.pair_count_max)))
        pairs.append(PairedReadings(scenario, metric, tuple(before.tolist()), tuple((after * 1.015).tolist())))
    return GateCase(policy, tuple(pairs), dict.fromkeys(keys, PRIOR))


def time_gate(case: GateCase, times: int) -> list[Timing]:
    """One decision at the last look, cold and warm, and the whole gate from its first look to its last, cold."""
    last = case.looks[-1]
    case.judge(last)  # first calls into scipy load what they need: that is start-up, not the decision

    def whole() -> None:
        bounds.cache_clear()
        for count in case.looks:
            case.judge(count)

    def cold() -> None:
        bounds.cache_clear()
        case.judge(last)

    return [
        Timing(f"gate, one decision at {last} pairs, cold", timed(cold, times), GATE_TARGET_S),
        Timing(f"gate, one decision at {last} pairs, warm", timed(lambda: case.judge(last), times), GATE_TARGET_S),
        Timing(f"gate, all {len(case.looks)} looks, cold", timed(whole, times), None),
    ]


def time_nightly(nights: int, series: int, seed: int = SEED) -> Timing:
    """Every night of every series judged, oldest first, at the shipped GPU policy and a CV of 1 %."""
    policy = load(POLICIES / "gpu.toml", Policy)

    def year() -> None:
        for share, truth, effect in LIVES:
            world = NightWorld(CV, truth, effect, nights=nights, event_night=nights // 2)
            simulate_nightly(world, policy, seed=seed, series_count=max(1, round(share * series)))

    return Timing(f"nightly, {nights} nights x {series} series", timed(year, 1), NIGHTLY_TARGET_S)


def timed(action: Callable[[], object], times: int) -> tuple[float, ...]:
    """CPU seconds of each of so many calls."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        action()
        seconds.append(time.process_time() - started)
    return tuple(seconds)


def table(timings: Sequence[Timing]) -> str:
    """The rows as Markdown: median, fastest and slowest, and the target."""
    lines = ["| decision | median CPU time | fastest | slowest | target |", "|---|---|---|---|---|"]
    for each in timings:
        target = "" if each.target_s is None else f"{duration(each.target_s)}{' MISSED' if each.missed else ''}"
        spread = " | ".join(duration(value) for value in (each.median_s, min(each.seconds), max(each.seconds)))
        lines.append(f"| {each.name} | {spread} | {target} |")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """`3.7 ms` or `12.3 s`."""
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and the machine's load, and return 1 if a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.method.decide", description=__doc__)
    parser.add_argument("--times", type=int, default=15, help="how often each gate is judged (%(default)s)")
    parser.add_argument("--nights", type=int, default=NIGHTS, help="length of each series (%(default)s)")
    parser.add_argument("--series", type=int, default=SERIES, help="number of series (%(default)s)")
    options = parser.parse_args(arguments)
    if min(options.times, options.nights, options.series) < 1:
        parser.error("--times, --nights and --series must be at least 1")
    load_before = os.getloadavg()[0]
    timings = [*time_gate(gate_case(), options.times), time_nightly(options.nights, options.series)]
    print(table(timings))
    print(f"\nload average before: {load_before:.1f} on {os.cpu_count()} CPUs; one thread was used")
    return int(any(each.missed for each in timings))


if __name__ == "__main__":
    sys.exit(main())
