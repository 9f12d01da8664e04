"""The task of one cell as a file, for the client programs that are our own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.load.driver import CHECKOUT, Command, Task
from benchmarks.load.workload import MODEL, prompt

OUTPUT_NAME = "stamps.npz"


def body(index: int, output_tokens: int) -> dict[str, object]:
    """The JSON body of one streaming completion."""
    return {
        "model": MODEL,
        "prompt": prompt(index),
        "max_tokens": output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def program(task: Task, module: str, *, bodies: bool) -> Command:
    """Run one of `benchmarks.load.programs` with this Python; `bodies` are written where the program wants text."""
    output_tokens = task.cell.workload.chunk_count
    content: dict[str, object] = {
        "base_url": task.base_url,
        "due_s": task.due_s.tolist(),
        "output_tokens": output_tokens,
    }
    if bodies:
        content["bodies"] = [body(index, output_tokens) for index in range(len(task.due_s))]
    path = task.directory / "task.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    arguments = (sys.executable, "-m", f"benchmarks.load.programs.{module}", str(path), str(output_of(task)))
    return Command((*arguments, str(task.client_cpu)), {"PYTHONPATH": str(CHECKOUT)})


def output_of(task: Task) -> Path:
    """Where the program leaves its stamps."""
    return task.directory / OUTPUT_NAME
