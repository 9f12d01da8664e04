"""A window driven by MLPerf's official LoadGen, as a cross-check of the native driver: same client, same records.

LoadGen decides what is asked and when, in a process of its own; that it does just what the plan says is checked while
it runs (each sample) and afterwards (its count of queries and the length of its schedule, to the nanosecond).
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from redline.errors import LoadError
from redline.load.client import LoadPlan, window_bound_s
from redline.load.loadgen_logs import DETAIL, GeneratedQueries, log_tail, read_logs
from redline.load.loadgen_program import MODULE, encode_job
from redline.load.loadgen_settings import LoadgenSettings, planned_issue
from redline.load.loadgen_window import LOADGEN_END_S_MAX
from redline.load.transfer import decode_record, decode_report
from redline.load.worker import START_S_MAX, Window

STOP_S_MAX = 5.0
READ_S_PER_TOKEN_MAX = 1e-4
"""Reading answers into records after the run: several times what a token takes."""

_SAID_BYTES_MAX = 2000


def run_loadgen(
    plan: LoadPlan, items: Sequence[int], settings: LoadgenSettings, log_dir: Path, cpu_ids: Sequence[int] = ()
) -> Window:
    """Let LoadGen drive a plan, pinned to `cpu_ids` (all CPUs if empty), and return its window.

    `plan.requests[i]` is what LoadGen's sample number i stands for, and `items[i]` that sample's index in the data set;
    offsets are those of `planned_issue`. In Server the plan has no bound in flight; Offline's bounds what this client
    sends of LoadGen's one query. A request that failed is completed with no token: an error in LoadGen's log where it
    counts tokens, and in any case a failure in the records.

    Records mean what the native driver's mean. Their zero is LoadGen's start as `drive_official` knows it. LoadGen's
    logs stay in `log_dir`; `redline.load.loadgen_logs` reads them.

    Raises LoadError: LoadGen is not to be had on this platform, the plan is not what the settings make, LoadGen issues
    anything else, fails or does not end, its logs are incomplete, or the folder holds another run's.
    """
    _require_loadgen()
    planned = planned_issue(settings)
    _require_plan(plan, items, planned.offsets_ns)
    if settings.scenario == "Server" and plan.in_flight_max is not None:
        raise _wrong_plan("in_flight_max None: Server is an open loop", f"in_flight_max {plan.in_flight_max}")
    log_dir.mkdir(parents=True, exist_ok=True)
    if (log_dir / DETAIL).exists():
        raise LoadError(
            "the folder for LoadGen's logs holds those of another run",
            expected="a folder for each run",
            found=str(log_dir / DETAIL),
            next_step="name another folder",
        )
    answer = _run(encode_job(plan, items, settings, str(log_dir.resolve())), _bound_s(plan), log_dir, cpu_ids)
    samples_per_query = 1 if settings.scenario == "Server" else len(items)
    _require_generated(
        log_dir, GeneratedQueries(planned.query_count, samples_per_query, duration_ns=planned.query_duration_ns)
    )
    records = tuple(decode_record(values) for values in answer["records"])
    client = decode_report(answer["client"])
    return Window(answer["started_at"], answer["start_monotonic_ns"], answer["duration_ns"], records, client)


# --- before and after ---------------------------------------------------------------------------------------


def _require_loadgen() -> None:
    if importlib.util.find_spec(MODULE) is None:
        raise LoadError(
            "the official LoadGen is not installed",
            expected=f"{MODULE}, of the package mlcommons-loadgen: Linux on x86_64, Python below 3.14",
            found=f"{platform.machine()}, Python {platform.python_version()}, without it",
            next_step="use the native driver, which has LoadGen's schedule and order on every platform",
        )


def _require_plan(plan: LoadPlan, items: Sequence[int], offsets_ns: Sequence[int]) -> None:
    """The plan is due when LoadGen issues. Which samples it issues is looked at while it does."""
    due_ns = [request.offset_ns for request in plan.requests]
    if not len(items) == len(due_ns) == len(offsets_ns):
        found = f"{len(due_ns)} requests and {len(items)} items"
        raise _wrong_plan(f"{len(offsets_ns)} requests and as many items", found)
    for place, (wanted_ns, found_ns) in enumerate(zip(offsets_ns, due_ns, strict=True)):
        if wanted_ns != found_ns:
            raise _wrong_plan(f"request {place} due after {wanted_ns} ns", f"after {found_ns} ns")


def _wrong_plan(expected: str, found: str) -> LoadError:
    return LoadError(
        "the plan is not what LoadGen will issue with these settings",
        expected=expected,
        found=found,
        next_step="make the plan with planned_issue of the same settings",
    )


def _require_generated(log_dir: Path, expected: GeneratedQueries) -> None:
    """LoadGen's own word on what it made. Its schedule's length is the sum of all its gaps: one bit off would show."""
    generated = read_logs(log_dir).generated
    if generated != (expected,):
        raise LoadError(
            "LoadGen generated another schedule than the plan's",
            expected=str(expected),
            found=", ".join(map(str, generated)),
            next_step="report it with the log: this LoadGen is built with other algorithms than libstdc++'s",
        )


def _bound_s(plan: LoadPlan) -> float:
    """The longest the process can take: start, window, LoadGen's end, and reading the answers."""
    tokens = sum(request.output_tokens for request in plan.requests)
    return START_S_MAX + window_bound_s(plan) + 2 * LOADGEN_END_S_MAX + tokens * READ_S_PER_TOKEN_MAX


