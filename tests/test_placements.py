"""How a recipe is served on accelerators: which placement is chosen, and what it adds, in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from redline import content
from redline.model import (
    Arrivals,
    Concurrency,
    Limits,
    MlperfRules,
    Offline,
    Placement,
    RandomTokens,
    Recipe,
    RunnerClass,
    Scenario,
    Server,
)

ROOT = Path(__file__).parents[1]
H100 = RunnerClass("h100", "", "cuda", "gpu", 1, 0.05, 6, 0, accelerator="H100", accelerator_count=8)
CPU = content.runner_class(ROOT / "runners" / "cpu.toml")
ALL = Placement("H100", 8, 1, ("--all",), "a log", rate_per_s=1.0)
OFFLINE = Placement("H100", 2, 4, ("--offline", "1"), "a log", arrivals="offline", rate_per_s=2.0)
SERVER = Placement("H100", 4, 2, ("--server",), "a log", arrivals="server", rate_per_s=3.0)
INTERACTIVE = Placement("H100", 1, 8, ("--interactive",), "a log", arrivals="interactive", rate_per_s=4.0)
RECIPE = Recipe(
    name="big",
    description="",
    model="them/big",
    revision="abc",
    served_model_name="big",
    context_tokens_max=4096,
    server_args={"cuda": ("--mine",), "rocm": ("--others",)},
    environment={"cuda": {"A": "1", "B": "1"}},
    start_s_max=600.0,
)


def scenario(arrivals: Arrivals, *, interactive: bool = False) -> Scenario:
    """A scenario with these arrivals, under MLPerf's rules."""
    rules = MlperfRules("llama2-70b-99.9", "v6.0", 24, 24, "tokens/s", interactive=interactive)
    return Scenario(
        name="made-up",
        description="",
        recipe="big",
        arrivals=arrivals,
        workload=RandomTokens(4, 4, 1, 9),
        request_count=24,
        repeat_count=1,
        discard_count=0,
        seed=0,
        limits=Limits(1.0, 1.0, 600.0),
        metrics=("output_tokens_per_s",),
        mlperf=rules,
    )


SCENARIOS = {
    "offline": scenario(Offline(8)),
    "server": scenario(Server(1.0)),
    "closed loop": scenario(Concurrency(4)),
    "interactive": scenario(Server(1.0), interactive=True),
    "no rules": replace(scenario(Server(1.0)), mlperf=None),
}
EVERY = (ALL, OFFLINE, SERVER, INTERACTIVE)


@pytest.mark.parametrize(
    ("kind", "placements", "chosen"),
    [
        ("interactive", EVERY, INTERACTIVE),
        ("interactive", (ALL, OFFLINE, SERVER), SERVER),
        ("interactive", (OFFLINE, ALL), ALL),
        ("interactive", (OFFLINE,), None),
        ("server", EVERY, SERVER),
        ("server", (INTERACTIVE, OFFLINE, ALL), ALL),
        ("server", (INTERACTIVE, OFFLINE), None),
        ("closed loop", EVERY, SERVER),
        ("no rules", EVERY, SERVER),
        ("offline", EVERY, OFFLINE),
        ("offline", (SERVER, INTERACTIVE, ALL), ALL),
        ("offline", (SERVER, INTERACTIVE), None),
        ("offline", (), None),
    ],
)
def test_the_narrower_placement_is_chosen(
    kind: str, placements: tuple[Placement, ...], chosen: Placement | None
) -> None:
    """Interactive before server before all, in whatever order they stand; offline is never served as server is."""
    for listed in (placements, placements[::-1]):
        assert replace(RECIPE, placements=listed).placement_on(H100, SCENARIOS[kind]) == chosen


@pytest.mark.parametrize(
    "runner_class",
    [replace(H100, accelerator_count=4), replace(H100, accelerator="H200"), CPU],
    ids=["fewer", "another", "none"],
)
def test_other_accelerators_have_no_placement(runner_class: RunnerClass) -> None:
    """What is known of eight of one kind says nothing of four, or of another kind: the platform's arguments alone."""
    recipe = replace(RECIPE, placements=EVERY)
    assert recipe.placement_on(runner_class, SCENARIOS["server"]) is None
    assert recipe.placed(runner_class, SCENARIOS["server"]) == RECIPE


def test_a_placement_comes_after_the_platform() -> None:
    """The platform's arguments, the tensor parallelism, then the placement's: the last of two equal flags wins."""
    recipe = replace(RECIPE, placements=EVERY)
    served = recipe.placed(H100, SCENARIOS["offline"])
    assert served.server_args["cuda"] == ("--mine", "--tensor-parallel-size", "4", "--offline", "1")
    assert served.server_args["rocm"] == ("--others",)
    assert served.placements == (OFFLINE,)
    assert (served.model, served.revision) == ("them/big", "abc")
    alone = replace(RECIPE, placements=(ALL,)).placed(H100, SCENARIOS["offline"])
    assert alone.server_args["cuda"] == ("--mine", "--all"), "one accelerator a replica is vLLM's default"


def test_a_placement_may_replace_variables_and_the_model() -> None:
    """Its variables win; its checkpoint comes with its own revision, also with none."""
    own = replace(SERVER, environment={"B": "2", "C": "2"}, model="them/big-fp8", revision="def")
    served = replace(RECIPE, placements=(own,)).placed(H100, SCENARIOS["server"])
    assert served.environment["cuda"] == {"A": "1", "B": "2", "C": "2"}
    assert (served.model, served.revision) == ("them/big-fp8", "def")
    unpinned = replace(RECIPE, placements=(replace(own, revision=""),)).placed(H100, SCENARIOS["server"])
    assert unpinned.revision == ""
    bare = replace(RECIPE, environment={}, placements=(SERVER,)).placed(H100, SCENARIOS["server"])
    assert bare.environment == {}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "recipes").glob("*.toml")))
def test_on_a_cpu_a_recipe_is_served_as_it_is_written(name: str) -> None:
    """Nothing of what is meant for accelerators reaches a machine without them."""
    recipe = content.recipe(ROOT / "recipes" / f"{name}.toml")
    assert recipe.placed(CPU, SCENARIOS["server"]) == replace(recipe, placements=())


def test_placements_that_cannot_be_told_apart_are_refused() -> None:
    """The same accelerators, as many of them, for the same arrivals; and values that make no sense."""
    assert SERVER.accelerator_count == ALL.accelerator_count == 8
    with pytest.raises(ValueError, match="two placements are for the same accelerators and arrivals"):
        replace(RECIPE, placements=(SERVER, replace(SERVER, replicas=8, tensor_parallel=1)))
    for changes, told in (
        ({"accelerator": " "}, "accelerator must be named"),
        ({"replicas": 0}, "replicas"),
        ({"tensor_parallel": 65}, "tensor_parallel"),
        ({"source": ""}, "source"),
        ({"rate_per_s": -1.0}, "rate_per_s"),
        ({"revision": "abc"}, "revision without model"),
    ):
        with pytest.raises(ValueError, match=told):
            replace(SERVER, **changes)
