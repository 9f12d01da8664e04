"""The load engine's own process: plans in on standard input, records out on standard output, one JSON line each.

Run as `python -m redline.load.worker`; ends when its standard input does, so that it never outlives its caller.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO, Any

from redline.errors import LoadError
from redline.load.client import DriveResult, LoadPlan, drive, window_bound_s
from redline.load.timing import record_of
from redline.model import Outcome, Request, RequestRecord

START_S_MAX = 60.0
STOP_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Window:
    """One measured window as the worker reports it."""

    started_at: str
    duration_ns: int
    records: tuple[RequestRecord, ...]
    client_cpu_s: float


class LoadWorker:
    """A running worker process; get one from `load_worker`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def run(self, plan: LoadPlan) -> Window:
        """Drive one plan and return its window. Raises LoadError if the engine itself fails or overruns."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(asdict(plan), separators=(",", ":")).encode() + b"\n")
            stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise self._failure("the load worker ended") from error
        answer = json.loads(self._read_line(window_bound_s(plan) + START_S_MAX))
        if "error" in answer:
            raise LoadError(
                "the load engine could not drive this window",
                expected="a server that accepts connections",
                found=str(answer["error"]),
                next_step="look at the server's log",
            )
        records = tuple(_record_from_json(item) for item in answer["records"])
        return Window(answer["started_at"], answer["duration_ns"], records, answer["client_cpu_s"])

    def _read_line(self, timeout_s: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        deadline_s = time.monotonic() + timeout_s
        pieces: list[bytes] = []
        while True:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0 or not select.select([stdout], [], [], remaining_s)[0]:
                raise self._failure(f"the load worker did not answer within {timeout_s:.0f} s")
            piece = os.read(stdout.fileno(), 1 << 20)
            if not piece:
                raise self._failure("the load worker ended without an answer")
            pieces.append(piece)
            if piece.endswith(b"\n"):
                return b"".join(pieces)

    def _failure(self, problem: str) -> LoadError:
        return LoadError(
            problem,
            expected="one answer per plan",
            found=f"exit status {self._process.poll()}",
            next_step="run again; if it happens twice, report it with the trial's log",
        )


@contextmanager
def load_worker(cpu_ids: Sequence[int] = ()) -> Iterator[LoadWorker]:
    """A load worker pinned to `cpu_ids` (all CPUs if empty), ended on the way out."""
    command = [sys.executable, "-m", "redline.load.worker", *(str(cpu_id) for cpu_id in cpu_ids)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield LoadWorker(process)
    finally:
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # it is gone already, which is all that closing asks for
                process.stdin.close()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S_MAX)


def _record_from_json(item: dict[str, Any]) -> RequestRecord:
    return RequestRecord(
        **{
            **item,
            "outcome": Outcome(item["outcome"]),
            "chunk_ns": tuple(item["chunk_ns"]),
            "chunk_tokens": tuple(item["chunk_tokens"]),
        }
    )


def _plan_from_json(text: str) -> LoadPlan:
    raw = json.loads(text)
    requests = tuple(
        Request(**{**item, "prompt_token_ids": tuple(item["prompt_token_ids"])}) for item in raw["requests"]
    )
    return LoadPlan(**{**raw, "requests": requests})


def _answer(plan: LoadPlan, result: DriveResult) -> dict[str, Any]:
    records = [record_of(request, raw) for request, raw in zip(plan.requests, result.answers, strict=True)]
    started_at = datetime.fromtimestamp(result.started_at_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return {
        "started_at": started_at,
        "duration_ns": result.duration_ns,
        "client_cpu_s": result.client_cpu_s,
        "records": [asdict(record) for record in records],
    }


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Lines of standard input. Its end stops the process even in the middle of a window: the caller is gone."""
    waiting: list[str] = []
    arrived = threading.Condition()

    def read() -> None:
        for line in stream:
            with arrived:
                waiting.append(line.decode())
                arrived.notify()
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        with arrived:
            while not waiting:
                arrived.wait()
            line = waiting.pop(0)
        yield line


def main(arguments: Sequence[str]) -> None:
    """Answer plans until standard input ends."""
    if arguments:
        os.sched_setaffinity(0, {int(argument) for argument in arguments})
    for line in _lines(sys.stdin.buffer):
        plan = _plan_from_json(line)
        try:
            answer = _answer(plan, asyncio.run(drive(plan)))
        except Exception as error:  # noqa: BLE001 - the caller gets it as a LoadError; a traceback would die on a closed pipe
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer, separators=(",", ":")) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
