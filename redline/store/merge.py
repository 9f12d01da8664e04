"""Another machine's results into this state directory: trials, pins, nights, reports' files and justifications.

A leg's folder and a whole state directory look alike, and only what Redline understands is taken from either. Nothing
that is here is ever replaced, so a merge can be repeated, interrupted anywhere, and repeated again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from redline.errors import StoreBusyError, StoreError
from redline.store.database import rehearsal
from redline.store.table_schemas import SCHEMAS
from redline.store.taking import (
    PIN_ID,
    CheckReport,
    Fate,
    Item,
    refused,
    stated_of,
    take_justification,
    take_night,
    take_pin,
    take_report,
    take_trials,
    taken,
)
from redline.store.trials import MANIFEST, PINS, list_trials, sweep
from redline.store.untrusted_file import names_in

TRIALS, NIGHTS, REPORTS, JUSTIFICATIONS = "trials", "nights", "reports", "justifications"
JUSTIFICATION = "justification"
"""The kind of such an item."""
LEG = "leg.json"
COLLECTED = "collected.json"
"""Of a state directory: which artifacts it was made from (flows.service.collect)."""
LOCK = ".merge.lock"
NO_SUCH_THING = "Redline knows no such thing"
WAIT_S = 300.0
_POLL_S = 0.2

_OF_ONE_MACHINE = ("bisections", "cache", "calibrations", "logs", "method", "prefect", COLLECTED)
_MADE_AGAIN = ("builds", "datasets", "otava", "pins", "redline.duckdb", "stand-ins", "wheels")
NOT_MERGED = frozenset((*_OF_ONE_MACHINE, *_MADE_AGAIN))
"""What else a state directory holds: of one machine only, or fetched and made again where it is needed."""


@contextmanager
def merge_lock(state_dir: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold a state directory's merging alone; the kernel frees it whatever becomes of this process.

    Raises StoreBusyError when another merge still holds it after `wait_s` seconds, StoreError if there can be no lock.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(
            f"{state_dir} cannot be merged into",
            expected="a directory that this user may write to",
            found=str(error),
            next_step="make it writable, or name another: --state-dir",
        ) from error
    try:
        _hold(descriptor, state_dir, wait_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _hold(descriptor: int, state_dir: Path, wait_s: float) -> None:
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline_s:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
                raise StoreBusyError(
                    f"another merge holds {state_dir}",
                    expected=f"it to be free within {wait_s:g} s",
                    found=f"held by {holder}",
                    next_step="merge again when it has ended; nothing was taken, nothing is lost",
                ) from error
            time.sleep(_POLL_S)
        else:
            return


def merge_folder(
    folder: Path, state_dir: Path, check_report: CheckReport, *, with_reasons: bool = True, runner_class: str = ""
) -> tuple[Item, ...]:
    """What became of everything in a leg's folder or another state directory. Call it with `merge_lock` held.

    `with_reasons`: False for a folder whose maker may have run a stranger's code: its justifications, and levels
    that it accepts, are refused. `runner_class`: take its trials and nights only, and leave the reports, which are for
    people: what a machine of that class needs to judge its next night.
    What is damaged, hostile or of another version is refused by name, and the rest is taken all the same. Raises
    StoreError if the folder itself cannot be read.
    """
    names = names_in(folder)
    found: list[Item] = []
    _prepare(state_dir)
    if TRIALS in names:
        found += _take_trials(folder / TRIALS, state_dir / TRIALS, runner_class)
    if NIGHTS in names:
        found += _take_nights(folder / NIGHTS, state_dir / NIGHTS, runner_class, with_acceptances=with_reasons)
    if REPORTS in names:
        reports = state_dir / REPORTS
        report = _leave if runner_class else lambda path: take_report(path, reports, check_report)
        found += _take_each("report", folder / REPORTS, report)
    if JUSTIFICATIONS in names:
        kept = state_dir / JUSTIFICATIONS
        take = (lambda path: take_justification(path, kept)) if with_reasons else _no_reason
        found += _take_each(JUSTIFICATION, folder / JUSTIFICATIONS, take)
    foreign = set(names) - {TRIALS, NIGHTS, REPORTS, JUSTIFICATIONS, LEG} - NOT_MERGED
    found += [Item("file", name, Fate.REFUSED, NO_SUCH_THING) for name in sorted(foreign)]
    return tuple(found)


def take_run(state_dir: Path, folder: Path, run_id: str, check_report: CheckReport) -> tuple[Item, ...]:
    """What became of everything of one run, copied from a state directory into a leg's folder.

    `run_id` must be fit for a file's name. Raises StoreError if the folder cannot be made.
    """
    _prepare(folder)
    trials, reports = state_dir / TRIALS, state_dir / REPORTS
    stated = {path: stated_of(path) for path in list_trials(trials)}
    chosen = [path for path, each in stated.items() if is_of_run(each.run_id, run_id)]
    pins = sorted({stated[path].pin_id for path in chosen if PIN_ID.fullmatch(stated[path].pin_id)})
    found = [taken("pin", trials / PINS / f"{pin}.json", lambda it: take_pin(it, folder / TRIALS)) for pin in pins]
    with rehearsal() as rehearse:
        found += take_trials(chosen, folder / TRIALS, rehearse)
    for path in sorted((state_dir / NIGHTS).glob(f"*/{run_id}*.json")):
        if is_of_run(path.stem, run_id):
            found.append(taken("night", path, lambda it: take_night(it, folder / NIGHTS)))
    for path in (reports / f"{run_id}{suffix}" for suffix in (".md", ".data.json", ".json")):
        if path.exists():
            found.append(taken("report", path, lambda it: take_report(it, folder / REPORTS, check_report)))
    return tuple(found)


def is_of_run(run_id: str, wanted: str) -> bool:
    """True for the run, and for what it started: a night's gates are called `<run id>-gate1`."""
    return run_id == wanted or run_id.startswith(f"{wanted}-")


