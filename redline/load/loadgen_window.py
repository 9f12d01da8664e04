"""A window whose requests the official LoadGen issues, over the same sockets as any other window.

LoadGen issues from a thread of its own. It leaves each sample at a desk and wakes the loop, which sends the request at
once (or when there is room, if the plan bounds what is in flight) and tells LoadGen of the first token and of the end.

What that costs: LoadGen's clock runs until the loop says so, and an answer is read whole before its end is said, so its
latencies lie above those of the records, which are made from the kernel's stamps. In Offline LoadGen asks for no first
token. LoadGen keeps time by CLOCK_REALTIME: a clock that is set within the window spoils its figures, and
`ClientReport.clock_step_ns` shows it.
"""

from __future__ import annotations

import os
import select
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import httpx

from redline.access import api_key
from redline.errors import LoadError
from redline.load import bounds
from redline.load.bodies import http_request
from redline.load.client import (
    ANSWER_BYTES_MIN,
    ANSWER_BYTES_PER_TOKEN_MAX,
    CONNECTIONS_WARM_MAX,
    PREPARE_S_MAX,
    DriveResult,
    LoadPlan,
    busiest_second,
    window_bound_s,
)
from redline.load.exchange import Exchange, answer_of, now_ns
from redline.load.first_token import FirstTokenReads
from redline.load.http1 import request_bytes
from redline.load.spool import Spool
from redline.load.stamps import ClockOffset, realtime_offset_ns
from redline.load.timing import RawAnswer, understand
from redline.load.transport import SWEEP_S, EpollLoop, Pool, connect_all, resolve
from redline.model import Outcome, RequestRecord
from redline.realtime import Alarm, garbage_collection_paused
from redline.units import nanoseconds

LOADGEN_END_S_MAX = 60.0
"""After the last answer LoadGen sorts latencies and writes its logs; longer than this and it hangs."""


class Official(Protocol):
    """What the window says to LoadGen, and how LoadGen is started."""

    def run(self, issue: Callable[[Sequence[int], Sequence[int]], None]) -> None:
        """One whole run: `issue(ids, sample indexes)` is called from this thread. Returns when LoadGen is done."""

    def first_token(self, response_id: int) -> None:
        """A sample's first token is here."""

    def complete(self, response_id: int, token_count: int, text: str) -> None:
        """A sample's answer is here, or will not come: then with no token."""


class Desk:
    """Where LoadGen leaves what it issues: checked against the plan, stamped, and the loop woken.

    `ids` and `issued_ns` grow together, one entry per sample in the order of issue. `problem` ends the window.
    """

    def __init__(self, items: Sequence[int]) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.ids: list[int] = []
        self.issued_ns: list[int] = []
        self.problem: LoadError | None = None
        self.ended = False
        self._items = items

    def issue(self, ids: Sequence[int], samples: Sequence[int]) -> None:
        """Called by LoadGen, in its thread."""
        stamp_ns = now_ns()
        first = len(self.ids)
        if self.problem is None:
            self.problem = self._mismatch(first, samples)
        if self.problem is None:
            self.ids.extend(ids)
            self.issued_ns.extend([stamp_ns] * len(ids))
        self._wake()

    def end(self, problem: LoadError | None) -> None:
        """LoadGen is done, in its thread."""
        self.problem = self.problem or problem
        if self.problem is None and len(self.ids) != len(self._items):
            self.problem = LoadError(
                "LoadGen did not issue what the plan says",
                expected=f"{len(self._items)} samples",
                found=f"{len(self.ids)} samples",
                next_step="make the plan with planned_issue of the same settings, and look at LoadGen's logs",
            )
        self.ended = True
        self._wake()

    def heard(self) -> None:
        """The loop is awake."""
        os.eventfd_read(self.fd)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def _wake(self) -> None:
        os.eventfd_write(self.fd, 1)

    def _mismatch(self, first: int, samples: Sequence[int]) -> LoadError | None:
        planned = self._items[first : first + len(samples)]
        if list(samples) == list(planned):
            return None
        pairs = enumerate(zip(samples, planned, strict=False))
        place = next((place for place, (found, wanted) in pairs if found != wanted), len(planned))
        wanted = f"sample {planned[place]}" if place < len(planned) else "no further sample"
        return LoadError(
            "LoadGen issues another sample than the plan says",
            expected=f"{wanted} as number {first + place}",
            found=f"sample {samples[place]}",
            next_step="make the plan with planned_issue of the same settings",
        )


@dataclass(frozen=True, slots=True)
class WindowKind:
    """What LoadGen wants to hear: of first tokens, and the text of answers (accuracy mode)."""

    first_tokens: bool
    texts: bool


