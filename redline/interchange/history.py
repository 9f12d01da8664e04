"""A recorded history: readings of past builds in one table, one row each, as CSV or Parquet.

    build,date,runner,scenario,metric,reading,deployment,repeat,source,definition
    0.31.0,2026-11-20T02:00:00+00:00,h200-a,chat-8k,ttft_s_median,0.0512,night-20,0,requests,

`metric` is an id of `redline.metrics.CATALOGUE` and `reading` is in its base unit. `deployment` names one fresh
start of the server, `repeat` counts the windows on it from 0. The last two columns may be missing: `source`
says what a reading was computed from, `definition` how it differs from the catalogue's.
"""

from __future__ import annotations

import csv
import enum
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from redline.errors import ContentError, UsageError
from redline.interchange.whole_file import read_whole, write_whole
from redline.metrics import CATALOGUE

REPEAT_MAX = 1_000_000
_SUFFIXES = (".csv", ".parquet")


class Source(enum.StrEnum):
    """What a reading was computed from."""

    REQUESTS = "requests"
    SUMMARY = "summary"
    GIVEN = "given"


class CellError(ValueError):
    """One cell of a history is wrong: which column, what was expected and what was found."""

    def __init__(self, column: str, expected: str, found: object) -> None:
        self.column, self.expected, self.found = column, expected, repr(found)[:200]
        super().__init__(f"{column}: expected {expected}, found {self.found}")


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One reading of one repeat on one deployment of one build. Raises CellError for an impossible one.

    `date` is ISO 8601; `reading` is above 0 in the metric's base unit, or in [0, 1] for a share.
    """

    build: str
    date: str
    runner: str
    scenario: str
    metric: str
    reading: float
    deployment: str
    repeat: int
    source: Source = Source.GIVEN
    definition: str = ""

    def __post_init__(self) -> None:
        for column in ("build", "date", "runner", "scenario", "deployment"):
            _require_text(column, getattr(self, column))
        _require_unicode("definition", self.definition)
        try:
            datetime.fromisoformat(self.date)
        except ValueError:
            raise CellError("date", "an ISO 8601 date such as 2026-11-21T10:00:00Z", self.date) from None
        if self.metric not in CATALOGUE:
            raise CellError("metric", f"one of {', '.join(CATALOGUE)}", self.metric)
        low, high, words = _range_of(self.metric)
        if not (math.isfinite(self.reading) and low <= self.reading <= high):
            raise CellError("reading", words, self.reading)
        if not 0 <= self.repeat <= REPEAT_MAX:
            raise CellError("repeat", f"a whole number from 0 to {REPEAT_MAX}", self.repeat)

    @property
    def key(self) -> tuple[str, ...]:
        """What two rows may not share: everything but the reading, its source and its definition."""
        return (
            self.build,
            self.date,
            self.runner,
            self.scenario,
            self.metric,
            self.deployment,
            str(self.repeat),
        )


def _range_of(metric: str) -> tuple[float, float, str]:
    """(lowest, highest, in words): shares may be 0, everything else has a logarithm taken of it."""
    if CATALOGUE[metric].unit == "1":
        return 0.0, 1.0, "a share in [0, 1]"
    return math.ulp(0.0), math.inf, f"a finite number above 0, in {CATALOGUE[metric].unit}"


def _require_text(column: str, value: str) -> None:
    if not value.strip():
        raise CellError(column, "text", value)
    _require_unicode(column, value)


def _require_unicode(column: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CellError(column, "text that is valid Unicode", value) from None


COLUMNS = tuple(field.name for field in fields(HistoryRow))
REQUIRED_COLUMNS = COLUMNS[:-2]
_NUMBERS = {"reading": pa.float64(), "repeat": pa.int64()}
SCHEMA = pa.schema([pa.field(name, _NUMBERS.get(name, pa.string()), nullable=False) for name in COLUMNS])
"""The Arrow schema of a history's Parquet file."""


# --- writing ------------------------------------------------------------------------------------------------


def write_history(path: Path, rows: Sequence[HistoryRow]) -> None:
    """Write a history, CSV or Parquet by the suffix of `path`, whole or not at all.

    Raises UsageError for another suffix, for no rows or for rows that say the same thing twice, and
    StoreError if the disk refuses.
    """
    _require_suffix(path)
    if not rows:
        raise UsageError(
            f"{path}: there is nothing to write",
            expected="at least one reading",
            next_step="look at why no file could be imported",
        )
    if twice := repeated(rows):
        first, second = twice
        raise UsageError(
            f"{path}: two readings of the same thing",
            expected="one reading per build, date, runner, scenario, metric, deployment and repeat",
            found=f"rows {first + 1} and {second + 1}: {', '.join(rows[first].key)}",
            next_step="leave out the file that was given twice, or name its deployment",
        )
    write_whole(path, to_csv(rows).encode() if path.suffix == ".csv" else to_parquet(rows))


