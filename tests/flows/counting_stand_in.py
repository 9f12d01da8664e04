"""The stand-in of tests/fakes/stand_in_vllm.py with a counter on /metrics; every GET goes to the file STAND_IN_ASKED."""

import http.server
import os
import runpy
import threading
from pathlib import Path

STAND_IN = Path(__file__).parents[1] / "fakes" / "stand_in_vllm.py"
COUNTER = "# TYPE vllm:request_success counter\nvllm:request_success_total {}\n"


class CountingServer(http.server.ThreadingHTTPServer):
    """Takes the place of the stand-in's server."""

    def __init__(self, address: tuple[str, int], handler: type) -> None:
        self.answered = 0
        self.lock = threading.Lock()

        class Counted(handler):
            def do_GET(self) -> None:
                with Path(os.environ["STAND_IN_ASKED"]).open("a") as file:
                    file.write(f"{self.path}\n")
                if self.path != "/metrics":
                    super().do_GET()
                    return
                body = COUNTER.format(self.server.answered).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                with self.server.lock:  # before the answer, so that whoever has it finds it counted
                    self.server.answered += 1
                super().do_POST()

        super().__init__(address, Counted)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer = CountingServer
    runpy.run_path(str(STAND_IN), run_name="__main__")
