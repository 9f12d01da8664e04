"""One thing of another machine's results at a time, taken into a directory of this one: whole, verified, once.

The bytes that are verified are those that are kept: each thing is copied first, checked where it lies, and gets its
name by one rename or link. What is there already and says the same is left alone, what says something else is refused.
"""

from __future__ import annotations

import enum
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from redline.errors import StoreError
from redline.model import BuildKind, BuildPin, LevelKind, require
from redline.store.encoding import TRIAL_ID, decode_pin, encode
from redline.store.justifications import decode_justification, read_justification, write_justification
from redline.store.nights import decode_night, write_night
from redline.store.table_schemas import SCHEMAS
from redline.store.trials import (
    MANIFEST,
    PINS,
    LoadedTrial,
    keep_pin,
    load_trial,
    manifest_of,
    read_digest,
    read_trial,
    staging,
    sync_directory,
    write_synced,
)
from redline.store.untrusted_file import names_in, read_bounded
from redline.whole_file import publish, temporary_in

MANIFEST_BYTES_MAX = 20_000_000
TABLE_BYTES_MAX = 500_000_000
TABLE_VALUES_MAX = 100_000_000
"""Values of all columns of a table, as its footer states them: what it takes in memory, whatever it takes on disk."""
SMALL_BYTES_MAX = 20_000_000
"""Of a pin, a night, a report's file or a justification."""

BATCH_TRIAL_COUNT = 50
BATCH_BYTES_MAX = 50_000_000
PIN_ID = re.compile(r"[0-9a-f]{16}")
REPORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.(?:json|md)")

Rehearse: TypeAlias = Callable[[Sequence[LoadedTrial]], None]
CheckReport: TypeAlias = Callable[[Path, str], None]
"""(file, its name): raises StoreError if a report's file does not hold what its name says."""


class Fate(enum.StrEnum):
    """What became of a thing."""

    TAKEN = "taken"
    THERE = "there already"
    LEFT = "left"  # of another runner class than the one that was asked for
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing of a folder and what became of it. `name`: of its file or directory; `problem`: why it was refused."""

    kind: str
    name: str
    fate: Fate
    problem: str = ""


def refused(kind: str, name: str, error: StoreError) -> Item:
    """The item of a thing that was refused."""
    found = f": {error.found}" if error.found and error.found not in error.problem else ""
    return Item(kind, name, Fate.REFUSED, f"{error.problem}{found}")


def taken(kind: str, path: Path, take: Callable[[Path], Fate]) -> Item:
    """The item of a thing that is taken by `take`, which may raise StoreError or OSError."""
    try:
        return Item(kind, path.name, take(path))
    except StoreError as error:
        return refused(kind, path.name, error)
    except OSError as error:
        return Item(kind, path.name, Fate.REFUSED, f"it could not be copied: {error}")


# --- trials ---------------------------------------------------------------------------------------------------


def take_trials(sources: Sequence[Path], trials_dir: Path, rehearse: Rehearse) -> list[Item]:
    """What became of the trials in directories elsewhere; their pins must be in `trials_dir` already.

    One is refused if it is damaged, if another trial of its name is here, or if the database would not take it.
    """
    return [item for batch in _batches(sources) for item in _take_batch(batch, trials_dir, rehearse)]


def _batches(sources: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """The trials in groups that fit in memory together."""
    batch: list[Path] = []
    size = 0
    for source in sources:
        found = sum(path.lstat().st_size for path in source.glob("*.parquet")) if not source.is_symlink() else 0
        if batch and (len(batch) == BATCH_TRIAL_COUNT or size + found > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(source)
        size += found
    if batch:
        yield batch


def _take_batch(sources: Sequence[Path], trials_dir: Path, rehearse: Rehearse) -> list[Item]:
    staged: dict[Path, LoadedTrial] = {}

    def stage(source: Path) -> Fate:
        loaded = _staged(source, folder, trials_dir)
        if loaded is None:
            return Fate.THERE
        staged[source] = loaded
        return Fate.TAKEN

    def keep(source: Path) -> Fate:
        if not together:
            rehearse([staged[source]])
        return _kept(folder / source.name, staged[source], trials_dir)

    with staging(trials_dir) as folder:
        items = {source: taken("trial", source, stage) for source in sources}
        together = _goes(rehearse, list(staged.values()))
        items |= {source: taken("trial", source, keep) for source in staged}
    # Where it was checked is nobody's business.
    return [replace(item, problem=item.problem.replace(f"{folder}/", "")) for item in items.values()]


def _goes(rehearse: Rehearse, loaded: Sequence[LoadedTrial]) -> bool:
    """True if the database takes these together, which is ten times faster than one by one."""
    try:
        rehearse(loaded)
    except StoreError:
        return False
    return True


def _staged(source: Path, folder: Path, trials_dir: Path) -> LoadedTrial | None:
    """The trial, copied into `folder` and verified there; None if it is in `trials_dir` already. Raises StoreError."""
    name, names = source.name, names_in(source)
    if TRIAL_ID.fullmatch(name) is None or name == PINS:
        raise StoreError("a trial's directory is called like the trial", expected=TRIAL_ID.pattern, found=ascii(name))
    copy, target = folder / name, trials_dir / name
    manifest = read_bounded(source / MANIFEST, MANIFEST_BYTES_MAX)
    if target.exists() and manifest_of(manifest, copy / MANIFEST)["digest"] == read_digest(target):
        return None
    copy.mkdir()
    write_synced(copy / MANIFEST, manifest)
    for table in SCHEMAS:
        if f"{table}.parquet" in names:
            write_synced(copy / f"{table}.parquet", _table(source / f"{table}.parquet"))
    _stage_pin(copy, trials_dir)
    loaded = load_trial(copy)
    try:
        encode(loaded.trial)
    except (ValueError, OverflowError, TypeError, AttributeError, pa.ArrowException) as error:
        raise StoreError("it says what no trial says", found=str(error).partition("\n")[0]) from error
    return loaded


def _kept(copy: Path, loaded: LoadedTrial, trials_dir: Path) -> Fate:
    """Give a staged trial its name, unless it is there. Raises StoreError if another one is."""
    target = trials_dir / copy.name
    if target.exists():
        if encode(read_trial(target)).canonical() == encode(loaded.trial).canonical():
            return Fate.THERE
        raise StoreError("another trial of this name is here, with other content", found=str(target))
    sync_directory(copy)
    copy.rename(target)
    sync_directory(trials_dir)
    return Fate.TAKEN


def _table(path: Path) -> bytes:
    """A table's file, if what it says of itself is bounded. Raises StoreError."""
    content = read_bounded(path, TABLE_BYTES_MAX)
    try:
        footer = pq.read_metadata(pa.BufferReader(content))
        groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
        count = sum(group.column(index).num_values for group in groups for index in range(group.num_columns))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"{path.name} is damaged", found=str(error).partition("\n")[0]) from error
    if count > TABLE_VALUES_MAX:
        raise StoreError(
            f"{path.name} is too large", expected=f"at most {TABLE_VALUES_MAX:,} values", found=f"{count:,} values"
        )
    return content


