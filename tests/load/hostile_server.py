"""A server of raw sockets that does what it is told: one thread per connection, one function per misbehaviour."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from tests.load.vllm_streams import DONE, HEAD, chunked, completion_event, event, usage_json

READ_S_MAX = 150.0


class ServerStoppedError(Exception):
    """The test is over: what a stalling script waits for."""


class Talk:
    """One connection as a script sees it. Everything raises OSError if the client goes, as sockets do."""

    def __init__(self, connection: socket.socket, number: int, stopped: threading.Event) -> None:
        self.connection = connection
        self.number = number
        self.method = self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self._stopped = stopped
        self._rest = b""

    def read_request(self) -> bool:
        """Read a whole request; False if the client closed instead."""
        self.method = ""
        while b"\r\n\r\n" not in self._rest:
            piece = self.connection.recv(65536)
            if not piece:
                return False
            self._rest += piece
        head, _, rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        pieces, length = [rest], len(rest)
        wanted = int(self.headers.get("content-length", "0"))
        while length < wanted:
            piece = self.connection.recv(1 << 20)
            if not piece:
                return False
            pieces.append(piece)
            length += len(piece)
        whole = b"".join(pieces)
        self.body, self._rest = whole[:wanted], whole[wanted:]
        return True

    @property
    def content(self) -> dict[str, Any]:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def token(self) -> int:
        """The first token of the prompt, by which tests tell requests apart."""
        return self.content["prompt"][0]

    def send(self, data: bytes) -> None:
        """Send bytes, all of them."""
        self.connection.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Send bytes one by one, each its own segment as far as the network goes along."""
        for byte in data:
            self.connection.sendall(bytes([byte]))

    def pause(self, duration_s: float) -> None:
        """Wait. Raises ServerStoppedError if the test is over before that."""
        if self._stopped.wait(duration_s):
            raise ServerStoppedError

    def stall(self) -> None:
        """Do nothing until the test is over."""
        self.pause(READ_S_MAX)

    def reset(self) -> None:
        """Close with RST: no goodbye."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


Script: TypeAlias = Callable[[Talk], None]


def answer_stream(token_count: int = 2, prompt_tokens: int = 3) -> bytes:
    """A whole good answer with so many tokens, each its own chunk."""
    events = [completion_event("[7]", "a") for _ in range(token_count)]
    return HEAD + chunked(*events, event("text_completion", "", usage_json(token_count, prompt_tokens)), DONE)


GOOD = answer_stream()
"""What answers a request for two tokens well."""


def good(talk: Talk) -> None:
    """Answer every request of a connection well, until the client closes it."""
    while talk.read_request():
        talk.send(answer_stream(talk.content["max_tokens"]))


def stalls_on(token: int, start: bytes = b"") -> Script:
    """A script that answers well but for one token, for which it says a beginning and no more."""

    def script(talk: Talk) -> None:
        while talk.read_request():
            if talk.token == token:
                talk.send(start)
                talk.stall()
            talk.send(GOOD)

    return script


class HostileServer:
    """A running server: where it is, and the connections that were made to it."""

    def __init__(self, url: str, listener: socket.socket) -> None:
        self.url = url
        self.talks: list[Talk] = []
        self._listener = listener

    def stop_listening(self) -> None:
        """Refuse connections from now on."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.url.rsplit(":", 1)[1])


@contextmanager
def hostile_server(
    script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, receive_bytes: int | None = None
) -> Iterator[HostileServer]:
    """A server that runs `script` for each connection.

    `receive_bytes`: its receive buffer. Connections that close before their first byte (the client tries the
    address before a run) are served like others: a script sees them as `read_request()` returning False.
    """
    stopped = threading.Event()
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=4096)
    if receive_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    shown = f"[{host}]" if ":" in host else host
    server = HostileServer(f"{'https' if tls else 'http'}://{shown}:{listener.getsockname()[1]}", listener)
    threads: list[threading.Thread] = []
    open_sockets: set[socket.socket] = set()

    def serve(connection: socket.socket, number: int) -> None:
        with connection, suppress(OSError, ServerStoppedError):
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
                open_sockets.add(connection)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                talk = Talk(connection, number, stopped)
                server.talks.append(talk)
                script(talk)
        open_sockets.discard(connection)

    def accept() -> None:
        while not stopped.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(READ_S_MAX)
            open_sockets.add(connection)
            thread = threading.Thread(target=serve, args=(connection, len(threads)), daemon=True)
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        stopped.set()
        server.stop_listening()
        acceptor.join(30)
        for connection in list(open_sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(30)
