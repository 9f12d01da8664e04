"""tests/fakes/stand_in_vllm.py with a counter on /metrics; every GET is written to the file STAND_IN_ASKED.

While the file STAND_IN_WINDOW_HELD is there, a completion that is to be streamed adds a byte to it and is not answered:
its window is not over before the test says so, however long anybody is kept waiting.
"""

import http.server
import io
import json
import os
import runpy
import threading
import time
from pathlib import Path
from typing import Any

STAND_IN = Path(__file__).parents[1] / "fakes" / "stand_in_vllm.py"
COUNTER = "# TYPE vllm:request_success counter\nvllm:request_success_total {}\n"


class Counting:
    """What comes before the stand-in's own handler."""

    wrapped: Any
    server: "CountingServer"

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        this: Any = self
        with Path(os.environ["STAND_IN_ASKED"]).open("a") as file:
            file.write(f"{this.path}\n")
        if this.path != "/metrics":
            self.wrapped.do_GET(self)
            return
        body = COUNTER.format(self.server.answered).encode()
        this.send_response(200)
        this.send_header("Content-Length", str(len(body)))
        this.end_headers()
        this.wfile.write(body)

    def do_POST(self) -> None:  # noqa: N802 - as above
        this: Any = self
        body = this.rfile.read(int(this.headers["Content-Length"]))
        if json.loads(body).get("stream"):
            hold(Path(os.environ["STAND_IN_WINDOW_HELD"]))
        this.rfile = io.BytesIO(body)  # one request a connection: there is nothing after it
        with self.server.lock:  # before the answer, so that whoever has it finds it counted
            self.server.answered += 1
        self.wrapped.do_POST(self)


def hold(path: Path) -> None:
    """Add a byte to the file and wait until it is gone; at once where there is none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)  # never made here: whoever deletes it means it
    except FileNotFoundError:
        return
    os.write(descriptor, b".")
    os.close(descriptor)
    while path.exists():
        time.sleep(0.02)


class CountingServer(http.server.ThreadingHTTPServer):
    """Takes the place of the stand-in's server."""

    def __init__(self, address: tuple[str, int], handler: type) -> None:
        self.answered = 0
        self.lock = threading.Lock()
        super().__init__(address, type("Counted", (Counting, handler), {"wrapped": handler}))


if __name__ == "__main__":
    vars(http.server)["ThreadingHTTPServer"] = CountingServer
    runpy.run_path(str(STAND_IN), run_name="__main__")
