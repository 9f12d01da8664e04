"""What a scenario will send: items in LoadGen's order, an identity that follows the whole work, and LoadGen's size."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.datasets import prepared_of
from flows.workload import Work, at_rate, checked_identity, work_of
from flows.workspace import CHECKOUT, Workspace
from redline.errors import ContentError, ExitCode
from redline.load import loadgen
from redline.load.arrivals import offsets_ns
from redline.mlperf import ROUND_SEEDS
from redline.model import Concurrency, DatasetItems, MlperfRules, Placement, Recipe, Scenario, TokenPrompt

SEEDS = ROUND_SEEDS["v6.0"]
CONTENT = Workspace(CHECKOUT, Path("nothing-is-kept"))
OFFLINE = CONTENT.scenario("gptj-stand-in-offline")
SERVER = CONTENT.scenario("gptj-stand-in-server")
ACCURACY = CONTENT.scenario("gptj-stand-in-accuracy")
RECIPE = CONTENT.recipe("gptj-stand-in")
PLACEMENT = Placement("H100", 2, 4, ("--flag",), "somebody's log", rate_per_s=3.0)

BEFORE_DATA_SETS = {
    "offline-short": "ddfc88353e604537",
    "server-short": "9c19e1a2902b0e05",
    "accuracy-tiny": "f7eab07a5e5ee05c",
}
"""Identities as `flows.measure.hash_scenario` made them at commit 7e5f0c3, before scenarios could have a data set."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The shipped content with a state of its own, in which bundled sets are prepared once."""
    return Workspace(CHECKOUT, tmp_path_factory.mktemp("state"))


def rules_of(scenario: Scenario) -> MlperfRules:
    """The rules that the scenario follows."""
    assert scenario.mlperf is not None
    return scenario.mlperf


def items_of(scenario: Scenario) -> DatasetItems:
    """The items that the scenario asks."""
    assert isinstance(scenario.workload, DatasetItems)
    return scenario.workload


def with_items(scenario: Scenario, **changes: Any) -> Scenario:
    """The scenario with a changed workload."""
    return replace(scenario, workload=replace(items_of(scenario), **changes))


def with_rules(scenario: Scenario, **changes: Any) -> Scenario:
    """The scenario with changed rules."""
    return replace(scenario, mlperf=replace(rules_of(scenario), **changes))


# --- which items ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", [OFFLINE, SERVER, ACCURACY], ids=lambda each: each.name)
def test_items_are_asked_in_loadgens_order(workspace: Workspace, scenario: Scenario) -> None:
    """Request for request the prompt of the item that LoadGen would issue there, in every window."""
    loaded, count = loadgen.loaded_samples(24, SEEDS.qsl), scenario.request_count
    expected = loadgen.offline_order(
        loaded, count, SEEDS.sample_index, equal_issue=True, accuracy=scenario.accuracy is not None
    )
    if scenario is SERVER:
        expected = loadgen.sample_order(loaded, count, SEEDS.sample_index, "equal-issue", min_query_count=24)
    work = work_of(workspace, scenario)
    prepared = prepared_of(workspace, "gptj-stand-in").items
    assert work.sample_indices == expected
    assert work.items == tuple(prepared[index] for index in expected)
    for window in range(2):
        asked = work.requests(window, "salt")
        assert [request.prompt for request in asked] == [prepared[index].prompt for index in expected]
        assert [request.offset_ns for request in asked] == list(offsets_ns(scenario))


def test_accuracy_asks_each_item_once_and_knows_its_answer(workspace: Workspace) -> None:
    """References and a scorer go with answers that are scored, and with no others."""
    scored, timed = work_of(workspace, ACCURACY), work_of(workspace, OFFLINE)
    assert sorted(scored.sample_indices) == list(range(24))
    assert [request.expected for request in scored.requests(0, "")] == [item.reference for item in scored.items]
    assert (scored.scorer, timed.scorer) == ("rouge", "")
    assert {request.expected for request in timed.requests(0, "")} == {None}


def test_what_the_workload_says_of_answers_is_in_each_request(workspace: Workspace) -> None:
    """Lengths, sampling and special tokens."""
    asked = {"output_tokens_max": 9, "output_tokens_min": 3, "temperature": 0.7, "top_p": 0.9}
    scenario = with_items(OFFLINE, keep_special_tokens=True, **asked)
    found = work_of(workspace, scenario).requests(0, "salt")[5]
    assert (found.output_tokens, found.output_tokens_min, found.temperature, found.top_p) == (9, 3, 0.7, 0.9)
    assert found.keep_special_tokens
    assert not found.ignore_eos
    assert found.cache_salt == "salt"


