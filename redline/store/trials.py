"""One immutable directory per trial, written whole or not at all.

    <directory>/<trial_id>/manifest.json              every scalar fact, and the SHA-256 of the tables
    <directory>/<trial_id>/requests.parquet           one row per repeat and request
    <directory>/<trial_id>/repeats.parquet
    <directory>/<trial_id>/server_counters.parquet
    <directory>/<trial_id>/telemetry.parquet          one row per sample; missing in trials from before there was any
    <directory>/pins/<pin_id>.json                    each distinct build pin once

Pins stand inside `<directory>`, so that copying, uploading or archiving that one directory takes everything
a trial needs. Apart from the trials they would be forgotten; inside each trial, a lock of 350 KB of hashes,
which do not compress, would outweigh the measurements.

A trial appears by one rename. What a crash leaves is a `.writing-...` directory, which readers ignore and
the next writer on the same host removes once the process that owned it is gone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redline.errors import StoreError
from redline.model import BuildPin, Trial
from redline.store.encoding import (
    SCHEMA_VERSION,
    EncodedTrial,
    decode,
    decode_pin,
    digest_of,
    encode,
    encode_pin,
)
from redline.store.table_schemas import ADDED, SCHEMAS

MANIFEST = "manifest.json"
PINS = "pins"
_TEMPORARY = ".writing-"
_DAMAGED_NEXT_STEP = "copy the trial again from where it was measured, or move it out of the trials directory"
_DECODE_ERRORS = (ValueError, KeyError, TypeError, IndexError, AttributeError, pa.ArrowException)


@dataclass(frozen=True, slots=True)
class LoadedTrial:
    """A trial with the tables it came from; `digest` is its manifest's, one per content."""

    trial: Trial
    digest: str
    tables: Mapping[str, pa.Table]


# --- writing ------------------------------------------------------------------------------------------------


def write_trial(directory: Path, trial: Trial) -> Path:
    """The directory the trial now stands in, on disk for good: `<directory>/<trial_id>`.

    Writing a trial again is fine as long as it says the same. Raises StoreError if it says something else,
    if it cannot be stored (see `encode`) or if the disk refuses.
    """
    try:
        encoded = encode(trial)
    except (ValueError, OverflowError, TypeError, pa.ArrowException) as error:
        raise StoreError(
            f"trial {trial.trial_id!r} cannot be stored",
            found=str(error),
            next_step="report this as a defect of Redline: it made a trial that it cannot keep",
        ) from error
    if trial.trial_id == PINS:
        raise StoreError(f"a trial cannot be called {PINS!r}", next_step="choose another trial id")
    target = directory / trial.trial_id
    try:
        directory.mkdir(parents=True, exist_ok=True)
        sweep(directory)
        if not target.exists():
            _publish(directory, target, encoded, trial.sut.pin)
            return target
    except OSError as error:
        raise StoreError(
            f"trial {trial.trial_id} could not be written to {directory}",
            found=str(error),
            next_step="free space on that disk or make it writable, then measure again",
        ) from error
    if encode(read_trial(target)).canonical() != encoded.canonical():
        raise StoreError(
            f"{target} already holds a different trial",
            expected="a new trial id, or the same content",
            next_step="a stored trial never changes: give the new one an id of its own",
        )
    return target


