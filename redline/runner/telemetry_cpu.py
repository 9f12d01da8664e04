"""The CPU's side of telemetry: how fast, how busy, how much of it taken by others, how long tasks waited."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from redline.runner.telemetry import CpuTimes, read_cpu_times
from redline.units import NS_PER_S

FREQUENCY_FILES_MAX = 16
CPUINFO_EVERY = 10
PRESSURES = ("cpu", "memory", "io")


@dataclass(frozen=True, slots=True)
class _Before:
    """The counters of the reading before, and when it was taken."""

    at_ns: int
    times: CpuTimes
    stalls_us: dict[str, int]


class CpuSampler:
    """Readings of this machine's CPUs, memory and stalls; shares are of the time since the reading before.

    `proc` and `cpus`: where the kernel shows itself. What it does not show is left out.
    """

    def __init__(self, proc: Path = Path("/proc"), cpus: Path = Path("/sys/devices/system/cpu")) -> None:
        self._proc = proc
        files = sorted(cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        # A host with hundreds of CPUs is sampled, evenly: reading them all costs more than it tells.
        self._frequency_files = files[:: max(1, -(-len(files) // FREQUENCY_FILES_MAX))]
        self._measured_by_cpuinfo = not files and self._has_clock_counters()
        self._count = 0
        self._before: _Before | None = None

    def restart(self) -> None:
        """Forget the reading before: the next one begins a window."""
        self._before = None
        self._count = 0

    def sample(self) -> dict[str, float]:
        """The values now, by name. Raises OSError or ValueError if /proc is not what proc(5) says."""
        now = _Before(time.monotonic_ns(), read_cpu_times((), self._proc), self._stalls_us())
        values = self._frequency() | self._memory()
        values["load_1min_count"] = float((self._proc / "loadavg").read_text(encoding="ascii").split()[0])
        if self._before is not None:
            values |= _shares(self._before, now)
        self._before = now
        self._count += 1
        return values

    def _has_clock_counters(self) -> bool:
        """True where "cpu MHz" of /proc/cpuinfo is measured; without these counters it is a constant of the model.

        Source: Linux, arch/x86/kernel/cpu/aperfmperf.c.
        """
        try:
            head = (self._proc / "cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
        except OSError:
            return False
        return "aperfmperf" in head.split()

    def _frequency(self) -> dict[str, float]:
        """The mean frequency over CPUs. Source: Linux, cpufreq: scaling_cur_freq in kHz."""
        found_hz = []
        for file in self._frequency_files:
            try:
                found_hz.append(int(file.read_text(encoding="ascii")) * 1e3)
            except (OSError, ValueError):  # a CPU that was taken offline, or says `<unknown>`
                continue
        if self._measured_by_cpuinfo and self._count % CPUINFO_EVERY == 0:
            found_hz = self._cpuinfo_hz()
        return {"frequency_hz": sum(found_hz) / len(found_hz)} if found_hz else {}

    def _cpuinfo_hz(self) -> list[float]:
        text = (self._proc / "cpuinfo").read_text(encoding="utf-8", errors="replace")
        return [float(line.split(":", 1)[1]) * 1e6 for line in text.splitlines() if line.startswith("cpu MHz")]

    def _memory(self) -> dict[str, float]:
        for line in (self._proc / "meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return {"memory_available_bytes": int(line.split()[1]) * 1024.0}
        return {}

    def _stalls_us(self) -> dict[str, int]:
        """Microseconds since boot in which some task waited, by resource; none on a kernel that does not count them."""
        found: dict[str, int] = {}
        for name in PRESSURES:
            try:
                line = (self._proc / "pressure" / name).read_text(encoding="ascii").split("\n", 1)[0]
            except OSError:
                continue
            found[name] = int(line.rpartition("total=")[2])
        return found


def _shares(before: _Before, now: _Before) -> dict[str, float]:
    """What happened between two readings, as shares. Source: Linux, Documentation/accounting/psi.rst."""
    values: dict[str, float] = {}
    total_s = now.times.total_s - before.times.total_s
    if total_s > 0:
        values["busy_share"] = _clipped((now.times.busy_s - before.times.busy_s) / total_s)
        values["steal_share"] = _clipped((now.times.steal_s - before.times.steal_s) / total_s)
    span_us = (now.at_ns - before.at_ns) * 1e6 / NS_PER_S
    if span_us > 0:
        for name in now.stalls_us.keys() & before.stalls_us.keys():
            values[f"pressure_{name}_share"] = _clipped((now.stalls_us[name] - before.stalls_us[name]) / span_us)
    return values


def _clipped(share: float) -> float:
    """The share within [0, 1]: the counters tick in hundredths of a second, and some of them may go back a little."""
    return min(1.0, max(0.0, share))
