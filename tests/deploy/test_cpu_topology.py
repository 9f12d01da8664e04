"""The cores of a machine as the kernel describes them, here or in a copy of its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from redline.deploy.cpu_topology import Core, read_cores


def describe(system: Path, siblings: dict[int, str], nodes: dict[int, str]) -> Path:
    """The kernel's files: the threads of each CPU's core, and the CPUs of each node."""
    for cpu, text in siblings.items():
        folder = system / "cpu" / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(text)
    for node, text in nodes.items():
        (system / "node" / f"node{node}").mkdir(parents=True)
        (system / "node" / f"node{node}" / "cpulist").write_text(text)
    return system


def test_threads_of_a_core_are_found_however_they_are_numbered(tmp_path: Path) -> None:
    """As neighbours (0-1), or one half of all CPUs apart (0,4); ordered by node."""
    apart = describe(
        tmp_path / "apart", {cpu: f"{cpu % 4},{cpu % 4 + 4}\n" for cpu in range(8)}, {0: "2-3,6-7", 1: "0-1,4-5"}
    )
    assert read_cores(range(8), apart) == (Core((2, 6), 0), Core((3, 7), 0), Core((0, 4), 1), Core((1, 5), 1))
    beside = describe(tmp_path / "beside", {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, {0: "0-3"})
    assert read_cores((3, 2, 1, 0), beside) == (Core((0, 1), 0), Core((2, 3), 0))


def test_a_core_of_which_a_thread_is_not_ours_is_not_whole(tmp_path: Path) -> None:
    """The load client's CPU is a thread of some core; so is one that this process may not use."""
    system = describe(tmp_path, {cpu: f"{cpu % 2},{cpu % 2 + 2}" for cpu in range(4)}, {0: "0-3"})
    assert read_cores((0, 1, 2), system) == (Core((0, 2), 0), Core((1,), 0, whole=False))


@pytest.mark.parametrize("text", ["", "a", "0-", "-1", "0,,1", "\x00", "0-1 2"])
def test_a_file_that_says_something_else_makes_cores_of_their_own(tmp_path: Path, text: str) -> None:
    """Nothing is raised and no CPU is lost."""
    system = describe(tmp_path, {0: text, 1: text}, {0: text})
    assert read_cores((0, 1), system) == (Core((0,)), Core((1,)))
    assert read_cores((5, 3), tmp_path / "nothing") == (Core((3,)), Core((5,)))


def test_this_machine_is_read_for_real() -> None:
    """Every CPU that may be used is in exactly one core."""
    usable = sorted(os.sched_getaffinity(0))
    assert sorted(cpu for core in read_cores(usable) for cpu in core.cpu_ids) == usable