def _stage_pin(copy: Path, trials_dir: Path) -> None:
    """Lay the trial's pin where `load_trial` looks for it. Raises StoreError."""
    manifest = json_object((copy / MANIFEST).read_bytes(), MANIFEST)
    sut = manifest.get("sut")
    pin_id = sut.get("pin_id") if isinstance(sut, dict) else None
    if not isinstance(pin_id, str) or PIN_ID.fullmatch(pin_id) is None:
        raise StoreError("its build pin has no id", expected=PIN_ID.pattern, found=ascii(pin_id))
    pin = trials_dir / PINS / f"{pin_id}.json"
    if pin.is_file():
        staged = copy.parent / PINS
        staged.mkdir(exist_ok=True)
        (staged / pin.name).write_bytes(pin.read_bytes())


@dataclass(frozen=True, slots=True)
class Stated:
    """What a trial's manifest states, unverified; empty where it cannot be read."""

    run_id: str = ""
    pin_id: str = ""
    runner_class: str = ""


def stated_of(trial_dir: Path) -> Stated:
    """Of which run, build pin and runner class a trial says that it is. Raises nothing."""
    try:
        manifest = json_object(read_bounded(trial_dir / MANIFEST, MANIFEST_BYTES_MAX), MANIFEST)
    except StoreError:
        return Stated()
    sut = manifest.get("sut")
    pin_id = str(sut.get("pin_id", "")) if isinstance(sut, dict) else ""
    return Stated(str(manifest.get("run_id", "")), pin_id, str(manifest.get("runner_class", "")))


# --- the small files ------------------------------------------------------------------------------------------


def take_pin(source: Path, trials_dir: Path) -> Fate:
    """What became of a build pin's file. Raises StoreError if its name is not the identity of its content."""
    pin = check_pin(read_bounded(source, SMALL_BYTES_MAX), source.stem)
    with staging(trials_dir) as folder:
        return Fate.TAKEN if keep_pin(trials_dir / PINS, pin, folder) else Fate.THERE


