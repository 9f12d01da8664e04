"""NVIDIA's accelerators, read through NVML.

Source: NVML API reference, and the Python wrapper `pynvml` of the package nvidia-ml-py, 13.615. NVML speaks in MHz,
milliwatts, millijoules, percent and nanoseconds; everything here leaves in base units.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from redline.errors import AcceleratorError
from redline.model import Device, DeviceHealth
from redline.runner import pci_bus
from redline.runner.nvidia_health import COMPUTE_PROCESSES, MHZ, field_value, health, process_ids
from redline.runner.vendor_library import Absent, Failed, Questions, words_of

REASONS_THERMAL = 0x20 | 0x40  # software, hardware
REASONS_POWER = 0x04
REASONS_HARDWARE = 0x08 | 0x80  # slowdown, external power brake
POLICIES = {"violation_power_s": (0, 74), "violation_thermal_s": (1, 75)}  # perf policy, and its field value
FIELD_MEMORY_TEMPERATURE = 82
GONE = ("Uninitialized", "DriverNotLoaded", "GpuIsLost", "ResetRequired", "LibRmVersionMismatch", "GpuNotFound")
"""NVMLError_*: no value of this device will come any more."""


def open_reader(library: Any = None) -> NvidiaReader | Absent | Failed:
    """A reader of this machine's NVIDIA accelerators, or why there is none. Never raises."""
    try:
        nvml = library or importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - whatever a vendor's library does is an answer
        return _why_not(error)
    reader = NvidiaReader(nvml)
    if reader.devices() or reader.problems:
        return reader
    reader.close()
    return Absent("NVIDIA's driver is loaded and shows no accelerator")


def _why_not(error: Exception) -> Absent | Failed:
    name = type(error).__name__
    said = words_of(error)
    if name == "NVMLError_LibraryNotFound":
        return Absent(f"no NVIDIA driver on this machine ({said})")
    if name == "NVMLError_LibRmVersionMismatch":
        said += "; the driver was updated under a running kernel module: reboot, or reload the module"
    if name == "NVMLError_DriverNotLoaded":
        said += "; load it (modprobe nvidia), or give this container its devices"
    return Failed(f"NVIDIA's management library is here and cannot be used: {said}")


class NvidiaReader:
    """NVIDIA's accelerators of this machine; see AcceleratorReader. `nvml`: the module pynvml, initialised."""

    vendor: Literal["nvidia", "amd"] = "nvidia"

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._open = True
        self._handles: dict[str, Any] = {}
        self._devices: dict[str, Device] = {}
        problems: list[str] = []
        for index in range(self._count(problems)):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                device = self._device(index, handle)
            except Exception as error:  # noqa: BLE001 - one broken accelerator does not hide the others
                problems.append(f"NVIDIA accelerator {index} cannot be read: {words_of(error)}")
                continue
            self._handles[device.uuid] = handle
            self._devices[device.uuid] = device
        self.problems = tuple(problems)

    def _count(self, problems: list[str]) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetCount())
        except Exception as error:  # noqa: BLE001
            problems.append(f"NVIDIA's driver does not count its accelerators: {words_of(error)}")
            return 0

    def _device(self, index: int, handle: Any) -> Device:
        nvml = self._nvml
        bus_id = pci_bus.bus_id(_text(nvml.nvmlDeviceGetPciInfo(handle).busId))
        return Device(
            vendor="nvidia",
            index=index,
            uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
            model=_text(nvml.nvmlDeviceGetName(handle)),
            memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
            pci_bus_id=bus_id,
            numa_node=pci_bus.numa_node(bus_id),
        )

    def devices(self) -> tuple[Device, ...]:
        """The accelerators in NVML's order, which is that of the PCI bus. MIG instances are not listed."""
        return tuple(self._devices.values())

    def sample(self, uuid: str) -> Mapping[str, float]:
        """See AcceleratorReader. On a device split by MIG the driver gives no utilisation."""
        handle, ask = self._handle(uuid), self._questions(uuid)
        values: dict[str, float | None] = {
            "graphics_clock_hz": ask.number(MHZ, "nvmlDeviceGetClockInfo", handle, 0),
            "memory_clock_hz": ask.number(MHZ, "nvmlDeviceGetClockInfo", handle, 2),
            "power_w": ask.number(1e-3, "nvmlDeviceGetPowerUsage", handle),
            "power_cap_w": ask.number(1e-3, "nvmlDeviceGetEnforcedPowerLimit", handle),
            "energy_j": ask.number(1e-3, "nvmlDeviceGetTotalEnergyConsumption", handle),
            "temperature_c": ask.number(1, "nvmlDeviceGetTemperature", handle, 0),
            "memory_temperature_c": field_value(ask, handle, FIELD_MEMORY_TEMPERATURE),
        }
        utilisation = ask("nvmlDeviceGetUtilizationRates", handle)
        values["utilisation_share"] = None if utilisation is None else utilisation.gpu / 100
        memory = ask("nvmlDeviceGetMemoryInfo", handle)
        values["memory_used_bytes"] = None if memory is None else float(memory.used)
        reasons = ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
        if reasons is not None:
            values["throttled_thermal"] = float(bool(reasons & REASONS_THERMAL))
            values["throttled_power"] = float(bool(reasons & REASONS_POWER))
            values["throttled_hardware"] = float(bool(reasons & REASONS_HARDWARE))
        for name, (policy, field_id) in POLICIES.items():
            status = ask("nvmlDeviceGetViolationStatus", handle, policy)
            spent_ns = field_value(ask, handle, field_id) if status is None else float(status.violationTime)
            values[name] = None if spent_ns is None else spent_ns * 1e-9
        return ask.given(values)

    def process_ids(self, uuid: str) -> tuple[int, ...] | None:
        """See AcceleratorReader. In a container without the host's process ids the driver may show none, or its own.

        Those that compute: a desktop that only draws does not disturb a measurement, and is in `inspect`.
        """
        return process_ids(self._questions(uuid), self._handle(uuid), COMPUTE_PROCESSES)

    def inspect(self, uuid: str) -> DeviceHealth:
        """See AcceleratorReader."""
        return health(self._questions(uuid), self._handle(uuid), self._devices[uuid])

    def close(self) -> None:
        """See AcceleratorReader."""
        if self._open:
            self._open = False
            with suppress(Exception):
                self._nvml.nvmlShutdown()

    def _handle(self, uuid: str) -> Any:
        if uuid not in self._handles:
            raise AcceleratorError(
                "no such NVIDIA accelerator on this machine",
                expected=", ".join(self._handles) or "none is here",
                found=uuid,
                next_step="redline doctor lists them",
            )
        return self._handles[uuid]

    def _questions(self, uuid: str) -> Questions:
        device = self._devices[uuid]
        return Questions(self._nvml, f"{device.model} {uuid}", _is_gone)


def _is_gone(error: Exception) -> bool:
    return type(error).__name__.removeprefix("NVMLError_") in GONE


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
