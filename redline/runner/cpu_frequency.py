"""How the kernel sets the clocks of the CPUs. Source: the kernel's documentation, admin-guide/pm/cpufreq."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redline.runner.kernel_files import KernelFiles

KHZ = 1e3


@dataclass(frozen=True, slots=True)
class CpuFrequency:
    """Of the CPUs looked at: their governors, the driver, the limits set (the lowest, the highest), what they could do.

    Empty and None in a virtual machine: its host decides, and does not say.
    """

    governors: tuple[str, ...] = ()
    driver: str = ""
    hz_min: float | None = None
    hz_max: float | None = None
    hz_max_hardware: float | None = None
    turbo: bool | None = None


def read_frequency(files: KernelFiles, cpu_ids: Sequence[int]) -> CpuFrequency:
    """What is set for these CPUs now."""
    folders = [f"/sys/devices/system/cpu/cpu{cpu}/cpufreq" for cpu in cpu_ids]
    governors = {files.text(f"{folder}/scaling_governor") for folder in folders} - {""}
    drivers = {files.text(f"{folder}/scaling_driver") for folder in folders} - {""}
    lowest = _khz(files, folders, "scaling_min_freq")
    highest = _khz(files, folders, "scaling_max_freq")
    possible = _khz(files, folders, "cpuinfo_max_freq")
    return CpuFrequency(
        governors=tuple(sorted(governors)),
        driver=", ".join(sorted(drivers)),
        hz_min=min(lowest, default=None),
        hz_max=min(highest, default=None),
        hz_max_hardware=max(possible, default=None),
        turbo=_turbo(files),
    )


def _khz(files: KernelFiles, folders: Sequence[str], name: str) -> list[float]:
    values = [files.number(f"{folder}/{name}") for folder in folders]
    return [value * KHZ for value in values if value]


def _turbo(files: KernelFiles) -> bool | None:
    held = files.flag("/sys/devices/system/cpu/intel_pstate/no_turbo")
    return files.flag("/sys/devices/system/cpu/cpufreq/boost") if held is None else not held
