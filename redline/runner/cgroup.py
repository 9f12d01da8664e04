"""What the control groups of this process allow: CPU time and memory. Versions 1 and 2.

Source: the kernel's documentation, admin-guide/cgroup-v2 (cpu.max, memory.max) and cgroup-v1 (cpu.cfs_quota_us,
memory.limit_in_bytes). A limit of any group above ours binds too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from redline.runner.kernel_files import KernelFiles

UNLIMITED_BYTES = 1 << 60
"""Version 1 writes `no limit` as almost 2**63, rounded to a page."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """CPUs' worth of time and bytes of memory that our groups allow, None for no limit, and the bytes they hold."""

    cpus: float | None = None
    memory_bytes: int | None = None
    memory_bytes_used: int = 0


def read_allowance(files: KernelFiles) -> Allowance:
    """The tightest limits of every group that this process is in."""
    cpus: list[float] = []
    memory: list[tuple[int, int]] = []
    for folder in _folders(files, "cpu"):
        cpus += _cpus(files, folder)
    for folder in _folders(files, "memory"):
        memory += _memory(files, folder)
    limit, used = min(memory, default=(None, 0))
    return Allowance(min(cpus, default=None), limit, used)


def _folders(files: KernelFiles, controller: str) -> Iterator[str]:
    """Our group's folder and those above it, in every hierarchy that may hold the controller.

    In a container the path in /proc/self/cgroup may be the host's, and the mount be our own group already.
    """
    for line in files.text("/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
        elif controller in controllers.split(","):
            mounts = (f"/sys/fs/cgroup/{controllers}", f"/sys/fs/cgroup/{controller}")
        else:
            continue
        for mount in mounts:
            below = PurePosixPath(path.strip() or "/").relative_to("/") if path.startswith("/") else PurePosixPath()
            for part in (below, *below.parents):
                yield str(PurePosixPath(mount) / part)


def _cpus(files: KernelFiles, folder: str) -> list[float]:
    quota, _, period = files.text(f"{folder}/cpu.max").partition(" ")
    if not quota:
        quota = str(files.number(f"{folder}/cpu.cfs_quota_us") or "")
        period = str(files.number(f"{folder}/cpu.cfs_period_us") or "")
    try:
        return [int(quota) / int(period)] if int(quota) > 0 and int(period) > 0 else []
    except ValueError:  # `max`, or nothing to read
        return []


def _memory(files: KernelFiles, folder: str) -> list[tuple[int, int]]:
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit = files.number(f"{folder}/{limit_name}")
        if limit is not None and limit < UNLIMITED_BYTES:
            return [(limit, files.number(f"{folder}/{used_name}") or 0)]
    return []
