"""The stand-in as a child process: started, asked, changed, and always ended.

with simulator(Settings(timing=Timing(ttft_s=0.02)), cpu_ids=(1,)) as running:
    ...                                  # requests to running.base_url
    log = running.binary_log(reset=True) # the true send times, CLOCK_MONOTONIC
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import numpy as np
import numpy.typing as npt

import redline
from redline.errors import DeployError, ServerExitedError, ServerNotReadyError
from redline.simulator.send_log import HEADER, MAGIC, REQUEST
from redline.simulator.settings import Settings, parse_settings_text, settings_json

START_S_MAX = 20.0
ANSWER_S_MAX = 60.0
"""How long an answer may take; a log of millions of chunks takes seconds."""

END_S_MAX = 5.0
_LINE_BYTES_MAX = 4096

_REQUEST_DTYPE = np.dtype(
    [
        ("id", "S96"),
        ("end", "S16"),
        ("first_byte_ns", "<i8"),
        ("received_ns", "<i8"),
        ("end_ns", "<i8"),
        ("chunk_first", "<i8"),
        ("chunk_count", "<i8"),
    ]
)


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """The true times of one request, nanoseconds of CLOCK_MONOTONIC; see `redline.simulator.send_log`."""

    request_id: str
    first_byte_ns: int
    received_ns: int
    end_ns: int
    end: str
    due_ns: tuple[int, ...]
    sent_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BinaryLog:
    """The whole log as arrays.

    requests: shape (request_count,), fields id, end (bytes), first_byte_ns, received_ns, end_ns, chunk_first,
        chunk_count; request i's chunks are `due_ns[chunk_first : chunk_first + chunk_count]`.
    due_ns, sent_ns: shape (chunk_count,), CLOCK_MONOTONIC.
    dropped: requests that the log had no room for any more.
    """

    requests: npt.NDArray[Any]
    due_ns: npt.NDArray[np.int64]
    sent_ns: npt.NDArray[np.int64]
    dropped: int


@dataclass(frozen=True, slots=True)
class SimulatorState:
    """What the stand-in costs and does, at `monotonic_ns` of CLOCK_MONOTONIC. CPU seconds count from its start."""

    monotonic_ns: int
    cpu_s: float
    memory_bytes_max: int
    running: int
    waiting: int
    connections: int


class RunningSimulator:
    """A stand-in that serves at `base_url`. Made by `simulator`."""

    def __init__(self, base_url: str, pid: int, client: httpx.Client) -> None:
        self.base_url = base_url
        self.pid = pid
        self._client = client

    def settings(self) -> Settings:
        """What it does now. Raises DeployError."""
        return parse_settings_text(self._ask("GET", "/simulator/settings").content)

    def change(self, settings: Settings) -> None:
        """Do this from now on. Raises DeployError if it cannot or does not answer."""
        self._ask("POST", "/simulator/settings", settings_json(settings))

    def state(self) -> SimulatorState:
        """What it costs and does. Raises DeployError."""
        return SimulatorState(**self._ask("GET", "/simulator/state").json())

    def log(self, *, reset: bool = False) -> tuple[LoggedRequest, ...]:
        """The true send times, ended requests first; `reset` forgets those. Raises DeployError."""
        content = self._ask("GET", f"/simulator/log?reset={int(reset)}").json()
        return tuple(
            LoggedRequest(
                request_id=request["id"],
                first_byte_ns=request["first_byte_ns"],
                received_ns=request["received_ns"],
                end_ns=request["end_ns"],
                end=request["end"],
                due_ns=tuple(request["due_ns"]),
                sent_ns=tuple(request["sent_ns"]),
            )
            for request in content["requests"]
        )

    def binary_log(self, *, reset: bool = False) -> BinaryLog:
        """The same as arrays, for large runs. Raises DeployError."""
        return read_binary_log(self._ask("GET", f"/simulator/log?format=binary&reset={int(reset)}").content)

    def _ask(self, method: str, path: str, content: str | None = None) -> httpx.Response:
        try:
            response = self._client.request(method, path, content=content)
        except httpx.HTTPError as error:
            raise DeployError(
                f"the stand-in does not answer {method} {path}", found=f"{type(error).__name__}: {error}"
            ) from error
        if response.status_code != httpx.codes.OK:
            raise DeployError(
                f"the stand-in refuses {method} {path}", found=f"{response.status_code} {response.text[:500]}"
            )
        return response


def read_binary_log(data: bytes) -> BinaryLog:
    """The arrays of a binary log. Raises DeployError if it is none."""
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise DeployError("not a binary log of the stand-in", expected=repr(MAGIC), found=repr(data[:8]))
    _, request_count, chunk_count, dropped = HEADER.unpack_from(data)
    expected = HEADER.size + request_count * REQUEST.size + chunk_count * 16
    if len(data) != expected:
        raise DeployError("a binary log is damaged", expected=f"{expected} bytes", found=f"{len(data)}")
    chunks_at = HEADER.size + request_count * REQUEST.size
    return BinaryLog(
        requests=np.frombuffer(data, _REQUEST_DTYPE, request_count, HEADER.size),
        due_ns=np.frombuffer(data, "<i8", chunk_count, chunks_at),
        sent_ns=np.frombuffer(data, "<i8", chunk_count, chunks_at + chunk_count * 8),
        dropped=dropped,
    )


@contextlib.contextmanager
def simulator(
    settings: Settings, *, cpu_ids: Sequence[int] = (), port: int = 0, api_key: str | None = None
) -> Iterator[RunningSimulator]:
    """A stand-in in a process of its own, on 127.0.0.1; it ends with the block, or with this process.

    `cpu_ids` are the CPUs it may run on, () for all; `port` 0 is any that is free. With
    `failures.listen_after_s` the block begins while connections are still refused.

    Raises: DeployError if it does not start.
    """
    command = [sys.executable, "-m", "redline.simulator.program", "--until-stdin-ends", "--port", str(port)]
    command += [f"--settings={settings_json(settings)}"]
    command += [f"--cpu={cpu}" for cpu in cpu_ids]
    if api_key is not None:
        command.append(f"--api-key={api_key}")
    root = str(Path(redline.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
        )
        try:
            base_url = _address(process, errors)
            headers = {"authorization": f"Bearer {api_key}"} if api_key is not None else {}
            with httpx.Client(base_url=base_url, headers=headers, timeout=ANSWER_S_MAX, trust_env=False) as client:
                yield RunningSimulator(base_url, process.pid, client)
        finally:
            _end(process)


def _address(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    """The address in the first line that it prints."""
    line = _first_line(process)
    words = line.split()
    if line.startswith("redline simulate: http") and line.endswith("\n"):
        return words[2]
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_S_MAX if not line else 0)
    errors.seek(0)
    said = errors.read(_LINE_BYTES_MAX).decode("utf-8", "replace").strip()
    if process.poll() is None:
        raise ServerNotReadyError("the stand-in does not start", expected=f"its address within {START_S_MAX:.0f} s")
    raise ServerExitedError("the stand-in ended at once", found=f"exit code {process.returncode}: {said}")


def _first_line(process: subprocess.Popen[bytes]) -> str:
    output = process.stdout
    if output is None:
        return ""
    line = b""
    deadline_s = time.monotonic() + START_S_MAX
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while not line.endswith(b"\n") and len(line) < _LINE_BYTES_MAX:
            if not selector.select(max(0.0, deadline_s - time.monotonic())):
                break
            data = os.read(output.fileno(), _LINE_BYTES_MAX)
            if not data:
                break
            line += data
    return line.decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close its standard input, which ends it; less gently if that does not help."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    for less_gently in (process.terminate, process.kill):
        try:
            process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            less_gently()
        else:
            return
    process.wait(END_S_MAX)
