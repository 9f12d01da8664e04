"""Windows of load in this process: a plan driven and its records read, as the worker does it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redline.load.client import DriveResult, LoadPlan, drive
from redline.load.report import Reporter
from redline.model import ClientReport, Outcome, Request, RequestRecord, TokenPrompt


@dataclass(frozen=True, slots=True)
class Driven:
    """What became of a plan."""

    records: tuple[RequestRecord, ...]
    report: ClientReport
    result: DriveResult

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcome of each request, in order."""
        return [record.outcome for record in self.records]


def request(index: int, token: int = 0, *, output_tokens: int = 2, offset_ns: int = 0, **values: Any) -> Request:
    """A completion of two tokens whose first prompt token tells the server what to do."""
    return Request(index, TokenPrompt((token, 1, 2)), output_tokens, True, offset_ns, "salt", **values)


def requests(count: int, gap_ns: int = 0) -> tuple[Request, ...]:
    """So many requests, a gap apart."""
    return tuple(request(index, offset_ns=index * gap_ns) for index in range(count))


def plan_of(
    urls: str | Sequence[str], wanted: Sequence[Request], in_flight_max: int | None = None, **values: Any
) -> LoadPlan:
    """A plan with a window that nothing in a test should reach."""
    base_urls = (urls,) if isinstance(urls, str) else tuple(urls)
    values = {"window_s_max": 60.0} | values
    return LoadPlan(base_urls, "m", tuple(wanted), in_flight_max, **values)


def driven(plan: LoadPlan) -> Driven:
    """Drive a plan here and read its records."""
    gc.freeze()  # the engine collects garbage before each window: in a test run's large heap, most of the time
    result = drive(plan)
    reporter = Reporter(result)
    records = tuple(
        reporter.record_of(each, exchange) for each, exchange in zip(plan.requests, result.exchanges, strict=True)
    )
    if result.spool is not None:
        result.spool.close()
    return Driven(records, reporter.report(), result)


def in_enough_time(
    window_of: Callable[[float], Driven],
    is_whole: Callable[[Driven], bool],
    bounds_s: Sequence[float] = (0.3, 3.0, 30.0),
) -> Driven:
    """The first window that its bound, `window_s_max` in seconds, did not cut short; the longest if all were.

    A window that has to run into its bound is short where the machine is quiet, and as long as a busy one needs.
    """
    for bound_s in bounds_s:
        window = window_of(bound_s)
        if is_whole(window) or bound_s == bounds_s[-1]:
            return window
    raise ValueError("no bound")


def was_all_sent(window: Driven) -> bool:
    """True if no request was still to be sent at the window's end."""
    return not any("before it could be sent" in record.detail for record in window.records)


def open_descriptors(at_most: int | None = None) -> int:
    """Descriptors of this process; waits, 30 s at most, until there are so few (servers in threads close later)."""
    deadline = time.monotonic() + 30
    while (count := len(list(Path("/proc/self/fd").iterdir()))) > (at_most or count) and time.monotonic() < deadline:
        time.sleep(0.01)
    return count