def _prepare(state_dir: Path) -> None:
    try:
        (state_dir / TRIALS).mkdir(parents=True, exist_ok=True)
        sweep(state_dir / TRIALS)
    except OSError as error:
        raise StoreError(
            f"{state_dir} could not be written", found=str(error), next_step="make room for it, or make it writable"
        ) from error


def _no_reason(_: Path) -> Fate:
    raise StoreError("a machine that measures gives no reasons: only a person's command does")


def _leave(_: Path) -> Fate:
    return Fate.LEFT


def _take_trials(source: Path, target: Path, runner_class: str) -> list[Item]:
    """Pins first: a trial is verified with the pin that is kept, wherever it came from."""
    try:
        names = names_in(source)
    except StoreError as error:
        return [refused("file", source.name, error)]
    chosen = [source / name for name in names if name != PINS]
    if not runner_class:
        found = _take_each("pin", source / PINS, lambda path: take_pin(path, target))
    else:
        stated = {path: stated_of(path) for path in chosen}
        # One that does not say whose it is goes on, and is refused by name.
        chosen = [path for path, each in stated.items() if each.runner_class in (runner_class, "")]
        found = [Item("trial", path.name, Fate.LEFT) for path in stated.keys() - {*chosen}]
        stated_pins = sorted({stated[path].pin_id for path in chosen if PIN_ID.fullmatch(stated[path].pin_id)})
        pins = [path for path in (source / PINS / f"{pin}.json" for pin in stated_pins) if path.exists()]
        found += [taken("pin", path, lambda it: take_pin(it, target)) for path in pins]
    with rehearsal() as rehearse:
        trials = take_trials(chosen, target, rehearse)
    whole = [source / item.name for item in trials if item.fate is not Fate.REFUSED]
    return [*found, *trials, *(item for trial in whole for item in _foreign_in(trial))]


def _foreign_in(trial: Path) -> list[Item]:
    """What lies beside a trial's own files."""
    foreign = set(names_in(trial)) - {MANIFEST, *(f"{table}.parquet" for table in SCHEMAS)}
    return [Item("file", f"{trial.name}/{name}", Fate.REFUSED, NO_SUCH_THING) for name in sorted(foreign)]


def _take_nights(source: Path, target: Path, runner_class: str, *, with_acceptances: bool) -> list[Item]:
    try:
        classes = names_in(source)
    except StoreError as error:
        return [refused("file", source.name, error)]
    found = []
    for name in classes:
        take = partial(take_night, nights_dir=target, with_acceptances=with_acceptances)
        items = _take_each("night", source / name, _leave if runner_class not in ("", name) else take)
        found += [replace(item, name=f"{name}/{item.name}") for item in items if item.kind == "night"]
        found += [item for item in items if item.kind != "night"]
    return found


def _take_each(kind: str, directory: Path, take: Callable[[Path], Fate]) -> list[Item]:
    try:
        names = names_in(directory)
    except StoreError as error:
        return [refused("file", directory.name, error)]
    return [taken(kind, directory / name, take) for name in names]
