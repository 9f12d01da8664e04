"""What a process needs to be exact in time: timers that epoll waits for, no garbage collection, precedence.

Used by the load client and by the stand-in that it is calibrated against.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from redline.units import NS_PER_S

NICE = -20
_AUTOGROUP = Path("/proc/self/autogroup")
_TFD_TIMER_ABSTIME = 1
# Interval (0: once) and instant, each in seconds and nanoseconds: struct itimerspec.
_Spec = ctypes.c_long * 4


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Timer:
    """One timer on CLOCK_MONOTONIC; its descriptor becomes readable when it has expired, microseconds late.

    epoll's own time-out counts in milliseconds. Source: timerfd_create(2); Python's `os.timerfd_*` came with 3.13,
    so the C library is called. Raises OSError if the kernel has no timerfd.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Spec), ctypes.c_void_p)
        self._spec = _Spec()
        self._armed_ns = -1
        self.fd = _checked(libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        """The descriptor to wait for. Registered with EPOLLET, an expiry is one event and need not be drained."""
        return self.fd

    def arm(self, at_ns: int, every_ns: int = 0) -> None:
        """Expire at an instant of CLOCK_MONOTONIC (at once if it has passed), then every `every_ns` if not 0.

        Cheap if it is armed just so already.
        """
        if at_ns == self._armed_ns and not every_ns:
            return
        self._armed_ns = at_ns
        spec = self._spec
        spec[0], spec[1] = divmod(every_ns, NS_PER_S)
        spec[2], spec[3] = divmod(max(at_ns, 1), NS_PER_S)  # 0 would disarm it
        _checked(self._settime(self.fd, _TFD_TIMER_ABSTIME, spec, None))

    def drain(self) -> None:
        """Take note of the expiry, so that the descriptor is no longer readable."""
        self._armed_ns = -1
        with suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


class Alarm(Timer):
    """A timer with what it calls, for an event loop."""

    def __init__(self, on_expiry: Callable[[], None]) -> None:
        super().__init__()
        self._on_expiry = on_expiry

    def handle(self, _mask: int) -> None:
        """Called by the loop when the descriptor is readable."""
        self.drain()
        self._on_expiry()


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """No collection inside: one costs up to a hundred milliseconds of every open stream."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def take_precedence() -> int:
    """Ask for the highest ordinary priority of this process, and return the nice value that was reached.

    A load client that has to wait for a busy neighbour reads several chunks at once, and then only the last one's
    stamp is exact. It takes rights (root, CAP_SYS_NICE or `ulimit -e`); without them nothing is changed.
    Source: Linux, sched(7): nice values, and autogroups, which share the CPU by session before niceness counts.
    """
    with suppress(OSError):  # not ours to raise: the default stays
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    with suppress(OSError):  # no autogroups here, or no right to
        _AUTOGROUP.write_text(f"{NICE}\n", encoding="ascii")
    return os.getpriority(os.PRIO_PROCESS, 0)
