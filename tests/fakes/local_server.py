"""A web server of a test's own process: on this machine alone, a thread for each connection, and gone at the end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

POLL_S = 0.02
"""How often it looks whether it shall end: the longest that closing takes."""


class LocalServer(ThreadingHTTPServer):
    """It listens from its making on, and answers within its `with`, or from `start` to `close`.

    No thread outlives the process, but closing waits for none that still answers: whoever made a handler that answers
    for long tells it of the end.
    """

    request_queue_size = 128  # as a real one: each connection that finds the queue full waits for a second

    def __init__(
        self, handler: type[BaseHTTPRequestHandler], address: tuple[str, int] = ("127.0.0.1", 0), **told: Any
    ) -> None:
        """`address`: port 0 is a free one. `told`: what the handler finds on itself beside what it is."""
        super().__init__(address, type(handler.__name__, (handler,), told) if told else handler)
        self._answering = threading.Thread(target=self.serve_forever, args=(POLL_S,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        """Answer from now on."""
        self._answering.start()

    def close(self) -> None:
        """Answer and listen no more; a second time nothing happens."""
        self.shutdown()
        self.server_close()
        self._answering.join(5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; all else is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class LocalHandler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1 and says nothing on the terminal; how it answers is a subclass's `do_GET` and its like."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece: headers and body apart wait for each other's acknowledgement

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, cut: int = -1) -> None:
        """One whole answer; with `cut` only so many bytes of its body, and the connection ends."""
        self.close_connection |= cut >= 0
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status == 204:  # it has no body, and says no length of one either
            self.end_headers()
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut < 0 else body[:cut])
