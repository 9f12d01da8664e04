"""`redline calibrate`: how exact is this machine's load client? Measured against a stand-in that knows the truth.

The stand-in logs when it really sent each chunk, on the clock that the client's stamps are on. Client and
stand-in get CPUs of their own where the machine has two.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.progress import Narrator, narrate
from flows.workspace import Workspace, content_root
from redline.errors import InvalidMeasurementError, LoadError, UsageError
from redline.load.arrivals import schedule_ns
from redline.load.client import LoadPlan
from redline.load.worker import LoadWorker, Window, load_worker
from redline.metrics import percentile
from redline.model import (
    Calibration,
    CalibrationRung,
    Outcome,
    Request,
    RequestRecord,
    Server,
    StampSource,
    TokenPrompt,
)
from redline.runner.fingerprint import read_fingerprint, split_cpus, usable_cpu_ids
from redline.runner.lock import runner_lock
from redline.simulator.process import BinaryLog, RunningSimulator, simulator
from redline.simulator.settings import Settings
from redline.store.calibrations import write_calibration

RUNGS = ((50.0, 32), (200.0, 32), (500.0, 32), (1000.0, 32), (2000.0, 4), (3000.0, 4))
"""(requests a second, chunks a request): prompts of 32 tokens, TTFT 50 ms, ITL 10 ms."""

SECONDS = 5.0
PROMPT = TokenPrompt(tuple(range(100, 132)))
SEED = 20240404
HELD_SHARE_MIN = 0.99
"""A rate is held if requests went out at 99 % of it, by the first and last sending instants."""

SLIP_S_P99_MAX = 0.005
"""And if the client was rarely later than this. Source: the schedule lag limit of METHOD's server scenarios."""


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What to calibrate: the rungs, and seconds per rung."""

    workspace: Workspace
    rungs: tuple[tuple[float, int], ...] = RUNGS
    seconds: float = SECONDS
    wait_s: float = 30.0
    quiet: bool = False


def options(state_dir: Path, *, rates: Sequence[float], seconds: float, wait_s: float, quiet: bool) -> CalibrateOptions:
    """The options of a command line. Raises UsageError for rates or durations that make no sense."""
    if any(not 1 <= rate <= 20_000 for rate in rates) or not 0.5 <= seconds <= 600:
        raise UsageError(
            "this cannot be calibrated",
            expected="rates in [1, 20000] requests a second, 0.5 to 600 seconds",
            found=f"rates {list(rates)}, {seconds:g} s",
            next_step="correct --rate or --seconds",
        )
    rungs = tuple((rate, 32 if rate <= 1000 else 4) for rate in sorted(rates)) or RUNGS
    return CalibrateOptions(Workspace(content_root(), state_dir), rungs, seconds, wait_s, quiet)


def calibrate(chosen: CalibrateOptions) -> Iterator[str]:
    """Calibrate and store; the ladder as lines.

    Raises RunnerBusyError if another measurement holds the machine, DeployError or LoadError if stand-in or
    client do not work, InvalidMeasurementError if the first rung already fails.
    """
    fingerprint = read_fingerprint()
    server_cpus, client_cpus = split_cpus(usable_cpu_ids())
    rungs: list[CalibrationRung] = []
    sources: set[StampSource] = set()
    with (
        narrate(chosen.quiet) as narrator,
        runner_lock(chosen.wait_s, narrator.say),
        simulator(Settings(), cpu_ids=server_cpus) as stand_in,
        load_worker(client_cpus) as worker,
    ):
        for rate, chunks in chosen.rungs:
            rung, stamps = _measure(rate, chunks, chosen.seconds, stand_in, worker, narrator)
            rungs.append(rung)
            sources.add(stamps)
    if not rungs[0].held:
        yield from ladder_of(rungs)
        raise InvalidMeasurementError(
            "this machine's client could not be calibrated",
            expected=f"{rungs[0].rate_per_s:g} requests a second held",
            found=f"not held: lost or late requests, slip p99 {rungs[0].slip_s_p99 * 1e3:.1f} ms",
            next_step="free the machine of other work and run again",
        )
    calibration = Calibration(
        fingerprint_id=fingerprint.fingerprint_id,
        calibrated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        stamps=sources.pop() if len(sources) == 1 else StampSource.MIXED,
        rungs=tuple(rungs),
    )
    path = write_calibration(chosen.workspace.calibrations_dir, calibration)
    yield from ladder(calibration)
    yield f"stored in {path}"


def ladder(calibration: Calibration) -> Iterator[str]:
    """The calibration as a table, errors in milliseconds, p50/p99."""
    yield f"load client of machine {calibration.fingerprint_id}, {calibration.stamps.value} stamps"
    yield from ladder_of(calibration.rungs)
    yield f"held up to {calibration.rate_per_s_max:.0f} requests and {calibration.chunks_per_s_max:.0f} chunks a second"


def ladder_of(rungs: Sequence[CalibrationRung]) -> Iterator[str]:
    """A line per rung."""
    yield "req/s  chunks  held        slip ms   TTFT error ms  chunk error ms  CPU of a core"
    for rung in rungs:
        yield (
            f"{rung.rate_per_s:5.0f}  {rung.chunks_per_request:6d}  {'yes' if rung.held else 'no':4s}"
            f"  {_ms(rung.slip_s_p50, rung.slip_s_p99):>13s}  {_ms(rung.ttft_error_s_p50, rung.ttft_error_s_p99):>14s}"
            f"  {_ms(rung.chunk_error_s_p50, rung.chunk_error_s_p99):>14s}  {rung.cpu_share * 100:11.0f} %"
        )


def _ms(middle: float, high: float) -> str:
    return f"{middle * 1e3:.3f}/{high * 1e3:.3f}"


def _measure(
    rate: float, chunks: int, seconds: float, stand_in: RunningSimulator, worker: LoadWorker, narrator: Narrator
) -> tuple[CalibrationRung, StampSource]:
    """One rung: a Poisson window at this rate, set against the stand-in's log."""
    count = max(round(rate * seconds), 20)
    due = schedule_ns(Server(rate_per_s=rate), count, random.Random(SEED))
    requests = tuple(
        Request(index, PROMPT, chunks, ignore_eos=True, offset_ns=due[index], cache_salt="calibrate")
        for index in range(count)
    )
    plan = LoadPlan((stand_in.base_url,), stand_in.settings().serving.model, requests, None, due[-1] / 1e9 + 30)
    stand_in.binary_log(reset=True)
    with narrator.doing(f"{rate:g} requests a second, {chunks} chunks each", due[-1] / 1e9 + 2):
        window = worker.run(plan)
    return rung_of(rate, chunks, window, stand_in.binary_log(reset=True)), window.client.stamps


