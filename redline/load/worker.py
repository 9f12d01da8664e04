"""The load engine's own process: plans in on standard input, windows out on standard output, in JSON lines.

Run as `python -m redline.load.worker`; ends when its standard input does, so that it never outlives its caller.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

from redline.access import api_key
from redline.errors import LoadError
from redline.load.client import DriveResult, LoadPlan, drive, window_bound_s
from redline.load.report import Reporter
from redline.load.stamps import keep_stamping
from redline.load.transfer import (
    decode_plan,
    decode_record,
    decode_report,
    encode_plan,
    encode_record,
    encode_report,
)
from redline.model import ClientReport, RequestRecord
from redline.realtime import take_precedence

START_S_MAX = 60.0
STOP_S_MAX = 5.0
LINE_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Window:
    """One measured window as the worker reports it.

    `start_monotonic_ns`: its zero on CLOCK_MONOTONIC, which every process of this machine shares.
    """

    started_at: str
    start_monotonic_ns: int
    duration_ns: int
    records: tuple[RequestRecord, ...]
    client: ClientReport


class LoadWorker:
    """A running worker process; get one from `load_worker`."""

    def __init__(self, process: subprocess.Popen[bytes], cpu_ids: Sequence[int]) -> None:
        self._process = process
        self.pid = process.pid
        self.cpu_ids = tuple(cpu_ids)

    def run(self, plan: LoadPlan) -> Window:
        """Drive one plan and return its window. Raises LoadError if the engine itself fails or overruns."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(encode_plan(plan) + b"\n")
            stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise self._failure("the load worker ended") from error
        # While it drives there is silence; then a line per record, the first one bounded by the whole window.
        lines = self._lines(window_bound_s(plan) + START_S_MAX)
        head = _content(next(lines))
        records = tuple(decode_record(_content(next(lines))) for _ in range(head["record_count"]))
        report = decode_report(_content(next(lines)))
        return Window(head["started_at"], head["start_monotonic_ns"], head["duration_ns"], records, report)

    def _lines(self, first_s_max: float) -> Iterator[bytes]:
        """Lines of the worker's answer; the first may take long, the rest come as fast as they are parsed."""
        timeout_s = first_s_max
        lines: deque[bytes] = deque()
        unfinished: list[bytes] = []
        while True:
            while lines:
                timeout_s = LINE_S_MAX
                yield lines.popleft()
            first, *others = self._read(timeout_s).split(b"\n")
            unfinished.append(first)
            if others:
                lines.append(b"".join(unfinished))
                lines.extend(others[:-1])
                unfinished = [others[-1]]

    def _read(self, timeout_s: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], timeout_s)[0]:
            raise self._failure(f"the load worker did not answer within {timeout_s:.0f} s")
        piece = os.read(stdout.fileno(), 1 << 20)
        if not piece:
            with suppress(subprocess.TimeoutExpired):  # its exit status is a moment behind its last byte
                self._process.wait(STOP_S_MAX)
            raise self._failure("the load worker ended without an answer")
        return piece

    def _failure(self, problem: str) -> LoadError:
        """The error, and the end of a worker that is out of step with its caller."""
        status = self._process.poll()
        self._process.kill()
        return LoadError(
            problem,
            expected="one answer per plan",
            found=f"exit status {status}",
            next_step="run again; if it happens twice, report it with the trial's log",
        )


def _content(line: bytes) -> dict[str, Any]:
    """One object of an answer. Raises LoadError if the worker says instead why it could not go on."""
    content: dict[str, Any] = json.loads(line)
    if "error" in content:
        raise LoadError(
            content.get("problem") or "the load engine could not drive this window",
            expected=content.get("expected") or "a server that accepts connections",
            found=str(content["error"]),
            next_step=content.get("next_step") or "look at the server's log",
        )
    return content


@contextmanager
def load_worker(cpu_ids: Sequence[int] = ()) -> Iterator[LoadWorker]:
    """A load worker pinned to `cpu_ids` (all CPUs if empty), ended on the way out."""
    command = [sys.executable, "-m", "redline.load.worker", *(str(cpu_id) for cpu_id in cpu_ids)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield LoadWorker(process, cpu_ids)
    finally:
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # it is gone already, which is all that closing asks for
                process.stdin.close()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S_MAX)
        if process.stdout is not None:
            process.stdout.close()


def _answer(plan: LoadPlan, result: DriveResult) -> Iterator[dict[str, Any]]:
    """The window as JSON objects: head, one per request in the plan's order, report. Parsed one at a time."""
    started_at = datetime.fromtimestamp(result.started_at_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    yield {
        "started_at": started_at,
        "start_monotonic_ns": result.start_ns,
        "duration_ns": result.duration_ns,
        "record_count": len(result.exchanges),
    }
    reporter = Reporter(result, sent_key=api_key() if plan.with_api_key else None)
    for request, exchange in zip(plan.requests, result.exchanges, strict=True):
        yield encode_record(reporter.record_of(request, exchange))
    yield encode_report(reporter.report())


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
    take_precedence()
    if arguments:
        os.sched_setaffinity(0, {int(argument) for argument in arguments})
    with keep_stamping():
        for line in _lines(sys.stdin.buffer):
            try:
                _say(_answer_of(line))
            except Exception as error:  # noqa: BLE001 - the caller gets it as a LoadError, not a dead pipe
                _say([_error(error)])


def _answer_of(line: str) -> Iterator[dict[str, Any]]:
    plan = decode_plan(line)
    result = drive(plan)
    try:
        yield from _answer(plan, result)
    finally:
        if result.spool is not None:
            result.spool.close()


def _error(error: Exception) -> dict[str, Any]:
    if isinstance(error, LoadError):
        return {
            "error": error.found,
            "problem": error.problem,
            "expected": error.expected,
            "next_step": error.next_step,
        }
    return {"error": f"{type(error).__name__}: {error}"}


def _say(objects: Iterable[dict[str, Any]]) -> None:
    for content in objects:
        sys.stdout.write(json.dumps(content, separators=(",", ":")) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