def test_the_workloads_of_before_need_no_items(workspace: Workspace) -> None:
    """Made-up prompts have neither items nor a scorer; skill tasks are scored by exact match."""
    assert work_of(workspace, workspace.scenario("offline-short")) == Work(workspace.scenario("offline-short"))
    assert work_of(workspace, workspace.scenario("accuracy-tiny")).scorer == "exact-match"


# --- identity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BEFORE_DATA_SETS)
def test_identities_of_before_are_kept(workspace: Workspace, name: str) -> None:
    """Accepted baselines and stored trials stay valid: data sets and placements changed no older hash."""
    scenario = workspace.scenario(name)
    recipe = workspace.recipe(scenario.recipe)
    work = work_of(workspace, scenario)
    assert checked_identity(work, replace(recipe, placements=())) == BEFORE_DATA_SETS[name]
    assert checked_identity(work, recipe.placed(workspace.runner_class("cpu"), scenario)) == BEFORE_DATA_SETS[name]


def changed_recipe(**changes: Any) -> Recipe:
    """The recipe with changes."""
    return replace(RECIPE, **changes)


def test_the_identity_follows_every_part_of_the_work(workspace: Workspace) -> None:
    """Another reference, item, order, sampling, round, rate, model, server or placement is another scenario."""
    work = work_of(workspace, ACCURACY)
    first, *others = work.items
    works = [
        work,
        replace(work, items=(replace(first, reference="another"), *others)),
        replace(work, items=(replace(first, prompt=TokenPrompt((1, 2, 3))), *others)),
        replace(work, items=(others[0], first, *others[1:])),
        *(
            replace(work, scenario=changed)
            for changed in (
                with_items(ACCURACY, temperature=0.5),
                with_items(ACCURACY, top_p=0.5),
                with_items(ACCURACY, output_tokens_min=1),
                with_items(ACCURACY, output_tokens_max=127),
                with_items(ACCURACY, keep_special_tokens=True),
                replace(ACCURACY, arrivals=SERVER.arrivals),
            )
        ),
        work_of(workspace, with_rules(ACCURACY, round="v5.1")),
        replace(work, scorer="word-errors"),
    ]
    recipes = [
        changed_recipe(model="another"),
        changed_recipe(revision="another"),
        changed_recipe(server_args={"cpu": ("--another",)}),
        changed_recipe(stand_in=""),
        changed_recipe(placements=(PLACEMENT,)),
        changed_recipe(placements=(replace(PLACEMENT, replicas=1),)),
    ]
    found = [each.identity(RECIPE) for each in works] + [work.identity(recipe) for recipe in recipes]
    assert len(set(found)) == len(found)


def test_the_identity_does_not_follow_words(workspace: Workspace) -> None:
    """Descriptions, targets, limits, deviations, and whose values a placement has, change nothing that is sent."""
    work = work_of(workspace, SERVER)
    described = with_rules(replace(SERVER, description="other words"), deviations=("one",), e2e_s_p99_max=1.0)
    assert work_of(workspace, described).identity(RECIPE) == work.identity(RECIPE)
    scored = work_of(workspace, ACCURACY)
    assert ACCURACY.accuracy is not None
    easier = replace(ACCURACY, accuracy=replace(ACCURACY.accuracy, share_min=0.5))
    assert work_of(workspace, easier).identity(RECIPE) == scored.identity(RECIPE)
    placed = changed_recipe(placements=(PLACEMENT,))
    moved = changed_recipe(placements=(replace(PLACEMENT, source="the same log, at its new address"),))
    assert work.identity(placed) == work.identity(moved)
    rated = changed_recipe(placements=(replace(PLACEMENT, rate_per_s=4.0),))
    assert work.identity(placed) == work.identity(rated), "a rate that sizes nothing here is no other work"


def test_references_are_no_part_of_work_that_is_not_scored(workspace: Workspace) -> None:
    """They are not sent, and no speed depends on them."""
    work = work_of(workspace, OFFLINE)
    corrected = replace(work, items=tuple(replace(item, reference="corrected") for item in work.items))
    assert corrected.identity(RECIPE) == work.identity(RECIPE)


