"""The DuckDB file: made from trial directories and justifications by `ingest`, read by `query`.

Nothing in the file is original. `ingest` is its only writer, so the file can be deleted and rebuilt with
the same content. One process at a time may write, and nobody may read meanwhile (DuckDB locks the file);
whoever comes second waits up to `wait_s` and then gets a StoreBusyError that names the other process.

The file is written in the storage format of DuckDB 1.0, which every later version reads: see
docs/decisions/0004-duckdb-and-parquet.md.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from redline.errors import StoreBusyError, StoreError, UsageError
from redline.metrics import CATALOGUE
from redline.model import digest
from redline.store.justifications import COLUMNS as JUSTIFICATION_COLUMNS
from redline.store.justifications import justification_row, list_justifications, read_justification
from redline.store.rows import COLUMNS, pin_row, system_row, table_of, trial_rows
from redline.store.table_schemas import SCHEMAS
from redline.store.trials import LoadedTrial, list_trials, load_trial, read_digest

DATABASE_SCHEMA_VERSION = 5
STORAGE_VERSION = "v1.0.0"
WAIT_S = 30.0
_POLL_S = 0.1
_BATCH_TRIAL_COUNT = 100
_REHEARSED = ("request_latency", "repeat_readings", "trial_readings")
_REBUILD = "make it again from the trials, which hold everything: redline db rebuild"

# A process's own connections share one DuckDB instance and its lock does not part them: this one does.
_WRITER = threading.Lock()


@dataclass(frozen=True, slots=True)
class DamagedTrial:
    """A trial directory, or a justification's file, that ingest could not take, and why in one line."""

    path: Path
    problem: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest did: trials added, trials there already, what it could not read, justifications added."""

    added: int
    skipped: int
    damaged: tuple[DamagedTrial, ...]
    justified: int = 0


# --- connections --------------------------------------------------------------------------------------------


@contextmanager
def _connect(path: Path, *, read_only: bool, wait_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that is closed at the end. Raises StoreBusyError after `wait_s`, StoreError if unreadable."""
    deadline = time.monotonic() + wait_s
    connection = _try_connect(path, read_only, wait_s)
    while isinstance(connection, StoreBusyError):
        if time.monotonic() >= deadline:
            raise connection
        time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))
        connection = _try_connect(path, read_only, wait_s)
    try:
        yield connection
    finally:
        connection.close()


def _try_connect(path: Path, read_only: bool, wait_s: float) -> duckdb.DuckDBPyConnection | StoreBusyError:
    # No network and no other file: a query reads this database and nothing else, on every machine alike.
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "enable_external_access": False,
        "storage_compatibility_version": STORAGE_VERSION,
    }
    try:
        return duckdb.connect(str(path.absolute()), read_only=read_only, config=config)
    except duckdb.Error as error:
        if _is_busy(error):
            return _busy(path, error, wait_s)
        raise _unreadable(path, error) from error


def _is_busy(error: duckdb.Error) -> bool:
    """True if another process, or a connection of this one opened the other way, holds the file."""
    text = str(error)
    return "Could not set lock" in text or "different configuration" in text or "file handle conflict" in text


def _busy(path: Path, error: duckdb.Error, wait_s: float) -> StoreBusyError:
    holder = re.search(r"PID (\d+)", str(error))
    return StoreBusyError(
        f"another process holds {path}",
        expected=f"the database to be free within {wait_s:g} s",
        found=f"process {holder[1]} has it open" if holder else "it is open in this process",
        next_step="wait for it to finish, or give more time; a DuckDB shell left open holds the file too",
    )


def _unreadable(path: Path, error: duckdb.Error) -> StoreError:
    return StoreError(f"{path} cannot be used as a database", found=str(error).strip(), next_step=_REBUILD)


# --- ingest -------------------------------------------------------------------------------------------------


