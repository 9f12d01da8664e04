"""How busy the machine was, and with whose work, during one window."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU time since boot in seconds: of the whole machine, stolen by its host, and of our own processes."""

    total_s: float
    busy_s: float
    steal_s: float
    own_s: float


@dataclass(frozen=True, slots=True)
class CpuShares:
    """Shares of all CPUs over a window, each in [0, 1]."""

    foreign: float
    steal: float


def read_cpu_times(own_pids: Iterable[int], proc: Path = Path("/proc")) -> CpuTimes:
    """The counters now; a process that has ended counts nothing. Source: proc(5), /proc/stat and /proc/pid/stat."""
    values = [
        int(word) / _TICKS_PER_S for word in (proc / "stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
    ]
    user, nice, system, idle, iowait, irq, softirq, steal = values
    busy_s = user + nice + system + irq + softirq
    return CpuTimes(busy_s + idle + iowait + steal, busy_s, steal, sum(map(_process_cpu_s, own_pids)))


def _process_cpu_s(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    words = text.rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS_PER_S


def cpu_shares(before: CpuTimes, after: CpuTimes, own_cpu_s: float = 0.0) -> CpuShares:
    """What others took between two readings. Clipped to [0, 1]: the counters tick in hundredths of a second.

    `own_cpu_s`: CPU seconds of processes of ours that lived in between, and are in neither reading.
    """
    total_s = after.total_s - before.total_s
    if total_s <= 0:
        return CpuShares(0.0, 0.0)
    foreign_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s) - own_cpu_s
    return CpuShares(
        foreign=min(1.0, max(0.0, foreign_s / total_s)),
        steal=min(1.0, max(0.0, (after.steal_s - before.steal_s) / total_s)),
    )
