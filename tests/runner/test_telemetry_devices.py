"""Accelerators' telemetry: whose processes they serve, and what becomes of a device that fails in the middle.

The readers here are stand-ins for a vendor's; processes are real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from redline.model import Device, DeviceHealth
from redline.runner.telemetry_devices import DeviceSampler, Family

SLEEP = "import time\ntime.sleep(60)\n"
PARENT = (
    "import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', sys.argv[1]])\n"
    "print(child.pid, flush=True)\nchild.wait()\n"
)
PID_MAX = 4_194_304  # one more than Linux ever gives; source: proc_sys_kernel(5), pid_max


@contextmanager
def process_with_child() -> Iterator[tuple[int, int]]:
    """(pid, its child's pid) of two processes that only wait."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, SLEEP], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())
    try:
        yield parent.pid, child_pid
    finally:
        os.kill(child_pid, 9)
        parent.wait(10)
        parent.stdout.close()


@dataclass
class Reader:
    """A vendor's reader that gives these values and processes, or fails in turn."""

    answers: Mapping[str, list[Any]]
    pids: tuple[int, ...] | Exception | None = ()
    vendor: Literal["nvidia", "amd"] = "nvidia"
    problems: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def devices(self) -> tuple[Device, ...]:
        return tuple(Device("nvidia", index, uuid, "H200", 1) for index, uuid in enumerate(self.answers))

    def sample(self, uuid: str) -> Mapping[str, float]:
        self.asked.append(uuid)
        answer = self.answers[uuid].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def process_ids(self, uuid: str) -> tuple[int, ...]:
        if isinstance(self.pids, Exception):
            raise self.pids
        return self.pids  # type: ignore[return-value]  # None is what a driver that does not say may come to

    def inspect(self, uuid: str) -> DeviceHealth:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to let go of."""


def test_what_our_processes_started_is_ours() -> None:
    """A server's children are told by their parents; a process beside it, and our own parent, are strangers."""
    with process_with_child() as (parent_pid, child_pid):
        family = Family([parent_pid])
        assert family.holds(parent_pid) is True
        assert family.holds(child_pid) is True
        assert family.holds(os.getpid()) is False
        assert Family([os.getpid()]).holds(child_pid) is True, "the grandchild"
        assert Family([child_pid]).holds(parent_pid) is False


def test_a_child_stays_ours_when_its_parent_ends() -> None:
    """An engine whose front end was killed still belongs to the server that it was seen to belong to."""
    with process_with_child() as (parent_pid, child_pid):
        family = Family([parent_pid])
        assert family.holds(child_pid) is True
        os.kill(parent_pid, 9)
        os.waitpid(parent_pid, 0)
        assert family.holds(child_pid) is True


def test_a_process_that_cannot_be_seen_is_neither() -> None:
    """One of another container, or that has just ended, is not called a stranger; nor is a pid that is none."""
    family = Family([os.getpid()])
    assert [family.holds(pid) for pid in (PID_MAX + 1, 0, -1, 2**70)] == [None] * 4


def test_a_process_that_hides_from_us_is_a_stranger(tmp_path: Path) -> None:
    """With hidepid, /proc shows only our own: what exists and is not shown is somebody else's."""
    assert Family([1], proc=tmp_path).holds(os.getpid()) is False


def test_a_device_gives_its_values_and_its_strangers() -> None:
    """Only the devices asked for are read; of their processes ours, strangers and unseen ones are told apart."""
    reader = Reader({"GPU-a": [{"power_w": 300}], "GPU-b": []}, pids=(os.getpid(), 1, PID_MAX + 1))
    told: list[str] = []
    sampler = DeviceSampler([reader], ["GPU-a"], told.append)
    assert list(sampler.samples(Family([os.getpid()]))) == [
        ("GPU-a", {"power_w": 300.0, "foreign_process_count": 1.0, "unseen_process_count": 1.0})
    ]
    assert reader.asked == ["GPU-a"]
    assert told == []


@pytest.mark.parametrize("pids", [None, RuntimeError("not supported")])
def test_processes_that_the_driver_does_not_tell_are_not_none_at_all(pids: Exception | None) -> None:
    """No count is given, rather than 0; everything else of the device still is."""
    sampler = DeviceSampler([Reader({"GPU-a": [{"power_w": 300.0}]}, pids=pids)], ["GPU-a"], lambda _: None)
    assert list(sampler.samples(Family([]))) == [("GPU-a", {"power_w": 300.0})]


def test_a_device_that_is_lost_is_told_once_a_window_and_spares_the_others() -> None:
    """Its samples are missing, `read_failed` says so once, and a device that comes back is read again."""
    lost = RuntimeError("GPU is lost")
    reader = Reader({"GPU-a": [lost, lost, {"power_w": 1.0}, lost], "GPU-b": [{"power_w": 2.0}] * 4})
    told: list[str] = []
    sampler = DeviceSampler([reader], ["GPU-a", "GPU-b"], told.append)
    taken = [{name: set(values) for name, values in sampler.samples(Family([]))} for _ in range(3)]
    counts = {"power_w", "foreign_process_count", "unseen_process_count"}
    assert taken == [
        {"GPU-a": {"read_failed"}, "GPU-b": counts},
        {"GPU-b": counts},
        {"GPU-a": counts, "GPU-b": counts},
    ]
    sampler.restart()
    assert dict(sampler.samples(Family([])))["GPU-a"] == {"read_failed": 1.0}
    assert set(told) == {"GPU-a: GPU is lost"}


def test_a_device_that_no_driver_knows_and_a_value_that_is_none_are_failures() -> None:
    """Asked for and not there is said, not left out; so is an answer that cannot be a number."""
    told: list[str] = []
    sampler = DeviceSampler([Reader({"GPU-a": [{"power_w": None}]})], ["GPU-a", "GPU-gone"], told.append)
    assert dict(sampler.samples(Family([]))) == {"GPU-a": {"read_failed": 1.0}, "GPU-gone": {"read_failed": 1.0}}
    assert any("GPU-gone: no driver" in problem for problem in told)