def check_pin(content: bytes, pin_id: str) -> BuildPin:
    """The build pin of a file called by `pin_id`. Raises StoreError if that is not the identity of its content."""
    try:
        return _pin(content.decode(), pin_id)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"it is not the build pin {pin_id!a}", found=str(error).partition("\n")[0]) from error


def _pin(text: str, pin_id: str) -> BuildPin:
    require(PIN_ID.fullmatch(pin_id) is not None, "a pin's file is called by 16 hex digits")
    pin = decode_pin(text, pin_id=pin_id, spec="")
    strings = (pin.distribution, pin.version, pin.platform, pin.python_version, pin.lock, pin.commit)
    optional = (pin.url, pin.wheel_sha256)
    require(all(isinstance(each, str) for each in strings), "a pin is made of text")
    require(all(each is None or isinstance(each, str) for each in optional), "a pin is made of text")
    require(isinstance(pin.kind, BuildKind), "kind must be known")
    return pin


def take_night(source: Path, nights_dir: Path, *, with_acceptances: bool = True) -> Fate:
    """What became of a night's file, `<runner class>/<run id>.json`. Raises StoreError if it says something else.

    `with_acceptances`: False where only a measurement may come from: that a level is right is a person's word.
    """
    runner_class = source.parent.name
    try:
        require(TRIAL_ID.fullmatch(runner_class) is not None, "a runner class's folder is called like the class")
        require(TRIAL_ID.fullmatch(source.stem) is not None, "a night's file is called like the run")
        night = decode_night(read_bounded(source, SMALL_BYTES_MAX), source.stem)
        require(night.runner_class == runner_class, f"it is of runner class {night.runner_class!r}")
        finite = all(abs(reading.value) < float("inf") for reading in night.readings)
        require(finite, "a reading is not finite")
        accepts = any(change.kind is LevelKind.ACCEPTED for change in night.changes)
        require(with_acceptances or not accepts, "a leg accepts no level: only a person does, by the workflow Accept")
    except (ValueError, RecursionError) as error:
        raise StoreError("it is no night", found=_first(error)) from error
    target = nights_dir / runner_class / source.name
    try:
        write_night(nights_dir, night)
    except StoreError as error:
        if not isinstance(error.__cause__, FileExistsError):
            raise
    else:
        return Fate.TAKEN
    try:
        same = decode_night(target.read_bytes(), source.stem) == night
    except (OSError, ValueError) as error:
        raise StoreError(
            "the night of this name here is damaged", found=str(target), next_step="move it away, and merge again"
        ) from error
    if not same:
        raise StoreError("another night of this name is here, with other content", found=str(target))
    return Fate.THERE


def take_justification(source: Path, directory: Path) -> Fate:
    """What became of a justification's file. Raises StoreError if its name is not the identity of its content."""
    try:
        found = decode_justification(read_bounded(source, SMALL_BYTES_MAX), source.stem)
    except (ValueError, RecursionError) as error:
        raise StoreError("it is no justification", found=_first(error)) from error
    target = directory / source.name
    if target.exists():
        try:
            read_justification(target)
        except StoreError:
            pass  # ours is damaged: it is mended below
        else:
            return Fate.THERE
    write_justification(directory, found)
    return Fate.TAKEN


def take_report(source: Path, reports_dir: Path, check: CheckReport) -> Fate:
    """What became of one file of a report. Raises StoreError if it is none, or if another one of its name is here."""
    if REPORT_NAME.fullmatch(source.name) is None:
        raise StoreError("it is no file of a report", expected=REPORT_NAME.pattern, found=ascii(source.name))
    content = read_bounded(source, SMALL_BYTES_MAX)
    target = reports_dir / source.name
    if target.suffix == ".json":
        json_object(content, source.name)  # one that is no JSON object would stop whoever reads all of them
    if target.exists():
        if target.is_file() and target.read_bytes() == content:
            return Fate.THERE
        raise StoreError("another file of this name is here, with other content", found=str(target))
    with temporary_in(reports_dir) as temporary:
        temporary.write_bytes(content)
        check(temporary, source.name)
        try:
            publish(temporary, target, replace=False)
        except FileExistsError as error:
            raise StoreError("another process wrote this file meanwhile", found=str(target)) from error
    return Fate.TAKEN


def json_object(content: bytes, name: str) -> dict[str, Any]:
    """The object of a JSON text called `name`. Raises StoreError if it is something else."""
    try:
        value = json.load(io.BytesIO(content))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{name} is not JSON", found=str(error).partition("\n")[0]) from error
    if not isinstance(value, dict):
        raise StoreError(f"{name} is not a JSON object", found=type(value).__name__)
    return value


def _first(error: Exception) -> str:
    """The first thing that is wrong, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    return str(error).partition("\n")[0]
