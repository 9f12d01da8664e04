"""What decides whether results of two machines may be compared."""

from __future__ import annotations

import os
import platform as python_platform
import socket
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from redline.errors import AcceleratorError
from redline.model import DeviceHealth, RunnerFingerprint
from redline.runner.accelerators import OPENERS, OpenedReaders, Opener, opened_readers
from redline.runner.cpu_frequency import read_frequency
from redline.runner.kernel_files import KernelFiles, listed_count

CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16")
GIB = 1 << 30
VENDORS = {"cuda": "nvidia", "rocm": "amd"}
DRIVERS = {"cuda": "NVIDIA's driver", "rocm": "AMD's driver and the amdsmi of its ROCm"}
UNKNOWN = "unknown"


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

    Pinned apart, the client's stamps are not late because the server is busy. Of three or more the servers leave one
    more free: `sampler_cpus`.
    """
    if len(cpu_ids) < 2:
        return (), ()
    return cpu_ids[: -2 if len(cpu_ids) > 2 else -1], cpu_ids[-1:]


def sampler_cpus(cpu_ids: tuple[int, ...]) -> tuple[int, ...]:
    """The CPU of the telemetry sampler: one of its own where there are three, the client's of two, any of one.

    It wakes at instants of its own: on the client's CPU it would make some stamps late, on a server's a step.
    """
    return cpu_ids[-2:-1] if len(cpu_ids) > 2 else cpu_ids[1:]


def read_fingerprint(
    platform: str = "cpu", uuids: Collection[str] = (), *, openers: tuple[Opener, ...] = OPENERS
) -> RunnerFingerprint:
    """The fingerprint of this machine, read now.

    `platform`: of the runner class, `cpu`, `cuda` or `rocm`: the last two add their accelerators to the facts. `uuids`:
    only these of them, all for none. `openers`: of the vendors' libraries, other ones in tests only.
    Raises AcceleratorError if the platform's accelerators cannot be read, or one of `uuids` is not here.
    """
    facts, notes = _machine_facts(), _machine_notes()
    if platform not in VENDORS:
        return RunnerFingerprint(facts=facts, notes=notes)
    with opened_readers(openers) as opened:
        devices = _devices(platform, opened, uuids)
    return RunnerFingerprint(
        facts=facts | {"accelerator": platform} | device_facts(devices), notes=notes | device_notes(devices)
    )


# --- the machine --------------------------------------------------------------------------------------------------


def _machine_facts() -> dict[str, str]:
    """What is compared on every platform. Accepted baselines hold a digest of these: neither keys nor texts change."""
    info = KernelFiles().table("/proc/cpuinfo")
    features = set(info.get("flags", info.get("Features", "")).split())
    return {
        "accelerator": "cpu",
        "machine": python_platform.machine(),
        "cpu_model": info.get("model name", python_platform.processor() or UNKNOWN),
        "cpu_count": str(len(usable_cpu_ids())),
        "cpu_features": " ".join(name for name in CPU_FEATURES if name in features),
        "memory_gib": str(round(memory_bytes()[0] / GIB)),
        "host": socket.gethostname(),
    }


def _machine_notes() -> dict[str, str]:
    """What may change within a series, and is recorded so that a step can be traced to it."""
    files = KernelFiles()
    frequency = read_frequency(files, usable_cpu_ids())
    thp = files.text("/sys/kernel/mm/transparent_hugepage/enabled").partition("[")[2].partition("]")[0]
    numa_nodes = listed_count(files.text("/sys/devices/system/node/online"))
    return {
        "kernel": python_platform.release(),
        "clock_source": files.text("/sys/devices/system/clocksource/clocksource0/current_clocksource") or UNKNOWN,
        "microcode": files.table("/proc/cpuinfo").get("microcode", UNKNOWN),
        "governor": ", ".join(frequency.governors) or UNKNOWN,
        "frequency_driver": frequency.driver or UNKNOWN,
        "turbo": _on(frequency.turbo),
        "numa_nodes": UNKNOWN if numa_nodes is None else str(numa_nodes),
        "numa_balancing": _on(files.flag("/proc/sys/kernel/numa_balancing")),
        "smt": _on(files.flag("/sys/devices/system/cpu/smt/active")),
        "transparent_huge_pages": thp or UNKNOWN,
    }


# --- accelerators -------------------------------------------------------------------------------------------------


def _devices(platform: str, opened: OpenedReaders, uuids: Collection[str]) -> tuple[DeviceHealth, ...]:
    name = VENDORS[platform].upper()
    said = [each for each in (*opened.problems, *opened.absent) if name in each]
    readers = [reader for reader in opened.readers if reader.vendor == VENDORS[platform]]
    there = [(reader, device) for reader in readers for device in reader.devices()]
    missing = set(uuids) - {device.uuid for _, device in there}
    if not there or missing:
        raise AcceleratorError(
            f"this machine has none of the accelerators that a {platform} runner class measures on"
            if not there
            else "an accelerator that is to be measured on is not there",
            expected=f"accelerators that {DRIVERS[platform]} can read"
            if not there
            else ", ".join(sorted(uuids)) + " among " + ", ".join(device.uuid for _, device in there),
            found=", ".join(sorted(missing)) or "; ".join(said) or "none",
            next_step="redline doctor says what this machine shows; install or load the driver, give a container its "
            "devices, or choose a runner class of this machine",
        )
    return tuple(reader.inspect(device.uuid) for reader, device in there if not uuids or device.uuid in uuids)


def device_facts(devices: Sequence[DeviceHealth]) -> dict[str, str]:
    """What is compared of accelerators. What differs between them is listed, each once; what is not said is `unknown`.

    UUIDs are facts since two accelerators of one model differ by more than most changes of vLLM.
    """
    return {
        "gpu_model": _each(each.device.model for each in devices),
        "gpu_count": str(len(devices)),
        "gpu_memory_gib": _each(str(round(each.device.memory_bytes / GIB)) for each in devices),
        "gpu_uuids": " ".join(sorted(each.device.uuid for each in devices)),
        "gpu_driver": _each(each.driver_version for each in devices),
        "gpu_runtime": _each(each.runtime_version for each in devices),
        "gpu_power_cap_w": _each(_number(each.power_cap_w) for each in devices),
        "gpu_clock_max_mhz": _each(_number(each.graphics_clock_hz_max, 1e-6) for each in devices),
        "gpu_memory_clock_max_mhz": _each(_number(each.memory_clock_hz_max, 1e-6) for each in devices),
        "gpu_ecc": _each(_on(each.ecc) for each in devices),
        "gpu_partition": _each(" ".join(filter(None, (each.partition, each.memory_partition))) for each in devices),
        "gpu_interconnect": _each(each.interconnect or "none" for each in devices),
    }


def device_notes(devices: Sequence[DeviceHealth]) -> dict[str, str]:
    """What is recorded of accelerators only."""
    return {
        "gpu_vbios": _each(each.vbios_version for each in devices),
        "gpu_clock_policy": _each(each.clock_policy for each in devices),
        "gpu_persistence_mode": _each(_on(each.persistence_mode) for each in devices),
        "gpu_pcie": _each(_pcie(each) for each in devices),
        "gpu_numa_nodes": _each(str(each.device.numa_node) if each.device.numa_node >= 0 else "" for each in devices),
        "gpu_memory_retired": _each(_number(each.memory_retired_count) for each in devices),
    }


def _pcie(health: DeviceHealth) -> str:
    if health.pcie_generation_max is None or health.pcie_width is None:
        return ""
    return f"generation {health.pcie_generation_max} x{health.pcie_width}"


def _each(values: Iterable[str]) -> str:
    return ", ".join(sorted({value or UNKNOWN for value in values})) or UNKNOWN


def _number(value: float | None, unit: float = 1) -> str:
    return UNKNOWN if value is None else str(round(value * unit))


def _on(value: bool | None) -> str:
    return UNKNOWN if value is None else ("on" if value else "off")
