"""One client connection: bytes in, bytes that could not be sent yet, and how it ends."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Protocol

from redline.simulator.stream import Stream
from redline.simulator.wire import RequestParser

READ_BYTES = 64 * 1024
READS_MAX = 8
"""Reads in a row from one connection before the others get their turn."""

UNSENT_BYTES_MAX = 4 * 1024 * 1024
"""What a stream may hold back for a client that does not read; beyond it the client is given up."""

PIPELINED_BYTES_MAX = 256 * 1024
"""What is read ahead of an answer; beyond it the connection is not read until the answer is out."""

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


class Host(Protocol):
    """What a connection needs of the server."""

    def watch(self, connection: Connection) -> None:
        """Wait for what the connection waits for."""

    def forget(self, connection: Connection) -> None:
        """The connection is about to be closed."""

    def ready(self, connection: Connection) -> None:
        """An answer is out: the next request may be taken."""


class Connection:
    """A client's connection, plain or TLS, not blocking.

    `begun`: part of a request has come; `stream`: the generation that it answers; `muted`: nothing is answered any
    more; `deadline_ns`: when it is closed for idleness, 0 for never.
    """

    __slots__ = (
        "_host", "begun", "closed", "closing", "deadline_ns", "fd", "first_byte_ns", "lingering", "muted", "parser",
        "socket", "stream", "unsent", "watched",
    )  # fmt: skip

    def __init__(self, client: socket.socket, host: Host) -> None:
        self._host = host
        self.socket = client
        self.fd = client.fileno()
        self.parser = RequestParser()
        self.stream: Stream | None = None
        self.unsent = bytearray()
        self.watched = 0
        self.first_byte_ns = 0
        self.deadline_ns = 0
        self.begun = self.closed = self.closing = self.lingering = self.muted = False

    @property
    def busy(self) -> bool:
        """True while no further request may be taken: what comes meanwhile waits."""
        return self.stream is not None or self.muted or self.closing or self.closed

    @property
    def wants_reading(self) -> bool:
        """False while more is held than the client should have sent."""
        return not (self.busy and self.parser.buffered_bytes > PIPELINED_BYTES_MAX)

    def more_decrypted(self) -> bool:
        """True if TLS holds bytes that epoll does not know of."""
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    def read(self) -> bytes | None:
        """The next bytes, b"" at the client's end, None if there are none now. Raises OSError if it broke."""
        try:
            return self.socket.recv(READ_BYTES)
        except WOULD_BLOCK:
            return None

    def write(self, data: bytes) -> None:
        """Send now what the socket takes, the rest when it takes it. An error closes the connection."""
        if self.closed:
            return
        if not self.unsent:
            try:
                sent = self.socket.send(data)
            except WOULD_BLOCK:
                sent = 0
            except OSError:
                self.drop()
                return
            if sent == len(data):
                return
            data = data[sent:]
        elif self.stream is not None and len(self.unsent) > UNSENT_BYTES_MAX:
            self.drop()
            return
        self.unsent += data
        self._host.watch(self)

    def flush(self) -> None:
        """Send more of what is unsent."""
        try:
            sent = self.socket.send(self.unsent)
        except WOULD_BLOCK:
            return
        except OSError:
            self.drop()
            return
        del self.unsent[:sent]
        if not self.unsent:
            if self.closing:
                self.close()
            else:
                self._host.watch(self)

    def answered(self, *, keep_alive: bool) -> None:
        """The answer is complete: take the next request, or close."""
        self.stream = None
        if self.closed:
            return
        if keep_alive:
            self._host.ready(self)
        else:
            self.close()

    def close(self) -> None:
        """End the answer, then the connection, without losing what was sent: the client is given time to read it."""
        self.stream = None
        if self.closed or self.lingering:
            return
        self.closing = True
        if self.unsent:
            self._host.watch(self)
            return
        self.lingering = True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.drop()
            return
        self._host.watch(self)

    def reset(self) -> None:
        """End the connection with RST."""
        if not self.closed:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            self.drop()

    def drop(self) -> None:
        """End the connection at once."""
        if not self.closed:
            self.closed = True
            self._host.forget(self)
            self.socket.close()