def drive_official(plan: LoadPlan, items: Sequence[int], kind: WindowKind, official: Official) -> DriveResult:
    """Send the plan's requests as LoadGen issues them; `items[i]` is the sample that must be number i.

    The zero of the window is LoadGen's start as closely as it shows: it never issues before a sample is due, so of
    all samples the earliest call, less the sample's offset, is an upper bound. Measured against LoadGen's own trace it
    was 4 microseconds late in Server, and 1 ms in Offline, where the one query of 20,000 samples is handed over first.

    Raises:
        httpx.ConnectError: a server cannot even be connected to before the window starts.
        LoadError: the plan does not fit this machine, LoadGen issues something else, fails or does not end.
    """
    window = _Window(plan, items, kind, official)
    urls = [httpx.URL(url) for url in plan.base_urls]
    pools: list[Pool] = []
    loop = EpollLoop()
    try:
        pools += [Pool(loop, resolve(url)) for url in urls]
        warm = -(-_warm_count(plan) // len(pools))
        connect_all(loop, pools, [warm] * len(pools), PREPARE_S_MAX)
        return window.drive(loop, pools, tls=any(url.scheme == "https" for url in urls))
    finally:
        for pool in pools:
            pool.close()
        loop.close()
        if window.desk.ended:  # else LoadGen still lives, and would wake a descriptor that is gone
            window.desk.close()


def _warm_count(plan: LoadPlan) -> int:
    due_ns = [request.offset_ns for request in plan.requests]
    wanted = busiest_second(due_ns) if plan.in_flight_max is None else min(plan.in_flight_max, len(due_ns))
    return min(wanted, CONNECTIONS_WARM_MAX, max(1, bounds.raise_descriptor_limit() - bounds.DESCRIPTORS_KEPT))


def _require_fit(plan: LoadPlan, payloads: Sequence[bytes]) -> bounds.Needs:
    tokens = sum(request.output_tokens for request in plan.requests)
    needs = bounds.needs_of(sum(map(len, payloads)), len(payloads), tokens, plan.in_flight_max)
    bounds.require_fit(
        needs,
        memory_bytes=bounds.memory_available_bytes(),
        disk_bytes=shutil.disk_usage(tempfile.gettempdir()).free,
        descriptor_limit=bounds.raise_descriptor_limit(),
        in_flight_max=plan.in_flight_max,
    )
    return needs


class _Window:
    """The state of one window. Everything here runs in the loop's thread."""

    def __init__(self, plan: LoadPlan, items: Sequence[int], kind: WindowKind, official: Official) -> None:
        urls, key = [httpx.URL(url) for url in plan.base_urls], api_key() if plan.with_api_key else None
        built = (
            http_request(urls[place % len(urls)], each, plan.model, continuous_usage=plan.continuous_usage, api_key=key)
            for place, each in enumerate(plan.requests)
        )
        payloads = [request_bytes(request) for request in built]
        self._spool = Spool() if _require_fit(plan, payloads).spooled else None
        self._plan, self._kind, self._official = plan, kind, official
        self.desk = Desk(items)
        self._exchanges = [self._exchange(position, payload) for position, payload in enumerate(payloads)]
        self._told_first = bytearray(len(payloads))
        self._next = 0
        self._in_flight = 0
        self._open_count = len(payloads)
        self._ended_ns = 0
        self._filling = False

    def _exchange(self, position: int, payload: bytes) -> Exchange:
        request = self._plan.requests[position]
        exchange = Exchange(
            request.index,
            payload,
            0,
            partial(self._ended, position),
            replica=position % len(self._plan.base_urls),
            answer_bytes_max=ANSWER_BYTES_MIN + request.output_tokens * ANSWER_BYTES_PER_TOKEN_MAX,
        )
        if self._kind.first_tokens:
            exchange.reads = FirstTokenReads(request, exchange, partial(self._tell_first, position))
        return exchange

    def drive(self, loop: EpollLoop, pools: Sequence[Pool], *, tls: bool) -> DriveResult:
        """Let LoadGen run, and return what came back. Raises LoadError."""
        self._pools = pools
        offset_start_ns = realtime_offset_ns()
        with garbage_collection_paused(), self._watched(loop):
            began_ns = now_ns()
            self._deadline_ns = began_ns + nanoseconds(self._plan.window_s_max)
            self._hangs_ns = began_ns + nanoseconds(window_bound_s(self._plan) + LOADGEN_END_S_MAX)
            cpu_start_s = time.process_time()
            threading.Thread(target=self._run_official, name="loadgen", daemon=True).start()
            loop.run_until(self._is_over)
            cpu_s = time.process_time() - cpu_start_s
        if self.desk.problem is not None:
            raise self.desk.problem
        start_ns = self._put_due()
        return DriveResult(
            exchanges=tuple(self._exchanges),
            start_ns=start_ns,
            started_at_ns=start_ns + offset_start_ns,
            duration_ns=self._ended_ns - start_ns,
            cpu_s=cpu_s,
            offset=ClockOffset(offset_start_ns, realtime_offset_ns()),
            connection_count=sum(pool.opened_count for pool in pools),
            tls=tls,
            spool=self._spool,
        )

    def _run_official(self) -> None:
        """In LoadGen's thread."""
        problem = None
        try:
            self._official.run(self.desk.issue)
        except LoadError as error:
            problem = error
        except Exception as error:  # noqa: BLE001 - the loop would wait for ever
            problem = LoadError("LoadGen could not run", found=f"{type(error).__name__}: {error}")
        self.desk.end(problem)

    def _put_due(self) -> int:
        """Say of each exchange when it was due, and return when LoadGen started."""
        offsets_ns = [request.offset_ns for request in self._plan.requests]
        start_ns = min(issued - offset for issued, offset in zip(self.desk.issued_ns, offsets_ns, strict=True))
        for exchange, offset_ns in zip(self._exchanges, offsets_ns, strict=True):
            exchange.due_ns = start_ns + offset_ns
        return start_ns

    @contextmanager
    def _watched(self, loop: EpollLoop) -> Iterator[None]:
        sweep = Alarm(self._sweep)
        loop.watch(sweep.fileno(), select.EPOLLIN, sweep.handle)
        loop.watch(self.desk.fd, select.EPOLLIN, self._on_issue)
        sweep.arm(now_ns() + nanoseconds(SWEEP_S), nanoseconds(SWEEP_S))
        try:
            yield
        finally:
            loop.forget(self.desk.fd)
            loop.forget(sweep.fileno())
            sweep.close()

    def _is_over(self) -> bool:
        return self.desk.ended or self.desk.problem is not None

    # --- sending ----------------------------------------------------------------------------------------

    def _on_issue(self, _mask: int) -> None:
        self.desk.heard()
        self._send()

    def _send(self) -> None:
        """Send what was issued, as far as there is room."""
        if self._filling:
            return  # a launch that failed at once ended in here: the loop below goes on, the stack does not grow
        self._filling = True
        bound = self._plan.in_flight_max
        while self._next < len(self.desk.issued_ns) and (bound is None or self._in_flight < bound):
            exchange = self._exchanges[self._next]
            self._next += 1
            self._in_flight += 1
            if now_ns() >= self._deadline_ns:
                exchange.failure, exchange.failure_detail = Outcome.TIMEOUT, "the window ended before it could be sent"
                exchange.done_ns = now_ns()
                exchange.on_end(exchange)
            else:
                self._pools[exchange.replica].launch(exchange)
        self._filling = False

    # --- what is said to LoadGen ------------------------------------------------------------------------

    def _tell_first(self, position: int) -> None:
        self._told_first[position] = 1
        self._official.first_token(self.desk.ids[position])

    def _ended(self, position: int, exchange: Exchange) -> None:
        """An answer is here, or will not come. LoadGen would wait for ever for either."""
        exchange.reads = list(exchange.reads)  # nobody listens any more
        record = self._record(position, exchange)
        if self._kind.first_tokens and not self._told_first[position]:
            self._tell_first(position)  # LoadGen has no word for a failure; without a first token it reads past its end
        token_count = record.output_tokens if record.outcome is Outcome.OK else 0
        text = record.output_text if self._kind.texts else ""
        self._in_flight -= 1
        self._open_count -= 1
        self._ended_ns = now_ns()
        if not self._open_count:
            self._hangs_ns = self._ended_ns + nanoseconds(LOADGEN_END_S_MAX)
        self._official.complete(self.desk.ids[position], token_count, text)
        exchange.payload = b""
        if self._spool is not None:
            self._spool.keep(exchange)
        self._send()

    def _record(self, position: int, exchange: Exchange) -> RequestRecord:
        """The answer as the records have it, but for the stamps."""
        stamps = [(stamp_ns, False) for stamp_ns in exchange.user_ns]
        answer = answer_of(exchange.reads, stamps, closed=exchange.failure is None)
        raw = RawAnswer(exchange.index, exchange.send_ns, exchange.done_ns, answer, exchange.failure)
        return understand(self._plan.requests[position], raw).record

    # --- bounds -----------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Ten times a second: idle connections, time limits, the spool, and whether LoadGen still lives."""
        now = now_ns()
        for pool in self._pools:
            if now >= self._deadline_ns:
                pool.expire_all(f"no complete answer within the window of {self._plan.window_s_max:g} s")
            pool.sweep()
            if self._plan.request_s_max is not None:
                limit_s = self._plan.request_s_max
                pool.expire_older(now - nanoseconds(limit_s), f"no complete answer within {limit_s:g} s")
        self._send()
        if self._spool is not None and self._spool.is_due:
            self._spool.flush()
        if now >= self._hangs_ns and self.desk.problem is None:
            self.desk.problem = LoadError(
                "LoadGen did not end",
                expected=f"its end within {LOADGEN_END_S_MAX:.0f} s of the last answer",
                found=f"{len(self.desk.ids)} samples issued, {self._open_count} of the plan not answered",
                next_step="look at LoadGen's logs",
            )
