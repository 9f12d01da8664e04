"""Everything NVML says of one device, for a person who is to judge it.

Source: NVML API reference. A call that a device does not know (an L40S has no MIG) is a value that is not given.
"""

from __future__ import annotations

from typing import Any

from redline.model import Device, DeviceHealth
from redline.runner.vendor_library import Questions

MHZ = 1e6
REASONS = {
    0x002: "held by an applications or locked clock",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "external power brake",
    0x100: "display clock setting",
    0x200: "board limit",
    0x400: "reliability voltage limit",
}
"""Bits of nvmlClocksEventReasons*, without 0x1: an idle device."""

COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
_VALUE_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}


def health(ask: Questions, handle: Any, device: Device) -> DeviceHealth:
    """All of it. Raises AcceleratorError if the device is gone."""
    caps = ask("nvmlDeviceGetPowerManagementLimitConstraints", handle) or (None, None)
    ecc = ask("nvmlDeviceGetEccMode", handle) or (None, None)
    retired = _retired(ask, handle)
    partition = _partition(ask, handle)
    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
    memory = ask("nvmlDeviceGetMemoryInfo", handle)
    return DeviceHealth(
        device=device,
        driver_version=_words(ask("nvmlSystemGetDriverVersion")),
        runtime_version=_cuda(ask("nvmlSystemGetCudaDriverVersion_v2")),
        vbios_version=_words(ask("nvmlDeviceGetVbiosVersion", handle)),
        graphics_clock_hz=ask.number(MHZ, "nvmlDeviceGetClockInfo", handle, 0),
        graphics_clock_hz_max=ask.number(MHZ, "nvmlDeviceGetMaxClockInfo", handle, 0),
        memory_clock_hz=ask.number(MHZ, "nvmlDeviceGetClockInfo", handle, 2),
        memory_clock_hz_max=ask.number(MHZ, "nvmlDeviceGetMaxClockInfo", handle, 2),
        power_w=ask.number(1e-3, "nvmlDeviceGetPowerUsage", handle),
        power_cap_w=ask.number(1e-3, "nvmlDeviceGetEnforcedPowerLimit", handle),
        power_cap_w_default=ask.number(1e-3, "nvmlDeviceGetPowerManagementDefaultLimit", handle),
        power_cap_w_min=None if caps[0] is None else caps[0] * 1e-3,
        power_cap_w_max=None if caps[1] is None else caps[1] * 1e-3,
        temperature_c=ask.number(1, "nvmlDeviceGetTemperature", handle, 0),
        temperature_c_slowdown=ask.number(1, "nvmlDeviceGetTemperatureThreshold", handle, 1),
        memory_temperature_c=field_value(ask, handle, 82),
        ecc=_flag(ecc[0]),
        ecc_pending=_flag(ecc[1]),
        ecc_uncorrected_count=ask("nvmlDeviceGetTotalEccErrors", handle, 1, 0),
        ecc_uncorrected_count_lifetime=ask("nvmlDeviceGetTotalEccErrors", handle, 1, 1),
        memory_retired_count=retired[0],
        memory_retirement_pending=retired[1],
        memory_retirement_failed=retired[2],
        partition=partition,
        partitioned=None if not partition else partition != "none",
        clock_policy="" if reasons is None else ("held" if reasons & 0x2 else "auto"),
        persistence_mode=_flag(ask("nvmlDeviceGetPersistenceMode", handle)),
        compute_mode=COMPUTE_MODES.get(ask("nvmlDeviceGetComputeMode", handle), ""),
        pcie_generation=ask("nvmlDeviceGetCurrPcieLinkGeneration", handle),
        pcie_generation_max=ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
        pcie_width=ask("nvmlDeviceGetCurrPcieLinkWidth", handle),
        pcie_width_max=ask("nvmlDeviceGetMaxPcieLinkWidth", handle),
        interconnect=_links(ask, handle),
        throttle_reasons=None if reasons is None else tuple(said for bit, said in REASONS.items() if reasons & bit),
        memory_used_bytes=None if memory is None else int(memory.used),
        process_ids=process_ids(ask, handle),
        unread=tuple(ask.unread),
    )


def field_value(ask: Questions, handle: Any, field_id: int) -> float | None:
    """One field value as a number; None where the driver answers the call, but not for this field."""
    answers = ask("nvmlDeviceGetFieldValues", handle, [field_id])
    if not answers or answers[0].nvmlReturn != 0:
        return None
    member = _VALUE_MEMBERS.get(int(answers[0].valueType))
    return None if member is None else float(getattr(answers[0].value, member))


COMPUTE_PROCESSES = "nvmlDeviceGetComputeRunningProcesses"
GRAPHICS_PROCESSES = "nvmlDeviceGetGraphicsRunningProcesses"


def process_ids(ask: Questions, handle: Any, *lists: str) -> tuple[int, ...] | None:
    """Every process with a context on the device in these lists (both for none), ascending; None if it does not say."""
    listed = [ask(name, handle) for name in lists or (COMPUTE_PROCESSES, GRAPHICS_PROCESSES)]
    if all(each is None for each in listed):
        return None
    return tuple(sorted({int(process.pid) for each in listed for process in each or ()}))


def _retired(ask: Questions, handle: Any) -> tuple[int | None, bool | None, bool | None]:
    """(count, pending, failed): rows remapped since Ampere, pages retired before it."""
    rows = ask("nvmlDeviceGetRemappedRows", handle)
    if rows is not None:
        correctable, uncorrectable, pending, failed = rows
        return correctable + uncorrectable, bool(pending), bool(failed)
    pages = [ask("nvmlDeviceGetRetiredPages", handle, cause) for cause in (0, 1)]
    found = [each for each in pages if each is not None]
    pending = _flag(ask("nvmlDeviceGetRetiredPagesPendingStatus", handle))
    return (sum(map(len, found)) if found else None), pending, None


def _partition(ask: Questions, handle: Any) -> str:
    """`none`, `MIG, 3 instances`, or empty where the driver does not say; a device that knows no MIG is not split."""
    unread = len(ask.unread)
    mode = ask("nvmlDeviceGetMigMode", handle)
    if mode is None:
        return "none" if any("NotSupported" in each for each in ask.unread[unread:]) else ""
    if not mode[0]:
        return "none"
    count = 0
    for index in range(ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        unread = len(ask.unread)
        count += ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, index) is not None
        del ask.unread[unread:]  # an empty place is no missing value
    return f"MIG, {count} instance" + ("" if count == 1 else "s")


def _links(ask: Questions, handle: Any) -> str:
    """`NVLink 4 x 18`; empty where the device has none, or none is up."""
    active, version = 0, None
    for link in range(getattr(ask.library, "NVML_NVLINK_MAX_LINKS", 18)):
        unread = len(ask.unread)
        state = ask("nvmlDeviceGetNvLinkState", handle, link)
        if state is None:
            del ask.unread[unread:]  # the device has no more links than this
            break
        if state:
            active += 1
            version = version or ask("nvmlDeviceGetNvLinkVersion", handle, link)
    return f"NVLink {version or '?'} x {active}" if active else ""


def _cuda(version: Any) -> str:
    """13000 is CUDA 13.0."""
    return f"CUDA {version // 1000}.{version % 1000 // 10}" if isinstance(version, int) else ""


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _words(value: Any) -> str:
    return "" if value is None else (value.decode(errors="replace") if isinstance(value, bytes) else str(value))
