"""What MLPerf Inference demands of a run of full size, benchmark by benchmark: how many items, how many queries. Pure.

A scenario's own settings may ask for less; LoadGen then says VALID all the same. `checks.mlperf_rules` lists the
difference. Source: `mlperf.conf` of mlcommons/inference (v6.1: the one inside mlcommons-loadgen 6.0.17, which the
tests read) and the constants of its submission checker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from redline.model import Concurrency, MlperfRules, Offline, Scenario, Server, SingleStream

ScenarioName: TypeAlias = Literal["Offline", "Server", "Interactive", "SingleStream"]

DURATION_S_DEMANDED = 600.0
SINGLE_STREAM_QUERIES_DEMANDED = 1024
OFFLINE_SAMPLES_DEMANDED_V4_0 = 24_576

INFERRED_TOKENS: Mapping[str, int] = {"gptj": 69}
"""Tokens a sample that MLPerf takes for granted instead of counting them. Source: token_latency_scaling_factor."""

SAMPLES_DEMANDED: Mapping[str, int] = {
    "gptj": 13_368,
    "llama2-70b": 24_576,
    "llama3.1-8b": 13_368,
    "llama3.1-8b-edge": 5_000,
    "llama3.1-405b": 8_313,
    "mixtral-8x7b": 15_000,
    "deepseek-r1": 4_388,
    "whisper": 1_633,
    "qwen3-vl-235b-a22b": 48_289,
    "gpt-oss-120b": 6_396,
}
"""Items of each benchmark's data set in performance mode. Source: performance_sample_count_override."""

SAMPLES_DEMANDED_INTERACTIVE: Mapping[str, int] = {"qwen3-vl-235b-a22b": 8_000}
"""Where Interactive has a data set of its own. Source: MLPerf Inference v6.1."""

_SUFFIX = re.compile(r"(-interactive)?(-99(\.9)?)?(/99\.9)?$")


def scenario_name(scenario: Scenario) -> ScenarioName:
    """MLPerf's name of the scenario's arrivals. Raises ValueError for a closed loop of several requests."""
    match scenario.arrivals:
        case Offline():
            return "Offline"
        case SingleStream():
            return "SingleStream"
        case Server():
            return "Interactive" if scenario.mlperf is not None and scenario.mlperf.interactive else "Server"
        case Concurrency():
            raise ValueError(f"scenario {scenario.name} keeps a number of requests open: MLPerf has no such scenario")


def family(benchmark: str) -> str:
    """A benchmark's name without its accuracy target and `interactive`: `llama2-70b` of `llama2-70b-99.9`."""
    return _SUFFIX.sub("", benchmark.strip().lower())


def samples_demanded(rules: MlperfRules) -> int:
    """Items of the benchmark's data set; what the scenario says of a benchmark that is not known here."""
    name = family(rules.benchmark)
    if rules.interactive and name in SAMPLES_DEMANDED_INTERACTIVE:
        return SAMPLES_DEMANDED_INTERACTIVE[name]
    return SAMPLES_DEMANDED.get(name, rules.sample_count)


def queries_demanded(rules: MlperfRules, name: ScenarioName) -> int:
    """How many queries MLPerf wants at least; in Offline, how many samples in its one query.

    Offline: the whole data set, in v4.0 always 24,576. Server: one pass over the data set, since language models
    are issued in whole passes, and early stopping replaces the former 270,336. Source: `mlperf.conf`, the checker.
    """
    if name == "SingleStream":
        return SINGLE_STREAM_QUERIES_DEMANDED
    if name == "Offline" and rules.round == "v4.0":
        return OFFLINE_SAMPLES_DEMANDED_V4_0
    return samples_demanded(rules)
