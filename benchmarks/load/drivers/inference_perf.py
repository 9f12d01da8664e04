"""Kubernetes' inference-perf."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.driver import TOKENIZER, Command, Place, Task, WallClock
from benchmarks.load.peers import environment_python, interpreter_from
from benchmarks.load.report import ClientReport
from benchmarks.load.workload import MODEL, PROMPT_TOKENS, Nanoseconds

VERSION = "0.7.0"
PYTHON_MINOR_MIN = 12
_ANSWER = re.compile(r'\\?"id\\?": ?\\?"(cmpl-[^"\\]+)')
_TRACE_START = datetime(2026, 1, 1, tzinfo=UTC)


class InferencePerf:
    """`inference-perf` with one worker, replaying our schedule as a trace."""

    name = "inference-perf"
    comparable = (
        "Slip: it replays our schedule from an Azure trace file, whose start it does not tell: fitted; requests are "
        "matched to it in the order of their starts. TTFT and stamps are absolute (time.perf_counter)."
    )

    def prepare(self, place: Place) -> str:
        """Install it, with another Python than ours where ours is older than 3.12."""
        _python(place)
        return VERSION

    def command(self, task: Task) -> Command:
        """Streaming text completions of random tokens; JSON is YAML, so no YAML library is needed."""
        trace = task.directory / "trace.csv"
        write_trace(trace, task.due_s.tolist(), task.cell.workload.chunk_count)
        config = {
            "api": {"type": "completion", "streaming": True},
            "data": {"type": "random", "trace": {"file": str(trace), "format": "AzurePublicDataset"}},
            "load": {
                "type": "trace_replay",
                "interval": 0,
                "num_workers": 1,
                "worker_max_concurrency": 20000,
                "worker_max_tcp_connections": 20000,
                "trace": {"file": str(trace), "format": "AzurePublicDataset"},
                "stages": [{"rate": task.cell.rate_per_s, "duration": max(1, round(task.cell.load_s))}],
            },
            "server": {"type": "vllm", "model_name": MODEL, "base_url": task.base_url, "ignore_eos": True},
            "tokenizer": {"pretrained_model_name_or_path": str(TOKENIZER)},
            "report": {"request_lifecycle": {"summary": True, "per_stage": False, "per_request": True}},
            "storage": {"local_storage": {"path": str(_reports(task))}},
        }
        path = task.directory / "config.yaml"
        path.write_text(json.dumps(config, indent=1), encoding="utf-8")
        program = _python(task.place).with_name("inference-perf")
        return Command((str(program), "--config_file", str(path)), {"HF_HUB_OFFLINE": "1"})

    def read(self, task: Task, clock: WallClock) -> ClientReport:
        """Its per-request report."""
        del clock
        path = _reports(task) / "per_request_lifecycle_metrics.json"
        return read_report(path, (task.due_s * 1e9).astype(np.int64))


def _python(place: Place) -> Path:
    """Its environment's interpreter; inference-perf needs Python 3.12 or newer."""
    return environment_python(place, InferencePerf.name, VERSION, python=interpreter_from(PYTHON_MINOR_MIN))


def _reports(task: Task) -> Path:
    return task.directory / "reports"


def write_trace(path: Path, due_s: list[float], output_tokens: int) -> None:
    """The schedule in the form of Azure's public traces, to the microsecond."""
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for offset_s in due_s:
        at = (_TRACE_START + timedelta(seconds=offset_s)).strftime("%Y-%m-%d %H:%M:%S.%f")
        lines.append(f"{at},{PROMPT_TOKENS},{output_tokens}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_report(path: Path, due_ns: Nanoseconds) -> ClientReport:
    """The report in `per_request_lifecycle_metrics.json`; an answer's id names its request in the stand-in's log."""
    records = sorted(json.loads(path.read_text(encoding="utf-8")), key=lambda record: float(record["start_time"]))
    good = [position for position, record in enumerate(records) if not record["error"] and _stamps_ns(record).size]
    stamps = [_stamps_ns(records[position]) for position in good]
    start_ns = np.array([records[position]["start_time"] * 1e9 for position in good], dtype=np.float64)
    return ClientReport(
        keys=tuple(_key(str(records[position]["response"])) for position in good),
        due_ns=due_ns[good] if len(records) == len(due_ns) else None,
        due_is_absolute=False,
        ttft_ns=np.array([row[0] for row in stamps], dtype=np.float64) - start_ns,
        chunk_ns=tuple(stamps),
        failed_count=len(records) - len(good),
    )


def _stamps_ns(record: dict[str, Any]) -> Nanoseconds:
    metrics = (record.get("info") or {}).get("response_metrics") or {}
    times = metrics.get("output_token_times") or []
    return (np.array(times, dtype=np.float64) * 1e9).astype(np.int64)


def _key(response: str) -> str:
    match = _ANSWER.search(response)
    return match[1] if match else ""
