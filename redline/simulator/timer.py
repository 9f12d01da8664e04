"""A timer on CLOCK_MONOTONIC that wakes epoll: microseconds late, where epoll's own time-out has milliseconds."""

from __future__ import annotations

import ctypes
import os
import time
from types import TracebackType
from typing import Any

from redline.units import NS_PER_S

_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
# Seconds and nanoseconds of the interval (0: once) and of the instant: struct itimerspec.
_Instant = ctypes.c_long * 4


class Timer:
    """One Linux timerfd. Register `fd` with EPOLLET: each expiry is one event and nothing need be read.

    Source: timerfd_create(2). Python has it from 3.13 on; before, libc is called.
    """

    __slots__ = ("_instant", "_settime", "armed_ns", "fd")

    def __init__(self) -> None:
        """Raises OSError if the kernel has no timerfd."""
        self.armed_ns = 0
        self._instant = _Instant()
        self._settime: Any = None
        create = getattr(os, "timerfd_create", None)
        if create is not None:
            self.fd: int = create(time.CLOCK_MONOTONIC, flags=_TFD_NONBLOCK | _TFD_CLOEXEC)
            return
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Instant), ctypes.c_void_p)
        self.fd = libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def arm(self, due_ns: int) -> None:
        """Expire once at an instant of CLOCK_MONOTONIC, at once if it has passed. Cheap if it is armed so."""
        if due_ns == self.armed_ns:
            return
        self.armed_ns = due_ns
        if self._settime is None:
            os.timerfd_settime_ns(self.fd, flags=_TFD_TIMER_ABSTIME, initial=due_ns)  # type: ignore[attr-defined,unused-ignore]
            return
        instant = self._instant
        instant[2], instant[3] = divmod(due_ns, NS_PER_S)
        self._settime(self.fd, _TFD_TIMER_ABSTIME, instant, None)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def __enter__(self) -> Timer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
