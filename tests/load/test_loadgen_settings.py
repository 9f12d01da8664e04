"""What LoadGen is asked to do: impossible settings are refused, and a scenario's make just its requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from redline.load import loadgen
from redline.load.arrivals import offsets_ns
from redline.load.loadgen_settings import LoadgenSettings, planned_issue, settings_of
from redline.load.order import sample_indices
from redline.mlperf import ROUND_SEEDS
from redline.model import (
    AccuracyTarget,
    Concurrency,
    DatasetItems,
    Limits,
    MlperfRules,
    Offline,
    RandomTokens,
    Scenario,
    Server,
)

SETTINGS = LoadgenSettings(
    scenario="Server",
    mode="performance",
    seeds=ROUND_SEEDS["v6.0"],
    target_rate_per_s=100.0,
    duration_s_min=1.0,
    query_count_min=50,
    sample_count=40,
    performance_sample_count=40,
    ttft_ns_max=10**9,
    tpot_ns_max=10**8,
)
RULES = MlperfRules("llama2-70b-99", "v6.0", 40, 100, "tokens/s", 2.0, ttft_s_p99_max=2.0, tpot_s_p99_max=0.2)
SCENARIO = Scenario(
    name="s",
    description="",
    recipe="r",
    arrivals=Server(20.0, process="loadgen"),
    workload=DatasetItems("d", item_count=40, output_tokens_max=8),
    request_count=120,
    repeat_count=1,
    discard_count=0,
    seed=7,
    limits=Limits(1.0, 1.0, 60.0),
    metrics=("ttft_s_p99",),
    mlperf=RULES,
)
ACCURACY = AccuracyTarget({"rouge1": 44.4}, 0.99, "a test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenario": "MultiStream"}, "Server or Offline"),
        ({"mode": "submission"}, "performance or accuracy"),
        ({"seeds": replace(SETTINGS.seeds, schedule=2**64)}, "seeds.schedule"),
        ({"target_rate_per_s": 0.0}, "target_rate_per_s"),
        ({"target_rate_per_s": float("nan")}, "target_rate_per_s"),
        ({"duration_s_min": -1.0}, "duration_s_min"),
        ({"duration_s_min": 0.0005}, "whole milliseconds"),
        ({"query_count_min": 0}, "query_count_min"),
        ({"sample_count": 0}, "sample_count"),
        ({"performance_sample_count": 0}, "performance_sample_count"),
        ({"mode": "accuracy", "performance_sample_count": 39}, "one set"),
        ({"ttft_ns_max": 0}, "ttft_ns_max must be positive"),
        ({"use_token_latencies": False}, "latency_ns_max must be positive"),
        ({"tpot_ns_max": -1}, "tpot_ns_max must not be negative"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    """Each names what it must be."""
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **changes)


@pytest.mark.parametrize(
    "scenario",
    [
        SCENARIO,
        replace(SCENARIO, mlperf=None),
        replace(SCENARIO, request_count=40),
        replace(SCENARIO, request_count=800),
        replace(SCENARIO, arrivals=Offline(8)),
        replace(SCENARIO, arrivals=Offline(8), mlperf=None),
        replace(SCENARIO, arrivals=Offline(8), mlperf=replace(RULES, duration_s_min=600.0)),
        replace(SCENARIO, request_count=40, accuracy=ACCURACY),
        replace(SCENARIO, arrivals=Offline(8), request_count=40, accuracy=ACCURACY),
    ],
    ids=[
        "server",
        "no rules",
        "one pass",
        "many passes",
        "offline",
        "offline, no rules",
        "offline, long",
        "acc",
        "off",
    ],
)
def test_a_scenarios_settings_make_just_its_requests(scenario: Scenario) -> None:
    """LoadGen would issue the items, in the order and at the instants, that the native driver asks them."""
    planned = planned_issue(settings_of(scenario))
    assert planned.items == sample_indices(scenario)
    assert planned.offsets_ns == offsets_ns(scenario)


def test_a_scenario_of_its_rules_length_keeps_the_rules_values() -> None:
    """Duration and number of queries are fitted only where LoadGen would otherwise issue another number of requests."""
    count = loadgen.server_query_count(20.0, 2.0, 100, ROUND_SEEDS["v6.0"].schedule, pass_size=40)
    settings = settings_of(replace(SCENARIO, request_count=count))
    assert (settings.duration_s_min, settings.query_count_min) == (2.0, 100)
    longer = settings_of(replace(SCENARIO, request_count=count + 40))
    assert longer.duration_s_min > 2.0
    assert (longer.ttft_ns_max, longer.tpot_ns_max) == (2_000_000_000, 200_000_000)


def test_limits_of_a_whole_latency_are_passed_on() -> None:
    """A benchmark that is judged by whole latencies (Qwen3-VL's unit is samples) has LoadGen judge those."""
    rules = replace(RULES, unit="queries/s", ttft_s_p99_max=None, tpot_s_p99_max=None, e2e_s_p99_max=12.0)
    settings = settings_of(replace(SCENARIO, mlperf=rules))
    assert not settings.use_token_latencies
    assert settings.latency_ns_max == 12_000_000_000


def test_requests_without_items_are_samples_of_their_own() -> None:
    """Random prompts have no data set: LoadGen's samples then only number the requests."""
    settings = settings_of(replace(SCENARIO, workload=RandomTokens(4, 4, 1, 9), request_count=33))
    assert (settings.sample_count, settings.performance_sample_count) == (33, 33)
    assert sorted(planned_issue(settings).items) == list(range(33))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"request_count": 130}, "not a multiple"),
        ({"arrivals": Concurrency(4)}, "arrivals must be"),
        ({"arrivals": Server(20.0)}, "arrivals must be"),
    ],
)
def test_a_scenario_that_loadgen_cannot_issue_is_refused(changes: dict[str, Any], message: str) -> None:
    """A closed loop, another arrival process, or half a pass over the data set."""
    with pytest.raises(ValueError, match=message):
        settings_of(replace(SCENARIO, **changes))
