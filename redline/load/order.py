"""Which item of a data set each request uses. Pure and seeded: decided before the run, the same on both arms."""

from __future__ import annotations

import hashlib
import random
from typing import Literal, TypeAlias

from redline.load import loadgen
from redline.mlperf import seeds_of
from redline.model import DatasetItems, Offline, Scenario, require

OrderKind: TypeAlias = Literal["sequential", "shuffled", "loadgen"]


def sample_indices(scenario: Scenario) -> tuple[int, ...]:
    """The item of each request of a data set's scenario, shape (request_count,), in [0, item_count).

    Order "loadgen" is LoadGen's in equal-issue mode, which MLPerf demands of language models, with the seeds of
    the scenario's round: of Offline, of Server and what is like it, and of accuracy mode where answers are scored.
    Raises ValueError for a workload without items, or an accuracy run that does not ask each item once.
    """
    workload = scenario.workload
    if not isinstance(workload, DatasetItems):
        raise ValueError(f"workload {workload.kind} has no items")
    items, count = workload.item_count, scenario.request_count
    if scenario.accuracy is not None:
        require(count == items, f"request_count is {count}, but each of the {items} items is asked once")
    if workload.order != "loadgen":
        return order(items, count, scenario.seed, workload.order)
    seeds = seeds_of(scenario)
    loaded = loadgen.loaded_samples(items, seeds.qsl)
    if isinstance(scenario.arrivals, Offline):
        scored = scenario.accuracy is not None
        return loadgen.offline_order(loaded, count, seeds.sample_index, equal_issue=True, accuracy=scored)
    if scenario.accuracy is not None:
        return loadgen.accuracy_order(loaded, seeds.sample_index, equal_issue=True)
    count_min = scenario.mlperf.query_count_min if scenario.mlperf is not None else count
    return loadgen.sample_order(loaded, count, seeds.sample_index, "equal-issue", min_query_count=count_min)


def order(item_count: int, request_count: int, seed: int, kind: OrderKind) -> tuple[int, ...]:
    """The item of each request, shape (request_count,), in [0, item_count).

    Every kind takes each item once per pass over the data set, so items differ in use by at most one; with
    unequal items (prompts of all lengths) a random choice would measure another mixture with every seed.
    `sequential`: 0, 1, 2, and again. `shuffled`: a fresh permutation for each pass. `loadgen`: the order in
    which MLPerf LoadGen's Server and SingleStream scenarios issue them in equal-issue mode, with all its seeds
    set to `seed`; LoadGen itself would end the last pass. Fewer requests are the beginning of more.
    Raises ValueError for no items or a negative request_count.
    """
    require(item_count >= 1, "item_count must be at least 1")
    require(request_count >= 0, "request_count must not be negative")
    match kind:
        case "sequential":
            return tuple(index % item_count for index in range(request_count))
        case "shuffled":
            return _shuffled(item_count, request_count, seed)
        case "loadgen":
            loaded = loadgen.loaded_samples(item_count, seed)
            return loadgen.sample_order(
                loaded, request_count, seed, "equal-issue", min_query_count=max(1, request_count)
            )


def _shuffled(item_count: int, request_count: int, seed: int) -> tuple[int, ...]:
    # The purpose is hashed into the seed, so that order and due times of one scenario are unrelated.
    rng = random.Random(int.from_bytes(hashlib.sha256(f"{seed}/order".encode()).digest()[:8], "big"))
    items = list(range(item_count))
    chosen: list[int] = []
    while len(chosen) < request_count:
        rng.shuffle(items)
        chosen += items
    return tuple(chosen[:request_count])
