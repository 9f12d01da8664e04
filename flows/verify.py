"""`redline method verify`: the error table of the method, simulated anew with the code that decides.

Rows are spread over processes; each has a seed of its own, so their number changes nothing but the time. Otava is
run from its own package, and where it cannot be had its rows say so.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from checks.error_rows_all import pure_rows
from checks.error_rows_rivals import NIGHT_GROUPS, OURS, NightGroup, figures_of_flags, night_readings, night_row
from checks.error_table import SUITES, Figures, Measured, Row, Section, count_of, measure, promises_of
from checks.policy import Policy
from flows.progress import Narrator, narrate
from flows.workspace import CHECKOUT, Workspace
from redline.builds.lock_text import lock_here
from redline.builds.locked_environment import LockedEnvironment, ReadyEnvironment, ensure
from redline.errors import InfrastructureError, StoreError, UsageError
from redline.otava.detect import LOCK, flagged_nights
from reports.method_data import MethodDocument, MethodPromise, MethodRow, as_json
from reports.method_plot import svg
from reports.method_table import markdown

SEED = 20261121
SUITES_FULL = SUITES
SUITES_QUICK = 200
OTAVA = "Otava, default options"
OTAVA_COUNT = 100
"""Histories that Otava analyses anew after every night: the first of those that the others are judged on."""

PROBLEM_CHARACTERS_MAX = 160


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What to measure. `sections`: empty for all; `output`: default `<state_dir>/method`.

    `process_count`: default one per CPU; `no_otava`: why Otava is left out, empty to run it.
    """

    state_dir: Path
    output: Path | None = None
    suites: int = SUITES_FULL
    sections: tuple[str, ...] = ()
    seed: int = SEED
    process_count: int | None = None
    no_otava: str = ""
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """The table, and the files that hold it."""

    document: MethodDocument
    paths: tuple[Path, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """The promises that are broken, in words."""
        return tuple(_said(promise) for promise in self.document.broken)

    @property
    def markdown(self) -> str:
        """The table for people."""
        return markdown(self.document)

    @property
    def json(self) -> str:
        """The table for machines."""
        return as_json(self.document)


@dataclass(frozen=True, slots=True)
class Otava:
    """The interpreter that has it, or why there is none."""

    python: Path | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Result:
    """What a process sends back of a row: rows themselves hold functions and stay where they are."""

    count: int
    figures: Figures
    problem: str
    seconds: float


def verify(options: VerifyOptions) -> Verified:
    """Measure the chosen sections, write the three files and return the table.

    Raises:
        UsageError: a number that makes no sense.
        StoreError: the files cannot be written.
        InfrastructureError: a process ended before its rows were measured.
    """
    for name, value in (("--suites", options.suites), ("--processes", options.process_count)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1", found=str(value), next_step=f"correct {name}")
    # The shipped policies, whatever content a team keeps: the promises are about them.
    cpu, gpu = (Workspace(CHECKOUT, options.state_dir).policy(name) for name in ("cpu", "gpu"))
    with narrate(options.quiet) as narrator:
        chosen = [
            row for row in _rows(cpu, gpu, Otava(None)) if not options.sections or row.section in options.sections
        ]
        otava = _otava(options, chosen, narrator)
        rows = {row.key: row for row in _rows(cpu, gpu, otava)}
        results = _measure_all([row.key for row in chosen], (cpu, gpu, otava), options, narrator)
    measured = [
        Measured(rows[key], found.count, found.figures, found.problem)
        for key, found in ((row.key, results[row.key]) for row in chosen)
    ]
    document = document_of(measured, options)
    return Verified(document, _write(options.output or options.state_dir / "method", document))


def document_of(measured: Sequence[Measured], options: VerifyOptions) -> MethodDocument:
    """The table as it is stored; NaN figures, of what never happened, are left out."""
    rows = tuple(
        MethodRow(
            section=each.row.section.value,
            group=each.row.group,
            name=each.row.name,
            count=each.count,
            effect=each.row.effect,
            figures={figure.value: value for figure, value in each.figures.items() if not math.isnan(value)},
            problem=each.problem,
        )
        for each in measured
    )
    promises = tuple(
        MethodPromise(
            section=each.row.section.value,
            row=each.row.name,
            figure=each.promise.figure.value,
            at_least=each.promise.at_least,
            limit=each.promise.limit,
            value=None if math.isnan(each.value) else each.value,
            standard_error=each.standard_error,
            status=each.status.value,
        )
        for each in promises_of(measured)
    )
    return MethodDocument(options.seed, options.suites, rows, promises)


# --- rows -----------------------------------------------------------------------------------------------------


def _rows(cpu: Policy, gpu: Policy, otava: Otava) -> Iterator[Row]:
    """Every row of the table, Otava's before ours in each group of nights."""
    groups = {group.name: group for group in NIGHT_GROUPS}
    for row in pure_rows(cpu, gpu):
        if row.section is Section.NIGHTS and row.name == OURS:
            group = groups[row.group]
            yield night_row(group, OTAVA, partial(_otava_on_nights, otava, group), OTAVA_COUNT)
        yield row


def _otava_on_nights(otava: Otava, group: NightGroup, seed: int, count: int) -> Figures:
    if otava.python is None:
        raise InfrastructureError(otava.problem)
    return figures_of_flags(group, flagged_nights(night_readings(group, seed, count).tolist(), python=otava.python))


def _otava(options: VerifyOptions, rows: Sequence[Row], narrator: Narrator) -> Otava:
    """Otava ready to run, unless it is not asked for or cannot be installed."""
    if options.no_otava or not any(row.name == OTAVA for row in rows):
        return Otava(None, options.no_otava)
    try:
        found = otava_environment(options.state_dir, on_line=narrator.detail)
    except InfrastructureError as error:
        problem = _in_a_line(error)
        narrator.say(f"Otava's rows are left out: {problem}")
        return Otava(None, problem)
    if not found.cached:
        narrator.say(f"installed Otava in an environment of its own in {found.seconds:.0f} s")
    return Otava(found.python)


def otava_environment(state_dir: Path, *, on_line: Callable[[str], None]) -> ReadyEnvironment:
    """Otava's own environment under `state_dir`/otava, installed once per lock and Python; `on_line` gets uv's lines.

    Raises InfrastructureError if it cannot be installed, or holds something else than its lock.
    """
    content = LOCK.read_bytes()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = (state_dir / "otava" / f"{version}-{hashlib.sha256(content).hexdigest()[:16]}").resolve()
    wanted = LockedEnvironment(home, lock_here(content.decode()), "Otava", main="apache-otava")
    return ensure(wanted, on_line=on_line)


def _in_a_line(error: InfrastructureError) -> str:
    found = error.found.strip().splitlines()
    words = f"{error.problem}: {found[-1].strip()}" if found else error.problem
    return words if len(words) <= PROBLEM_CHARACTERS_MAX else words[: PROBLEM_CHARACTERS_MAX - 1] + "…"


# --- processes ------------------------------------------------------------------------------------------------

_OF_THIS_PROCESS: dict[str, Row] = {}


def _measure_all(
    keys: Sequence[str], content: tuple[Policy, Policy, Otava], options: VerifyOptions, narrator: Narrator
) -> dict[str, _Result]:
    """Every row's figures by its key, with a line each as they come."""
    count = min(options.process_count or os.cpu_count() or 1, max(1, len(keys)))
    task = partial(_measure, seed=options.seed, suites=options.suites)
    results: dict[str, _Result] = {}
    for key, found in _alone(task, keys, content) if count == 1 else _spread(task, keys, content, count):
        results[key] = found
        said = f"not measured: {found.problem}" if found.problem else f"{found.seconds:.1f} s"
        narrator.say(f"{len(results)} of {len(keys)}  {key}: {said}")
    return results


def _alone(
    task: Callable[[str], _Result], keys: Sequence[str], content: tuple[Policy, Policy, Otava]
) -> Iterator[tuple[str, _Result]]:
    _prepare(*content)
    for key in keys:
        yield key, task(key)


def _spread(
    task: Callable[[str], _Result], keys: Sequence[str], content: tuple[Policy, Policy, Otava], count: int
) -> Generator[tuple[str, _Result], None, None]:
    """As `_alone`, over processes; Otava's rows, which take longest, go first."""
    with _processes(count, content) as pool:
        ordered = sorted(keys, key=lambda key: not key.endswith(OTAVA))
        futures: dict[Future[_Result], str] = {pool.submit(task, key): key for key in ordered}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise InfrastructureError(
                "a process ended before its rows were measured",
                expected=f"{count} processes that live",
                found=str(error),
                next_step="look for a lack of memory, or run with --processes 1",
            ) from error


@contextmanager
def _processes(count: int, content: tuple[Policy, Policy, Otava]) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes are ended at once when the context is left by an exception."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_process,
        initargs=content,
    )
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def _prepare_process(cpu: Policy, gpu: Policy, otava: Otava) -> None:
    # Ctrl-C reaches every process of the terminal: this one's end is decided by the one that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prepare(cpu, gpu, otava)


def _prepare(cpu: Policy, gpu: Policy, otava: Otava) -> None:
    _OF_THIS_PROCESS.clear()
    _OF_THIS_PROCESS.update({row.key: row for row in _rows(cpu, gpu, otava)})


def _measure(key: str, *, seed: int, suites: int) -> _Result:
    """One row of this process. Only what others ship may fail to run; its row then says why."""
    row, begin_s = _OF_THIS_PROCESS[key], time.monotonic()
    try:
        found = measure(row, seed=seed, suites=suites)
    except InfrastructureError as error:
        return _Result(count_of(row, suites), {}, _in_a_line(error), time.monotonic() - begin_s)
    return _Result(found.count, found.figures, "", time.monotonic() - begin_s)


# --- results --------------------------------------------------------------------------------------------------


def _write(directory: Path, document: MethodDocument) -> tuple[Path, ...]:
    contents = {
        "error-table.md": markdown(document),
        "error-table.json": as_json(document),
        "error-table.svg": svg(document),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (directory / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"{directory}: the error table could not be written",
            found=str(error),
            next_step="make room for it, or choose another directory: --output DIR",
        ) from error
    return tuple(directory / name for name in contents)


def _said(promise: MethodPromise) -> str:
    bound = f"{'at least' if promise.at_least else 'at most'} {promise.limit:g}"
    value = "not measured" if promise.value is None else f"{promise.value:.4g}"
    error = "" if promise.standard_error is None else f" (standard error {promise.standard_error:.2g})"
    return f"{promise.section}: {promise.row}: {promise.figure} {bound}, found {value}{error}"
