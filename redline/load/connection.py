"""A socket that the hot path owns: one send per request, and per read the bytes with the kernel's stamp.

Nothing is parsed while an answer streams: it is enough to see whether a read may hold its end. Only then the
framing is followed, from where it was left.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from redline.load.exchange import Exchange, now_ns
from redline.load.http1 import MalformedError, ResponseReader, State
from redline.load.stamps import ANCILLARY_BYTES, ask_for_stamps
from redline.load.tls import TlsSession
from redline.model import Outcome

READ_BYTES = 4 * 1024
"""More than an event, far less than a socket holds: what a late client finds waiting is read in pieces, and each
piece gets the stamp of its own last packet."""

READABLE = select.EPOLLIN | select.EPOLLRDHUP
WRITABLE = select.EPOLLOUT
_EVENT_END = b"\n\n\r\n"
"""How a read ends that completed an event and its HTTP chunk, which is nearly every read. The end of a chunked
answer is an empty line, CRLF CRLF: such a read cannot end with it. Any other read may hold the end, or overrun it."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: a numeric address (names are resolved before the run), and TLS if it speaks it.

    `sockaddr`: what `socket.connect` takes for the family.
    """

    family: int
    sockaddr: Any
    tls: ssl.SSLContext | None
    server_name: str


class Loop(Protocol):
    """What a connection needs of its event loop."""

    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        """Call `handler(mask)` whenever `fd` is ready."""

    def rewatch(self, fd: int, mask: int) -> None:
        """Wait for other things on a watched `fd`."""

    def bury(self, gone: socket.socket) -> None:
        """Stop watching a socket, and close it once nothing of this turn can still mean its descriptor."""


class Owner(Protocol):
    """Whose connection this is: it hears when the connection is free again, or gone."""

    def released(self, connection: Connection) -> None:
        """The exchange is over and the connection can carry another."""

    def lost(self, connection: Connection) -> None:
        """The connection is closed, idle or not."""

    def send_again(self, exchange: Exchange) -> None:
        """An idle connection had been closed by the server before a byte of an answer came."""


class Connection:
    """One TCP (or TLS) connection; carries at most one exchange at a time."""

    def __init__(self, loop: Loop, owner: Owner, address: Address) -> None:
        self.idle_since_ns = 0
        self.opened_ns = now_ns()
        self.connected = False
        self.closed = False
        self.last_error = ""
        self._loop = loop
        self._owner = owner
        self._exchange: Exchange | None = None
        self._reader: ResponseReader | None = None
        self._unread_from = 0
        self._watch_end = True
        self._tls = TlsSession(address.tls, address.server_name) if address.tls else None
        self._outgoing = memoryview(b"")
        self._socket = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ask_for_stamps(self._socket)
            self.fd = self._socket.fileno()
            self._recvmsg = self._socket.recvmsg
            self._send = self._socket.send
            with suppress(BlockingIOError):  # it is under way
                self._socket.connect(address.sockaddr)
            loop.watch(self.fd, WRITABLE | READABLE, self._on_connecting)
        except BaseException:
            self._socket.close()
            raise

    # --- connecting -------------------------------------------------------------------------------------

    def _on_connecting(self, mask: int) -> None:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.fail(OSError(error, os.strerror(error)))
            return
        if self._tls is not None and not self._shake_hands(self._tls, mask):
            return
        self.connected = True
        self._loop.watch(self.fd, READABLE, self.on_ready)
        if self._exchange is None:
            self._become_idle()
        else:
            self._start_sending(self._exchange)

    def _shake_hands(self, tls: TlsSession, mask: int) -> bool:
        """One more step of the TLS handshake; True when it is over."""
        try:
            if mask & READABLE:
                data = self._socket.recv(READ_BYTES)
                if not data:
                    raise ConnectionResetError("the server closed the connection during the TLS handshake")
                tls.feed(data)
            done = tls.handshake()
            self._write(tls.outgoing())
        except BlockingIOError:
            return False
        except OSError as error:  # ssl.SSLError is one
            self.fail(error)
            return False
        self._loop.rewatch(self.fd, READABLE | (WRITABLE if self._outgoing else 0))
        return done

    # --- sending ----------------------------------------------------------------------------------------

    def carry(self, exchange: Exchange) -> None:
        """Send a request as soon as the connection can; the answer ends up in the exchange."""
        self._exchange = exchange
        self._reader = None
        self._unread_from = 0
        self._watch_end = True
        exchange.in_flight = True
        if self.connected:
            exchange.send_ns = now_ns()
            self._start_sending(exchange)

    def _start_sending(self, exchange: Exchange) -> None:
        payload = exchange.payload
        exchange.sent = True
        try:
            if self._tls is not None:
                payload = self._tls.encrypt(payload)
            sent = self._send(payload)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.fail(error)
            return
        if sent < len(payload):
            self._outgoing = memoryview(payload)[sent:]
            exchange.payload_left = len(payload) - sent
            self._loop.rewatch(self.fd, READABLE | WRITABLE)

    def _write(self, data: bytes) -> None:
        self._outgoing = memoryview(bytes(self._outgoing) + data) if self._outgoing else memoryview(data)
        self._flush()

    def _flush(self) -> None:
        """Send some of what waits: as much as the kernel takes at once, so that an upload holds up no stream."""
        if self._outgoing:
            with suppress(BlockingIOError):
                self._outgoing = self._outgoing[self._send(self._outgoing) :]
        if self._exchange is not None:
            self._exchange.payload_left = len(self._outgoing)

    # --- receiving --------------------------------------------------------------------------------------

    def on_ready(self, mask: int) -> None:
        """The socket can be read, or written again."""
        if mask & WRITABLE:
            self._on_writable()
            if not mask & ~WRITABLE:
                return
        try:
            data, ancillary, _, _ = self._recvmsg(READ_BYTES, ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error)
            return
        stamp_ns = now_ns()
        exchange = self._exchange
        if exchange is None or not data:
            self._on_idle_or_end(exchange, data)
            return
        if self._tls is not None:
            data = self._decrypt(self._tls, data)
            if not data:
                return
        exchange.reads.append(data)
        exchange.user_ns.append(stamp_ns)
        exchange.ancillary.append(ancillary)
        exchange.received_bytes += len(data)
        if self._watch_end or not data.endswith(_EVENT_END):
            self._look_for_end(exchange)
        elif exchange.received_bytes > exchange.answer_bytes_max:
            self._break_off(exchange, f"an answer of more than {exchange.answer_bytes_max} bytes")

    def _on_writable(self) -> None:
        try:
            self._flush()
        except OSError:
            # The server takes no more, but may have said why: what it sent before is read, then the end or the error.
            self._loop.rewatch(self.fd, READABLE)
            return
        if not self._outgoing:
            self._loop.rewatch(self.fd, READABLE)

    def _decrypt(self, tls: TlsSession, data: bytes) -> bytes:
        """What TLS records hold; nothing if they complete none, or if they ended the connection."""
        try:
            plain = tls.decrypt(data)
        except OSError as error:
            self.fail(error)
            return b""
        if tls.closed:
            if plain:
                self._watch_end = True  # the answer and the end of the session in one read
            else:
                self._on_idle_or_end(self._exchange, b"")
        return plain

    def _look_for_end(self, exchange: Exchange) -> None:
        """Follow the framing through the reads not looked at yet."""
        if self._reader is None:
            self._reader = ResponseReader(exchange.method)
        reader = self._reader
        try:
            reader.feed(b"".join(exchange.reads[self._unread_from :]))
            self._unread_from = len(exchange.reads)
        except MalformedError as error:
            self._break_off(exchange, str(error))
            return
        if reader.complete:
            self._finish(exchange, keep=reader.head is not None and reader.head.keeps_connection and not reader.surplus)
            return
        if exchange.received_bytes > exchange.answer_bytes_max:
            self._break_off(exchange, f"an answer of more than {exchange.answer_bytes_max} bytes")
            return
        self._watch_end = reader.state in (State.HEAD, State.LENGTH)
        if self._tls is not None and self._tls.closed:
            self._on_idle_or_end(exchange, b"")

    def _on_idle_or_end(self, exchange: Exchange | None, data: bytes) -> None:
        """The server closed the connection, or sent something nobody asked for."""
        if exchange is None:
            if not (data and self._tls is not None and self._tls.takes_note(data)):
                self._close()
            return
        if exchange.reads:
            if not self._ends_at_close(exchange):
                self.fail(ConnectionResetError("the server closed the connection in the middle of an answer"))
            return
        self.fail(ConnectionResetError("the server closed the connection before it answered"))

    def _ends_at_close(self, exchange: Exchange) -> bool:
        """True if this answer ends where the connection does; the exchange is then finished."""
        reader = self._reader or ResponseReader(exchange.method)
        try:
            reader.feed(b"".join(exchange.reads[self._unread_from :]))
        except MalformedError as error:
            self._break_off(exchange, str(error))
            return True
        if reader.complete or reader.end():
            self._finish(exchange, keep=False)
            return True
        return False

    # --- the end ----------------------------------------------------------------------------------------

    def _finish(self, exchange: Exchange, *, keep: bool) -> None:
        exchange.done_ns = exchange.user_ns[-1]
        exchange.in_flight = False
        self._exchange = None
        if keep and not self._outgoing:
            self._become_idle()
        else:
            self._close()
        exchange.on_end(exchange)

    def _become_idle(self) -> None:
        self.idle_since_ns = now_ns()
        self._owner.released(self)

    def _break_off(self, exchange: Exchange, detail: str) -> None:
        self.end_exchange(exchange, Outcome.PROTOCOL_ERROR, detail)

    def end_exchange(self, exchange: Exchange, outcome: Outcome, detail: str) -> None:
        """Close the connection and end its exchange as failed."""
        exchange.failure, exchange.failure_detail = outcome, detail
        exchange.done_ns = now_ns()
        exchange.in_flight = False
        self._exchange = None
        self._close()
        exchange.on_end(exchange)

    def fail(self, error: OSError) -> None:
        """The connection broke."""
        exchange = self._exchange
        self.last_error = str(error) or type(error).__name__
        if exchange is None:
            self._close()
            return
        if self.idle_since_ns and not exchange.reads and not exchange.resent and isinstance(error, ConnectionError):
            exchange.resent = True  # the server closed an idle connection just as it was taken: RFC 9112, 9.3.1
            self._exchange = None
            self._close()
            self._owner.send_again(exchange)
            return
        outcome = Outcome.TRUNCATED if exchange.reads else Outcome.CONNECTION_ERROR
        self.end_exchange(exchange, outcome, self.last_error)

    def carries_older(self, sent_before_ns: int) -> bool:
        """True if it carries an exchange that was sent before an instant."""
        return self._exchange is not None and 0 < self._exchange.send_ns < sent_before_ns

    def expire(self, detail: str) -> None:
        """Time is over for what this connection carries."""
        exchange = self._exchange
        if exchange is None:
            self.last_error = detail
            self._close()
            return
        if exchange.payload_left:
            detail = f"{detail}; {exchange.payload_left} bytes of the request were never taken"
        self.end_exchange(exchange, Outcome.TIMEOUT, detail)

    def close(self) -> None:
        """Close it; nobody waits any more for what it carries, if anything."""
        self._close()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.bury(self._socket)
            self._owner.lost(self)
