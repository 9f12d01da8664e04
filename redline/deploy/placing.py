"""Which accelerators and CPUs each replica gets."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence

from redline.errors import UsageError
from redline.model import Device

VISIBLE_VARIABLES = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "ROCR_VISIBLE_DEVICES"}
"""One variable per vendor, and never two: ROCR_ filters below HIP_, which then counts what is left anew."""

ALL_VISIBLE_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
)


def usable(devices: Sequence[Device], caller: Mapping[str, str] = os.environ) -> tuple[Device, ...]:
    """The devices that whoever started Redline left visible to it, in its order; all where nothing is said.

    A scheduler names them by index or by UUID (a prefix of one is enough, as for CUDA). Raises UsageError for a name
    that is none of them.
    """
    for vendor, variable in VISIBLE_VARIABLES.items():
        ours = [device for device in devices if device.vendor == vendor]
        said = caller.get(variable)
        if not ours or said is None:
            continue
        return tuple(_named(name.strip(), ours, variable) for name in said.split(",") if name.strip())
    return tuple(devices)


def _named(name: str, devices: Sequence[Device], variable: str) -> Device:
    found = [
        device for device in devices if str(device.index) == name or (len(name) > 2 and device.uuid.startswith(name))
    ]
    if len(found) != 1:
        raise UsageError(
            f"{variable} names an accelerator that is not there",
            expected=", ".join(f"{device.index} ({device.uuid})" for device in devices),
            found=name,
            next_step=f"correct {variable} or unset it; parts of an accelerator (MIG) are not measured",
        )
    return found[0]


def assign(devices: Sequence[Device], replica_count: int, tensor_parallel: int) -> tuple[tuple[Device, ...], ...]:
    """The devices of each replica, shape (replica_count, tensor_parallel); neighbours by index stay together.

    () for each where there are no devices at all (a CPU). Raises UsageError if there are too few.
    """
    if not devices:
        return ((),) * replica_count
    needed = replica_count * tensor_parallel
    if len(devices) < needed:
        raise UsageError(
            "too few accelerators for this placement",
            expected=f"{needed}: {replica_count} x tensor parallel {tensor_parallel}",
            found=f"{len(devices)} ({', '.join(device.model for device in devices)})",
            next_step="choose a runner class with as many accelerators as this host has, or make the others visible",
        )
    return tuple(tuple(devices[start : start + tensor_parallel]) for start in range(0, needed, tensor_parallel))


def visible_environment(devices: Sequence[Device]) -> dict[str, str]:
    """The one variable by which a server sees just these devices, by UUID; {} for none."""
    if not devices:
        return {}
    return {VISIBLE_VARIABLES[devices[0].vendor]: ",".join(device.uuid for device in devices)}


def shares_of(cpu_ids: Sequence[int], replica_count: int) -> tuple[tuple[int, ...], ...]:
    """CPUs of each replica: as even and as contiguous as they go, or all for everybody where they are too few."""
    if len(cpu_ids) < replica_count:
        return (tuple(cpu_ids),) * replica_count
    bounds = [round(index * len(cpu_ids) / replica_count) for index in range(replica_count + 1)]
    return tuple(tuple(cpu_ids[start:end]) for start, end in itertools.pairwise(bounds))
