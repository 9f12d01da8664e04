"""The loop: one thread, one epoll, one timerfd. It sends what is due, looks at the sockets, sleeps until the next.

No asyncio: at 32,000 chunks a second a task switch a chunk would be most of a core. Garbage collection is off while
it serves (a collection would hold up every stream); memory is bounded by the log's and the connections' limits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import time
from heapq import heappop, heappush

from redline.realtime import Timer, garbage_collection_paused
from redline.simulator.connection import READ_BYTES, READS_MAX, Connection
from redline.simulator.desk import FrontDesk
from redline.simulator.engine import IDLE
from redline.simulator.generation import error_content
from redline.simulator.wire import CONTINUE, RefusedBytesError, json_answer
from redline.units import nanoseconds

EVENTS_MAX = 32
"""Sockets looked at before what is due gets its turn: a burst of requests may not hold up the streams."""

ACCEPTS_MAX = 16
"""New connections taken in a row before the streams get their turn."""

LISTEN_BACKLOG = 4096
SWEEP_S = 0.25
REQUEST_S_MAX = 30.0
"""How long a client may take to send a request."""

LINGER_S_MAX = 2.0
"""How long a closed connection waits for the client to close too."""

ACCEPT_AGAIN_S = 0.1
"""Pause of the listener when the process has no descriptor left."""

_READABLE = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Server:
    """Serves on a bound socket until it is told to stop."""

    def __init__(self, desk: FrontDesk, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._desk = desk
        self._engine = desk.engine
        self._listener = listener
        self._tls = tls
        self._connections = desk.connections
        self._epoll = select.epoll()
        self._timer = Timer()
        self._stopping = False
        self._listen_ns = time.monotonic_ns() + nanoseconds(desk.settings.failures.listen_after_s)
        self._listening = False
        self._deadlines: list[tuple[int, int, Connection]] = []  # a heap; the descriptor decides between equals

    def stop(self) -> None:
        """Leave `serve` at the next turn; may be called from a signal handler."""
        self._stopping = True

    def serve(self, *, wake_fd: int | None = None, parent_fd: int | None = None) -> None:
        """Serve until `stop`. Bytes on `wake_fd` only wake it; when `parent_fd` ends, it stops."""
        epoll = self._epoll
        epoll.register(self._timer.fd, select.EPOLLIN | select.EPOLLET)
        if wake_fd is not None:
            epoll.register(wake_fd, select.EPOLLIN)
        if parent_fd is not None:
            self._watch_parent(parent_fd)
        self._listener.setblocking(False)  # noqa: FBT003 - that is its signature
        try:
            with garbage_collection_paused():
                self._loop(parent_fd)
        finally:
            for connection in list(self._connections.values()):
                connection.drop()
            epoll.close()
            self._timer.close()

    def _watch_parent(self, parent_fd: int) -> None:
        try:
            self._epoll.register(parent_fd, select.EPOLLIN)
        except PermissionError:
            self.stop()  # a file or /dev/null: nobody who could end it

    def _loop(self, parent_fd: int | None) -> None:
        send_due, poll, connections = self._engine.send_due, self._epoll.poll, self._connections
        arm = self._timer.arm
        timer_fd, sweep_ns = self._timer.fd, 0
        while not self._stopping:
            due_ns = send_due()
            timeout_s = SWEEP_S
            if due_ns != IDLE:
                if due_ns <= time.monotonic_ns():
                    timeout_s = 0.0
                else:
                    arm(due_ns)
            for fd, mask in poll(timeout_s, EVENTS_MAX):
                connection = connections.get(fd)
                if connection is not None:
                    if mask & select.EPOLLOUT:
                        connection.flush()
                    if mask & _READABLE and not connection.closed:
                        self._read(connection)
                elif fd != timer_fd:
                    self._other_event(fd, parent_fd)
            now_ns = time.monotonic_ns()
            if now_ns >= sweep_ns:
                sweep_ns = now_ns + nanoseconds(SWEEP_S)
                self._sweep(now_ns)

    def _other_event(self, fd: int, parent_fd: int | None) -> None:
        """Something came on a descriptor that is no client's and not the timer's."""
        if fd == self._listener.fileno():
            self._accept()
        elif not os.read(fd, READ_BYTES) and fd == parent_fd:
            self.stop()

    # --- connections ------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                client, _address = self._listener.accept()
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:
                    self._pause_listener()
                return
            try:
                client.setblocking(False)  # noqa: FBT003 - that is its signature
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    client = self._tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
            except OSError:
                client.close()
                continue
            connection = Connection(client, self)
            self._connections[connection.fd] = connection
            self._epoll.register(connection.fd, select.EPOLLIN)
            connection.watched = select.EPOLLIN
            connection.begun = True
            self._expire(connection, REQUEST_S_MAX)

    def _pause_listener(self) -> None:
        self._epoll.unregister(self._listener.fileno())
        self._listening = False
        self._listen_ns = time.monotonic_ns() + nanoseconds(ACCEPT_AGAIN_S)

    def _read(self, connection: Connection) -> None:
        """Read what is there, and take the requests that are complete."""
        for _ in range(READS_MAX):
            try:
                data = connection.read()
            except OSError:
                data = b""
            if data is None:
                break
            if not data:
                connection.drop()
                return
            if not (connection.lingering or connection.muted):
                if not connection.parser.begun:
                    connection.first_byte_ns = time.monotonic_ns()
                connection.parser.feed(data)
            if len(data) < READ_BYTES and not connection.more_decrypted():
                break
        if connection.busy:
            if not connection.wants_reading:
                self.watch(connection)
        else:
            self._take(connection)

    def ready(self, connection: Connection) -> None:
        """An answer is out: the next request may be taken."""
        self._take(connection)
        self.watch(connection)

    def _take(self, connection: Connection) -> None:
        """Take the requests that have come whole, until one has to be waited for."""
        while not connection.busy:
            try:
                request = connection.parser.take()
            except RefusedBytesError as error:
                refused = error_content(error.reason, "BadRequestError", error.status)
                connection.write(json_answer(error.status, refused, keep_alive=False))
                connection.close()
                return
            if request is None:
                if connection.parser.continue_due():
                    connection.write(CONTINUE)
                if connection.parser.begun and not connection.begun:
                    connection.begun = True  # counted once: a client that trickles gains no time
                    self._expire(connection, REQUEST_S_MAX)
                elif connection.deadline_ns == 0:
                    self._expire(connection, self._desk.settings.serving.keep_alive_s)
                return
            now_ns = time.monotonic_ns()
            connection.begun, connection.deadline_ns = False, 0
            self._desk.take(connection, request, now_ns)
            connection.first_byte_ns = now_ns  # of a request that came in the same read

    def watch(self, connection: Connection) -> None:
        """Wait for what the connection waits for."""
        if connection.closed:
            return
        wanted = select.EPOLLIN if connection.lingering or connection.wants_reading else 0
        if connection.unsent:
            wanted |= select.EPOLLOUT
        if wanted != connection.watched:
            self._epoll.modify(connection.fd, wanted)
            connection.watched = wanted
        if connection.lingering:
            self._expire(connection, LINGER_S_MAX)

    def forget(self, connection: Connection) -> None:
        """The connection is about to be closed: its stream ends."""
        if connection.stream is not None:
            stream, connection.stream = connection.stream, None
            self._engine.abort(stream)
        self._connections.pop(connection.fd, None)
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(connection.fd)

    # --- limits -----------------------------------------------------------------------------------------------

    def _expire(self, connection: Connection, after_s: float) -> None:
        deadline_ns = connection.deadline_ns = time.monotonic_ns() + nanoseconds(after_s)
        heappush(self._deadlines, (deadline_ns, connection.fd, connection))

    def _sweep(self, now_ns: int) -> None:
        """Close what has been idle for too long; start to listen when it is time."""
        if not self._listening and now_ns >= self._listen_ns:
            self._listener.listen(LISTEN_BACKLOG)
            self._epoll.register(self._listener.fileno(), select.EPOLLIN)
            self._listening = True
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now_ns:
            deadline_ns, _, connection = heappop(deadlines)
            if connection.deadline_ns == deadline_ns:  # else it did something since
                connection.drop()
