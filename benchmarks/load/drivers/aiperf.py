"""NVIDIA AIPerf."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.driver import TOKENIZER, Command, Place, Task, WallClock
from benchmarks.load.peers import environment_python
from benchmarks.load.report import ClientReport
from benchmarks.load.workload import MODEL, Nanoseconds, prompt

VERSION = "0.13.0"
_KEY = re.compile(r"rid=(\d+)")


class AiPerf:
    """`aiperf profile --fixed-schedule` on our schedule."""

    name = "aiperf"
    comparable = (
        "Slip: it replays our schedule, whose start it does not tell: fitted. TTFT and gaps per request by "
        "x-request-id; it reports no absolute chunk stamps: no stamp error."
    )

    def prepare(self, place: Place) -> str:
        """Install it."""
        environment_python(place, self.name, VERSION)
        return VERSION

    def command(self, task: Task) -> Command:
        """Streaming text completions, token counts from the server, nothing else collected."""
        tokens, data = task.cell.workload.chunk_count, task.directory / "prompts.jsonl"
        rows = (
            {"text": prompt(index), "timestamp": round(due_s * 1e3, 4), "output_length": tokens}
            for index, due_s in enumerate(task.due_s.tolist())
        )
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        options = {
            "--model": MODEL,
            "--tokenizer": TOKENIZER,
            "--url": task.base_url,
            "--endpoint-type": "completions",
            "--input-file": data,
            "--custom-dataset-type": "single-turn",
            "--export-level": "records",
            "--artifact-dir": _artifacts(task),
            "--ui": "none",
            "--extra-inputs": "ignore_eos:true",
        }
        request = ("--streaming", "--fixed-schedule", "--use-legacy-max-tokens", "--use-server-token-count")
        flags = (*request, "--no-gpu-telemetry", "--no-server-metrics")
        arguments = [str(part) for option in options.items() for part in option]
        program = environment_python(task.place, self.name, VERSION).with_name("aiperf")
        return Command((str(program), "profile", *flags, *arguments))

    def read(self, task: Task, clock: WallClock) -> ClientReport:
        """Its per-request records."""
        del clock
        return read_artifacts(_artifacts(task), (task.due_s * 1e9).astype(np.int64))


def _artifacts(task: Task) -> Path:
    return task.directory / "artifacts"


def read_artifacts(directory: Path, due_ns: Nanoseconds) -> ClientReport:
    """The report in `profile_export.jsonl`, with the prompts of `inputs.json` to tell which request was which."""
    index_of = _indices(json.loads((directory / "inputs.json").read_text(encoding="utf-8")))
    records = [
        json.loads(line) for line in (directory / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    good = [record for record in records if not record.get("error") and "time_to_first_token" in record["metrics"]]
    return ClientReport(
        keys=tuple(record["metadata"]["x_request_id"] for record in good),
        due_ns=due_ns[[index_of[record["metadata"]["conversation_id"]] for record in good]],
        due_is_absolute=False,
        ttft_ns=np.array([record["metrics"]["time_to_first_token"]["value"] * 1e6 for record in good]),
        gaps_ns=tuple(_gaps_ns(record["metrics"]) for record in good),
        failed_count=len(records) - len(good),
    )


def _indices(inputs: dict[str, Any]) -> dict[str, int]:
    """Conversation -> the index in its prompt."""
    found = {}
    for conversation in inputs["data"]:
        match = _KEY.search(json.dumps(conversation["payloads"]))
        if match:
            found[conversation["session_id"]] = int(match[1])
    return found


def _gaps_ns(metrics: dict[str, Any]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(metrics.get("inter_chunk_latency", {}).get("value", []), dtype=np.float64) * 1e6