# --- the process --------------------------------------------------------------------------------------------


def _run(job: bytes, bound_s: float, log_dir: Path, cpu_ids: Sequence[int]) -> dict[str, Any]:
    """The process's answer. Raises LoadError if it has none, or says itself why it could not go on."""
    with tempfile.TemporaryFile() as task, tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        task.write(job)
        task.seek(0)
        command = [sys.executable, "-m", "redline.load.loadgen_program", str(task.fileno()), *map(str, cpu_ids)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # stays open: its end is how the process learns that this one is gone
            stdout=answer,
            stderr=said,
            pass_fds=(task.fileno(),),
            start_new_session=True,
        )
        try:
            status = process.wait(bound_s)
        except subprocess.TimeoutExpired:
            raise _failed(f"LoadGen's process did not end within {bound_s:.0f} s", log_dir, said) from None
        finally:
            _end(process)
        answer.seek(0)
        content = _object(answer.read())
        if status != 0 or content is None:
            raise _failed(f"LoadGen's process ended with exit status {status}", log_dir, said)
        if "error" in content:
            raise _refused(content["error"], log_dir, said)
        return content


def _object(content: bytes) -> dict[str, Any] | None:
    with suppress(ValueError):
        found = json.loads(content)
        return found if isinstance(found, dict) else None
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait(STOP_S_MAX)
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()


def _failed(problem: str, log_dir: Path, said: IO[bytes]) -> LoadError:
    return LoadError(
        problem,
        expected="one window of records",
        found=f"{_said(said) or 'no word of it'}; the log ends with {log_tail(log_dir)}",
        next_step=f"look at {log_dir}; run again; if it happens twice, report it with that folder",
    )


def _refused(error: dict[str, str], log_dir: Path, said: IO[bytes]) -> LoadError:
    details = [error.get("found", ""), _said(said)]
    return LoadError(
        error["problem"],
        expected=error.get("expected") or "a run of LoadGen",
        found="; ".join(filter(None, details)),
        next_step=error.get("next_step") or f"look at the server's log and at {log_dir}",
    )


def _said(stream: IO[bytes]) -> str:
    """The end of what the process wrote to standard error, on one line."""
    stream.seek(0, os.SEEK_END)
    stream.seek(max(0, stream.tell() - _SAID_BYTES_MAX))
    return " ".join(stream.read().decode("utf-8", "replace").split())
