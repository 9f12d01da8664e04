"""Connections of a load run, and the same as an ordinary httpx transport.

One thread, one epoll, no coroutines: at 30,000 chunks a second the bookkeeping of an event loop of tasks costs
more than the sockets. `StreamTransport` lets httpx build requests, and read any answer, over these sockets.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from itertools import islice, takewhile

import httpx

from redline.access import trust
from redline.load.connection import Address, Connection
from redline.load.exchange import Exchange, answer_of, now_ns, stamps_of
from redline.load.http1 import request_bytes
from redline.load.stamps import ClockOffset, realtime_offset_ns
from redline.model import Outcome
from redline.realtime import Alarm
from redline.units import nanoseconds

IDLE_S_MAX = 4.0
"""An idle connection is dropped before vLLM's own limit of 5 s makes it a race."""

CONNECT_S_MAX = 10.0
SWEEP_S = 0.1
SWEPT_MAX = 128
"""Idle connections dropped in one sweep: a thousand at once, opened together, would hold up the streams for 6 ms."""

EVENTS_PER_TURN = 128


class EpollLoop:
    """Descriptors and what to call when they are ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._buried: list[socket.socket] = []

    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        """Call `handler(mask)` whenever `fd` is ready; a second call replaces mask and handler."""
        if fd in self._handlers:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._handlers[fd] = handler

    def rewatch(self, fd: int, mask: int) -> None:
        """Wait for other things on a watched `fd`."""
        self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        """Stop watching."""
        self._epoll.unregister(fd)
        del self._handlers[fd]

    def bury(self, gone: socket.socket) -> None:
        """Stop watching a socket and close it at the end of this turn.

        Closed at once, its descriptor could be given to a new socket that this turn's remaining events would hit.
        """
        self.forget(gone.fileno())
        self._buried.append(gone)

    def run_until(self, is_over: Callable[[], bool]) -> None:
        """Serve events until `is_over()`; something that is watched must end it."""
        poll, handler_of = self._epoll.poll, self._handlers.get
        while not is_over():
            for fd, mask in poll(-1, EVENTS_PER_TURN):
                handler = handler_of(fd)
                if handler is not None:
                    handler(mask)
            if self._buried:
                self._close_buried()

    def _close_buried(self) -> None:
        for gone in self._buried:
            gone.close()
        self._buried.clear()

    def close(self) -> None:
        """Close what is left."""
        self._close_buried()
        self._epoll.close()


class Pool:
    """The connections to one base URL: the one used last is taken first, so that few are kept busy."""

    def __init__(self, loop: EpollLoop, address: Address) -> None:
        self.opened_count = 0
        self.last_error = ""
        self._loop = loop
        self._address = address
        self._idle: dict[Connection, None] = {}  # the longest idle first
        self._open: dict[Connection, None] = {}

    @property
    def idle_count(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def open_count(self) -> int:
        """Connections that are open or being opened."""
        return len(self._open)

    def launch(self, exchange: Exchange) -> None:
        """Send a request now, on an idle connection if there is one, else on a new one.

        It counts as sent from here: what connecting takes is the server's and the network's doing, not ours.
        """
        exchange.send_ns = now_ns()
        if self._idle and next(reversed(self._idle)).idle_since_ns > exchange.send_ns - nanoseconds(IDLE_S_MAX):
            connection, _ = self._idle.popitem()
            connection.carry(exchange)
        else:
            self._launch_on_new(exchange)

    def warm(self, count: int) -> None:
        """Begin to open connections before they are needed."""
        for _ in range(count):
            self._open_one()

    def sweep(self, *, connect_s_max: float = CONNECT_S_MAX) -> None:
        """Drop connections that have been idle or connecting for too long."""
        now = now_ns()
        oldest_ns = now - nanoseconds(IDLE_S_MAX)
        stale = takewhile(lambda each: each.idle_since_ns <= oldest_ns, self._idle)
        for connection in list(islice(stale, SWEPT_MAX)):
            connection.close()
        waiting_since_ns = now - nanoseconds(connect_s_max)
        for connection in [each for each in self._open if not each.connected and each.opened_ns < waiting_since_ns]:
            connection.expire(f"no connection within {connect_s_max:g} s")

    def expire_all(self, detail: str) -> None:
        """Time is over for everything that is under way."""
        for connection in list(self._open):
            connection.expire(detail)

    def expire_older(self, sent_before_ns: int, detail: str) -> None:
        """End the exchanges that were sent before an instant and are still open."""
        for connection in [each for each in self._open if each.carries_older(sent_before_ns)]:
            connection.expire(detail)

    def close(self) -> None:
        """Close every connection; what is under way ends without a word."""
        for connection in list(self._open):
            connection.close()

    def _launch_on_new(self, exchange: Exchange) -> None:
        connection = self._open_one()
        if isinstance(connection, OSError):
            exchange.failure, exchange.failure_detail = Outcome.CONNECTION_ERROR, _words(connection)
            exchange.done_ns = now_ns()
            exchange.on_end(exchange)
        else:
            connection.carry(exchange)

    def _open_one(self) -> Connection | OSError:
        try:
            connection = Connection(self._loop, self, self._address)
        except OSError as error:  # no descriptor, no route: ours to say, not the server's
            self.last_error = str(error)
            return error
        self.opened_count += 1
        self._open[connection] = None
        return connection

    # --- what connections report ------------------------------------------------------------------------

    def released(self, connection: Connection) -> None:
        """A connection is free."""
        self._idle[connection] = None

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection.last_error:
            self.last_error = connection.last_error
        del self._open[connection]
        self._idle.pop(connection, None)

    def send_again(self, exchange: Exchange) -> None:
        """The request goes out once more, on a connection of its own."""
        self._launch_on_new(exchange)


def _words(error: OSError) -> str:
    """What went wrong, and whether it is this client's own limit."""
    own = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
    return f"this client's own limit: {error}" if own else str(error)


