"""The accelerators' side of telemetry: what their drivers say, and whose processes they serve."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from redline.machine_readings import READ_FAILED
from redline.runner.accelerators import AcceleratorReader

GENERATIONS_MAX = 100


class Family:
    """The given processes and everything that they started, told by who started whom. Source: proc_pid_stat(5)."""

    def __init__(self, own_pids: Iterable[int], proc: Path = Path("/proc")) -> None:
        self._own = set(own_pids)
        self._proc = proc

    def holds(self, pid: int) -> bool | None:
        """True for one of ours, False for anybody else's, None for one that cannot be seen from here.

        That is a process of another container, or one that has just ended.
        """
        if pid <= 0:
            return None
        line: list[int] = []
        ancestor: int | None = pid
        while ancestor is not None and ancestor > 0 and len(line) < GENERATIONS_MAX:
            if ancestor in self._own:
                self._own.update(line)  # children keep being ours when their parents end
                return True
            line.append(ancestor)
            ancestor = self._parent(ancestor)
        return None if len(line) == 1 and not _is_there(pid) else False

    def _parent(self, pid: int) -> int | None:
        try:
            text = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
            return int(text.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return None


def _is_there(pid: int) -> bool:
    """True if the process exists, also one that /proc hides from us. Source: kill(2), signal 0."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


class DeviceSampler:
    """Readings of some accelerators, whichever of the readers knows them.

    A device that cannot be read is left out, and that is said once a window: `read_failed` 1 among its values. `tell`
    is given the reason.
    """

    def __init__(self, readers: Iterable[AcceleratorReader], uuids: Iterable[str], tell: Callable[[str], None]) -> None:
        self._tell = tell
        known: dict[str, AcceleratorReader] = {}
        for reader in readers:
            try:
                known |= {device.uuid: reader for device in reader.devices()}
            except Exception as error:  # noqa: BLE001 - a vendor's library may raise anything; the others are read
                self._tell(f"{reader.vendor}: {error}")
        self._readers: Mapping[str, AcceleratorReader | None] = {uuid: known.get(uuid) for uuid in uuids}
        self._failed: set[str] = set()

    def restart(self) -> None:
        """A window begins: failures are told again."""
        self._failed.clear()

    def samples(self, family: Family) -> Iterator[tuple[str, dict[str, float]]]:
        """(UUID, values by name) of each device as it is read; all of them numbers, finite or not."""
        for uuid, reader in self._readers.items():
            try:
                if reader is None:
                    raise LookupError("no driver on this machine knows this device")
                values = {name: float(value) for name, value in reader.sample(uuid).items()}
            except Exception as error:  # noqa: BLE001 - a lost device must not end the sampling of the others
                self._tell(f"{uuid}: {error}")
                if uuid not in self._failed:
                    self._failed.add(uuid)
                    yield uuid, {READ_FAILED: 1.0}
                continue
            yield uuid, values | self._strangers(reader, uuid, family)

    def _strangers(self, reader: AcceleratorReader, uuid: str, family: Family) -> dict[str, float]:
        """How many of the processes that a device serves are not ours, and how many cannot be told."""
        try:
            pids = reader.process_ids(uuid)
            if pids is None:  # the driver does not say: absent, which is not the same as none
                return {}
            ours = [family.holds(pid) for pid in pids]
        except Exception as error:  # noqa: BLE001 - what else the device says of itself still counts
            self._tell(f"{uuid}: its processes: {error}")
            return {}
        return {"foreign_process_count": float(ours.count(False)), "unseen_process_count": float(ours.count(None))}
