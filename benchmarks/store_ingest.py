"""How long 1,000 trials take to write, ingest, ingest again and query: `python -m benchmarks.store_ingest`."""

# ruff: noqa: INP001, T201  # a command of its own, no part of a package

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from redline.model import (
    Arm,
    BuildKind,
    BuildPin,
    ClientReport,
    Outcome,
    Repeat,
    RequestRecord,
    RunnerFingerprint,
    StampSource,
    SystemUnderTest,
    TokenCounts,
    Trial,
    TrialStatus,
    ValidityReading,
)
from redline.store.database import ingest, query
from redline.store.history import noise
from redline.store.trials import write_trial

Result = TypeVar("Result")
LOCK_BYTES = 350_000  # what the lock of a real vLLM environment takes


def make_trial(seed: int, request_count: int, chunk_count: int) -> Trial:
    """A trial of five repeats (the first dropped) of `request_count` requests of `chunk_count` chunks each."""
    rng = random.Random(seed)
    records = []
    for index in range(request_count):
        chunk_ns = [index * 10_000_000 + 30_000_000 + rng.randrange(10_000_000)]
        for _ in range(chunk_count - 1):
            chunk_ns.append(chunk_ns[-1] + rng.randrange(4_000_000, 6_000_000))
        records.append(
            RequestRecord(
                index=index,
                outcome=Outcome.OK,
                sched_ns=index * 10_000_000,
                send_ns=index * 10_000_000 + 50_000,
                done_ns=chunk_ns[-1] + 100_000,
                chunk_ns=tuple(chunk_ns),
                chunk_tokens=(1,) * chunk_count,
                prompt_tokens=32,
                output_tokens=chunk_count,
                output_text="word " * chunk_count,
                finish_reason="length",
            )
        )
    client = ClientReport(
        cpu_s=0.1,
        stamps=StampSource.KERNEL,
        token_counts=TokenCounts.IDS,
        chunk_count=request_count * chunk_count,
        coalesced_count=0,
        connection_count=16,
        resent_count=0,
        clock_step_ns=0,
        tls=False,
        simulated=False,
    )
    repeat = Repeat(
        0, "2026-11-21T10:00:00Z", 10**10, tuple(records), {"vllm:prompt_tokens_total": 1.0}, 0.01, 0.0, client
    )
    pin = BuildPin(
        kind=BuildKind.INDEX_WHEEL,
        spec="nightly",
        distribution="vllm",
        version=f"0.32.0.dev{seed % 20}",
        platform="cpu",
        python_version="3.12",
        wheel_sha256="ab" * 32,
        lock="x" * LOCK_BYTES,
    )
    return Trial(
        trial_id=f"trial-{seed:06d}",
        run_id=f"run-{seed // 10}",
        arm=Arm.SINGLE,
        pair_index=0,
        sut=SystemUnderTest(pin),
        scenario="offline-short",
        scenario_hash="0123456789abcdef",
        runner_class="cpu",
        fingerprint=RunnerFingerprint({"cpu": "EPYC"}),
        started_at="2026-11-21T10:00:00Z",
        status=TrialStatus.VALID,
        reported_version=pin.version,
        start_s=25.0,
        repeats=tuple(replace(repeat, index=index, drop_reason="" if index else "warm-up") for index in range(5)),
        validity=(ValidityReading("schedule lag", "1 ms", "20 ms", ok=True),),
    )


def timed(label: str, action: Callable[[], Result]) -> Result:
    """What the action returned; its wall time is printed."""
    started = time.perf_counter()
    result = action()
    print(f"{label:<32} {time.perf_counter() - started:8.2f} s", flush=True)
    return result


def main() -> None:
    """Measure once in a temporary directory and print one line per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--chunks", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        trials, database = Path(name) / "trials", Path(name) / "redline.db"
        made = [make_trial(seed, options.requests, options.chunks) for seed in range(options.trials)]
        timed("write", lambda: [write_trial(trials, trial) for trial in made])
        timed("ingest", lambda: ingest(trials, database))
        timed("ingest again, nothing new", lambda: ingest(trials, database))
        timed("noise of all trials", lambda: noise(database))
        timed("one line per trial", lambda: query(database, "SELECT * FROM trial_readings"))
        trial_bytes = sum(path.stat().st_size for path in trials.rglob("*") if path.is_file())
        print(f"trials {trial_bytes / 1e6:.1f} MB, database {database.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