def _publish(directory: Path, target: Path, encoded: EncodedTrial, pin: BuildPin) -> None:
    """Write beside the target and rename. A target that appeared meanwhile is left for the caller to compare."""
    with staging(directory) as temporary:
        files = {}
        for name, table in encoded.tables.items():
            content = _parquet(table)
            write_synced(temporary / f"{name}.parquet", content)
            files[f"{name}.parquet"] = hashlib.sha256(content).hexdigest()
        manifest = dict(encoded.manifest) | {"files": files}
        manifest["digest"] = digest_of(manifest)
        write_synced(temporary / MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
        keep_pin(directory / PINS, pin, temporary)
        sync_directory(temporary)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            if encode(read_trial(target)).canonical() != encoded.canonical():
                raise StoreError(
                    f"{target} was written by another process meanwhile, with different content",
                    next_step="give every trial an id of its own",
                ) from None
        sync_directory(directory)


@contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """A folder in `directory` that no reader looks into, gone at the end unless it was renamed.

    One that a killed process leaves behind is removed by the next writer on this host. Raises OSError.
    """
    temporary = directory / f"{_owner_prefix()}{os.getpid()}-{_process_start(os.getpid())}-{secrets.token_hex(4)}"
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def keep_pin(pins: Path, pin: BuildPin, temporary: Path) -> bool:
    """True if the pin was stored, False if it was there. A damaged one is replaced: its name says its content."""
    path = pins / f"{pin.pin_id}.json"
    content = encode_pin(pin).encode()
    if path.exists() and path.read_bytes() == content:
        return False
    pins.mkdir(exist_ok=True)
    draft = temporary / "pin"
    write_synced(draft, content)
    draft.replace(path)
    sync_directory(pins)
    return True


def write_synced(path: Path, content: bytes) -> None:
    """A new file with this content, on the disk for good. Raises OSError."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; without it a rename may be lost with the power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- what a crash left --------------------------------------------------------------------------------------


def sweep(directory: Path) -> None:
    """Remove temporary directories whose owner, a process of this host, is gone."""
    prefix = _owner_prefix()
    for path in directory.glob(f"{_TEMPORARY}*"):
        if not path.name.startswith(prefix):
            continue  # another host or container writes here too, and its process ids mean nothing to us
        pid, _, rest = path.name.removeprefix(prefix).partition("-")
        start = rest.partition("-")[0]
        if pid.isdecimal() and _process_start(int(pid)) != start:
            shutil.rmtree(path, ignore_errors=True)


def _owner_prefix() -> str:
    """`.writing-<host>-<process namespace>-`: within it a process id means one process."""
    host = re.sub(r"[^A-Za-z0-9.]", "", socket.gethostname())[:60]
    try:
        namespace = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        namespace = "0"
    return f"{_TEMPORARY}{host}-{namespace}-"


def _process_start(pid: int) -> str:
    """The process's start time in clock ticks after boot, `gone` if there is no such process.

    The start time tells the owner from a later process with the same id. Source: proc_pid_stat(5), field 22.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except OSError:
        return "0"
    return "0"  # alive, on a system without /proc


# --- reading ------------------------------------------------------------------------------------------------


def list_trials(directory: Path) -> tuple[Path, ...]:
    """The trial directories in `directory`, sorted by name; none if it does not exist yet.

    Every directory but `pins` and hidden ones counts, readable or not: a damaged trial is named, not skipped.
    """
    if not directory.is_dir():
        return ()
    found = (path for path in directory.iterdir() if path.is_dir())
    return tuple(sorted(path for path in found if path.name != PINS and not path.name.startswith(".")))


def read_trial(path: Path) -> Trial:
    """The trial in a directory made by `write_trial`, exactly as it was given.

    Raises StoreError, naming the file and the next step, if anything in it is missing, damaged or edited.
    """
    return load_trial(path).trial


def read_digest(path: Path) -> str:
    """The digest of a trial's manifest, which covers all its content. Raises StoreError as `read_trial`."""
    return str(_read_manifest(path)["digest"])


def check_files(path: Path) -> str:
    """A trial's digest, if its files are those that were written: much cheaper than to read it.

    Raises StoreError as `read_trial` for a manifest or a table that is missing, damaged or edited, for a pin that is
    not there, and for a file that is none of a trial's. What the pin says is not looked at.
    """
    manifest = _read_manifest(path)
    if manifest.get("trial_id") != path.name:
        raise _damaged(path, expected="a directory called like its trial", found=path.name)
    for name in SCHEMAS:
        _table_bytes(path / f"{name}.parquet", manifest)
    pin = manifest["sut"].get("pin_id") if isinstance(manifest.get("sut"), dict) else None
    pins = path.parent / PINS
    if not pins.is_dir() or f"{pin}.json" not in {each.name for each in pins.iterdir()}:
        raise _damaged(path, expected="its build pin beside it", found="none")
    foreign = {each.name for each in path.iterdir()} - {MANIFEST, *(f"{name}.parquet" for name in SCHEMAS)}
    if foreign:
        raise _damaged(path, expected="a trial's files", found=f"{len(foreign)} more")
    return str(manifest["digest"])


def load_trial(path: Path) -> LoadedTrial:
    """The trial with its tables, for ingest. Raises StoreError as `read_trial`."""
    manifest = _read_manifest(path)
    tables = {name: _read_table(path / f"{name}.parquet", manifest) for name in SCHEMAS}
    pin = _read_pin(path, manifest)
    try:
        trial = decode(manifest, tables, pin)
    except _DECODE_ERRORS as error:
        raise _damaged(path, found=f"{type(error).__name__}: {error}") from error
    if trial.trial_id != path.name:
        raise _damaged(path, expected=f"a directory called {trial.trial_id}", found=path.name)
    return LoadedTrial(trial, str(manifest["digest"]), tables)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, found=error.strerror or str(error)) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    return manifest_of(_read_bytes(path / MANIFEST), path / MANIFEST)


