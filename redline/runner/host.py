"""What the kernel says of this machine, as far as it decides whether one can measure here. Changes nothing."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from pathlib import Path
from typing import Any

from redline.model import HostReading
from redline.runner import pci_bus
from redline.runner.busy_processes import watch
from redline.runner.cgroup import read_allowance
from redline.runner.cpu_frequency import read_frequency
from redline.runner.kernel_files import KernelFiles, listed_count

SAMPLE_S = 0.5
BUSY_SHARE_MIN = 0.05
CLOCK_SOURCES = "/sys/devices/system/clocksource/clocksource0"
CPUS = "/sys/devices/system/cpu"
CLOCK_READS, CLOCK_ROUNDS = 2000, 5
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


def read_host(state_dir: Path, *, sample_s: float = SAMPLE_S, files: KernelFiles | None = None) -> HostReading:
    """The machine now; takes `sample_s` seconds, four times as long again if it is busy. `state_dir`: of the trials.

    `files`: the kernel's files, `/` but for tests; what system calls say is always of this machine.
    """
    files = files or KernelFiles()
    shares, busy = watch(sample_s)
    if shares.foreign + shares.steal > BUSY_SHARE_MIN:  # it may have been a moment: a program starting, a cron job
        sample_s *= 4
        shares, busy = watch(sample_s)
    cpu_ids = sorted(os.sched_getaffinity(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    info = files.table("/proc/cpuinfo")
    return HostReading(
        kernel=os.uname().release,
        cpu_model=info.get("model name", "") or info.get("Processor", "") or os.uname().machine,
        cpu_count=len(cpu_ids),
        cpu_count_online=listed_count(files.text(f"{CPUS}/online")) or os.cpu_count() or len(cpu_ids),
        load_1min=_load_1min(files),
        steal_share_boot=_steal_share(files),
        state_dir=str(state_dir),
        disk_bytes_free=_bytes_free(_existing(state_dir))[1],
        open_files_soft=soft,
        open_files_hard=hard,
        sample_s=sample_s,
        foreign_cpu_share=shares.foreign,
        steal_share=shares.steal,
        busy_processes=busy,
        **_memory(files),
        **_clock(files),
        **_cpus(files, info, cpu_ids),
        **_pressure(files),
        **_shm(files),
        transparent_huge_pages=_chosen(files.text("/sys/kernel/mm/transparent_hugepage/enabled")),
        virtualisation=_virtualisation(files, info),
        container=_container(files),
        pci_accelerators=pci_bus.accelerators(files.path("/sys/bus/pci/devices")),
    )


# --- parts ------------------------------------------------------------------------------------------------------


def _memory(files: KernelFiles) -> dict[str, Any]:
    """Memory in bytes; what is available is what the cgroup leaves of it."""
    entries = {key: _kib(value) for key, value in files.table("/proc/meminfo").items()}
    allowance = read_allowance(files)
    total, available = entries.get("MemTotal", 0), entries.get("MemAvailable", 0)
    limit = allowance.memory_bytes
    if limit is not None and limit >= total > 0:
        limit = None
    if limit is not None:
        available = min(available, max(0, limit - allowance.memory_bytes_used))
    return {
        "memory_bytes": total,
        "memory_bytes_available": available,
        "memory_bytes_limit": limit,
        "swap_bytes_used": entries.get("SwapTotal", 0) - entries.get("SwapFree", 0),
        "cpu_quota": allowance.cpus,
    }


def _kib(text: str) -> int:
    word = text.partition(" ")[0]
    return int(word) * 1024 if word.isdecimal() else 0


def _clock(files: KernelFiles) -> dict[str, Any]:
    return {
        "clock_source": files.text(f"{CLOCK_SOURCES}/current_clocksource"),
        "clock_sources": tuple(files.text(f"{CLOCK_SOURCES}/available_clocksource").split()),
        "clock_read_s": clock_read_s(),
        "clock_synchronised": clock_synchronised(),
    }


def clock_read_s() -> float:
    """Seconds that one reading of the monotonic clock takes from Python: the quickest of five rounds."""
    rounds = []
    for _ in range(CLOCK_ROUNDS):
        start_ns = time.perf_counter_ns()
        for _ in range(CLOCK_READS):
            time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        rounds.append(time.perf_counter_ns() - start_ns)
    return min(rounds) / CLOCK_READS * 1e-9


def clock_synchronised() -> bool | None:
    """Whether the kernel calls its clock synchronised; None where it may not be asked. Source: adjtimex(2), modes 0."""
    try:
        timex = ctypes.create_string_buffer(512)  # longer than struct timex; zeros ask and change nothing
        state = int(ctypes.CDLL(None, use_errno=True).adjtimex(timex))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR


def _cpus(files: KernelFiles, info: dict[str, str], cpu_ids: list[int]) -> dict[str, Any]:
    frequency = read_frequency(files, cpu_ids)
    return {
        "microcode": info.get("microcode", ""),
        "smt": files.flag(f"{CPUS}/smt/active"),
        "numa_node_count": listed_count(files.text("/sys/devices/system/node/online")),
        "numa_balancing": files.flag("/proc/sys/kernel/numa_balancing"),
        "governors": frequency.governors,
        "frequency_driver": frequency.driver,
        "frequency_hz_min": frequency.hz_min,
        "frequency_hz_max": frequency.hz_max,
        "frequency_hz_max_hardware": frequency.hz_max_hardware,
        "turbo": frequency.turbo,
    }


def _pressure(files: KernelFiles) -> dict[str, Any]:
    """Share of the last ten seconds in which something waited. Source: the kernel's accounting/psi."""
    found: dict[str, float | None] = {}
    for kind in ("cpu", "memory", "io"):
        words = files.text(f"/proc/pressure/{kind}").split()
        values = [word.removeprefix("avg10=") for word in words[:2] if word.startswith("avg10=")]
        found[f"pressure_{kind}_share"] = float(values[0]) / 100 if values else None
    return found


