"""Kernel stamps on the monotonic clock: between the true send and the read, or not used at all."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.load.exchange import Exchange, stamps_of
from redline.load.stamps import (
    ANCILLARY_BYTES,
    CLOCK_STEP_NS_MAX,
    SO_TIMESTAMPNS,
    STAMP_EARLY_NS_MAX,
    Ancillary,
    ClockOffset,
    ask_for_stamps,
    best_stamp_ns,
    kernel_ns,
    realtime_offset_ns,
)
from redline.units import nanoseconds

OFFSET_NS = 1_795_266_721_000_000_000
STEADY = ClockOffset(OFFSET_NS, OFFSET_NS + CLOCK_STEP_NS_MAX)


def ancillary_of(stamp_ns: int, *, level: int = socket.SOL_SOCKET, kind: int = SO_TIMESTAMPNS) -> Ancillary:
    """What recvmsg gives for a kernel stamp, given on CLOCK_MONOTONIC."""
    wall_ns = stamp_ns + OFFSET_NS
    return [(level, kind, struct.pack("qq", wall_ns // 10**9, wall_ns % 10**9))]


@pytest.fixture
def stamped_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection over loopback; the second is stamped."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with sender, receiver:
        assert ask_for_stamps(receiver)
        receiver.settimeout(60)
        # The kernel begins to stamp a moment after the first socket of the machine asked for it.
        deadline = time.monotonic() + 60
        stamped = False
        while not stamped and time.monotonic() < deadline:
            sender.send(b"x")
            stamped = bool(receiver.recvmsg(100, ANCILLARY_BYTES)[1])
        assert stamped
        yield sender, receiver


def test_a_kernel_stamp_lies_between_the_true_send_and_the_read(
    stamped_pair: tuple[socket.socket, socket.socket],
) -> None:
    """Also when the reader is late: the stamp is when the bytes came, not when somebody looked."""
    sender, receiver = stamped_pair
    offset = ClockOffset(realtime_offset_ns(), realtime_offset_ns())
    assert offset.steady
    for late_s in (0.0, 0.2, 0.0, 0.2):
        before_ns = time.monotonic_ns()
        sender.send(b"x")
        after_ns = time.monotonic_ns()
        time.sleep(late_s)
        _, ancillary, _, _ = receiver.recvmsg(100, ANCILLARY_BYTES)
        read_ns = time.monotonic_ns()
        stamp_ns, from_kernel = best_stamp_ns(ancillary, read_ns, before_ns, offset)
        assert from_kernel
        raw_ns = kernel_ns(ancillary, offset)
        assert raw_ns is not None
        assert before_ns - STAMP_EARLY_NS_MAX <= raw_ns <= read_ns + STAMP_EARLY_NS_MAX
        assert before_ns <= stamp_ns <= read_ns
        if late_s:  # loopback delivers within the send; had the reader's lateness got in, it would be after it
            assert stamp_ns < after_ns + nanoseconds(late_s) // 2


def test_two_sends_in_one_read_get_the_stamp_of_the_last(stamped_pair: tuple[socket.socket, socket.socket]) -> None:
    """A read that held several pieces has an upper bound for each of them."""
    sender, receiver = stamped_pair
    offset = ClockOffset(realtime_offset_ns(), realtime_offset_ns())
    sender.send(b"first")
    time.sleep(0.02)
    second_ns = time.monotonic_ns()
    sender.send(b"second")
    time.sleep(0.02)
    data, ancillary, _, _ = receiver.recvmsg(100, ANCILLARY_BYTES)
    assert data == b"firstsecond"
    stamp_ns = kernel_ns(ancillary, offset)
    assert stamp_ns is not None
    assert stamp_ns >= second_ns - STAMP_EARLY_NS_MAX


@given(st.integers(0, 10**12), st.integers(-(10**9), 10**9), st.integers(0, 10**9))
def test_a_stamp_is_never_before_the_send_nor_after_the_read(send_ns: int, early_ns: int, wait_ns: int) -> None:
    """Whatever the kernel says, the result lies between; what it says is used only if it is believable."""
    user_ns = send_ns + wait_ns
    told_ns = send_ns + early_ns
    stamp_ns, from_kernel = best_stamp_ns(ancillary_of(told_ns), user_ns, send_ns, STEADY)
    assert send_ns <= stamp_ns <= user_ns
    believable = send_ns - STAMP_EARLY_NS_MAX <= told_ns <= user_ns + STAMP_EARLY_NS_MAX
    assert from_kernel is believable
    if not believable:
        assert stamp_ns == user_ns
    elif send_ns <= told_ns <= user_ns:
        assert stamp_ns == told_ns


@pytest.mark.parametrize("step_ns", [CLOCK_STEP_NS_MAX + 1, -CLOCK_STEP_NS_MAX - 1, 10**9])
def test_a_clock_that_was_set_makes_the_kernels_stamps_unusable(step_ns: int) -> None:
    """Then the user's stamps are used, for every read of the window."""
    offset = ClockOffset(OFFSET_NS, OFFSET_NS + step_ns)
    assert not offset.steady
    assert offset.step_ns == step_ns
    assert best_stamp_ns(ancillary_of(500), 900, 100, offset) == (900, False)
    assert best_stamp_ns(ancillary_of(500), 900, 100, STEADY) == (500, True)


@pytest.mark.parametrize(
    "ancillary",
    [
        [],
        ancillary_of(500, level=socket.IPPROTO_IP),
        ancillary_of(500, kind=SO_TIMESTAMPNS - 1),
        [(socket.SOL_SOCKET, SO_TIMESTAMPNS, b"short")],
    ],
)
def test_a_read_without_a_stamp_has_the_users(ancillary: Ancillary) -> None:
    """Nothing, something else, or something of another size is no stamp."""
    assert best_stamp_ns(ancillary, 900, 100, STEADY) == (900, False)


def test_a_stamp_beside_other_messages_is_found() -> None:
    """The kernel may add messages of its own."""
    others: Ancillary = [(socket.SOL_SOCKET, 99, b"x" * 16)]
    assert best_stamp_ns(others + ancillary_of(500), 900, 100, STEADY) == (500, True)


def test_stamps_of_an_exchange_never_go_back() -> None:
    """A user's stamp in between, later than the next kernel stamp, holds the order of the reads."""
    exchange = Exchange(0, b"", 0, print)
    exchange.send_ns = 100
    exchange.user_ns = [300, 600, 700]
    exchange.ancillary = [ancillary_of(200), [], ancillary_of(550)]
    assert list(stamps_of(exchange, STEADY)) == [(200, True), (600, False), (600, True)]


def test_the_offset_is_known_to_a_few_microseconds() -> None:
    """Readings of the offset agree: one of several tries was not interrupted."""
    offsets = [realtime_offset_ns() for _ in range(20)]
    assert max(offsets) - min(offsets) < CLOCK_STEP_NS_MAX
