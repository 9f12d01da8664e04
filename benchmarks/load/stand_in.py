"""The stand-in server, started for a run: our C server, or the product's simulator where there is no compiler."""

from __future__ import annotations

import http.client
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from benchmarks.load.compiler import compiled
from benchmarks.load.driver import DriverError
from benchmarks.load.process_tree import pinned
from benchmarks.load.server_log import ServerLog, from_simulator, read_binary
from benchmarks.load.workload import MODEL, Workload
from redline.simulator.process import RunningSimulator, simulator
from redline.simulator.settings import Serving, Settings, Timing

SOURCE = Path(__file__).resolve().parent / "sse_server.c"
START_S_MAX = 10.0
ASK_S_MAX = 60.0
END_S_MAX = 5.0


class StandIn(Protocol):
    """A server that serves a workload and knows when it truly sent every chunk."""

    port: int
    kind: str

    def begin(self, workload: Workload) -> None:
        """Serve this workload from now on, with an empty log."""

    def log(self, directory: Path) -> ServerLog:
        """What happened since `begin`."""


@contextmanager
def stand_in(kind: str, work: Path, cpu_ids: Sequence[int]) -> Iterator[StandIn]:
    """A running stand-in on `cpu_ids`: `c`, `simulator`, or `auto`, which is `c` where it compiles."""
    if kind in {"c", "auto"}:
        try:
            program = compiled(SOURCE, work)
        except DriverError:
            if kind == "c":
                raise
        else:
            with _c_server(program, cpu_ids) as server:
                yield server
            return
    with simulator(Settings(serving=Serving(model=MODEL)), cpu_ids=tuple(cpu_ids)) as running:
        yield SimulatorServer(running)


@contextmanager
def _c_server(program: Path, cpu_ids: Sequence[int]) -> Iterator[StandIn]:
    port = free_port()
    with pinned(cpu_ids):
        process = subprocess.Popen([str(program), "--port", str(port), "--model", MODEL], stdin=subprocess.DEVNULL)
    try:
        server = CServer(port)
        deadline_s = time.monotonic() + START_S_MAX
        while not server.answers():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise DriverError(f"the stand-in did not start (exit status {process.poll()})")
            time.sleep(0.02)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_S_MAX)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class CServer:
    """`sse_server.c`, asked through /ctl."""

    kind = "c"

    def __init__(self, port: int) -> None:
        self.port = port

    def answers(self) -> bool:
        """True once it listens."""
        try:
            return self._get("/health")[0] == 200
        except OSError:
            return False

    def begin(self, workload: Workload) -> None:
        """Set the timers. What a tool left open is waited for, because the log cannot be emptied under it."""
        ttft_us, itl_us = round(workload.ttft_s * 1e6), round(workload.itl_s * 1e6)
        deadline_s = time.monotonic() + ASK_S_MAX
        while b'"requests":0' not in self._get("/ctl")[1]:
            if time.monotonic() > deadline_s:
                raise DriverError("the stand-in is still busy with the last client's requests")
            self._get(f"/ctl?ttft_us={ttft_us}&itl_us={itl_us}&reset=1")
            time.sleep(0.05)
        self._get(f"/ctl?ttft_us={ttft_us}&itl_us={itl_us}&reset=1")

    def log(self, directory: Path) -> ServerLog:
        """Dumped by the server into the directory and read from there."""
        path = directory / "server.bin"
        self._get(f"/ctl?dump={path.resolve()}")
        return read_binary(path)

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASK_S_MAX)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class SimulatorServer:
    """`redline simulate`: slower than the C server, and there without a compiler."""

    kind = "simulator"

    def __init__(self, running: RunningSimulator) -> None:
        self._running = running
        self.port = int(running.base_url.rsplit(":", 1)[1].strip("/"))

    def begin(self, workload: Workload) -> None:
        """Set the timers and forget what was logged."""
        self._running.change(
            Settings(timing=Timing(ttft_s=workload.ttft_s, itl_s=workload.itl_s), serving=Serving(model=MODEL))
        )
        self._running.binary_log(reset=True)

    def log(self, directory: Path) -> ServerLog:
        """Its binary log."""
        del directory
        log = self._running.binary_log()
        return from_simulator(log.requests, log.sent_ns)
