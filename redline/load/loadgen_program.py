"""The official LoadGen's own process: one job in, one window out.

Run as `python -m redline.load.loadgen_program JOB_FD [CPU_ID ...]` by `redline.load.loadgen_driver`. A process runs one
test: LoadGen keeps static state. The job is read from a descriptor, the answer goes to standard output; when standard
input ends, the caller is gone and so is this process. It never ends in the ordinary way: LoadGen's thread may not be
over, and its library does not outlive an interpreter that shuts down.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from redline.access import api_key
from redline.errors import LoadError
from redline.load.client import DriveResult, LoadPlan
from redline.load.loadgen_settings import LoadgenSettings
from redline.load.loadgen_window import WindowKind, drive_official
from redline.load.report import Reporter
from redline.load.stamps import keep_stamping
from redline.load.transfer import decode_plan, encode_plan, encode_record, encode_report
from redline.model import Seeds
from redline.realtime import take_precedence
from redline.units import NS_PER_S

MODULE = "mlperf_loadgen"
SWITCH_S = 1e-4
"""How long one thread may keep the other from running Python: LoadGen's must not wait to issue (default 5 ms)."""


def encode_job(plan: LoadPlan, items: Sequence[int], settings: LoadgenSettings, log_dir: str) -> bytes:
    """A job as two JSON lines, the plan second."""
    head = {"items": list(items), "settings": asdict(settings), "log_dir": log_dir}
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + encode_plan(plan)


def decode_job(content: bytes) -> tuple[LoadPlan, tuple[int, ...], LoadgenSettings, str]:
    """The plan, its items, the settings and the folder for the logs of such a job."""
    head, plan = content.decode().split("\n", 1)
    values = json.loads(head)
    settings = LoadgenSettings(**{**values["settings"], "seeds": Seeds(**values["settings"]["seeds"])})
    return decode_plan(plan), tuple(values["items"]), settings, values["log_dir"]


class OfficialLoadgen:
    """`mlperf_loadgen` with one run's settings."""

    def __init__(self, settings: LoadgenSettings, log_dir: str) -> None:
        self._lg: Any = importlib.import_module(MODULE)  # late: there are platforms without it
        self._settings = settings
        self._log_dir = log_dir

    def run(self, issue: Callable[[Sequence[int], Sequence[int]], None]) -> None:
        """Issue everything and return when all is complete and the logs are written."""
        settings, lg = self._settings, self._lg
        system = lg.ConstructFastSUT(issue, _nothing)
        samples = lg.ConstructQSL(settings.sample_count, settings.loaded_count, _nothing, _nothing)
        lg.StartTestWithLogSettings(system, samples, self._test_settings(), self._log_settings(), "")

    def first_token(self, response_id: int) -> None:
        """FirstTokenComplete, without data."""
        self._lg.FirstTokenComplete([self._lg.QuerySampleResponse(response_id, 0, 0)])

    def complete(self, response_id: int, token_count: int, text: str) -> None:
        """QuerySamplesComplete; LoadGen takes a copy of the text, as UTF-8, into its accuracy log."""
        data = text.encode()
        buffer = ctypes.create_string_buffer(data)
        response = self._lg.QuerySampleResponse(response_id, ctypes.addressof(buffer), len(data), token_count)
        self._lg.QuerySamplesComplete([response])

    def _test_settings(self) -> Any:
        settings, lg = self._settings, self._lg
        asked = lg.TestSettings()
        asked.scenario = getattr(lg.TestScenario, settings.scenario)
        asked.mode = lg.TestMode.AccuracyOnly if settings.mode == "accuracy" else lg.TestMode.PerformanceOnly
        asked.qsl_rng_seed = settings.seeds.qsl
        asked.sample_index_rng_seed = settings.seeds.sample_index
        asked.schedule_rng_seed = settings.seeds.schedule
        asked.server_target_qps = asked.offline_expected_qps = settings.target_rate_per_s
        asked.min_duration_ms = round(settings.duration_s_min * 1000)
        asked.min_query_count = settings.query_count_min
        asked.sample_concatenate_permutation = settings.equal_issue
        asked.use_token_latencies = settings.use_token_latencies
        asked.ttft_latency, asked.tpot_latency = settings.ttft_ns_max, settings.tpot_ns_max
        asked.server_target_latency_ns = settings.latency_ns_max
        return asked

    def _log_settings(self) -> Any:
        lg = self._lg
        output, logs = lg.LogOutputSettings(), lg.LogSettings()
        output.outdir = self._log_dir
        output.copy_summary_to_stdout = False
        logs.log_output = output
        logs.enable_trace = self._settings.trace
        return logs


def _nothing(*_: object) -> None:
    """Prompts are ready before the clock starts: nothing is to be loaded, and nothing waits to be flushed."""


def _answer(plan: LoadPlan, result: DriveResult) -> dict[str, Any]:
    """The window as one JSON object; records in the plan's order."""
    started_at = datetime.fromtimestamp(result.started_at_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds")
    reporter = Reporter(result, sent_key=api_key() if plan.with_api_key else None)
    pairs = zip(plan.requests, result.exchanges, strict=True)
    records = [encode_record(reporter.record_of(request, exchange)) for request, exchange in pairs]
    return {
        "started_at": started_at,
        "start_monotonic_ns": result.start_ns,
        "duration_ns": result.duration_ns,
        "records": records,
        "client": encode_report(reporter.report()),
    }


def _answer_of(content: bytes) -> dict[str, Any]:
    try:
        plan, items, settings, log_dir = decode_job(content)
        first_tokens = settings.use_token_latencies and settings.scenario == "Server"
        kind = WindowKind(first_tokens=first_tokens, texts=settings.mode == "accuracy")
        return _answer(plan, drive_official(plan, items, kind, OfficialLoadgen(settings, log_dir)))
    except LoadError as error:
        names = ("problem", "expected", "found", "next_step")
        return {"error": {name: getattr(error, name) for name in names}}
    except Exception as error:  # noqa: BLE001 - the caller gets it as a LoadError, not a dead process
        return {"error": {"problem": "LoadGen's process failed", "found": f"{type(error).__name__}: {error}"}}


def _end_with_caller() -> None:
    """The end of standard input ends the process, whatever it is doing."""

    def wait() -> None:
        while sys.stdin.buffer.read(1 << 16):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="caller", daemon=True).start()


def main(arguments: Sequence[str]) -> None:
    """Do the one job. Does not return."""
    take_precedence()
    job_fd, *cpu_ids = (int(argument) for argument in arguments)
    if cpu_ids:
        os.sched_setaffinity(0, cpu_ids)
    sys.setswitchinterval(SWITCH_S)
    _end_with_caller()
    answer_fd = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what LoadGen prints is no part of the answer
    with keep_stamping(), os.fdopen(job_fd, "rb") as job, os.fdopen(answer_fd, "w", encoding="utf-8") as output:
        json.dump(_answer_of(job.read()), output, separators=(",", ":"))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
