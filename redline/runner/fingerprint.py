"""What decides whether results of two machines may be compared."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

from redline.model import RunnerFingerprint

CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16")
GIB = 1 << 30
CLOCK_SOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"


def _cpu_info() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n", 1)[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def memory_bytes() -> tuple[int, int]:
    """(total, available) memory of this machine in bytes. Source: /proc/meminfo."""
    entries = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    total, available = (int(entries[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    return total, available


def usable_cpu_ids() -> tuple[int, ...]:
    """The CPUs that this process may run on, ascending."""
    return tuple(sorted(os.sched_getaffinity(0)))


def split_cpus(cpu_ids: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(server CPUs, client CPUs): the last CPU for the client where there are two or more, else no pinning.

    Pinned apart, the client's stamps are not late because the server is busy.
    """
    return (cpu_ids[:-1], cpu_ids[-1:]) if len(cpu_ids) >= 2 else ((), ())


def read_fingerprint() -> RunnerFingerprint:
    """The fingerprint of this machine, read now."""
    info = _cpu_info()
    features = set(info.get("flags", info.get("Features", "")).split())
    facts = {
        "accelerator": "cpu",
        "machine": platform.machine(),
        "cpu_model": info.get("model name", platform.processor() or "unknown"),
        "cpu_count": str(len(usable_cpu_ids())),
        "cpu_features": " ".join(name for name in CPU_FEATURES if name in features),
        "memory_gib": str(round(memory_bytes()[0] / GIB)),
        "host": socket.gethostname(),
    }
    notes = {
        "kernel": platform.release(),
        "clock_source": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }
    return RunnerFingerprint(facts=facts, notes=notes)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"
