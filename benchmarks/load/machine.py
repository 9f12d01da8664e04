"""Where the benchmark ran, and which CPU does what."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cpus:
    """The client's CPU, the stand-in's, and the suite's own (the stand-in's where there are only two)."""

    client: int
    server: int
    suite: int


def choose_cpus() -> Cpus:
    """The first three that this process may use. Raises ValueError with fewer than two."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise ValueError("the client and the stand-in need a CPU each: this process may use only one")
    return Cpus(client=usable[0], server=usable[1], suite=usable[2] if len(usable) > 2 else usable[1])


def steal_s() -> float:
    """CPU seconds that the hypervisor has taken from this machine since it started. Source: proc_stat(5)."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()
    return int(fields[8]) / _TICKS_PER_S


def busy_s(cpu: int) -> float:
    """CPU seconds that processes have used on one CPU since the machine started: user, nice and system."""
    for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines():
        name, *fields = line.split()
        if name == f"cpu{cpu}":
            return sum(int(value) for value in fields[:3]) / _TICKS_PER_S
    raise ValueError(f"this machine has no CPU {cpu}")


def describe(cpus: Cpus) -> dict[str, object]:
    """The machine's facts, for the result file."""
    names = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    }
    memory = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()[0].split()[1]
    return {
        "cpu": sorted(names),
        "cpu_count": os.cpu_count(),
        "memory_bytes": int(memory) * 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_before": os.getloadavg()[0],
        "client_cpu": cpus.client,
        "server_cpu": cpus.server,
        "suite_cpu": cpus.suite,
    }
