"""`python -m benchmarks.load.soak`: does the engine stay as small and as exact over half an hour as in a minute?"""

# ruff: noqa: T201  # a command of its own: it prints what it does

from __future__ import annotations

import argparse
import math
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.load.accuracy import Spread, spread
from benchmarks.load.driver import Place
from benchmarks.load.machine import choose_cpus
from benchmarks.load.peers import ignored
from benchmarks.load.process_tree import pinned, resident_bytes
from benchmarks.load.programs.redline_client import SALT, plan_of
from benchmarks.load.stand_in import StandIn, stand_in
from benchmarks.load.workload import WORKLOADS, Floats, schedule_s
from redline.load.worker import LoadWorker, load_worker
from redline.model import Outcome

MINUTE_S = 60.0
GROWTH_SHARE_MAX = 0.05
"""Memory is flat if its trend adds no more than this share of its mean over the whole soak."""

ERROR_RATIO_MAX = 2.0
ERROR_MS_SLACK = 0.05
"""The error is the same if the last third's p99 is at most this many times the first third's, plus the slack."""


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of the soak; `memory_bytes` at its end."""

    number: int
    memory_bytes: int
    stamp_error: Spread | None
    failed_count: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """`memory_growth_share`: trend over the soak by the mean; `error_ratio`: last third's median p99 by the first's."""

    memory_flat: bool
    error_same: bool
    memory_growth_share: float
    first_p99_ms: float
    last_p99_ms: float
    failed_count: int


def judge(minutes: Sequence[Minute]) -> Verdict:
    """What the minutes show. The first is left out of the memory trend: the worker still fills its buffers.

    Raises ValueError with fewer than three minutes, or if a minute has no stamps to compare.
    """
    p99_ms = [minute.stamp_error.p99_ms for minute in minutes if minute.stamp_error is not None]
    if len(p99_ms) < 3 or len(p99_ms) < len(minutes):
        raise ValueError(
            f"a verdict needs three minutes or more, all with stamps; found {len(p99_ms)} of {len(minutes)}"
        )
    memory = np.array([minute.memory_bytes for minute in minutes[1:]], dtype=np.float64)
    slope = float(np.polyfit(np.arange(len(memory)), memory, 1)[0])
    growth = slope * (len(memory) - 1) / float(memory.mean())
    third = max(1, len(p99_ms) // 3)
    first_ms, last_ms = float(np.median(p99_ms[:third])), float(np.median(p99_ms[-third:]))
    return Verdict(
        memory_flat=growth <= GROWTH_SHARE_MAX,
        error_same=last_ms <= ERROR_RATIO_MAX * first_ms + ERROR_MS_SLACK,
        memory_growth_share=growth,
        first_p99_ms=first_ms,
        last_p99_ms=last_ms,
        failed_count=sum(minute.failed_count for minute in minutes),
    )


def soak(worker: LoadWorker, server: StandIn, due_s: Floats, minute_s: float, directory: Path) -> list[Minute]:
    """One window over the whole soak: memory at the end of each minute, stamp errors by the minute of the due time."""
    workload = WORKLOADS["W1"]
    server.begin(workload)
    task = {
        "base_url": f"http://127.0.0.1:{server.port}",
        "due_s": due_s.tolist(),
        "output_tokens": workload.chunk_count,
    }
    count = math.ceil(due_s[-1] / minute_s)
    memory: list[int] = []
    plan = plan_of(task)
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(worker.pid, minute_s, memory, ended), daemon=True)
    watcher.start()
    window = worker.run(plan)
    ended.set()
    watcher.join()
    rows = server.log(directory).rows()
    errors: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(count)]
    failed = [0] * count
    for record in window.records:
        minute = min(int(record.sched_ns / 1e9 / minute_s), count - 1)
        served = rows.get(f"{SALT}-{record.index}")
        if record.outcome is not Outcome.OK or served is None or len(served.sent_ns) != len(record.chunk_ns):
            failed[minute] += 1
            continue
        stamps_ns = np.array(record.chunk_ns, dtype=np.int64) + window.start_monotonic_ns
        errors[minute].append(stamps_ns - served.sent_ns.astype(np.int64))
    pooled = [np.concatenate(each).astype(np.float64) if each else np.array([]) for each in errors]
    # The watcher starts with the plan on its way to the worker: the last samples are those of the whole minutes.
    return [
        Minute(number + 1, memory[min(number, len(memory) - 1)], spread(pooled[number]), failed[number])
        for number in range(count)
    ]


def _watch(pid: int, minute_s: float, memory: list[int], ended: threading.Event) -> None:
    """The worker's resident memory, sampled once a minute and printed."""
    while not ended.wait(minute_s):
        memory.append(resident_bytes(pid))
        print(f"minute {len(memory):3d}  worker {memory[-1] / 1e6:.1f} MB", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a minute and the verdict; the exit status is 1 if it is not flat and the same."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=30, help="at least 3 (%(default)s)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second (%(default)s)")
    parser.add_argument("--window-s", type=float, default=MINUTE_S, help="length of a 'minute', for trying it out")
    parser.add_argument("--work", type=Path, default=Path(".benchmarks"), help="compiled programs (%(default)s)")
    parser.add_argument("--server", choices=("auto", "c", "simulator"), default="auto", help="the stand-in")
    options = parser.parse_args(arguments)
    if options.minutes < 3:
        parser.error("--minutes: a verdict needs at least 3")
    place, cpus = Place(ignored(options.work).resolve()), choose_cpus()
    due_s = schedule_s(options.rate, round(options.rate * options.window_s * options.minutes), seed=1)
    with (
        tempfile.TemporaryDirectory(prefix="redline-soak-") as name,
        pinned((cpus.suite,)),
        stand_in(options.server, place.work, (cpus.server,)) as server,
        load_worker((cpus.client,)) as worker,
    ):
        minutes = soak(worker, server, due_s, options.window_s, Path(name))
    for minute in minutes:
        print(_line(minute))
    verdict = judge(minutes)
    print(_verdict_lines(verdict))
    raise SystemExit(os.EX_OK if verdict.memory_flat and verdict.error_same and not verdict.failed_count else 1)


def _line(minute: Minute) -> str:
    error = minute.stamp_error
    shown = "no stamps" if error is None else f"{error.p50_ms:.4f} / {error.p99_ms:.4f} ms (max {error.max_ms:.3f})"
    memory = f"{minute.memory_bytes / 1e6:.1f} MB"
    return (
        f"minute {minute.number:3d}  worker {memory:>10}  stamp error p50 / p99 {shown}  failed {minute.failed_count}"
    )


def _verdict_lines(verdict: Verdict) -> str:
    memory, error = "flat" if verdict.memory_flat else "GROWING", "the same" if verdict.error_same else "WORSE"
    change = f"p99 {verdict.first_p99_ms:.4f} ms in the first third, {verdict.last_p99_ms:.4f} ms in the last"
    return "\n".join(
        (
            f"memory {memory}: {verdict.memory_growth_share:+.1%} over the soak, {GROWTH_SHARE_MAX:.0%} allowed",
            f"stamp error {error}: {change}; {ERROR_RATIO_MAX:g} times and {ERROR_MS_SLACK:g} ms allowed",
            f"failed requests: {verdict.failed_count}",
        )
    )


if __name__ == "__main__":
    main()
