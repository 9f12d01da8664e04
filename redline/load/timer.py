"""Timers as file descriptors, exact to tens of microseconds, beside the sockets in one epoll.

`os.timerfd_*` came with Python 3.13; before, the same three calls of the C library are used.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Callable

from redline.units import NS_PER_S

_TFD_TIMER_ABSTIME = 1
_SPEC = struct.Struct("qqqq")


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Timer:
    """One timer on CLOCK_MONOTONIC; `fileno()` becomes readable when it has expired."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def arm(self, at_ns: int, every_ns: int = 0) -> None:
        """Expire at an instant of CLOCK_MONOTONIC (at once if it has passed), then every `every_ns` if not 0."""
        at_ns = max(at_ns, 1)  # 0 would disarm it
        spec = _SPEC.pack(every_ns // NS_PER_S, every_ns % NS_PER_S, at_ns // NS_PER_S, at_ns % NS_PER_S)
        _checked(self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, spec, None))

    def drain(self) -> None:
        """Take note of the expiry, so that the descriptor is no longer readable."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


class Alarm(Timer):
    """A timer with what it calls, for an event loop."""

    def __init__(self, on_expiry: Callable[[], None]) -> None:
        super().__init__()
        self._on_expiry = on_expiry

    def handle(self, _mask: int) -> None:
        """Called by the loop when the descriptor is readable."""
        self.drain()
        self._on_expiry()
