"""When bytes arrived: the kernel's receive stamps on the clock that everything else is on.

With every core busy, a stamp taken when the process gets to run is late by milliseconds; the kernel's is not.
SO_TIMESTAMPNS stamps are CLOCK_REALTIME; everything in Redline is CLOCK_MONOTONIC. Both advance at one rate
(NTP slews both), so one offset holds until somebody sets the clock, which is looked for at both ends.
Source: Linux, Documentation/networking/timestamping.rst, section 1.1.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import TypeAlias

SO_TIMESTAMPNS = 35
"""asm-generic/socket.h; Python has no name for it. Each read gets two 64-bit integers, seconds and nanoseconds."""

ANCILLARY_BYTES = socket.CMSG_SPACE(16)
CLOCK_STEP_NS_MAX = 50_000
"""A larger change of the offset within a window is a clock that was set: kernel stamps are then not used."""

STAMP_EARLY_NS_MAX = 100_000
"""How far a kernel stamp may lie before the send, or after the user's: offsets are known to a few microseconds."""

_OFFSET_TRIES = 16
_STAMP = struct.Struct("qq")

Ancillary: TypeAlias = list[tuple[int, int, bytes]]


def ask_for_stamps(connection: socket.socket) -> bool:
    """Ask the kernel to stamp what this socket receives; False where the platform does not."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def keep_stamping() -> socket.socket:
    """An idle socket that asks for stamps: while it is open, the kernel stamps from the first packet on.

    It begins a moment after the first socket of the machine asked, and ends with the last.
    """
    idle = socket.socket()
    ask_for_stamps(idle)
    return idle


def realtime_offset_ns() -> int:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC, the closest of several readings: within about a microsecond."""
    best_width, best_offset = 1 << 62, 0
    for _ in range(_OFFSET_TRIES):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        if after - before < best_width:
            best_width, best_offset = after - before, wall - (before + after) // 2
    return best_offset


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """The offset at the start and the end of a window, nanoseconds."""

    start_ns: int
    end_ns: int

    @property
    def step_ns(self) -> int:
        """How far the wall clock was moved within the window."""
        return self.end_ns - self.start_ns

    @property
    def steady(self) -> bool:
        """True if kernel stamps can be put on the monotonic clock."""
        return abs(self.step_ns) <= CLOCK_STEP_NS_MAX


def kernel_ns(ancillary: Ancillary, offset: ClockOffset) -> int | None:
    """The kernel's stamp of one read on CLOCK_MONOTONIC, nanoseconds; None if the read has none."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) == _STAMP.size:
            seconds, nanoseconds = _STAMP.unpack(data)
            return int(seconds * 1_000_000_000 + nanoseconds - offset.start_ns)
    return None


def best_stamp_ns(ancillary: Ancillary, user_ns: int, send_ns: int, offset: ClockOffset) -> tuple[int, bool]:
    """(stamp on CLOCK_MONOTONIC, whether it is the kernel's).

    The user's stamp is taken after the read, so the kernel's is earlier; one that lies before the request was
    sent, or after the user's, is not believed.
    """
    if offset.steady:
        stamp = kernel_ns(ancillary, offset)
        if stamp is not None and send_ns - STAMP_EARLY_NS_MAX <= stamp <= user_ns + STAMP_EARLY_NS_MAX:
            return min(max(stamp, send_ns), user_ns), True
    return user_ns, False
