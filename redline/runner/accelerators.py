"""What every reader of accelerators gives, whoever made them, and which readers work on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from redline.model import Device, DeviceHealth
from redline.runner import amd, nvidia
from redline.runner.vendor_library import Absent, Failed

SAMPLE_NAMES = (
    "graphics_clock_hz",
    "memory_clock_hz",
    "power_w",
    "power_cap_w",
    "energy_j",
    "temperature_c",
    "memory_temperature_c",
    "utilisation_share",
    "memory_used_bytes",
    "throttled_thermal",
    "throttled_power",
    "throttled_hardware",
    "violation_power_s",
    "violation_thermal_s",
)
"""Every name that `sample` may give. Those that the device does not tell are left out, never 0.

`energy_j` and `violation_*_s` only ever grow: take differences. `throttled_*` are 0 or 1, and of NVIDIA's only: AMD's
firmware counts for how long it held a device back, and says nothing of an instant.
"""


class AcceleratorReader(Protocol):
    """The accelerators of one vendor on this machine. Never changes anything on them.

    A reader belongs to the process that opened it. Every method but `close` raises AcceleratorError if the device or
    its driver is gone; a single value that is not to be had is left out.
    """

    vendor: Literal["nvidia", "amd"]
    problems: tuple[str, ...]  # accelerators of this vendor that are here and cannot be read, with what they said

    def devices(self) -> tuple[Device, ...]:
        """The accelerators, in the driver's order."""

    def sample(self, uuid: str) -> Mapping[str, float]:
        """The values of SAMPLE_NAMES that this device gives now. A few milliseconds; raises AcceleratorError."""

    def process_ids(self, uuid: str) -> tuple[int, ...] | None:
        """The processes that compute on this device, as far as they can be seen from here; None if it does not say."""

    def inspect(self, uuid: str) -> DeviceHealth:
        """Everything the driver says of this device now. Up to a second; raises AcceleratorError."""

    def close(self) -> None:
        """Let go of the library. Never raises; a second call does nothing."""


@dataclass(frozen=True, slots=True)
class OpenedReaders:
    """The readers that work here. `problems`: a library that is here and fails; `absent`: a vendor that is not here."""

    readers: tuple[AcceleratorReader, ...]
    problems: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def close(self) -> None:
        """Close every reader."""
        for reader in self.readers:
            reader.close()


Opener = Callable[[], "AcceleratorReader | Absent | Failed"]
OPENERS: tuple[Opener, ...] = (nvidia.open_reader, amd.open_reader)


def open_readers(openers: tuple[Opener, ...] = OPENERS) -> OpenedReaders:
    """A reader for every vendor whose library and devices are here, and what became of the others. Never raises."""
    readers: list[AcceleratorReader] = []
    problems: list[str] = []
    absent: list[str] = []
    for opener in openers:
        opened = opener()
        match opened:
            case Absent(reason):
                absent.append(reason)
            case Failed(reason):
                problems.append(reason)
            case _:
                problems += opened.problems
                readers.append(opened)
    return OpenedReaders(tuple(readers), tuple(problems), tuple(absent))


@contextmanager
def opened_readers(openers: tuple[Opener, ...] = OPENERS) -> Iterator[OpenedReaders]:
    """`open_readers` for the length of a block."""
    opened = open_readers(openers)
    try:
        yield opened
    finally:
        opened.close()