def rung_of(rate: float, chunks: int, window: Window, log: BinaryLog) -> CalibrationRung:
    """What a window and the stand-in's log of it say about the client. Raises LoadError if they do not match."""
    truth = {bytes(row["id"]).decode(): row for row in log.requests}
    completed = [record for record in window.records if record.outcome is Outcome.OK]
    ttft_errors: list[float] = []
    chunk_errors: list[npt.NDArray[np.float64]] = []
    for record in completed:
        row = truth.get(f"calibrate-{record.index}")
        if row is None or row["chunk_count"] != len(record.chunk_ns):
            raise LoadError("the stand-in's log does not match what was received", found=f"request {record.index}")
        first, last = int(row["chunk_first"]), int(row["chunk_first"] + row["chunk_count"])
        sent_ns = log.sent_ns[first:last]
        received_ns = np.asarray(record.chunk_ns, dtype=np.int64) + window.start_monotonic_ns
        chunk_errors.append((received_ns - sent_ns) / 1e9)
        true_ttft_ns = int(sent_ns[0]) - int(row["received_ns"])
        ttft_errors.append((record.chunk_ns[0] - record.send_ns - true_ttft_ns) / 1e9)
    if not completed:
        raise LoadError("no request was answered", found=str(window.records[0].detail if window.records else "none"))
    slips = [(record.send_ns - record.sched_ns) / 1e9 for record in window.records]
    pooled = np.concatenate(chunk_errors).tolist()
    slip_p99 = _at(slips, 0.99)
    return CalibrationRung(
        rate_per_s=rate,
        chunks_per_request=chunks,
        held=_kept_pace(window.records) and len(completed) == len(window.records) and slip_p99 <= SLIP_S_P99_MAX,
        slip_s_p50=_at(slips, 0.5),
        slip_s_p99=slip_p99,
        ttft_error_s_p50=_at(ttft_errors, 0.5),
        ttft_error_s_p99=_at(ttft_errors, 0.99),
        chunk_error_s_p50=_at(pooled, 0.5),
        chunk_error_s_p99=_at(pooled, 0.99),
        cpu_share=window.client.cpu_s * 1e9 / window.duration_ns,
    )


def _kept_pace(records: Sequence[RequestRecord]) -> bool:
    """True if the sending took no longer than the schedule, to one per cent."""
    planned = records[-1].sched_ns - records[0].sched_ns
    taken = max(record.send_ns for record in records) - min(record.send_ns for record in records)
    return taken * HELD_SHARE_MIN <= planned


def _at(values: Sequence[float], share: float) -> float:
    found = percentile(values, share)
    assert found is not None  # there is at least one completed request
    return found