def test_salts_differ_and_the_work_does_not(workspace: Workspace) -> None:
    """The salt of a window is all that tells two windows of a data set apart."""
    work = work_of(workspace, OFFLINE)
    one, other = work.requests(0, "one"), work.requests(1, "other")
    assert one != other
    assert tuple(replace(request, cache_salt="one") for request in other) == one
    assert work.identity(RECIPE) == work_of(workspace, OFFLINE).identity(RECIPE)


# --- size -------------------------------------------------------------------------------------------------------


def test_a_rate_makes_as_many_requests_as_loadgen_issues() -> None:
    """Whole passes for at least the rules' duration: Server until one is due after it, Offline with its slack."""
    seed, whole = SEEDS.schedule, {"shortened": "", "duration_s_min": 10.0}
    served = at_rate(with_rules(SERVER, **whole), 9.0)
    assert served.request_count == loadgen.server_query_count(9.0, 10.0, 24, seed, 24)
    assert served.arrivals.rate_per_s == 9.0
    assert offsets_ns(served)[-1] >= 10e9
    offline = at_rate(with_rules(OFFLINE, **whole), 9.0)
    assert offline.request_count == loadgen.offline_sample_count(9.0, 10.0, 24, 24) == 120
    assert offline.arrivals == OFFLINE.arrivals
    assert {served.request_count % 24, offline.request_count % 24} == {0}


def test_a_shorter_form_keeps_its_number_of_requests() -> None:
    """So do scored answers, closed loops, and a scenario that follows no rules."""
    assert at_rate(SERVER, 9.0) == replace(SERVER, arrivals=replace(SERVER.arrivals, rate_per_s=9.0))
    for scenario in (OFFLINE, with_rules(ACCURACY, shortened=""), replace(OFFLINE, mlperf=None)):
        assert at_rate(scenario, 9.0) == scenario
    closed = with_rules(replace(OFFLINE, arrivals=Concurrency(4)), shortened="")
    assert at_rate(closed, 9.0) == closed


# --- what does not fit ------------------------------------------------------------------------------------------


def test_a_set_that_is_not_prepared_names_the_command(tmp_path: Path) -> None:
    """Before anything is started."""
    workspace = Workspace(CHECKOUT, tmp_path)
    with pytest.raises(ContentError) as caught:
        work_of(workspace, workspace.scenario("llama2-70b-server-ci"))
    assert caught.value.problem == "data set open-orca-llama2 is not prepared"
    assert caught.value.next_step == "redline datasets prepare open-orca-llama2 --from PATH"
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_set_that_is_too_short_is_refused(workspace: Workspace) -> None:
    """An item that there is not would be asked."""
    with pytest.raises(ContentError, match="asks for more items than data set gptj-stand-in has") as caught:
        work_of(workspace, with_items(replace(OFFLINE, request_count=25), item_count=25))
    assert (caught.value.expected, caught.value.found) == ("at most 24", "workload.item_count = 25")


def test_a_scenario_that_does_not_fit_together_is_refused(workspace: Workspace) -> None:
    """Scored answers whose number is not that of the items; a last request that is due after the window."""
    with pytest.raises(ContentError, match="does not fit together") as caught:
        work_of(workspace, replace(ACCURACY, request_count=48))
    assert "each of the 24 items is asked once" in caught.value.found
    short = replace(SERVER, limits=replace(SERVER.limits, window_s_max=1.0))
    with pytest.raises(ContentError, match="does not fit in its window"):
        checked_identity(work_of(workspace, short), RECIPE)
    unscored = replace(workspace.scenario("accuracy-tiny"), request_count=3)
    with pytest.raises(ContentError, match="does not fit together"):
        checked_identity(work_of(workspace, unscored), workspace.recipe("tiny-skill"))


def test_an_unknown_set_names_the_nearest(tmp_path: Path) -> None:
    """A misspelt name is refused with the one that was meant."""
    (tmp_path / "datasets").mkdir()
    shutil.copy(CHECKOUT / "datasets" / "gptj-stand-in.toml", tmp_path / "datasets")
    with pytest.raises(ContentError, match="gptj-standin") as caught:
        work_of(Workspace(tmp_path, tmp_path), with_items(OFFLINE, dataset="gptj-standin"))
    assert "'gptj-stand-in'" in caught.value.expected
