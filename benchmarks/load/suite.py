"""Every cell of the comparison, one after the other; a client that fails gives a row with the reason."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.load.accuracy import Figures, compare
from benchmarks.load.driver import START_S_MAX, Driver, DriverError, Place, Task, WallClock
from benchmarks.load.machine import Cpus, busy_s, steal_s
from benchmarks.load.process_tree import Run, children_cpu_s, hogs, pinned, run_client
from benchmarks.load.server_log import ServerLog
from benchmarks.load.stand_in import StandIn, stand_in
from benchmarks.load.workload import Cell, schedule_s
from redline.errors import RedlineError

SLOW_FACTOR_MAX = 4.0
"""A client that needs more than this times the schedule is stopped: it has collapsed."""

LOST_RATES_MAX = 2
"""After so many rates in a row that a client did not hold, higher ones are not tried."""

HOG_PROGRAM = (sys.executable, "-c", "while True: pass")


@dataclass(frozen=True, slots=True)
class Row:
    """One cell as it goes into the result file. `reason` says why there are no figures; then all others are None.

    cpu_s_per_1000: CPU seconds of the client's process tree per 1000 requests, from the first arrival to the last
        answer; cpu_share: the same per second, of one core. memory_mb_max: largest sample, resident.
    start_s: from the process's start to the arrival of its first request. foreign_share: of the client's core, used by
        neither the client nor the busy loops; a cell with more than a few percent is worth little. steal_share: of
        the machine's CPU time.
    """

    cell: Cell
    reason: str = ""
    figures: Figures | None = None
    cpu_s_per_1000: float | None = None
    cpu_share: float | None = None
    cpu_s_total: float | None = None
    memory_mb_max: float | None = None
    start_s: float | None = None
    foreign_share: float | None = None
    steal_share: float | None = None

    def as_json(self) -> dict[str, object]:
        """For the result file."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for the whole run; `client_nice` is the niceness that every client is started with."""

    place: Place
    cpus: Cpus
    output: Path
    stand_in_kind: str
    keep_files: bool
    client_nice: int = 0


def prepare(
    drivers: Sequence[Driver], place: Place, say: Callable[[str], None]
) -> tuple[dict[str, str], dict[str, str]]:
    """(version by client, reason by client that cannot run)."""
    versions, reasons = {}, {}
    for driver in drivers:
        say(f"preparing {driver.name}")
        try:
            versions[driver.name] = driver.prepare(place)
        except (DriverError, RedlineError, OSError) as error:
            reasons[driver.name] = str(error).splitlines()[0]
            say(f"  {driver.name}: {error}")
    return versions, reasons


def measure(
    setting: Setting,
    drivers: Mapping[str, Driver],
    cells: Sequence[Cell],
    reasons: Mapping[str, str],
    say: Callable[[str], None],
) -> Iterator[Row]:
    """A row per cell, as they are measured; the cells of one client must come in ascending rates."""
    lost: dict[tuple[str, str, int], int] = {}
    with (
        pinned((setting.cpus.suite,)),
        stand_in(setting.stand_in_kind, setting.place.work, (setting.cpus.server,)) as server,
    ):
        for number, cell in enumerate(cells):
            series = (cell.client, cell.workload.name, cell.hog_count)
            if cell.client in reasons:
                row = Row(cell, reason=reasons[cell.client])
            elif lost.get(series, 0) >= LOST_RATES_MAX:
                row = Row(cell, reason=f"not tried: did not hold the last {LOST_RATES_MAX} rates")
            else:
                row = _measure_one(setting, drivers[cell.client], cell, server)
                held = row.figures is not None and row.figures.held
                lost[series] = 0 if held else lost.get(series, 0) + 1
            say(f"[{number + 1}/{len(cells)}] {cell.label}: {_summary(row)}")
            yield row


