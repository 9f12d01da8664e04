"""Are the accelerators of this machine fit to measure, and are they those of the runner class?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from checks.device_state import DeviceSaid, said_of
from redline.model import DeviceHealth, HealthyHost, HostFinding, MachineReading, RunnerClass, Severity

VENDORS = {"cuda": "nvidia", "rocm": "amd"}
TOPIC = "accelerators"
NO_LIMITS = HealthyHost()


def device_findings(reading: MachineReading, runner_class: RunnerClass | None) -> tuple[HostFinding, ...]:
    """The findings about accelerators. On a class whose platform uses none, or that serves elsewhere, only that."""
    if runner_class is not None and (runner_class.platform not in VENDORS or runner_class.deployer != "host"):
        why = (
            "it serves in a cluster" if runner_class.deployer != "host" else f"its platform is {runner_class.platform}"
        )
        return (HostFinding(TOPIC, Severity.OK, f"none is used by class {runner_class.name}: {why}"),)
    vendor = VENDORS[runner_class.platform] if runner_class is not None else None
    devices = [each for each in reading.devices if vendor in (None, each.device.vendor)]
    limits = (runner_class.healthy if runner_class is not None else None) or NO_LIMITS
    return (
        *_presence(reading, devices, runner_class),
        *_uniformity(devices),
        *_grouped(devices, limits),
    )


def _presence(
    reading: MachineReading, devices: Sequence[DeviceHealth], runner_class: RunnerClass | None
) -> Iterator[HostFinding]:
    """Which are here, whether they are those of the class, and what could not be read."""
    effect = "what cannot be read cannot be measured on, nor can its throttling be seen"
    for problem in reading.problems:
        severity = Severity.UNFIT if runner_class is not None else Severity.WARNING
        yield HostFinding(TOPIC, severity, problem, effect, "mend what it names, then run redline doctor again")
    seen = {each.device.pci_bus_id for each in reading.devices}
    unread = [each for each in reading.host.pci_accelerators if each.partition(" ")[2] not in seen]
    if unread and not reading.problems:
        yield HostFinding(
            TOPIC,
            Severity.NOTE,
            f"on the PCI bus and not readable: {', '.join(unread)}; {'; '.join(reading.absent) or 'no reason given'}",
            effect,
            "if it is to be measured on: install its driver, or give it to this container (--gpus all, "
            "--device /dev/kfd --device /dev/dri); a display controller needs nothing",
        )
    if runner_class is not None:
        yield from _wanted(reading, devices, runner_class)
    elif not devices:
        yield HostFinding(TOPIC, Severity.OK, "; ".join(reading.absent) or "none")


def _wanted(
    reading: MachineReading, devices: Sequence[DeviceHealth], runner_class: RunnerClass
) -> Iterator[HostFinding]:
    healthy = runner_class.healthy or NO_LIMITS
    name, count = healthy.device_model or runner_class.accelerator, max(1, runner_class.accelerator_count)
    right = [each for each in devices if name.lower() in each.device.model.lower()]
    if len(right) < count:
        there = ", ".join(sorted({each.device.model for each in devices})) or "; ".join(reading.absent) or "none"
        yield HostFinding(
            TOPIC,
            Severity.UNFIT,
            f"{len(right)} of {count} x {name or runner_class.platform} that class {runner_class.name} needs; "
            f"here: {there}",
            "the class's models do not fit, or results of other accelerators would be taken for its own",
            "choose the class of this machine (runners/*.toml), or make all its accelerators visible",
        )


def _uniformity(devices: Sequence[DeviceHealth]) -> Iterator[HostFinding]:
    """Whether all are alike: of a group of unlike ones the slowest decides."""
    for topic, of in _ALIKE.items():
        values = sorted({of(each) for each in devices})
        if len(values) > 1:
            yield HostFinding(
                TOPIC,
                Severity.WARNING,
                f"not alike in {topic}: {', '.join(values)}",
                "in tensor parallelism all wait for the slowest; replicas differ from one another",
                "set them alike, or measure on a group that is",
            )


_ALIKE: dict[str, Callable[[DeviceHealth], str]] = {
    "model": lambda each: each.device.model,
    "power cap": lambda each: "" if each.power_cap_w is None else f"{each.power_cap_w:.0f} W",
    "firmware": lambda each: each.vbios_version,
    "driver": lambda each: each.driver_version,
}


def _grouped(devices: Sequence[DeviceHealth], limits: HealthyHost) -> Iterator[HostFinding]:
    """Each device's findings, equal ones of several devices together: eight accelerators fit one screen."""
    groups: dict[DeviceSaid, list[DeviceHealth]] = {}
    for device in devices:
        for said in said_of(device, limits):
            groups.setdefault(said, []).append(device)
    for said, members in groups.items():
        vendors = {each.device.vendor for each in members}
        name = f"{'/'.join(sorted(vendors))} {_indices([each.device.index for each in members])}"
        yield HostFinding(f"{name}: {said.topic}", said.severity, said.found, said.effect, said.mend)


def _indices(values: Sequence[int]) -> str:
    """`0-3,6` of 0, 1, 2, 3, 6."""
    parts: list[list[int]] = []
    for value in sorted(values):
        if parts and value == parts[-1][-1] + 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
