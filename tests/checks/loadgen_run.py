"""Runs the official LoadGen once, in a process of its own, against a system that answers after fixed delays.

    python tests/checks/loadgen_run.py CASE_JSON FOLDER

LoadGen keeps static state, hence the process. `delays_s`: (first token, last token) after issue, query by query,
the last of them for all others; `token_counts`: by turns. Its logs are left in FOLDER; `run` and `traced` read them.
"""

from __future__ import annotations

import heapq
import json
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

CASE_S_MAX = 300.0
FIRST, LAST = 0, 1
DEFAULTS: dict[str, Any] = {
    "scenario": "Server",
    "rate_per_s": 5000.0,
    "min_duration_ms": 0,
    "min_query_count": 100,
    "use_token_latencies": True,
    "e2e_ns_max": 10**9,
    "ttft_ns_max": 10**9,
    "tpot_ns_max": 10**9,
    "delays_s": [[0.001, 0.002]],
    "token_counts": [5],
}


class Delayed:
    """A system under test that says first and last token of each query at their due times, in their order."""

    def __init__(self, lg: Any, case: dict[str, Any]) -> None:
        self._lg = lg
        self._case = case
        self._due: list[tuple[float, int, int, int]] = []
        self._changed = threading.Condition()
        self._issued = 0
        self._ended = False

    def issue(self, samples: list[Any]) -> None:
        """LoadGen's callback."""
        now_s = time.monotonic()
        delays = self._case["delays_s"]
        with self._changed:
            for sample in samples:
                first_s, last_s = delays[min(self._issued, len(delays) - 1)]
                if self._case["use_token_latencies"]:
                    heapq.heappush(self._due, (now_s + first_s, FIRST, self._issued, sample.id))
                heapq.heappush(self._due, (now_s + last_s, LAST, self._issued, sample.id))
                self._issued += 1
            self._changed.notify()

    def answer(self) -> None:
        """Answer until `end`."""
        while True:
            with self._changed:
                if self._ended:
                    return
                if not self._due or self._due[0][0] > time.monotonic():
                    wait_s = self._due[0][0] - time.monotonic() if self._due else 0.05
                    self._changed.wait(max(wait_s, 0.0))
                    continue
                _, kind, number, sample_id = heapq.heappop(self._due)
            counts = self._case["token_counts"]
            if kind == FIRST:
                self._lg.FirstTokenComplete([self._lg.QuerySampleResponse(sample_id, 0, 0)])
            else:
                tokens = counts[number % len(counts)]
                self._lg.QuerySamplesComplete([self._lg.QuerySampleResponse(sample_id, 0, 0, tokens)])

    def end(self) -> None:
        """No more queries."""
        with self._changed:
            self._ended = True
            self._changed.notify()


def settings_of(lg: Any, case: dict[str, Any]) -> Any:
    """LoadGen's TestSettings of a case."""
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, case["scenario"])
    settings.mode = lg.TestMode.PerformanceOnly
    settings.server_target_qps = settings.offline_expected_qps = case["rate_per_s"]
    settings.single_stream_expected_latency_ns = 2_000_000
    settings.min_duration_ms = case["min_duration_ms"]
    settings.min_query_count = case["min_query_count"]
    settings.use_token_latencies = case["use_token_latencies"]
    settings.server_target_latency_ns = case["e2e_ns_max"]
    settings.ttft_latency = case["ttft_ns_max"]
    settings.tpot_latency = case["tpot_ns_max"]
    return settings


def main() -> None:
    """One run of LoadGen in this process."""
    import mlperf_loadgen as lg  # type: ignore[import-not-found]  # no stubs, and only in the child process

    case = DEFAULTS | json.loads(sys.argv[1])
    system = Delayed(lg, case)
    answering = threading.Thread(target=system.answer)
    answering.start()
    sut = lg.ConstructSUT(system.issue, lambda: None)
    qsl = lg.ConstructQSL(1000, 1000, lambda _: None, lambda _: None)
    output = lg.LogOutputSettings()
    output.outdir = sys.argv[2]
    output.copy_summary_to_stdout = False
    log_settings = lg.LogSettings()
    log_settings.log_output = output
    log_settings.enable_trace = True
    lg.StartTestWithLogSettings(sut, qsl, settings_of(lg, case), log_settings, "")
    system.end()
    answering.join()
    lg.DestroyQSL(qsl)
    lg.DestroySUT(sut)


def run(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The detail log of one run by key: the last value of each."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, __file__, json.dumps(case), str(folder)], check=True, timeout=CASE_S_MAX)
    lines = (folder / "mlperf_log_detail.txt").read_text().splitlines()
    entries = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines if line.startswith(":::MLLOG")]
    return {entry["key"]: entry["value"] for entry in entries}


def traced(folder: Path) -> list[dict[str, int]]:
    """Per sample, in order of issue: `sched`, `send`, `first` (0 if unknown) and `done`, ns since the first was due.

    One event a line; as a whole the trace is no JSON, since LoadGen quotes some keys twice. A counter event of the
    first token names no sample but its scheduled instant, which no two share in Server.
    """
    samples: dict[int, dict[str, int]] = {}
    first: dict[int, int] = {}
    for line in (folder / "mlperf_log_trace.json").read_text().splitlines():
        if line.startswith('{"name":"Sample"') and '"ph":"b"' in line:
            event = json.loads(line.rstrip(","), parse_float=Decimal)
            at, told = int(event["ts"] * 1000), event["args"]
            samples[told["sample_seq"]] = {
                "sched": at,
                "send": at + told["issue_start_ns"],
                "done": at + told["complete_ns"],
            }
        elif line.startswith('{"name":"Token_Latency"'):
            event = json.loads(line.rstrip(","), parse_float=Decimal)
            at = int(event["ts"] * 1000)
            first[at] = at + event["args"]["issue_delay"] + event["args"]["issue_to_done"]
    start = samples[min(samples)]["sched"]
    rows = [samples[number] | {"first": first.get(samples[number]["sched"], 0)} for number in sorted(samples)]
    return [{name: at - start if at else 0 for name, at in row.items()} for row in rows]


if __name__ == "__main__":
    main()
