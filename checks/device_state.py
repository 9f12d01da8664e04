"""What the state of one accelerator does to a measurement on it, and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from redline.model import DeviceHealth, HealthyHost, Severity

POWER_CAP_SHARE_MIN = 0.98  # of the default: drivers round
IDLE_TEMPERATURE_C_MAX = 80
SLOWDOWN_MARGIN_C = 5
MEMORY_USED_SHARE_MAX = 0.03  # a driver keeps some for itself
NVIDIA_HELD = "held by an applications or locked clock"


@dataclass(frozen=True, slots=True)
class DeviceSaid:
    """A finding about one device; those of several devices that say the same become one."""

    topic: str
    severity: Severity
    found: str
    effect: str = ""
    mend: str = ""


def said_of(health: DeviceHealth, limits: HealthyHost) -> Iterable[DeviceSaid]:
    """Everything there is to say of a device, by the general limits and those of its class."""
    yield from _identity(health, limits)
    yield from _power(health, limits)
    yield from _heat(health, limits)
    yield from _clocks(health)
    yield from _ecc(health, limits)
    yield from _memory_errors(health)
    yield from _partition(health, limits)
    yield from _modes(health, limits)
    yield from _link(health)
    yield from _others(health)


# --- one device -------------------------------------------------------------------------------------------------


def _identity(health: DeviceHealth, limits: HealthyHost) -> Iterator[DeviceSaid]:
    device = health.device
    words = (
        device.model,
        f"{device.memory_bytes / (1 << 30):.0f} GiB",
        f"driver {health.driver_version or 'unknown'}",
        health.runtime_version,
        health.interconnect,
        f"max {health.graphics_clock_hz_max / 1e6:.0f} MHz" if health.graphics_clock_hz_max else "",
    )
    yield DeviceSaid("model", Severity.OK, ", ".join(word for word in words if word))
    if device.memory_bytes < limits.device_memory_bytes_min:
        yield DeviceSaid(
            "memory",
            Severity.UNFIT,
            f"{device.memory_bytes / 1e9:.1f} GB, the class asks for {limits.device_memory_bytes_min / 1e9:.1f} GB",
            "this is another model, or only a part of one",
            "choose the class of this machine",
        )
    if limits.driver_version_min and not _at_least(health.driver_version, limits.driver_version_min):
        yield DeviceSaid(
            "driver",
            Severity.UNFIT,
            f"{health.driver_version or 'unknown'}, the class asks for {limits.driver_version_min} or later",
            "kernels are compiled or chosen otherwise: results are not those of the class",
            "install that driver and reboot",
        )


def _at_least(found: str, wanted: str) -> bool:
    """Whether a version is at least another, number by number; an unknown one is not."""
    numbers = [[int(number) for number in re.findall(r"\d+", text)] for text in (found, wanted)]
    return bool(numbers[0]) and numbers[0] >= numbers[1]


def _power(health: DeviceHealth, limits: HealthyHost) -> Iterator[DeviceSaid]:
    cap, default, wanted = health.power_cap_w, health.power_cap_w_default, limits.power_cap_w_min
    effect = "under load clocks fall until the power fits: throughput is that of a smaller accelerator"
    mend = (
        f"nvidia-smi -pl {wanted or default or 0:.0f}"
        if health.device.vendor == "nvidia"
        else f"amd-smi set --power-cap {wanted or default or 0:.0f}"
    )
    if wanted and (cap is None or cap < wanted):
        said = "unknown" if cap is None else f"{cap:.0f} W"
        yield DeviceSaid("power cap", Severity.UNFIT, f"{said}, the class asks for {wanted:.0f} W", effect, mend)
    elif cap is not None and default is not None and cap < POWER_CAP_SHARE_MIN * default:
        yield DeviceSaid("power cap", Severity.WARNING, f"{cap:.0f} W of {default:.0f} W", effect, mend)
    elif cap is not None:
        yield DeviceSaid("power cap", Severity.OK, f"{cap:.0f} W")


def _heat(health: DeviceHealth, limits: HealthyHost) -> Iterator[DeviceSaid]:
    found, slowdown = health.temperature_c, health.temperature_c_slowdown
    if found is None:
        if limits.temperature_c_max:
            yield DeviceSaid("temperature", Severity.WARNING, "not given", "nobody can tell whether it is too hot")
        return
    effect = "hot devices lower their clocks, and leak more power under the same cap"
    mend = "look at fans, filters, inlet air and the neighbours in the rack; let it cool between runs"
    if limits.temperature_c_max and found > limits.temperature_c_max:
        said = f"{found:.0f} °C, the class allows {limits.temperature_c_max:.0f} °C"
        yield DeviceSaid("temperature", Severity.UNFIT, said, effect, mend)
    elif found > min(IDLE_TEMPERATURE_C_MAX, (slowdown or 1000) - SLOWDOWN_MARGIN_C):
        yield DeviceSaid("temperature", Severity.WARNING, f"{found:.0f} °C before any load", effect, mend)
    else:
        yield DeviceSaid("temperature", Severity.OK, "cool")


def _clocks(health: DeviceHealth) -> Iterator[DeviceSaid]:
    reasons = [each for each in health.throttle_reasons or () if each != NVIDIA_HELD]
    if reasons:
        yield DeviceSaid(
            "throttling",
            Severity.WARNING,
            f"held back now by {', '.join(reasons)}",
            "clocks are below what was asked for although nothing is measured; under load it gets worse",
            "nvidia-smi -q -d PERFORMANCE,POWER,TEMPERATURE" if health.device.vendor == "nvidia" else "amd-smi metric",
        )
    else:
        said = "none" if health.throttle_reasons is not None else "not given"
        yield DeviceSaid("throttling", Severity.OK, said)
    policy = health.clock_policy
    if policy in ("low", "manual", "stable_min_mclk", "stable_min_sclk"):
        yield DeviceSaid(
            "clocks",
            Severity.WARNING,
            f"performance level {policy}",
            "clocks are held at less than the device can do",
            "amd-smi set --perf-level auto, or --perf-determinism MHZ for steady clocks",
        )
    elif policy:
        held = policy != "auto"
        yield DeviceSaid("clocks", Severity.OK, f"held ({policy})" if held else "automatic")


def _ecc(health: DeviceHealth, limits: HealthyHost) -> Iterator[DeviceSaid]:
    if limits.ecc is not None and health.ecc is not limits.ecc:
        state = {None: "unknown", True: "on", False: "off"}
        yield DeviceSaid(
            "ECC",
            Severity.UNFIT,
            f"{state[health.ecc]}, the class has it {state[limits.ecc]}",
            "memory is larger and faster without it: results are not those of the class",
            _set_ecc(health, on=limits.ecc),
        )
    elif health.ecc is False:
        yield DeviceSaid(
            "ECC",
            Severity.NOTE,
            "off",
            "memory errors go unseen, and results differ from devices that have it on",
            _set_ecc(health, on=True),
        )
    elif health.ecc:
        yield DeviceSaid("ECC", Severity.OK, "on")
    if health.ecc is not None and health.ecc_pending is not None and health.ecc is not health.ecc_pending:
        yield DeviceSaid(
            "ECC",
            Severity.WARNING,
            f"will be {'on' if health.ecc_pending else 'off'} after the next reset",
            "one restart of the host changes memory size and speed in the middle of a series",
            "reset the device now (nvidia-smi --gpu-reset), or undo the change",
        )


def _memory_errors(health: DeviceHealth) -> Iterator[DeviceSaid]:
    if health.ecc_uncorrected_count:
        yield DeviceSaid(
            "memory errors",
            Severity.UNFIT,
            f"{health.ecc_uncorrected_count} uncorrected since the driver was loaded",
            "wrong answers and killed servers; the page is in use until the device is reset",
            "reset the device or reboot; if they come again, have it exchanged",
        )
    if health.memory_retirement_failed:
        yield DeviceSaid(
            "memory errors",
            Severity.UNFIT,
            "failed memory could not be replaced by a spare",
            "the device returns errors in use",
            "have it exchanged",
        )
    elif health.memory_retirement_pending:
        yield DeviceSaid(
            "memory errors",
            Severity.WARNING,
            "failed memory is to be replaced by a spare at the next reset",
            "until then the failed place is in use",
            "reset the device or reboot",
        )
    elif health.memory_retired_count or health.ecc_uncorrected_count_lifetime:
        yield DeviceSaid(
            "memory errors",
            Severity.NOTE,
            f"{health.memory_retired_count or 0} places replaced by spares, "
            f"{health.ecc_uncorrected_count_lifetime or 0} uncorrected errors in its life",
            "the device works on; more of them announce a failure",
            "watch it",
        )


def _set_ecc(health: DeviceHealth, *, on: bool) -> str:
    if health.device.vendor == "nvidia":
        return f"nvidia-smi -e {int(on)}, then reset or reboot"
    return f"amdgpu.ras_enable={int(on)} on the kernel's command line, then reboot"


def _partition(health: DeviceHealth, limits: HealthyHost) -> Iterator[DeviceSaid]:
    said = " ".join(word for word in (health.partition, health.memory_partition) if word) or "not given"
    effect = "a part has its own share of cores, memory and bandwidth, and shares power and heat with the others"
    mend = "nvidia-smi -mig 0" if health.device.vendor == "nvidia" else "amd-smi set --compute-partition SPX"
    if limits.partitioned is not None and health.partitioned is not limits.partitioned:
        wanted = "split" if limits.partitioned else "whole devices"
        yield DeviceSaid("partition", Severity.UNFIT, f"{said}, the class asks for {wanted}", effect, mend)
    elif health.partitioned and limits.partitioned is None:
        yield DeviceSaid("partition", Severity.WARNING, said, effect, mend)
    else:
        yield DeviceSaid("partition", Severity.OK, said)


def _modes(health: DeviceHealth, limits: HealthyHost) -> Iterator[DeviceSaid]:
    if health.persistence_mode is False:
        yield DeviceSaid(
            "persistence mode",
            Severity.UNFIT if limits.persistence_mode else Severity.WARNING,
            "off",
            "the driver lets go of an idle device: every start is slower, and clocks that were set are forgotten",
            "nvidia-smi -pm 1, or systemctl enable --now nvidia-persistenced",
        )
    elif health.persistence_mode:
        yield DeviceSaid("persistence mode", Severity.OK, "on")
    if health.compute_mode == "prohibited":
        yield DeviceSaid("compute mode", Severity.UNFIT, "prohibited", "no program may use it", "nvidia-smi -c 0")
    elif health.compute_mode.startswith("exclusive"):
        yield DeviceSaid(
            "compute mode",
            Severity.WARNING,
            health.compute_mode,
            "only one process may use it: a second server on the same device does not start",
            "nvidia-smi -c 0, or arms_resident_max = 1 and one server for each device",
        )


def _link(health: DeviceHealth) -> Iterator[DeviceSaid]:
    width, width_max = health.pcie_width, health.pcie_width_max
    speed, speed_max = health.pcie_generation, health.pcie_generation_max
    if not width or not width_max:
        return
    said = f"generation {speed or '?'} of {speed_max or '?'}, x{width} of x{width_max}"
    if width < width_max:
        yield DeviceSaid(
            "PCIe",
            Severity.WARNING,
            said,
            "a narrower link loads weights and moves KV blocks more slowly; lanes do not come back under load",
            "reseat the card or its riser, look for bifurcation in the firmware",
        )
    elif speed and speed_max and speed < speed_max:
        yield DeviceSaid(
            "PCIe",
            Severity.NOTE,
            said,
            "an idle link may sleep at a lower generation and wake under load; if it does not, transfers are slow",
            "look again under load",
        )
    else:
        yield DeviceSaid("PCIe", Severity.OK, said)


def _others(health: DeviceHealth) -> Iterator[DeviceSaid]:
    used = (health.memory_used_bytes or 0) / max(1, health.device.memory_bytes)
    effect = "they take its time, memory and power: a server starts with less KV cache, or not at all"
    if health.process_ids:
        yield DeviceSaid(
            "other processes",
            Severity.UNFIT if used > MEMORY_USED_SHARE_MAX else Severity.WARNING,
            f"processes {', '.join(map(str, health.process_ids))}, {used:.0%} of its memory in use",
            effect,
            "end them; a runner runs one job at a time, and nothing else on its accelerators",
        )
    elif used > MEMORY_USED_SHARE_MAX:
        yield DeviceSaid(
            "other processes",
            Severity.UNFIT,
            f"{used:.0%} of its memory in use by processes that cannot be seen from here",
            effect,
            "look on the host (nvidia-smi, amd-smi process), or as root; end them",
        )
    else:
        yield DeviceSaid("other processes", Severity.OK, "none" if health.process_ids is not None else "not given")
