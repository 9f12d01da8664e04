"""The machine is read for real: its fingerprint, its CPU times, its lock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redline.deploy.affinity import pin
from redline.errors import RunnerBusyError
from redline.runner.fingerprint import read_fingerprint, sampler_cpus, split_cpus, usable_cpu_ids
from redline.runner.lock import runner_lock
from redline.runner.telemetry import CpuTimes, cpu_shares, read_cpu_times

SPIN = "import time\nend = time.monotonic() + 600\nwhile time.monotonic() < end: pass\n"


def test_the_fingerprint_is_stable_and_names_the_machine() -> None:
    """Two readings agree, and the facts that decide comparability are there."""
    first, second = read_fingerprint(), read_fingerprint()
    assert first.fingerprint_id == second.fingerprint_id
    assert {"cpu_model", "cpu_count", "memory_gib", "host"} <= set(first.facts)
    assert all(first.facts["cpu_count"] for _ in range(1))


def test_cpus_are_split_between_server_and_client() -> None:
    """The client has a CPU of its own where there are two, the sampler where there are three; of one nobody has."""
    assert (split_cpus((0, 1, 2, 3)), sampler_cpus((0, 1, 2, 3))) == (((0, 1), (3,)), (2,))
    assert (split_cpus((4, 6, 9)), sampler_cpus((4, 6, 9))) == (((4,), (9,)), (6,))
    assert (split_cpus((0, 1)), sampler_cpus((0, 1))) == (((0,), (1,)), (1,))
    assert (split_cpus((0,)), sampler_cpus((0,))) == (((), ()), ())


def test_a_process_that_burns_cpu_is_foreign_unless_it_is_ours() -> None:
    """The share of a busy process counts as foreign, and as nothing once its pid is called ours.

    The process says what it got: on a busy machine that may be little.
    """
    burner = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        time.sleep(0.3)
        before, begin_s = _read_together(burner.pid)
        time.sleep(1.0)
        after, end_s = _read_together(burner.pid)
    finally:
        burner.kill()
        burner.wait(10)
    foreign = cpu_shares(before[0], after[0]).foreign
    ours = cpu_shares(before[1], after[1]).foreign
    spent_s = end_s - begin_s
    assert spent_s > 0
    assert foreign - ours == pytest.approx(spent_s / (after[0].total_s - before[0].total_s), rel=0.3, abs=0.03)


def _read_together(pid: int) -> tuple[tuple[CpuTimes, CpuTimes], float]:
    """(the machine's times with `pid` as a stranger's and as ours, its own CPU seconds), read with no pause between."""
    for _ in range(100):
        begin_s = time.monotonic()
        times, spent_s = (read_cpu_times([]), read_cpu_times([pid])), _cpu_s(pid)
        if time.monotonic() - begin_s < 0.05:
            return times, spent_s
    raise AssertionError("this machine lets nobody read three files at once")


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used. Source: proc(5), fields 14 and 15 of stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_pinning_moves_every_thread() -> None:
    """After pinning, each thread of the process may run on the given CPU only."""
    program = "import threading, time\nfor _ in range(3): threading.Thread(target=time.sleep, args=(300,)).start()\n"
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        tasks = Path(f"/proc/{process.pid}/task")
        deadline = time.monotonic() + 60
        while len(list(tasks.iterdir())) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        pin([process.pid, 2**22 + 1], usable_cpu_ids()[:1])
        assert {frozenset(os.sched_getaffinity(int(task.name))) for task in tasks.iterdir()} == {
            frozenset(usable_cpu_ids()[:1])
        }
    finally:
        process.kill()
        process.wait(10)


def test_the_machine_is_held_alone_and_freed_by_death(tmp_path: Path) -> None:
    """A second measurement is refused with the holder's pid; kill -9 of the holder frees the machine."""
    path = tmp_path / "lock"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom redline.runner.lock import runner_lock\n"
        "with runner_lock(1, print, Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    told: list[str] = []
    with pytest.raises(RunnerBusyError, match="another measurement") as caught, runner_lock(0.6, told.append, path):
        pass
    assert f"process {holder.pid}" in str(caught.value)
    assert len(told) == 1
    holder.kill()
    holder.wait(10)
    with runner_lock(60, told.append, path):
        pass
