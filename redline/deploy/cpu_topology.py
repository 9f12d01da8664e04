"""The cores of this machine: which CPUs are threads of one core, and on which NUMA node it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/sys/devices/system")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True, slots=True)
class Core:
    """One core: those of its threads that may be used, ascending, and its NUMA node, -1 where the kernel says none.

    `whole`: False if it has threads that may not be used; somebody else may be at work on those.
    """

    cpu_ids: tuple[int, ...]
    node: int = -1
    whole: bool = True


def read_cores(cpu_ids: Iterable[int], system: Path = SYSTEM) -> tuple[Core, ...]:
    """The cores of these CPUs by node, then by their first CPU; each CPU is in one. Never raises.

    A CPU of which the kernel does not show more is a core of its own. `system`: where the kernel describes its CPUs.
    Source: Linux, Documentation/ABI/stable/sysfs-devices-system-cpu and sysfs-devices-node.
    """
    usable = set(cpu_ids)
    node_of = _nodes(system)
    cores: list[Core] = []
    placed: set[int] = set()
    for cpu in sorted(usable):
        if cpu not in placed:
            threads = _listed(system / "cpu" / f"cpu{cpu}" / "topology" / "thread_siblings_list") | {cpu}
            ours = threads & usable - placed
            placed |= ours
            cores.append(Core(tuple(sorted(ours)), node_of.get(cpu, -1), threads <= usable))
    return tuple(sorted(cores, key=lambda core: (core.node, core.cpu_ids)))


def _nodes(system: Path) -> dict[int, int]:
    """The NUMA node of each CPU; empty where there are none to be seen."""
    try:
        folders = [folder for folder in (system / "node").iterdir() if re.fullmatch(r"node\d+", folder.name)]
    except OSError:
        return {}
    return {cpu: int(folder.name[4:]) for folder in folders for cpu in _listed(folder / "cpulist")}


def _listed(file: Path) -> set[int]:
    """The CPUs of a kernel's list such as `0-3,112`; empty where it cannot be read or is something else."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return set()
    found: set[int] = set()
    for part in text.split(","):
        matched = _RANGE.fullmatch(part)
        if matched is None:
            return set()
        first, last = int(matched[1]), int(matched[2] or matched[1])
        found.update(range(first, last + 1))
    return found
