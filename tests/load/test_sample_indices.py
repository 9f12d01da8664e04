"""Which item each request of a data set's scenario asks for: LoadGen's choice with the seeds of the round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from redline import content
from redline.load import loadgen
from redline.load.arrivals import offsets_ns
from redline.load.loadgen_settings import planned_issue, settings_of
from redline.load.order import order, sample_indices
from redline.mlperf import ROUND_SEEDS
from redline.model import (
    AccuracyTarget,
    DatasetItems,
    Limits,
    MlperfRules,
    Offline,
    RandomTokens,
    Scenario,
    Server,
)

ROOT = Path(__file__).parents[2]
SEEDS = ROUND_SEEDS["v6.0"]
LOADED = loadgen.loaded_samples(24, SEEDS.qsl)
RULES = MlperfRules("llama2-70b-99.9", "v6.0", 24, 30, "tokens/s")
SERVER = Scenario(
    name="made-up",
    description="",
    recipe="r",
    arrivals=Server(6.0, "loadgen"),
    workload=DatasetItems("set", 24, 8),
    request_count=96,
    repeat_count=1,
    discard_count=0,
    seed=7,
    limits=Limits(1.0, 1.0, 600.0),
    metrics=("output_tokens_per_s",),
    mlperf=RULES,
)
OFFLINE = replace(SERVER, arrivals=Offline(8))
TARGET = AccuracyTarget({"rouge1": 40.0}, 0.99, "a test")
SHORT_FORMS = sorted(
    path.stem for path in (ROOT / "scenarios").glob("*.toml") if path.stem.endswith(("-ci", "-accuracy"))
)


def test_server_is_asked_in_loadgens_passes() -> None:
    """As many passes are drawn as the rules' least number of queries needs, and used in turn."""
    found = sample_indices(SERVER)
    assert found == loadgen.sample_order(LOADED, 96, SEEDS.sample_index, "equal-issue", min_query_count=30)
    assert found[:48] == found[48:], "30 queries need two passes of 24, and the third is the first again"
    more = replace(SERVER, mlperf=replace(RULES, query_count_min=96))
    assert sample_indices(more)[:48] == found[:48]
    assert sample_indices(more)[48:] != found[48:]


def test_offline_is_asked_in_loadgens_order_for_its_one_query() -> None:
    """Each pass is a permutation of its own, and none of them is Server's."""
    found = sample_indices(OFFLINE)
    assert found == loadgen.offline_order(LOADED, 96, SEEDS.sample_index, equal_issue=True)
    passes = {found[start : start + 24] for start in range(0, 96, 24)} | {sample_indices(SERVER)[:24]}
    assert len(passes) == 5


@pytest.mark.parametrize("performance", [SERVER, OFFLINE], ids=["server", "offline"])
def test_accuracy_asks_each_item_once_in_the_order_of_accuracy_mode(performance: Scenario) -> None:
    """LoadGen draws once more in accuracy mode, so the order is another than the performance run's."""
    scored = replace(performance, request_count=24, accuracy=TARGET)
    found = sample_indices(scored)
    assert sorted(found) == list(range(24))
    assert found != sample_indices(replace(scored, accuracy=None))
    if isinstance(performance.arrivals, Offline):
        assert found == loadgen.offline_order(LOADED, 24, SEEDS.sample_index, equal_issue=True, accuracy=True)
    else:
        assert found == loadgen.accuracy_order(LOADED, SEEDS.sample_index, equal_issue=True)
    with pytest.raises(ValueError, match="request_count is 48, but each of the 24 items is asked once"):
        sample_indices(replace(scored, request_count=48))


def test_seeds_are_the_rounds_or_the_scenarios_own() -> None:
    """Another round is another order, whatever the seed; without a round the scenario's seed is all three."""
    assert sample_indices(replace(SERVER, seed=8)) == sample_indices(SERVER)
    assert sample_indices(replace(SERVER, mlperf=replace(RULES, round="v5.1"))) != sample_indices(SERVER)
    alone = replace(SERVER, mlperf=None)
    assert sample_indices(alone) == order(24, 96, 7, "loadgen")
    assert sample_indices(replace(alone, seed=8)) != sample_indices(alone)


@pytest.mark.parametrize("scenario", [SERVER, OFFLINE], ids=["server", "offline"])
def test_other_orders_are_redlines_own(scenario: Scenario) -> None:
    """Sequential and shuffled follow the scenario's seed, not the round's."""
    items = DatasetItems("set", 24, 8, order="sequential")
    assert sample_indices(replace(scenario, workload=items)) == (*range(24),) * 4
    shuffled = replace(scenario, workload=replace(items, order="shuffled"))
    assert sample_indices(shuffled) == order(24, 96, 7, "shuffled")
    assert sample_indices(replace(shuffled, seed=8)) != sample_indices(shuffled)


def test_prompts_that_are_made_up_have_no_items() -> None:
    """There is nothing to choose from."""
    with pytest.raises(ValueError, match="workload random-tokens has no items"):
        sample_indices(replace(SERVER, workload=RandomTokens(4, 4, 1, 9)))


@pytest.mark.parametrize("name", SHORT_FORMS)
def test_the_official_loadgen_would_issue_the_same(name: str) -> None:
    """For what is shipped, item by item and nanosecond by nanosecond: both drivers can be held against each other."""
    scenario = content.scenario(ROOT / "scenarios" / f"{name}.toml")
    planned = planned_issue(settings_of(scenario))
    assert planned.items == sample_indices(scenario)
    assert planned.offsets_ns == offsets_ns(scenario)
