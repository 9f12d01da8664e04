"""Whether a machine held up those who measured, by their own figures: only then are times compared once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from redline.load.worker import Window
from redline.simulator.process import BinaryLog, RunningSimulator

TRIES = 5
HELD_UP_S_MIN = 0.01
"""A machine with little else to do was late by up to 9 ms, one with six busy loops on two cores by up to 32 ms."""

COALESCED_SHARE_MIN = 0.05
"""Chunks that came in one read with later ones: a client that is held up for more than the ITL of 5 ms. Quiet: 3 %."""


class TimesDifferError(Exception):
    """Two clocks, or two windows, say different things. `windows`: what was driven."""

    def __init__(self, problem: str, *windows: Window) -> None:
        super().__init__(problem)
        self.windows = windows


def in_quiet(server: RunningSimulator, check: Callable[[Path], None], folder: Path) -> None:
    """Check times, with a folder for each try, until they agree or no hold-up was measured; at most TRIES times.

    Only a TimesDifferError of windows in which client or stand-in were late by their own figures is worth another try:
    the machine held them up, which need not happen again. Whatever else is wrong is wrong at once.
    """
    for number in range(TRIES):
        server.binary_log(reset=True)
        try:
            check(folder / f"logs-{number}")
        except TimesDifferError as error:
            held_up = hold_ups(error.windows, server.binary_log())
            if not held_up or number == TRIES - 1:
                error.add_note(f"try {number + 1}; held up: {', '.join(held_up) or 'nobody'}")
                raise
        else:
            return


def hold_ups(windows: Sequence[Window], log: BinaryLog) -> list[str]:
    """Who was late by their own figures, in words: the client to send, to read or to end; the stand-in to send."""
    late_s = {"the stand-in": float((log.sent_ns - log.due_ns).max(initial=0)) / 1e9}
    found = []
    for number, window in enumerate(windows):
        if len({record.sched_ns for record in window.records}) > 1:  # else all are due at once, and wait for room
            slip_ns = max(record.send_ns - record.sched_ns for record in window.records)
            late_s[f"sending in window {number}"] = slip_ns / 1e9
        last_ns = max(record.done_ns for record in window.records)
        late_s[f"the end of window {number}"] = (window.duration_ns - last_ns) / 1e9
        share = window.client.coalesced_count / window.client.chunk_count
        if share > COALESCED_SHARE_MIN:
            found.append(f"reading in window {number} ({share * 100:.0f} % of chunks)")
    return found + [f"{who} ({by_s * 1e3:.0f} ms)" for who, by_s in late_s.items() if by_s > HELD_UP_S_MIN]