def manifest_of(content: bytes, file: Path) -> dict[str, Any]:
    """A manifest from its text, verified; `file`: what errors call it. Raises StoreError as `read_trial`."""
    try:
        manifest = json.loads(content)
        version, stated = manifest["schema_version"], manifest["digest"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(file, expected="the JSON object Redline wrote", found=str(error)) from error
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{file} was written by another version of Redline",
            expected=f"schema_version {SCHEMA_VERSION}",
            found=f"schema_version {version!r}",
            next_step="read it with the version of Redline that measured it, or move it out of the trials directory",
        )
    if (found := digest_of(manifest)) != stated:
        raise _damaged(file, expected=f"content with digest {stated}", found=f"digest {found}: damaged or edited")
    return dict(manifest)


def _read_table(file: Path, manifest: Mapping[str, Any]) -> pa.Table:
    content = _table_bytes(file, manifest)
    if content is None:
        return SCHEMAS[file.stem].empty_table()
    try:
        # One thread: trials are small, and a pool of threads costs more than it saves.
        return pq.read_table(pa.BufferReader(content), use_threads=False)
    except (*_DECODE_ERRORS, OSError) as error:
        raise _damaged(file, found=f"{type(error).__name__}: {error}") from error


def _table_bytes(file: Path, manifest: Mapping[str, Any]) -> bytes | None:
    """A table's file, as the manifest states it; None for one that trials of that time did not have."""
    if file.stem in ADDED and _lacks(manifest, file.name):
        return None
    content = _read_bytes(file)
    try:
        stated = manifest["files"][file.name]
    except _DECODE_ERRORS as error:
        raise _damaged(file, found=f"{type(error).__name__}: {error}") from error
    if (found := hashlib.sha256(content).hexdigest()) != stated:
        raise _damaged(file, expected=f"SHA-256 {stated}", found=f"SHA-256 {found}, {len(content)} bytes")
    return content


def _lacks(manifest: Mapping[str, Any], name: str) -> bool:
    """True if the manifest, which has its own digest, was written without this file."""
    files = manifest.get("files")
    return isinstance(files, dict) and name not in files


def _read_pin(path: Path, manifest: Mapping[str, Any]) -> BuildPin:
    try:
        pin_id, spec = manifest["sut"]["pin_id"], manifest["sut"]["spec"]
    except (KeyError, TypeError) as error:
        raise _damaged(path / MANIFEST, found=f"no pin: {error}") from error
    file = path.parent / PINS / f"{pin_id}.json"
    try:
        return decode_pin(_read_bytes(file).decode(), pin_id=pin_id, spec=spec)
    except _DECODE_ERRORS as error:
        raise _damaged(file, expected=f"the build pin {pin_id}", found=str(error)) from error


def _damaged(path: Path, *, expected: str = "", found: str) -> StoreError:
    return StoreError(
        f"{path} cannot be read", expected=expected or "a file Redline wrote", found=found, next_step=_DAMAGED_NEXT_STEP
    )
