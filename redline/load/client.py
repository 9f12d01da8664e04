"""How one window of load is driven: everything is prepared before the clock starts, and read after it stopped.

In between, a timer says when a request is due and sockets say when bytes came; nothing else happens, not even
garbage collection. An open loop never waits for an answer: what is late is late against its due time.
"""

from __future__ import annotations

import select
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from redline.access import api_key
from redline.load import bounds
from redline.load.bodies import http_request
from redline.load.exchange import Exchange, now_ns
from redline.load.http1 import request_bytes
from redline.load.spool import Spool
from redline.load.stamps import ClockOffset, realtime_offset_ns
from redline.load.transport import SWEEP_S, EpollLoop, Pool, connect_all, resolve
from redline.model import Outcome, Request
from redline.realtime import Alarm, garbage_collection_paused
from redline.units import NS_PER_S, nanoseconds, seconds

PREPARE_S_MAX = 30.0
CONNECTIONS_WARM_MAX = 1024
LEAD_S = 0.02
"""The clock starts a moment after the last preparation, so that the first request is not late."""

ANSWER_BYTES_PER_TOKEN_MAX = 16 * 1024
ANSWER_BYTES_MIN = 4 << 20


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One window of load: every request with its due time, where to send it, and the bounds.

    `base_urls`: replicas, each given every len(base_urls)-th request. `in_flight_max` None is an open loop: a
    request is sent when it is due, whatever became of the others; otherwise the next one is sent when one ends.
    In a `closed_loop` a request is due when its place is free, whatever its offset. `window_s_max` bounds the
    whole window, `request_s_max` each request; what is open then has failed with outcome timeout.
    `with_api_key`: send the key of `redline.access`, which is read where it is sent and is no part of the plan.
    """

    base_urls: tuple[str, ...]
    model: str
    requests: tuple[Request, ...]
    in_flight_max: int | None
    window_s_max: float
    request_s_max: float | None = None
    closed_loop: bool = False
    continuous_usage: bool = False
    with_api_key: bool = False


@dataclass(frozen=True, slots=True)
class DriveResult:
    """One exchange per request in the plan's order, and what the client itself cost.

    `start_ns` is the window's zero on CLOCK_MONOTONIC; `started_at_ns` the same instant of the wall clock.
    """

    exchanges: tuple[Exchange, ...]
    start_ns: int
    started_at_ns: int
    duration_ns: int
    cpu_s: float
    offset: ClockOffset
    connection_count: int
    tls: bool
    spool: Spool | None


def drive(plan: LoadPlan) -> DriveResult:
    """Send the plan's requests and return every answer as it came; never raises for what a server does.

    Raises:
        httpx.ConnectError: a server cannot even be connected to before the window starts.
        LoadError: the plan does not fit this machine.
    """
    urls = [httpx.URL(url) for url in plan.base_urls]
    window = _Window(plan)
    exchanges = window.prepare(_payloads(plan, urls))
    pools: list[Pool] = []
    loop = EpollLoop()
    try:
        pools += [Pool(loop, resolve(url)) for url in urls]
        connect_all(loop, pools, _warm_counts(plan), PREPARE_S_MAX)
        return window.drive(loop, pools, exchanges, tls=any(url.scheme == "https" for url in urls))
    finally:
        for pool in pools:
            pool.close()
        loop.close()


def _payloads(plan: LoadPlan, urls: Sequence[httpx.URL]) -> list[bytes]:
    """Every request as bytes: what httpx would send."""
    key = api_key() if plan.with_api_key else None
    return [
        request_bytes(
            http_request(
                urls[position % len(urls)], request, plan.model, continuous_usage=plan.continuous_usage, api_key=key
            )
        )
        for position, request in enumerate(plan.requests)
    ]


def _warm_counts(plan: LoadPlan) -> list[int]:
    """Connections to open beforehand at each replica.

    For a bound, the bound. An open loop is given as many as requests fall due in its busiest second: more than
    are in flight unless an answer takes longer than that. The engine's own descriptors are kept free.
    """
    due = [request.offset_ns for request in plan.requests]
    wanted = busiest_second(due) if plan.in_flight_max is None else min(plan.in_flight_max, len(due))
    wanted = min(wanted, CONNECTIONS_WARM_MAX, max(1, bounds.raise_descriptor_limit() - bounds.DESCRIPTORS_KEPT))
    return [-(-wanted // len(plan.base_urls))] * len(plan.base_urls)


def busiest_second(due_ns: Sequence[int]) -> int:
    """The most due times that fall within any one second; `due_ns` ascending."""
    most = first = 0
    for position, due in enumerate(due_ns):
        while due - due_ns[first] >= NS_PER_S:
            first += 1
        most = max(most, position - first + 1)
    return most


class _Window:
    """The state of one window while it is driven."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._spool: Spool | None = None
        self._open_count = len(plan.requests)
        self._next = 0
        self._places_free = 0
        self._filling = False

    def prepare(self, payloads: Sequence[bytes]) -> list[Exchange]:
        """Check that the window fits this machine, and lay out one exchange per request."""
        plan = self._plan
        tokens = sum(request.output_tokens for request in plan.requests)
        payload_bytes = sum(len(payload) for payload in payloads)
        needs = bounds.needs_of(payload_bytes, len(payloads), tokens, plan.in_flight_max)
        bounds.require_fit(
            needs,
            memory_bytes=bounds.memory_available_bytes(),
            disk_bytes=shutil.disk_usage(tempfile.gettempdir()).free,
            descriptor_limit=bounds.raise_descriptor_limit(),
            in_flight_max=plan.in_flight_max,
        )
        self._spool = Spool() if needs.spooled else None
        on_end = self._ended if plan.in_flight_max is None else self._ended_and_next
        return [
            Exchange(
                request.index,
                payload,
                request.offset_ns,
                on_end,
                replica=position % len(plan.base_urls),
                answer_bytes_max=ANSWER_BYTES_MIN + request.output_tokens * ANSWER_BYTES_PER_TOKEN_MAX,
            )
            for position, (request, payload) in enumerate(zip(plan.requests, payloads, strict=True))
        ]

    def drive(self, loop: EpollLoop, pools: Sequence[Pool], exchanges: list[Exchange], *, tls: bool) -> DriveResult:
        """Run the clock."""
        self._exchanges, self._pools = exchanges, pools
        offset_start_ns = realtime_offset_ns()
        with garbage_collection_paused(), self._timers(loop) as (dispatch, sweep):
            start_ns = now_ns() + nanoseconds(LEAD_S)
            started_at_ns = start_ns + offset_start_ns
            for exchange in exchanges:
                exchange.due_ns += start_ns
            self._deadline_ns = start_ns + nanoseconds(self._plan.window_s_max)
            cpu_start_s = time.process_time()
            sweep.arm(start_ns + nanoseconds(SWEEP_S), nanoseconds(SWEEP_S))
            self._dispatch_alarm = dispatch
            dispatch.arm(exchanges[0].due_ns if exchanges else start_ns)
            loop.run_until(self._is_over)
            duration_ns = now_ns() - start_ns
            cpu_s = time.process_time() - cpu_start_s
        self._exchanges = []  # they name this window, and would keep it until the next collection
        return DriveResult(
            exchanges=tuple(exchanges),
            start_ns=start_ns,
            started_at_ns=started_at_ns,
            duration_ns=duration_ns,
            cpu_s=cpu_s,
            offset=ClockOffset(offset_start_ns, realtime_offset_ns()),
            connection_count=sum(pool.opened_count for pool in pools),
            tls=tls,
            spool=self._spool,
        )

    @contextmanager
    def _timers(self, loop: EpollLoop) -> Iterator[tuple[Alarm, Alarm]]:
        dispatch = Alarm(self._send_due if self._plan.in_flight_max is None else self._send_first)
        sweep = Alarm(self._sweep)
        for alarm in (dispatch, sweep):
            loop.watch(alarm.fileno(), select.EPOLLIN, alarm.handle)
        try:
            yield dispatch, sweep
        finally:
            for alarm in (dispatch, sweep):
                loop.forget(alarm.fileno())
                alarm.close()

    def _is_over(self) -> bool:
        return self._open_count == 0

    def _launch(self, exchange: Exchange) -> None:
        self._pools[exchange.replica].launch(exchange)

    def _send_due(self) -> None:
        """Open loop: send everything that is due, then wait for the next."""
        exchanges, count = self._exchanges, len(self._exchanges)
        position = self._next
        while position < count and exchanges[position].due_ns <= now_ns():
            self._launch(exchanges[position])
            position += 1
        self._next = position
        if position < count:
            self._dispatch_alarm.arm(exchanges[position].due_ns)

    def _send_first(self) -> None:
        """Bounded: fill up to the bound; from then on each end sends the next."""
        self._places_free = self._plan.in_flight_max or 0
        self._fill()

    def _ended(self, exchange: Exchange) -> None:
        self._open_count -= 1
        exchange.payload = b""
        if self._spool is not None:
            self._spool.keep(exchange)

    def _ended_and_next(self, exchange: Exchange) -> None:
        self._ended(exchange)
        self._places_free += 1
        self._fill()

    def _fill(self) -> None:
        """Send as many as there are free places."""
        if self._filling:
            return  # a launch that failed at once ended in here: the loop below goes on, the stack does not grow
        self._filling = True
        while self._places_free and self._next < len(self._exchanges):
            self._places_free -= 1
            following = self._exchanges[self._next]
            self._next += 1
            if self._plan.closed_loop:
                following.due_ns = now_ns()
            self._launch(following)
        self._filling = False

    def _sweep(self) -> None:
        """Ten times a second: idle connections, time limits, the spool."""
        now = now_ns()
        if now >= self._deadline_ns:
            self._expire_window()
            return
        for pool in self._pools:
            pool.sweep()
            if self._plan.request_s_max is not None:
                limit_s = self._plan.request_s_max
                pool.expire_older(now - nanoseconds(limit_s), f"no complete answer within {limit_s:g} s")
        if self._spool is not None and self._spool.is_due:
            self._spool.flush()

    def _expire_window(self) -> None:
        """Everything open, and everything never sent, has failed."""
        detail = f"no complete answer within the window of {self._plan.window_s_max:g} s"
        unsent, self._next = self._exchanges[self._next :], len(self._exchanges)
        for exchange in unsent:
            exchange.failure, exchange.failure_detail = Outcome.TIMEOUT, "the window ended before it could be sent"
            exchange.done_ns = now_ns()
            self._ended(exchange)
        for pool in self._pools:
            pool.expire_all(detail)


def window_bound_s(plan: LoadPlan) -> float:
    """The longest a window of this plan can take, connecting and parsing included."""
    last_due_s = seconds(max((request.offset_ns for request in plan.requests), default=0))
    return PREPARE_S_MAX + max(plan.window_s_max, last_due_s) + 60.0
