"""Running a client: pinned, bounded, and its whole process tree's CPU time and memory sampled while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLE_S = 0.25
KILL_WAIT_S_MAX = 5.0
OUTPUT_TAIL_CHARACTERS = 600
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """The tree at one instant: CPU seconds used since its start, bytes resident (shared pages once per process)."""

    at_ns: int
    cpu_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """How a client's process ended. Times are CLOCK_MONOTONIC; `exit_code` None: it was killed at its bound."""

    exit_code: int | None
    started_ns: int
    ended_ns: int
    cpu_s: float
    samples: tuple[Sample, ...]
    output_tail: str

    @property
    def memory_bytes_max(self) -> int:
        """The largest sample; a shorter peak is not seen."""
        return max((sample.memory_bytes for sample in self.samples), default=0)

    def cpu_s_between(self, start_ns: int, end_ns: int) -> float | None:
        """CPU seconds used within an interval, interpolated between samples; None if there are too few."""
        if len(self.samples) < 2 or end_ns <= start_ns:
            return None
        at_ns = np.array([sample.at_ns for sample in self.samples], dtype=np.float64)
        cpu_s = np.maximum.accumulate(np.array([sample.cpu_s for sample in self.samples]))
        used = np.interp([start_ns, end_ns], at_ns, cpu_s)
        return float(used[1] - used[0])


def run_client(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    cpu_ids: Sequence[int],
    directory: Path,
    timeout_s: float,
    nice: int = 0,
) -> Run:
    """Run to the end or to `timeout_s`, output into `directory`/output.txt; nothing of it is left running.

    A `nice` below 0 takes rights. Raises OSError without them.
    """
    output = directory / "output.txt"
    before_s = children_cpu_s()
    with output.open("wb") as stream, pinned(cpu_ids), _niced(nice):
        started_ns = time.monotonic_ns()
        process = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
            start_new_session=True,
        )
    if nice:
        with suppress(OSError):  # sessions share the CPU before niceness counts, where there are autogroups
            Path(f"/proc/{process.pid}/autogroup").write_text(f"{nice}\n", encoding="ascii")
    watch = _Watch(process.pid)
    try:
        exit_code: int | None = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        exit_code = None
    finally:
        ended_ns = time.monotonic_ns()
        samples = watch.stop()
        _end(process, watch.pids)
    tail = output.read_text(encoding="utf-8", errors="replace").strip()[-OUTPUT_TAIL_CHARACTERS:]
    return Run(exit_code, started_ns, ended_ns, children_cpu_s() - before_s, samples, tail)


@contextmanager
def pinned(cpu_ids: Sequence[int]) -> Iterator[None]:
    """This thread on `cpu_ids`, so that what it starts is born there; afterwards where it was."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cpu_ids) or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _niced(nice: int) -> Iterator[None]:
    """This thread at another niceness, for what it starts; afterwards back at its own."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if nice:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    try:
        yield
    finally:
        if nice:
            os.setpriority(os.PRIO_PROCESS, 0, before)


@contextmanager
def hogs(count: int, cpu_ids: Sequence[int], program: Sequence[str]) -> Iterator[None]:
    """`count` processes of `program` (busy loops) on the client's CPUs; ended on the way out."""
    with pinned(cpu_ids):
        started = [subprocess.Popen(list(program), stdin=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait(KILL_WAIT_S_MAX)


class _Watch:
    """A thread that samples a process tree until it is stopped. `pids`: every process ever seen in it."""

    def __init__(self, pid: int) -> None:
        self._root = pid
        self._samples: list[Sample] = []
        self._stopped = threading.Event()
        self.pids: set[int] = {pid}
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)
        self._thread.start()

    def stop(self) -> tuple[Sample, ...]:
        """End the sampling; every sample in order."""
        self._stopped.set()
        self._thread.join(KILL_WAIT_S_MAX)
        return tuple(self._samples)

    def _sample_until_stopped(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            pids = tree_of(self._root)
            self.pids.update(pids)
            cpu_s, memory_bytes = 0.0, 0
            for pid in pids:
                used = _read_stat(pid)
                if used is not None:
                    cpu_s += used[0]
                    memory_bytes += used[1]
            if memory_bytes:
                self._samples.append(Sample(time.monotonic_ns(), cpu_s, memory_bytes))


def tree_of(root: int) -> tuple[int, ...]:
    """The process and all its living descendants."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with suppress(OSError):  # it may end while it is looked at
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                with suppress(OSError):
                    waiting += [int(child) for child in path.read_text().split()]
    return tuple(found)


def resident_bytes(pid: int) -> int:
    """Memory of a process that is resident now; 0 if it is gone."""
    used = _read_stat(pid)
    return used[1] if used is not None else 0


def _read_stat(pid: int) -> tuple[float, int] | None:
    """(CPU seconds of the process and of its children that ended, resident bytes); None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    # Fields 14 to 17 and 24 of proc(5), counted from field 3: utime, stime, cutime, cstime; rss.
    return sum(int(value) for value in fields[11:15]) / _TICKS_PER_S, int(fields[21]) * _PAGE_BYTES


def children_cpu_s() -> float:
    """CPU seconds of every process of ours that has ended so far, its descendants included."""
    times = os.times()
    return times.children_user + times.children_system


def _end(process: subprocess.Popen[bytes], pids: set[int]) -> None:
    """Kill what is left: the session's process group, and descendants that left it but are still in our session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in pids - {process.pid}:
        with suppress(ProcessLookupError):
            if (
                os.getsid(pid) == process.pid
            ):  # a number that was given to somebody else's process meanwhile is not ours
                os.kill(pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(KILL_WAIT_S_MAX)
