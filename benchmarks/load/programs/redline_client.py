"""Redline's load engine through its own seam, as a trial uses it.

`python -m benchmarks.load.programs.redline_client TASK.json OUTPUT.npz CPU`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.load.stamped import Stamps, write_stamps
from benchmarks.load.workload import MODEL, PROMPT_TOKENS
from redline.load.client import LoadPlan
from redline.load.worker import Window, load_worker
from redline.model import Outcome, Request, TokenPrompt

WINDOW_MARGIN_S = 60.0
SALT = "b"


def plan_of(task: dict[str, Any]) -> LoadPlan:
    """The task as the engine's plan: prompts are token ids, because that is what scenarios send."""
    due_s: list[float] = task["due_s"]
    requests = tuple(
        Request(
            index=index,
            prompt=TokenPrompt(tuple(10 + (index + position) % 1000 for position in range(PROMPT_TOKENS))),
            output_tokens=task["output_tokens"],
            ignore_eos=True,
            offset_ns=round(offset_s * 1e9),
            cache_salt=SALT,
        )
        for index, offset_s in enumerate(due_s)
    )
    return LoadPlan(
        base_urls=(task["base_url"],),
        model=MODEL,
        requests=requests,
        in_flight_max=None,
        window_s_max=due_s[-1] + WINDOW_MARGIN_S,
    )


def stamps_of(window: Window) -> Stamps:
    """The window's records on CLOCK_MONOTONIC."""
    zero_ns, count = window.start_monotonic_ns, len(window.records)
    stamps = Stamps.empty(count)
    for record in window.records:
        stamps.due_ns[record.index] = zero_ns + record.sched_ns
        stamps.send_ns[record.index] = zero_ns + record.send_ns
        stamps.chunk_ns[record.index] = [zero_ns + chunk_ns for chunk_ns in record.chunk_ns]
        if record.outcome is not Outcome.OK:
            stamps.failed.add(record.index)
    return stamps


def main() -> None:
    """Drive the task of one cell and write its stamps."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    plan = plan_of(task)
    with load_worker((int(sys.argv[3]),)) as worker:
        window = worker.run(plan)
    write_stamps(Path(sys.argv[2]), stamps_of(window), f"{SALT}-{{index}}")


if __name__ == "__main__":
    main()