def resolve(url: httpx.URL, tls: ssl.SSLContext | None = None) -> Address:
    """Where a base URL leads, resolved once, before the run. Raises httpx.ConnectError if the name is unknown."""
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpx.ConnectError(f"{url.host} cannot be resolved: {error}") from error
    # Both families where a name has both: the first that answers is the one the server listens on.
    family, _, _, _, sockaddr = found[0]
    for candidate in found:
        with socket.socket(candidate[0], socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_S_MAX)
            if probe.connect_ex(candidate[4]) == 0:
                family, sockaddr = candidate[0], candidate[4]
                break
    context = (tls or trust()) if url.scheme == "https" else None
    return Address(int(family), sockaddr, context, url.host)


class StreamTransport(httpx.BaseTransport):
    """These sockets as an ordinary httpx transport: `httpx.Client(transport=StreamTransport())`.

    One request at a time; the whole answer is read. `tls`: the context for https, the system's trust otherwise.
    `timeout_s` bounds a whole exchange; the client's own timeouts, for connecting and between two reads, hold too.
    Raises httpx.ConnectError, ConnectTimeout, ReadTimeout, ReadError or RemoteProtocolError as httpx's own
    transport does.
    """

    def __init__(self, *, timeout_s: float = 60.0, tls: ssl.SSLContext | None = None) -> None:
        self._loop = EpollLoop()
        self._timeout_s = timeout_s
        self._tls = tls
        self._pools: dict[tuple[str, str, int | None], Pool] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its whole answer."""
        request.read()
        key = (request.url.scheme, request.url.host, request.url.port)
        if key not in self._pools:
            self._pools[key] = Pool(self._loop, resolve(request.url, self._tls))
        pool = self._pools[key]
        ended: list[Exchange] = []
        exchange = Exchange(0, request_bytes(request), now_ns(), ended.append, method=request.method)
        limits = request.extensions.get("timeout", {})
        connect_s_max = min(limits.get("connect") or CONNECT_S_MAX, self._timeout_s)
        read_s_max = min(limits.get("read") or self._timeout_s, self._timeout_s)
        deadline_ns = now_ns() + nanoseconds(self._timeout_s)

        def sweep() -> None:
            pool.sweep(connect_s_max=connect_s_max)
            heard_ns = exchange.user_ns[-1] if exchange.reads else exchange.send_ns
            if now_ns() >= deadline_ns:
                pool.expire_all(f"no complete answer within {self._timeout_s:g} s")
            elif heard_ns and now_ns() - heard_ns >= nanoseconds(read_s_max):
                pool.expire_all(f"nothing within {read_s_max:g} s")

        alarm = Alarm(sweep)
        self._loop.watch(alarm.fileno(), select.EPOLLIN, alarm.handle)
        try:
            alarm.arm(now_ns() + nanoseconds(min(SWEEP_S, connect_s_max, read_s_max)), nanoseconds(SWEEP_S))
            pool.sweep(connect_s_max=connect_s_max)  # nobody did since the last request
            pool.launch(exchange)
            self._loop.run_until(lambda: bool(ended))
        finally:
            self._loop.forget(alarm.fileno())
            alarm.close()
        return _response_of(exchange, request)

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            pool.close()
        self._loop.close()


def _response_of(exchange: Exchange, request: httpx.Request) -> httpx.Response:
    match exchange.failure:
        case None:
            pass
        case Outcome.TIMEOUT if not exchange.sent:
            raise httpx.ConnectTimeout(exchange.failure_detail, request=request)
        case Outcome.TIMEOUT:
            raise httpx.ReadTimeout(exchange.failure_detail, request=request)
        case Outcome.CONNECTION_ERROR if not exchange.sent:
            raise httpx.ConnectError(exchange.failure_detail, request=request)
        case Outcome.PROTOCOL_ERROR | Outcome.TRUNCATED:
            raise httpx.RemoteProtocolError(exchange.failure_detail, request=request)
        case _:
            raise httpx.ReadError(exchange.failure_detail, request=request)
    offset = realtime_offset_ns()
    stamps = list(stamps_of(exchange, ClockOffset(offset, offset)))
    answer = answer_of(exchange.reads, stamps, method=request.method, closed=True)
    assert answer.head is not None  # a complete exchange has one
    # The transfer coding is undone; content codings are httpx's to undo.
    stream = httpx.ByteStream(answer.content)
    extensions = {"http_version": b"HTTP/1.%d" % answer.head.version[1], "stamps": answer.body}
    return httpx.Response(answer.head.status, headers=answer.head.headers, stream=stream, extensions=extensions)


def connect_all(loop: EpollLoop, pools: Sequence[Pool], counts: Sequence[int], timeout_s: float) -> None:
    """Open warm connections and wait for them. Raises httpx.ConnectError if a server takes none."""
    for pool, count in zip(pools, counts, strict=True):
        pool.warm(count)
    deadline_ns = now_ns() + nanoseconds(timeout_s)

    def sweep() -> None:
        for pool in pools:
            pool.sweep(connect_s_max=timeout_s)

    alarm = Alarm(sweep)
    loop.watch(alarm.fileno(), select.EPOLLIN, alarm.handle)
    try:
        alarm.arm(now_ns() + nanoseconds(SWEEP_S), nanoseconds(SWEEP_S))
        loop.run_until(lambda: now_ns() >= deadline_ns or all(pool.idle_count == pool.open_count for pool in pools))
    finally:
        loop.forget(alarm.fileno())
        alarm.close()
    for pool in pools:
        # A server that took connections and closed them again, being idle, is there: that is no reason to stop.
        if pool.idle_count == 0 and (pool.last_error or pool.open_count):
            raise httpx.ConnectError(pool.last_error or f"no connection within {timeout_s:.0f} s")
