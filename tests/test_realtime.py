"""Timers as descriptors: readable when due, once or again and again, and no descriptor left behind."""

from __future__ import annotations

import select
import time
from contextlib import suppress
from pathlib import Path

import pytest

from redline.realtime import Alarm, Timer


def is_readable(timer: Timer, wait_s: float) -> bool:
    """True if it expires within so many seconds."""
    return bool(select.select([timer.fileno()], [], [], wait_s)[0])


def open_timers() -> int:
    """How many timers this process has open. Files and sockets do not count: other tests' threads may close theirs."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the directory's own, among others
            found += str(entry.readlink()) == "anon_inode:[timerfd]"
    return found


@pytest.fixture
def rings() -> list[int]:
    """When an alarm called back."""
    return []


def test_an_alarm_calls_back_not_before_its_instant(rings: list[int]) -> None:
    """It expires after the instant, and once."""
    alarm = Alarm(lambda: rings.append(time.monotonic_ns()))
    due_ns = time.monotonic_ns() + 20_000_000
    alarm.arm(due_ns)
    assert is_readable(alarm, 5)
    alarm.handle(select.EPOLLIN)
    assert rings[0] >= due_ns
    assert not is_readable(alarm, 0.03), "it is drained, and does not repeat"
    alarm.close()


@pytest.mark.parametrize("at_ns", [-5, 0, 1, 1_000_000])
def test_an_instant_that_has_passed_is_now(at_ns: int) -> None:
    """Also instants that the system call would take for `off`, or refuse."""
    timer = Timer()
    timer.arm(at_ns)
    assert is_readable(timer, 5)
    timer.close()


def test_an_alarm_repeats_until_it_is_armed_anew(rings: list[int]) -> None:
    """Periods are counted from the first instant; arming again replaces both."""
    alarm = Alarm(lambda: rings.append(1))
    alarm.arm(time.monotonic_ns(), 2_000_000)
    for _ in range(3):
        assert is_readable(alarm, 5)
        alarm.handle(select.EPOLLIN)
    assert rings == [1, 1, 1]
    alarm.arm(time.monotonic_ns() + 10**12)
    assert not is_readable(alarm, 0.02)
    alarm.close()


def test_an_alarm_may_be_armed_by_what_it_calls(rings: list[int]) -> None:
    """The expiry is taken note of before the call, so the new instant is not lost."""

    def again() -> None:
        rings.append(1)
        alarm.arm(1)

    alarm = Alarm(again)
    alarm.arm(1)
    for _ in range(3):
        assert is_readable(alarm, 5)
        alarm.handle(select.EPOLLIN)
    assert len(rings) == 3
    alarm.close()


def test_draining_what_has_not_expired_does_not_wait() -> None:
    """A descriptor that is not readable is left alone."""
    timer = Timer()
    timer.arm(time.monotonic_ns() + 10**12)
    timer.drain()
    timer.close()


def test_a_closed_timer_leaves_no_descriptor() -> None:
    """What was opened is given back, and a closed timer cannot be armed."""
    before = open_timers()
    timers = [Timer() for _ in range(10)]
    assert open_timers() == before + 10
    for timer in timers:
        timer.close()
    assert open_timers() == before
    with pytest.raises(OSError, match="descriptor"):
        timers[0].arm(1)
