"""Which process made something, told in a way that a later Redline can check: is that one gone?

A pid alone says nothing: another host, another boot, another container's process table has the same one, and the
kernel gives it out again. So an owner is host, boot, process table, pid and the instant that the process started.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

Fate = Literal["lives", "gone", "unknown"]


@dataclass(frozen=True, slots=True)
class Owner:
    """A process. `start_ticks`: when it started, in clock ticks since boot (field 22 of /proc/PID/stat)."""

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    start_ticks: int

    @property
    def text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def label(self) -> str:
        """For people: `process 123 on host`."""
        return f"process {self.pid} on {self.host}"


def this_process() -> Owner:
    """The process that asks."""
    return Owner(platform.node(), _boot_id(), _pid_namespace(), os.getpid(), _start_ticks(os.getpid()))


def owner_of(text: object) -> Owner | None:
    """The owner that a text tells of; None for any other text."""
    try:
        told = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    kinds = {"pid": int, "start_ticks": int}
    if not isinstance(told, dict) or set(told) != {field.name for field in fields(Owner)}:
        return None
    if any(type(value) is not kinds.get(key, str) for key, value in told.items()):
        return None
    return Owner(**told)


def fate_of(owner: Owner) -> Fate:
    """`lives` or `gone` for a process of this host, boot and process table; `unknown` for every other.

    One of another boot is unknown too: many hosts share a name such as `localhost`, and only the boot tells them apart.
    """
    here = this_process()
    if (owner.host, owner.boot_id, owner.pid_namespace) != (here.host, here.boot_id, here.pid_namespace):
        return "unknown"
    if not (owner.boot_id and owner.start_ticks):
        return "unknown"
    return "lives" if _start_ticks(owner.pid) == owner.start_ticks else "gone"


def _start_ticks(pid: int) -> int:
    """0 if there is no such process, or no /proc. Source: proc(5), which counts from behind the command's name."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
