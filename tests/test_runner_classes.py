"""The runner classes that are shipped: they fit the recipes' placements, refuse other boards, and change no series."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from checks.published import board
from flows.plan import identity_of
from flows.workload import Work
from flows.workspace import Workspace
from redline import content
from redline.errors import ContentError
from redline.model import HealthyHost, RunnerClass

ROOT = Path(__file__).parents[1]
CLASSES = {path.stem: content.runner_class(path) for path in sorted((ROOT / "runners").glob("*.toml"))}
RECIPES = {path.stem: content.recipe(path) for path in sorted((ROOT / "recipes").glob("*.toml"))}
ON_ACCELERATORS = {name: each for name, each in CLASSES.items() if each.platform != "cpu"}
PLACED = sorted({(each.accelerator, each.accelerator_count) for found in RECIPES.values() for each in found.placements})
MIB = 1 << 20

BOARDS = {
    "H100": ("NVIDIA H100 80GB HBM3", 81559 * MIB, 700.0),
    "H100 PCIe": ("NVIDIA H100 PCIe", 80_000_000_000, 350.0),
    "H200": ("NVIDIA H200", 143771 * MIB, 700.0),
    "B200": ("NVIDIA B200", 183359 * MIB, 1000.0),
    "L40S": ("NVIDIA L40S", 46068 * MIB, 350.0),
    "MI300X": ("AMD Instinct MI300X", 196592 * MIB, 750.0),
    "MI350X": ("AMD Instinct MI350X", 288_000_000_000, 1000.0),
    "MI355X": ("AMD Instinct MI355X", 294896 * MIB, 1400.0),
}
"""Accelerator -> (the driver's name, memory in bytes, power cap in watts), from the sources that the classes name."""

OTHERS = [
    ("NVIDIA H100 NVL", 95830 * MIB, 400.0),
    ("NVIDIA H200 NVL", 143771 * MIB, 600.0),
    ("NVIDIA GB200", 189471 * MIB, 1200.0),
    ("NVIDIA H200", 143771 * MIB, 500.0),
    ("NVIDIA L40", 46068 * MIB, 300.0),
    ("AMD Instinct MI325X", 262128 * MIB, 1000.0),
    ("AMD Instinct MI300X", 24574 * MIB, 750.0),
]
"""What a host may have instead: boards with like names, a cap that was lowered, an eighth of an MI300X (CPX).

The names are real; the figures are only what such a board could have.
"""


def fits(healthy: HealthyHost, name: str, memory_bytes: int, power_cap_w: float) -> bool:
    """True if a board meets a class's limits, as the nouns state them."""
    is_big = memory_bytes >= healthy.device_memory_bytes_min
    return healthy.device_model in name and is_big and power_cap_w >= healthy.power_cap_w_min


@pytest.mark.parametrize(("accelerator", "count"), PLACED)
def test_every_placement_has_a_class(accelerator: str, count: int) -> None:
    """What recipes know how to place, some shipped class runs, on a platform that the recipe knows."""
    found = [each for each in CLASSES.values() if (each.accelerator, each.accelerator_count) == (accelerator, count)]
    assert len(found) == 1
    for recipe in RECIPES.values():
        if any((each.accelerator, each.accelerator_count) == (accelerator, count) for each in recipe.placements):
            assert found[0].platform in recipe.server_args, recipe.name


@pytest.mark.parametrize("name", ON_ACCELERATORS)
def test_a_class_accepts_its_board_and_no_other(name: str) -> None:
    """The floors are met by the board as it is shipped, closely, and by no board that could be taken for it."""
    found = ON_ACCELERATORS[name]
    healthy = found.healthy
    assert healthy is not None
    model, memory_bytes, power_cap_w = BOARDS[found.accelerator]
    assert fits(healthy, model, memory_bytes, power_cap_w)
    assert healthy.device_memory_bytes_min > 0.9 * memory_bytes
    assert board(healthy.device_model) == board(found.accelerator), "MLPerf's tables must find the board"
    others = [each for accelerator, each in BOARDS.items() if accelerator != found.accelerator]
    assert [other for other in [*others, *OTHERS] if fits(healthy, *other)] == []


@pytest.mark.parametrize("name", ON_ACCELERATORS)
def test_classes_on_accelerators_agree(name: str) -> None:
    """One arm at a time, whole devices, a label that no other class has, and a name that says what it is."""
    found = ON_ACCELERATORS[name]
    assert found.arms_resident_max == 1
    assert found.policy == "gpu"
    assert found.healthy is not None
    assert found.healthy.partitioned is False
    assert found.labels == ("self-hosted", "linux", "x64", f"redline-{name}")
    assert name == f"{found.accelerator.lower().replace(' ', '-')}-{found.accelerator_count}"
    is_nvidia = found.platform == "cuda"
    assert found.container is not None
    assert found.container.devices == ("gpus" if is_nvidia else "rocm")
    assert (found.healthy.persistence_mode, found.healthy.driver_version_min) == (
        (True, "580") if is_nvidia else (None, "")
    )


@pytest.mark.parametrize("name", ON_ACCELERATORS)
def test_two_arms_never_share_accelerators(name: str, tmp_path: Path) -> None:
    """A host has no second set of them to give: two resident arms are refused there, and allowed on CPUs."""
    text = (ROOT / "runners" / f"{name}.toml").read_text()
    path = tmp_path / f"{name}.toml"
    path.write_text(text.replace("arms_resident_max = 1", "arms_resident_max = 2"))
    with pytest.raises(ContentError, match="both arms would be on the same"):
        content.runner_class(path)
    assert CLASSES["cpu"].arms_resident_max == 2


@pytest.mark.parametrize("name", ON_ACCELERATORS)
def test_values_say_where_they_come_from(name: str) -> None:
    """Every number that a host is refused for has its source beside it; what has none is named as left out."""
    text = (ROOT / "runners" / f"{name}.toml").read_text()
    healthy = tomllib.loads(text)["healthy"]
    for key in ("device_model", "device_memory_bytes_min", "power_cap_w_min", "driver_version_min", "ecc"):
        if key in healthy:
            assert re.search(rf"^{key} = [^#\n]+ # .{{8,}}$", text, re.MULTILINE), key
        else:
            assert re.search(rf"^# .*\b{key}\b.*: no source", text, re.MULTILINE), key
    assert "temperature_c_max" not in healthy
    assert re.search(r"^# .*temperature_c_max.*: no source", text, re.MULTILINE)


@pytest.mark.parametrize("recipe_name", ["speed-llama", "tiny-skill"])
def test_two_replicas_on_a_cpu(recipe_name: str) -> None:
    """The class of two replicas serves these recipes with two servers; the class of one is not touched by that."""
    recipe = RECIPES[recipe_name]
    scenario = content.scenario(ROOT / "scenarios" / "offline-short.toml")
    two = recipe.placed(CLASSES["cpu-2-replicas"], scenario)
    (placement,) = two.placements
    assert (placement.replicas, placement.tensor_parallel) == (2, 1)
    one = recipe.placed(CLASSES["cpu"], scenario)
    assert two.server_args == one.server_args, "the replicas are the same server"
    assert one == replace(recipe, placements=())
    work = Work(scenario)
    assert work.identity(one) != work.identity(two), "two servers are another series than one"


@pytest.mark.parametrize("scenario", ["accuracy-tiny", "offline-short", "server-short"])
def test_the_placement_left_the_cpu_series_as_it_was(scenario: str, tmp_path: Path) -> None:
    """A scenario on the class `cpu` is what it would be if the recipe had no placement at all."""
    for folder in ("scenarios", "recipes", "runners"):
        (tmp_path / folder).mkdir()
        for path in (ROOT / folder).glob("*.toml"):
            text = path.read_text().split("\n[[placements]]", 1)[0] if folder == "recipes" else path.read_text()
            (tmp_path / folder / path.name).write_text(text)
    (tmp_path / "recipes" / "extras").symlink_to(ROOT / "recipes" / "extras")
    without = Workspace(tmp_path, tmp_path / "state")
    shipped = Workspace(ROOT, tmp_path / "state")
    cpu = CLASSES["cpu"]
    assert identity_of(shipped, scenario, cpu)[1] == identity_of(without, scenario, cpu)[1]


def documented() -> list[RunnerClass]:
    """Every runner class that docs/runners.md shows whole, with a made-up digest where it asks for one."""
    text = (ROOT / "docs" / "runners.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    filled = [tomllib.loads(block.replace("DIGEST", "0" * 64)) for block in blocks]
    return [content.convert(dict(each, name="documented"), RunnerClass, "docs/runners.md") for each in filled]


def test_the_classes_in_the_documentation_are_valid() -> None:
    """What an administrator copies out of docs/runners.md loads, its policy is there, and its placements exist."""
    found = documented()
    assert {each.deployer for each in found} >= {"host", "kserve", "llm-d"}
    for each in found:
        assert (ROOT / "checks" / "policies" / f"{each.policy}.toml").exists()
        assert (each.accelerator, each.accelerator_count) in PLACED
