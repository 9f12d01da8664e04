"""Who takes CPU time on this machine now. Source: proc(5), /proc/pid/stat."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redline.model import BusyProcess
from redline.runner.telemetry import CpuShares, cpu_shares, read_cpu_times

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
NAMED_MAX = 5
CPU_SHARE_MIN = 0.05  # of one CPU; counters tick in hundredths of a second


@dataclass(frozen=True, slots=True)
class _Process:
    name: str
    parent: int
    started: int
    cpu_s: float


def watch(sample_s: float) -> tuple[CpuShares, tuple[BusyProcess, ...]]:
    """What others took of all CPUs in the next `sample_s` seconds, and who took most of it, busiest first.

    Our own process and all below it are not others. Processes that are hidden from us count in the shares only.
    """
    before = _processes()
    ours = _below(os.getpid(), before)
    times, start_s = read_cpu_times(ours), time.monotonic()
    time.sleep(sample_s)
    shares = cpu_shares(times, read_cpu_times(ours))
    passed_s, after = time.monotonic() - start_s, _processes()
    ours |= _below(os.getpid(), after)
    busy = [
        BusyProcess(pid, process.name, (process.cpu_s - _spent_s(before.get(pid), process)) / passed_s)
        for pid, process in after.items()
        if pid not in ours
    ]
    named = [each for each in busy if each.cpu_share >= CPU_SHARE_MIN]
    return shares, tuple(sorted(named, key=lambda each: -each.cpu_share)[:NAMED_MAX])


def _spent_s(before: _Process | None, after: _Process) -> float:
    """CPU seconds that the same process had at first; 0 for one that was started since, under whatever number."""
    return before.cpu_s if before is not None and before.started == after.started else 0.0


def _processes() -> dict[int, _Process]:
    """Every process that can be seen; one that ends meanwhile is left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        head, _, tail = text.rpartition(")")  # a name may hold brackets and blanks
        words = tail.split()
        if len(words) > 19:
            cpu_s = (int(words[11]) + int(words[12])) / _TICKS_PER_S
            found[int(entry.name)] = _Process(head.partition("(")[2], int(words[1]), int(words[19]), cpu_s)
    return found


def _below(pid: int, processes: Mapping[int, _Process]) -> frozenset[int]:
    """The process and all its descendants."""
    found = {pid}
    while more := {each for each, process in processes.items() if process.parent in found} - found:
        found |= more
    return frozenset(found)
