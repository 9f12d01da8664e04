"""Which accelerators and CPUs each replica gets."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence

from redline.deploy.cpu_topology import Core
from redline.errors import UsageError
from redline.model import Device

VISIBLE_VARIABLES = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "ROCR_VISIBLE_DEVICES"}
"""One variable per vendor, and never two: ROCR_ filters below HIP_, which then counts what is left anew."""

CALLER_VARIABLES = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    "amd": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
}
"""What a scheduler may say it by. Source: ROCm environment variables, GPU isolation: HIP reads CUDA_ like HIP_."""

ALL_VISIBLE_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
)

SHARED_CORES_MAX_SHARE = 0.05


def usable(devices: Sequence[Device], caller: Mapping[str, str] = os.environ) -> tuple[Device, ...]:
    """The devices that whoever started Redline left visible to it, in its order; all where nothing is said.

    A scheduler names them by index or by UUID (a prefix of one is enough, as for CUDA). An empty variable hides all
    devices of its vendor. Several variables have to say the same: each alone is read as counting all devices, since
    schedulers that set two mean it so, though ROCm would count the second one among what the first left.
    Raises UsageError for a name that is none of them or comes twice, and for variables that disagree.
    """
    vendors = dict.fromkeys(device.vendor for device in devices)
    kept = (_left_visible([device for device in devices if device.vendor == vendor], caller) for vendor in vendors)
    return tuple(itertools.chain.from_iterable(kept))


def _left_visible(devices: Sequence[Device], caller: Mapping[str, str]) -> tuple[Device, ...]:
    """`usable` for the devices of one vendor."""
    vendor = devices[0].vendor
    said = {name: caller[name] for name in CALLER_VARIABLES[vendor] if name in caller}
    if vendor == "amd" and not said.get("CUDA_VISIBLE_DEVICES", "").strip():
        said.pop("CUDA_VISIBLE_DEVICES", None)  # empty, it hides NVIDIA's; HIP takes it for no choice
    chosen = {variable: _chosen(text, devices, variable) for variable, text in said.items()}
    if len(set(chosen.values())) > 1:
        raise UsageError(
            f"{' and '.join(said)} choose different accelerators",
            expected="one choice, by one variable",
            found=", ".join(f"{variable}={text!r}" for variable, text in said.items()),
            next_step=f"set {VISIBLE_VARIABLES[vendor]} alone, counting all accelerators of this machine, and unset "
            "the others",
        )
    return next(iter(chosen.values()), tuple(devices))


def _chosen(text: str, devices: Sequence[Device], variable: str) -> tuple[Device, ...]:
    """The devices that one variable names, in its order."""
    found = tuple(_named(name.strip(), devices, variable) for name in text.split(",") if name.strip())
    if len({device.uuid for device in found}) < len(found):
        raise UsageError(
            f"{variable} names an accelerator twice",
            expected="each accelerator once, by index or by UUID",
            found=text,
            next_step=f"correct {variable} or unset it",
        )
    return found


def _named(name: str, devices: Sequence[Device], variable: str) -> Device:
    found = [
        device
        for device in devices
        if str(device.index) == name or (len(name) > 2 and device.uuid.lower().startswith(name.lower()))
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


def shares_of(cores: Sequence[Core], homes: Sequence[frozenset[int]]) -> tuple[tuple[int, ...], ...]:
    """CPUs of each replica, ascending: whole cores of the NUMA nodes of its accelerators, as even as they go.

    `homes`: for each replica the nodes of its devices; empty, or none that has CPUs of ours, for any. Replicas whose
    nodes overlap share all of them. The threads of a core stay together, and a core of which others use a thread (the
    load client does) is left out where that costs little. All CPUs of its nodes for everybody where the cores are
    fewer than the replicas.
    """
    there = {core.node for core in cores}
    found: dict[int, tuple[int, ...]] = {}
    for nodes, members in _neighbourhoods([home & there or frozenset(there) for home in homes]):
        ours = _undisturbed([core for core in cores if core.node in nodes])
        bounds = [round(index * len(ours) / len(members)) for index in range(len(members) + 1)]
        for member, (start, end) in zip(members, itertools.pairwise(bounds), strict=True):
            of_member = ours[start:end] if len(ours) >= len(members) else ours
            found[member] = tuple(sorted(cpu for core in of_member for cpu in core.cpu_ids))
    return tuple(found[index] for index in range(len(homes)))


def _neighbourhoods(homes: Sequence[frozenset[int]]) -> list[tuple[frozenset[int], list[int]]]:
    """(nodes, replicas that live there): replicas with a node in common, directly or through others, are together."""
    found: list[tuple[frozenset[int], list[int]]] = []
    for index, home in enumerate(homes):
        met = [each for each in found if each[0] & home]
        nodes = home.union(*(each[0] for each in met))
        members = sorted([index, *(member for each in met for member in each[1])])
        found = [each for each in found if not each[0] & home] + [(nodes, members)]
    return found


def _undisturbed(cores: Sequence[Core]) -> Sequence[Core]:
    """The whole cores where the others are at most SHARED_CORES_MAX_SHARE of the CPUs, else all."""
    shared_count = sum(len(core.cpu_ids) for core in cores if not core.whole)
    all_count = sum(len(core.cpu_ids) for core in cores)
    costs_little = shared_count <= SHARED_CORES_MAX_SHARE * all_count
    return [core for core in cores if core.whole] if costs_little else cores