def ingest(
    trials_dir: Path, database_path: Path, *, justifications_dir: Path | None = None, wait_s: float = WAIT_S
) -> IngestReport:
    """What was added to the database from a directory of trials; all of it in one transaction, or none.

    Trials already in are skipped, so ingest can be run any number of times, by several processes. Partial
    and invalid trials go in, marked by their status. A damaged trial is reported and leaves no trace.
    Justifications go in from `justifications_dir`, if one is given; it need not exist.

    Raises UsageError if `trials_dir` does not exist, StoreBusyError if another process holds the file longer
    than `wait_s`, StoreError if the file is damaged or was made by another version of Redline.
    """
    if not trials_dir.is_dir():
        raise UsageError(
            f"{trials_dir} is not a directory",
            expected="a directory of trials",
            next_step="name the directory that `redline run` writes its trials to",
        )
    if not _WRITER.acquire(timeout=wait_s):
        raise StoreBusyError(
            f"another thread of this process is writing {database_path}",
            expected=f"the database to be free within {wait_s:g} s",
            next_step="wait for it to finish, or give more time",
        )
    try:
        database_path.parent.mkdir(parents=True, exist_ok=True)
        with _connect(database_path, read_only=False, wait_s=wait_s) as connection:
            connection.begin()
            try:
                _prepare(connection, database_path)
                report = _ingest(connection, trials_dir)
                if justifications_dir is not None:
                    report = _ingest_justifications(connection, justifications_dir, report)
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
            return report
    except duckdb.Error as error:
        raise _unreadable(database_path, error) from error
    except OSError as error:
        raise StoreError(
            f"{database_path} could not be written", found=str(error), next_step="make its directory writable"
        ) from error
    finally:
        _WRITER.release()


def _catalogue_rows() -> list[dict[str, Any]]:
    return [
        {"metric": name, "label": it.label, "unit": it.unit, "better": it.better.value, "definition": it.definition}
        for name, it in CATALOGUE.items()
    ]


def _schema() -> str:
    return resources.files("redline.store").joinpath("schema.sql").read_text(encoding="utf-8")


def _about() -> dict[str, str]:
    return {"schema_version": str(DATABASE_SCHEMA_VERSION), "catalogue": digest(_catalogue_rows())}


