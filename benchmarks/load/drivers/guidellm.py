"""GuideLLM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.load.driver import Command, Place, Task, WallClock
from benchmarks.load.peers import environment_python
from benchmarks.load.report import ClientReport
from benchmarks.load.workload import MODEL, PROMPT_TOKENS, prompt

VERSION = "0.8.1"
RESULT_NAME = "result.json"


class GuideLlm:
    """`guidellm run` with its own Poisson arrivals."""

    name = "guidellm"
    comparable = (
        "Slip: against its own `targeted_start`, another Poisson draw than the others'. TTFT per request by the "
        "answer's id. It reports no single gap and no stamp but the first and last, on the wall clock: no stamp or gap "
        "error."
    )

    def prepare(self, place: Place) -> str:
        """Install it."""
        environment_python(place, self.name, VERSION)
        return VERSION

    def command(self, task: Task) -> Command:
        """Text completions over HTTP/1.1, as many as the cell asks for."""
        data, tokens = task.directory / "prompts.jsonl", task.cell.workload.chunk_count
        rows = (
            {"prompt": prompt(index), "prompt_tokens_count": PROMPT_TOKENS, "output_tokens_count": tokens}
            for index in range(len(task.due_s))
        )
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        backend: dict[str, object] = {
            "kind": "openai_http",
            "target": task.base_url,
            "model": MODEL,
            "request_format": "/v1/completions",
            "max_tokens": tokens,
            "http2": "false",
        }
        options: dict[str, dict[str, object]] = {
            "--backend": backend,
            "--profile": {"kind": "poisson", "rate": f"{task.cell.rate_per_s:g}"},
            "--constraint": {"kind": "max_requests", "count": len(task.due_s)},
            "--data": {"kind": "json_file", "path": data},
            "--seed": {"kind": "static", "value": task.cell.seed},
            "--output": {"kind": "json", "path": task.directory / RESULT_NAME},
        }
        arguments = [part for name, values in options.items() for part in (name, _joined(values))]
        program = environment_python(task.place, self.name, VERSION).with_name("guidellm")
        return Command((str(program), "run", *arguments, "--disable-console"), {"HF_HUB_OFFLINE": "1"})

    def read(self, task: Task, clock: WallClock) -> ClientReport:
        """Its JSON report."""
        return read_result(task.directory / RESULT_NAME, clock)


def _joined(values: dict[str, object]) -> str:
    return ",".join(f"{name}={value}" for name, value in values.items())


def read_result(path: Path, clock: WallClock) -> ClientReport:
    """The report in a result of schema 2; wall clock times become CLOCK_MONOTONIC."""
    requests = json.loads(path.read_text(encoding="utf-8"))["benchmarks"][0]["requests"]
    rows = requests["successful"]
    due_s = np.array([row["info"]["timings"]["targeted_start"] for row in rows], dtype=np.float64)
    ttft_ms = [row["time_to_first_token_ms"] for row in rows]
    return ClientReport(
        keys=tuple(str(row["response_id"]) for row in rows),
        due_ns=(due_s * 1e9).astype(np.int64) - clock.offset_ns,
        due_is_absolute=True,
        ttft_ns=np.array([np.nan if value is None else value * 1e6 for value in ttft_ms], dtype=np.float64),
        failed_count=len(requests["errored"]) + len(requests["incomplete"]),
    )
