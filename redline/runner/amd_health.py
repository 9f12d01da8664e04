"""Everything AMD SMI says of one device, for a person who is to judge it.

Source: AMD SMI Python API reference. Which of the values a chip gives changes from generation to generation: MI300 has
several graphics clocks, a current and no average power, and no edge sensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redline.model import Device, DeviceHealth
from redline.runner.vendor_library import Questions, scaled

MHZ = 1e6
ROCM_VERSION_FILE = Path("/opt/rocm/.info/version")
GENERATION_BY_SPEED = {2500: 1, 5000: 2, 8000: 3, 16000: 4, 32000: 5, 64000: 6}
"""PCIe generation by transfer rate, MT/s."""

ECC_BLOCK_MEMORY = 0x1  # AmdSmiGpuBlock.UMC
PAGE_PENDING, PAGE_UNRESERVABLE = 1, 2


def health(ask: Questions, handle: Any, device: Device) -> DeviceHealth:
    """All of it. Raises AcceleratorError if the device is gone."""
    metrics = _table(ask, "amdsmi_get_gpu_metrics_info", handle)
    caps = _table(ask, "amdsmi_get_power_cap_info", handle)
    temperature, memory_temperature = temperatures_c(ask, handle, metrics)
    graphics_hz, memory_hz = clocks_hz(ask, handle, metrics)
    pcie = _table(ask, "amdsmi_get_pcie_info", handle)
    static, link = pcie.get("pcie_static", {}), pcie.get("pcie_metric", {})
    pages = _pages(ask, handle)
    compute = _partition(ask("amdsmi_get_gpu_compute_partition", handle))
    ecc = ask("amdsmi_get_gpu_ecc_enabled", handle)
    return DeviceHealth(
        device=device,
        driver_version=_text(_table(ask, "amdsmi_get_gpu_driver_info", handle).get("driver_version")),
        runtime_version=_rocm(ask("amdsmi_get_rocm_version")),
        vbios_version=_vbios(_table(ask, "amdsmi_get_gpu_vbios_info", handle)),
        graphics_clock_hz=graphics_hz,
        graphics_clock_hz_max=_clock_max_hz(ask, handle, "GFX"),
        memory_clock_hz=memory_hz,
        memory_clock_hz_max=_clock_max_hz(ask, handle, "MEM"),
        power_w=power_w(ask, handle, metrics),
        power_cap_w=power_cap_w(caps.get("power_cap")),
        power_cap_w_default=power_cap_w(caps.get("default_power_cap")),
        power_cap_w_min=power_cap_w(caps.get("min_power_cap")),
        power_cap_w_max=power_cap_w(caps.get("max_power_cap")),
        temperature_c=temperature,
        temperature_c_slowdown=_temperature_c(ask, handle, "HOTSPOT", "CRITICAL"),
        memory_temperature_c=memory_temperature,
        ecc=None if not isinstance(ecc, int) else bool(ecc & ECC_BLOCK_MEMORY),
        ecc_uncorrected_count=_whole(_table(ask, "amdsmi_get_gpu_total_ecc_count", handle).get("uncorrectable_count")),
        memory_retired_count=None if pages is None else len(pages),
        memory_retirement_pending=None if pages is None else PAGE_PENDING in pages,
        memory_retirement_failed=None if pages is None else PAGE_UNRESERVABLE in pages,
        partition=compute,
        memory_partition=_partition(ask("amdsmi_get_gpu_memory_partition", handle)),
        partitioned=None if not compute else compute not in ("SPX", "none"),
        clock_policy=_clock_policy(ask("amdsmi_get_gpu_perf_level", handle)),
        pcie_generation=GENERATION_BY_SPEED.get(link.get("pcie_speed")),
        pcie_generation_max=_whole(static.get("pcie_interface_version")),
        pcie_width=_whole(link.get("pcie_width")),
        pcie_width_max=_whole(static.get("max_pcie_width")),
        interconnect=_links(ask, handle),
        throttle_reasons=_throttle_reasons(_table(ask, "amdsmi_get_violation_status", handle)),
        memory_used_bytes=_whole(ask("amdsmi_get_gpu_memory_usage", handle, ask.member("AmdSmiMemoryType", "VRAM"))),
        process_ids=process_ids(ask, handle),
        unread=tuple(ask.unread),
    )


# --- values that a sample takes too -----------------------------------------------------------------------------


def clocks_hz(ask: Questions, handle: Any, metrics: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """(graphics, memory) clock in Hz now. Of several graphics engines the fastest: the others may sleep."""
    engines = [value for each in _list(metrics.get("current_gfxclks")) if (value := scaled(each, MHZ)) is not None]
    graphics = max(engines, default=None)
    if graphics is None:
        graphics = scaled(metrics.get("current_gfxclk"), MHZ)
    if graphics is None:
        graphics = scaled(_clock(ask, handle, "GFX").get("clk"), MHZ)
    memory = scaled(metrics.get("current_uclk"), MHZ)
    return graphics, memory if memory is not None else scaled(_clock(ask, handle, "MEM").get("clk"), MHZ)


def temperatures_c(ask: Questions, handle: Any, metrics: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """(hottest place of the chip, memory) in degrees Celsius."""
    chip, memory = scaled(metrics.get("temperature_hotspot")), scaled(metrics.get("temperature_mem"))
    if chip is None:
        chip = _temperature_c(ask, handle, "HOTSPOT", "CURRENT")
    return chip, memory if memory is not None else _temperature_c(ask, handle, "VRAM", "CURRENT")


def power_w(ask: Questions, handle: Any, metrics: Mapping[str, Any]) -> float | None:
    """What the socket draws now in W; the average of its last moments on chips before MI300."""
    for name in ("current_socket_power", "average_socket_power"):
        value = scaled(metrics.get(name))
        if value is not None:
            return value
    return scaled(_table(ask, "amdsmi_get_power_info", handle).get("socket_power"))


def power_cap_w(cap: Any) -> float | None:
    """A power cap in W: on bare metal AMD SMI says microwatts, in its host driver watts. 0 is none."""
    value = scaled(cap)
    if not value:
        return None
    return value * 1e-6 if value > 1e5 else value


def energy_j(counted: Any) -> float | None:
    """Energy drawn since the driver was loaded, in J: the accumulator times its resolution in microjoules."""
    if not isinstance(counted, Mapping):
        return None
    ticks, unit = scaled(counted.get("energy_accumulator")), scaled(counted.get("counter_resolution"))
    return None if ticks is None or unit is None else ticks * unit * 1e-6


def process_ids(ask: Questions, handle: Any) -> tuple[int, ...] | None:
    """The processes that hold memory or time of this device, ascending; None where AMD SMI does not say."""
    listed = ask("amdsmi_get_gpu_process_list", handle)
    if not isinstance(listed, list):
        return None
    return tuple(sorted({int(each["pid"]) for each in listed if isinstance(each, Mapping) and _uses(each)}))


def _uses(process: Mapping[str, Any]) -> bool:
    """Whether a listed process has anything on the device: the list names every user of the driver."""
    taken = [process.get("mem"), process.get("memory_usage", {}).get("vram_mem"), process.get("cu_occupancy")]
    return any(scaled(value) for value in taken) or all(scaled(value) is None for value in taken)


# --- the rest ---------------------------------------------------------------------------------------------------


def _table(ask: Questions, name: str, *arguments: Any) -> Mapping[str, Any]:
    found = ask(name, *arguments)
    return found if isinstance(found, Mapping) else {}


def _clock(ask: Questions, handle: Any, kind: str) -> Mapping[str, Any]:
    return _table(ask, "amdsmi_get_clock_info", handle, ask.member("AmdSmiClkType", kind))


def _clock_max_hz(ask: Questions, handle: Any, kind: str) -> float | None:
    return scaled(_clock(ask, handle, kind).get("max_clk"), MHZ)


def _temperature_c(ask: Questions, handle: Any, sensor: str, metric: str) -> float | None:
    kinds = ask.member("AmdSmiTemperatureType", sensor), ask.member("AmdSmiTemperatureMetric", metric)
    return ask.number(1, "amdsmi_get_temp_metric", handle, *kinds)


def _pages(ask: Questions, handle: Any) -> list[int] | None:
    """The status of each bad page; before ROCm 6.3 a text where there is none."""
    found = ask("amdsmi_get_gpu_bad_page_info", handle)
    if isinstance(found, str):
        return []
    if not isinstance(found, list):
        return None
    return [int(each["status"]) for each in found if isinstance(each.get("status"), int)]


def _partition(value: Any) -> str:
    return value if isinstance(value, str) and value not in ("", "N/A") else ""


def _clock_policy(level: Any) -> str:
    return level.removeprefix("AMDSMI_DEV_PERF_LEVEL_").lower() if isinstance(level, str) else ""


def _links(ask: Questions, handle: Any) -> str:
    """`XGMI to 7 others`; empty where it reaches none, or AMD SMI does not say."""
    count, xgmi = 0, ask.member("AmdSmiLinkType", "AMDSMI_LINK_TYPE_XGMI")
    for other in ask("amdsmi_get_processor_handles") or ():
        if other is handle or getattr(other, "value", other) == getattr(handle, "value", handle):
            continue
        kind = _table(ask, "amdsmi_topo_get_link_type", handle, other).get("type")
        count += kind is not None and kind == xgmi
    return f"XGMI to {count} others" if count else ""


def _throttle_reasons(status: Mapping[str, Any]) -> tuple[str, ...] | None:
    said = {
        "active_ppt_pwr": "power cap",
        "active_socket_thrm": "socket too hot",
        "active_vr_thrm": "voltage regulator too hot",
        "active_hbm_thrm": "memory too hot",
        "active_prochot_thrm": "processor hot signal",
    }
    known = {name: status[name] for name in said if isinstance(status.get(name), bool)}
    return tuple(said[name] for name, active in known.items() if active) if known else None


def _vbios(info: Mapping[str, Any]) -> str:
    return _text(info.get("part_number")) or _text(info.get("version"))


def _rocm(answer: Any) -> str:
    """(found or not, version or why) of `amdsmi_get_rocm_version`; before ROCm 6.4 a file says it."""
    if isinstance(answer, tuple) and len(answer) == 2 and answer[0]:
        return f"ROCm {answer[1]}"
    try:
        return f"ROCm {ROCM_VERSION_FILE.read_text(encoding='utf-8').strip()}"
    except OSError:
        return ""


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) and value.strip() != "N/A" else ""


def _whole(value: Any) -> int | None:
    number = scaled(value)
    return None if number is None else int(number)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