def _prepare(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Lay the schema in a new file; refuse one that was made by another version of schema or catalogue."""
    about = _about()
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        connection.execute(_schema())
        _insert(connection, "about", pa.Table.from_pylist([{"key": key, "value": about[key]} for key in about]))
        _insert(connection, "metrics", pa.Table.from_pylist(_catalogue_rows()))
        return
    found = dict(connection.execute("SELECT key, value FROM about").fetchall()) if "about" in tables else {}
    if found != about:
        raise StoreError(
            f"{path} was made by another version of Redline",
            expected=f"tables of version {about['schema_version']}, metric catalogue {about['catalogue']}",
            found=f"version {found.get('schema_version', 'none')}, catalogue {found.get('catalogue', 'none')}",
            next_step=_REBUILD,
        )


def _ingest(connection: duckdb.DuckDBPyConnection, trials_dir: Path) -> IngestReport:
    known: dict[str, str] = dict(connection.execute("SELECT trial_id, digest FROM trials").fetchall())
    seen = {
        "systems": {name for (name,) in connection.execute("SELECT sut_id FROM systems").fetchall()},
        "pins": {name for (name,) in connection.execute("SELECT pin_id FROM pins").fetchall()},
    }
    added = skipped = 0
    damaged: list[DamagedTrial] = []
    batch: list[LoadedTrial] = []
    for path in list_trials(trials_dir):
        try:
            stored = known.get(path.name)
            if stored is None:
                batch.append(load_trial(path))
                added += 1
            elif stored == read_digest(path):
                skipped += 1
            else:
                damaged.append(DamagedTrial(path, "differs from the trial of this id that is in the database"))
        except StoreError as error:
            found = f": {error.found}" if error.found else ""
            damaged.append(DamagedTrial(path, f"{error.problem}{found}"))
        if len(batch) == _BATCH_TRIAL_COUNT:
            _insert_batch(connection, batch, seen)
            batch.clear()
    if batch:
        _insert_batch(connection, batch, seen)
    return IngestReport(added, skipped, tuple(damaged))


def _ingest_justifications(
    connection: duckdb.DuckDBPyConnection, directory: Path, report: IngestReport
) -> IngestReport:
    known = {name for (name,) in connection.execute("SELECT justification_id FROM justifications").fetchall()}
    rows, damaged = [], list(report.damaged)
    for path in list_justifications(directory):
        if path.stem in known:
            continue
        try:
            rows.append(justification_row(read_justification(path)))
        except StoreError as error:
            damaged.append(DamagedTrial(path, f"{error.problem}: {error.found}"))
    if rows:
        _insert(connection, "justifications", pa.Table.from_pylist(rows, JUSTIFICATION_COLUMNS))
    return replace(report, damaged=tuple(damaged), justified=len(rows))


def _insert_batch(
    connection: duckdb.DuckDBPyConnection, batch: Sequence[LoadedTrial], seen: Mapping[str, set[str]]
) -> None:
    for name in SCHEMAS:
        _insert(connection, name, pa.concat_tables([loaded.tables[name] for loaded in batch]))
    rows: dict[str, list[Mapping[str, Any]]] = {name: [] for name in COLUMNS}
    for loaded in batch:
        sut = loaded.trial.sut
        sut_id = sut.sut_id  # once: it hashes the whole lock
        if sut_id not in seen["systems"]:
            seen["systems"].add(sut_id)
            pin_id = sut.pin.pin_id
            rows["systems"].append(system_row(sut, sut_id, pin_id))
            if pin_id not in seen["pins"]:
                seen["pins"].add(pin_id)
                rows["pins"].append(pin_row(sut.pin, pin_id))
        for name, of_trial in trial_rows(loaded, sut_id).items():
            rows[name] += of_trial
    for name, values in rows.items():
        if values:
            _insert(connection, name, table_of(name, values))


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """Append rows whose column names are the table's."""
    connection.register("incoming", rows)
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")  # noqa: S608  # names of schema.sql
    connection.unregister("incoming")


@contextmanager
def rehearsal() -> Iterator[Callable[[Sequence[LoadedTrial]], None]]:
    """A check of trials that came from elsewhere: they go into an empty database in memory, and out again.

    The check raises StoreError. One trial that DuckDB refuses, or whose numbers overflow in a view, would otherwise
    keep every other one out of the database, or out of the answers.
    """
    with duckdb.connect(":memory:", config={"enable_external_access": False}) as connection:
        connection.execute(_schema())

        def check(batch: Sequence[LoadedTrial]) -> None:
            if not batch:
                return
            connection.begin()
            try:
                _insert_batch(connection, batch, {"systems": set(), "pins": set()})
                for view in _REHEARSED:
                    connection.execute(f"CREATE TEMP TABLE seen_{view} AS FROM {view}")
            except Exception as error:  # the values are a stranger's: anything can go wrong with them
                raise StoreError(
                    "it cannot go into the database",
                    expected="values that Redline writes",
                    found=str(error).strip().partition("\n")[0],
                    next_step="look at it where it lies",
                ) from error
            finally:
                connection.rollback()

        yield check


# --- query --------------------------------------------------------------------------------------------------


def query(
    database_path: Path, sql: str, parameters: Sequence[object] = (), *, wait_s: float = WAIT_S
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """(column names, rows) of an SQL statement; it can read this database and change or reach nothing.

    Raises UsageError with DuckDB's own message for SQL it refuses or a file that is not there, StoreBusyError
    if another process writes longer than `wait_s`, StoreError if the file is damaged.
    """
    if not database_path.is_file():
        raise UsageError(
            f"there is no database at {database_path}",
            expected="a file made by `redline db`",
            next_step="run `redline db rebuild` first, or name another file",
        )
    with _connect(database_path, read_only=True, wait_s=wait_s) as connection:
        try:
            connection.execute(sql, parameters)
            columns = tuple(column[0] for column in connection.description or ())
            return columns, connection.fetchall() if columns else []
        except (duckdb.FatalException, duckdb.InternalException, duckdb.IOException) as error:
            raise _unreadable(database_path, error) from error
        except duckdb.Error as error:
            raise UsageError(
                "the query was refused",
                found=str(error).strip(),
                next_step="`SHOW TABLES` lists the tables and views, `DESCRIBE trials` the columns of one",
            ) from error