def _measure_one(setting: Setting, driver: Driver, cell: Cell, server: StandIn) -> Row:
    directory = setting.output / "files" / cell.label
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    due_s = schedule_s(cell.rate_per_s, cell.request_count, cell.seed)
    task = Task(cell, due_s, server.port, directory.resolve(), setting.place, setting.cpus.client)
    try:
        row = _run_cell(setting, driver, task, server)
    except (DriverError, RedlineError, OSError, KeyError, ValueError, IndexError, TypeError) as error:
        # A tool's report in another form than expected is the tool's row, not the suite's end.
        row = Row(cell, reason=f"{type(error).__name__}: {error}".splitlines()[0][:300])
    if not setting.keep_files:
        shutil.rmtree(directory, ignore_errors=True)
    return row


def _run_cell(setting: Setting, driver: Driver, task: Task, server: StandIn) -> Row:
    cell, cpus = task.cell, setting.cpus
    command = driver.command(task)
    server.begin(cell.workload)
    clock_before, usage = WallClock.read(), _Usage(cpus.client)
    with hogs(cell.hog_count, (cpus.client,), HOG_PROGRAM):
        run = run_client(
            command.arguments,
            environment=command.environment,
            cpu_ids=(cpus.client,),
            directory=task.directory,
            timeout_s=bound_s(cell),
            nice=setting.client_nice,
        )
    foreign_share, steal_share = usage.shares()
    log = server.log(task.directory)
    row = replace(_costs(cell, run, log), foreign_share=foreign_share, steal_share=steal_share)
    if run.exit_code is None:
        seen = len(log.served)
        return replace(
            row, reason=f"stopped after {bound_s(cell):.0f} s with {seen} of {cell.request_count} requests sent"
        )
    if run.exit_code:
        return replace(row, reason=f"exit status {run.exit_code}: {run.output_tail.splitlines()[-1:]}"[:300])
    # Wall clocks are slewed while a client runs: the middle of both readings is off by half of that.
    clock = WallClock((clock_before.offset_ns + WallClock.read().offset_ns) // 2)
    return replace(row, figures=compare(cell, driver.read(task, clock), log))


class _Usage:
    """Who else used the client's core, and what the hypervisor took, from the making of this object on."""

    def __init__(self, cpu: int) -> None:
        self._cpu = cpu
        self._before = self._read()

    def _read(self) -> tuple[float, float, float, float]:
        return time.monotonic(), busy_s(self._cpu), children_cpu_s(), steal_s()

    def shares(self) -> tuple[float, float]:
        """(foreign share of the core, stolen share of the machine); to be asked when the client has ended."""
        took_s, busy, ours, stolen = (after - before for after, before in zip(self._read(), self._before, strict=True))
        return max(0.0, busy - ours) / took_s, stolen / (took_s * (os.cpu_count() or 1))


def bound_s(cell: Cell) -> float:
    """How long a client may take in all: to start, which hogs on its core slow down, and to work."""
    return START_S_MAX * (2 if cell.hog_count else 1) + SLOW_FACTOR_MAX * cell.load_s


def _costs(cell: Cell, run: Run, log: ServerLog) -> Row:
    """What the client cost, as far as the log says when it worked; a tool's few probes are among its requests."""
    row = Row(cell, memory_mb_max=run.memory_bytes_max / 1e6, cpu_s_total=run.cpu_s)
    if not log.served:
        return row
    # Probes come before the measured requests and are few; the start is where as many remain as were asked for.
    measured = log.served[-cell.request_count :]
    first_ns = measured[0].received_ns
    last_ns = max(max(item.done_ns, item.received_ns) for item in measured)
    row = replace(row, start_s=(first_ns - run.started_ns) / 1e9)
    used_s = run.cpu_s_between(first_ns, last_ns)
    if used_s is None:
        return row
    return replace(row, cpu_s_per_1000=used_s / len(measured) * 1000, cpu_share=used_s / ((last_ns - first_ns) / 1e9))


def _summary(row: Row) -> str:
    figures = row.figures
    if figures is None:
        return row.reason
    ttft = (
        f"TTFT error {figures.ttft_error.p50_ms:.2f}/{figures.ttft_error.p99_ms:.2f} ms" if figures.ttft_error else ""
    )
    return f"{'held' if figures.held else 'NOT held'} ({figures.achieved_share:.1%}) {ttft}"


def save(path: Path, content: Mapping[str, object]) -> None:
    """Write the result file; after every cell, because a later one may fail."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)