def _shm(files: KernelFiles) -> dict[str, Any]:
    total, free = _bytes_free(files.path("/dev/shm")) if files.exists("/dev/shm") else (None, None)  # noqa: S108
    return {"shm_bytes": total, "shm_bytes_free": free}


def _bytes_free(path: Path) -> tuple[int, int]:
    """(size, free for us) of the file system that holds a path, in bytes."""
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists already."""
    for each in (path.absolute(), *path.absolute().parents):
        try:
            each.stat()
        except OSError:  # not there, or closed to us
            continue
        return each
    return Path("/")


def _load_1min(files: KernelFiles) -> float:
    words = files.text("/proc/loadavg").split()
    return float(words[0]) if words else 0.0


def _steal_share(files: KernelFiles) -> float:
    """What the machine's host took of all CPU time since boot. Source: proc(5), /proc/stat."""
    words = files.text("/proc/stat").split("\n", 1)[0].split()[1:9]
    total = sum(int(word) for word in words)
    return int(words[7]) / total if len(words) == 8 and total else 0.0


def _chosen(text: str) -> str:
    """`madvise` of `always [madvise] never`."""
    return text.partition("[")[2].partition("]")[0]


def _virtualisation(files: KernelFiles, info: dict[str, str]) -> str:
    """What kind of virtual machine this is, in words; empty for none that can be seen."""
    names = [files.text(f"/sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")]
    maker = " ".join(name for name in names if name)
    hypervisor = files.text("/sys/hypervisor/type")
    known = ("QEMU", "KVM", "Amazon EC2", "Google Compute Engine", "VMware", "VirtualBox", "Virtual Machine", "Xen")
    if "hypervisor" in info.get("flags", "").split() or hypervisor or any(name in maker for name in known):
        return " ".join(word for word in ("virtual machine", hypervisor, f"({maker})" if maker else "") if word)
    return ""


def _container(files: KernelFiles) -> str:
    """Which kind of container this is; empty for none that can be seen."""
    if files.exists("/.dockerenv"):
        return "docker"
    if files.exists("/run/.containerenv"):
        return "podman"
    groups = files.text("/proc/1/cgroup")
    return next((name for name in ("kubepods", "docker", "containerd", "lxc") if name in groups), "")