def to_csv(rows: Iterable[HistoryRow]) -> str:
    """The rows as CSV with a header and RFC 4180's line ends; floats as their shortest exact text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")  # with a bare LF the writer would leave a CR in a cell unquoted
    writer.writerow(COLUMNS)
    writer.writerows(astuple(row) for row in rows)
    return text.getvalue()


def to_parquet(rows: Iterable[HistoryRow]) -> bytes:
    """The rows as a Parquet file with `SCHEMA`."""
    columns = zip(*(astuple(row) for row in rows), strict=True)
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, SCHEMA, strict=False)]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA) if arrays else SCHEMA.empty_table(), sink)
    return sink.getvalue()


def repeated(rows: Sequence[HistoryRow]) -> tuple[int, int] | None:
    """The positions of the first two rows that have one key, or None."""
    seen: dict[tuple[str, ...], int] = {}
    for position, row in enumerate(rows):
        if (first := seen.setdefault(row.key, position)) != position:
            return first, position
    return None


# --- reading ------------------------------------------------------------------------------------------------


def read_history(path: Path) -> tuple[HistoryRow, ...]:
    """The rows of a history, in the order of the file.

    Raises UsageError for another suffix and ContentError, naming file, row and column, for what is no history.
    """
    _require_suffix(path)
    content = read_whole(path)
    named_rows = _csv_rows(path, content) if path.suffix == ".csv" else _parquet_rows(path, content)
    rows: list[HistoryRow] = []
    places: list[str] = []
    for place, cells in named_rows:
        try:
            rows.append(_row(cells))
        except CellError as error:
            raise ContentError(
                f"{path}: {place}, column {error.column}", expected=error.expected, found=error.found
            ) from error
        places.append(place)
    if not rows:
        raise ContentError(f"{path}: no rows", expected="at least one reading", found="a header and nothing below it")
    if twice := repeated(rows):
        first, second = (places[position] for position in twice)
        raise ContentError(
            f"{path}: two readings of the same thing",
            expected="one reading per build, date, runner, scenario, metric, deployment and repeat",
            found=f"{first} and {second}",
            next_step="remove one, or give each its own deployment or repeat",
        )
    return tuple(rows)


def _require_suffix(path: Path) -> None:
    if path.suffix not in _SUFFIXES:
        raise UsageError(
            f"{path}: a history is a CSV or a Parquet file",
            expected="a name that ends in .csv or .parquet",
            found=path.suffix or "no suffix",
        )


def _csv_rows(path: Path, content: bytes) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(place, cells by column) of each row; `place` is the line that the row ends on."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContentError(f"{path}: not UTF-8 text", found=str(error)) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        _require_columns(path, header)
        for cells in reader:
            if len(cells) != len(header):
                raise ContentError(
                    f"{path}: line {reader.line_num}",
                    expected=f"{len(header)} cells, as in the header",
                    found=f"{len(cells)} cells",
                )
            yield f"line {reader.line_num}", dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise ContentError(f"{path}: line {reader.line_num}", expected="CSV", found=str(error)) from error


def _parquet_rows(path: Path, content: bytes) -> Iterator[tuple[str, Mapping[str, object]]]:
    try:
        table = pq.read_table(pa.BufferReader(content), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ContentError(f"{path}: cannot be read", expected="a Parquet file", found=str(error)) from error
    _require_columns(path, table.column_names)
    kept = table.select([name for name in COLUMNS if name in table.column_names])
    try:
        records = kept.to_pylist()
    except (pa.ArrowException, ValueError) as error:
        raise ContentError(f"{path}: cannot be read", expected="dates and numbers", found=str(error)) from error
    for position, cells in enumerate(records):
        yield f"row {position + 1}", cells


def _require_columns(path: Path, found: Sequence[str]) -> None:
    if missing := [name for name in REQUIRED_COLUMNS if name not in found]:
        raise ContentError(
            f"{path}: no column {', '.join(missing)}",
            expected=f"the columns {', '.join(REQUIRED_COLUMNS)}",
            found=", ".join(map(str, found)) or "no header",
        )
    if len(set(found)) != len(found):
        raise ContentError(f"{path}: a column is named twice", found=", ".join(found))


def _row(cells: Mapping[str, object]) -> HistoryRow:
    """The row of these cells, text or typed. Raises CellError."""
    source = _text(cells, "source") or Source.GIVEN
    if source not in set(Source):
        raise CellError("source", f"one of {', '.join(Source)}", source)
    return HistoryRow(
        build=_text(cells, "build"),
        date=_text(cells, "date"),
        runner=_text(cells, "runner"),
        scenario=_text(cells, "scenario"),
        metric=_text(cells, "metric"),
        reading=_number(cells, "reading"),
        deployment=_text(cells, "deployment"),
        repeat=_count(cells, "repeat"),
        source=Source(source),
        definition=_text(cells, "definition"),
    )


def _text(cells: Mapping[str, object], column: str) -> str:
    value = cells.get(column)
    match value:
        case None:
            return ""
        case str():
            return value
        case date():  # a datetime is one too
            return value.isoformat()
        case int() | float():
            return str(value)
        case _:
            raise CellError(column, "text", value)


def _number(cells: Mapping[str, object], column: str) -> float:
    value = cells.get(column)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise CellError(column, "a number", value)


def _count(cells: Mapping[str, object], column: str) -> int:
    value = _number(cells, column)
    if not value.is_integer():
        raise CellError(column, "a whole number", cells.get(column))
    return int(value)
