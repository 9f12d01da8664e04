"""Rows of a file as they stand in it: JSON, JSON lines, Parquet or CSV. Never a pickle, which may run any program."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redline.datasets.fields import Row
from redline.errors import ContentError

PARQUET_ROWS_AT_ONCE = 256
CSV_BLOCK_BYTES = 1 << 27
PICKLES = frozenset({".pkl", ".pickle"})
GZIP_MAGIC, PARQUET_MAGIC = b"\x1f\x8b", b"PAR1"


def rows_of(path: Path) -> Iterator[Row]:
    """Every row, in the order of the file.

    Raises ContentError if it is a pickle, of another form, empty, truncated or unreadable; it names file and row.
    """
    _refuse_pickle(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ContentError(
            f"{path}: not a form that can be read",
            expected=f"a file that ends in {', '.join(READERS)}",
            found=path.name,
            next_step="convert it, for instance with pandas: to_parquet",
        )
    try:
        size = path.stat().st_size
        if size == 0:
            raise ContentError(f"{path} is empty", expected="rows", found="0 bytes", next_step="give the whole file")
        yield from reader(path)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def read_json_list(path: Path) -> list[Any]:
    """The list that a JSON file holds. Raises ContentError if it is no JSON or no list."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error, "JSON") from error
    if not isinstance(value, list):
        raise ContentError(
            f"{path}: not a list of rows",
            expected="a JSON list of objects",
            found=type(value).__name__,
            next_step="give the file that MLPerf's own preparation writes",
        )
    return value


def row_of(path: Path, number: int, value: object) -> Row:
    """The row that an object of a JSON file is. Raises ContentError for anything else."""
    row = Row(path.name, number, value if isinstance(value, dict) else {})
    if not isinstance(value, dict):
        raise row.wrong("no object", "an object with named values", value)
    return row


def _json_rows(path: Path) -> Iterator[Row]:
    for number, value in enumerate(read_json_list(path), start=1):
        yield row_of(path, number, value)


def _json_line_rows(path: Path) -> Iterator[Row]:
    # Lines end in \n and nothing else: a text may hold U+2028, at which str.splitlines would cut.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ContentError(
                    f"{path.name}, row {number}: not JSON",
                    expected="one JSON object a line",
                    found=str(error)[:200],
                    next_step="give the whole file; a cut transfer ends in half a line",
                ) from error
            yield row_of(path, number, value)


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and most commands need no data set
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        number = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS_AT_ONCE):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(path.name, number, values)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(path, error, "Parquet") from error


def _csv_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.csv  # noqa: PLC0415

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(iter(file), "").rstrip("\r\n").replace('"', "").split(",")
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowException as error:
        raise _unreadable(path, error, "CSV") from error
    for number, values in enumerate(table.to_pylist(), start=1):
        yield Row(path.name, number, values)


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".json": _json_rows,
    ".jsonl": _json_line_rows,
    ".parquet": _parquet_rows,
    ".csv": _csv_rows,
}


def _refuse_pickle(path: Path) -> None:
    """Raises ContentError for a pickle, by name or by its first bytes: loading one runs whatever it says."""
    try:
        with path.open("rb") as file:
            begin = file.read(2)
    except OSError as error:
        raise _unreadable(path, error) from error
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if begin == GZIP_MAGIC and not suffixes & PICKLES:
        raise ContentError(
            f"{path} is compressed", expected="the file itself", found="gzip", next_step=f"unpack it: gunzip {path}"
        )
    pickled = len(begin) == 2 and begin[0] == 0x80 and 2 <= begin[1] <= 5
    if pickled or suffixes & PICKLES:
        target = path.with_suffix("").with_suffix(".parquet")
        raise ContentError(
            f"{path} is a pickle: reading it would run whatever program it holds",
            expected="Parquet or JSON lines",
            found="a Python pickle",
            next_step="if you trust where it comes from, convert it with your own pandas: "
            f"""python -c "import pandas; pandas.read_pickle('{path}').to_parquet('{target}')" """.strip(),
        )


def _unreadable(path: Path, error: Exception, form: str = "") -> ContentError:
    return ContentError(
        f"{path}: cannot be read" + (f" as {form}" if form else ""),
        expected=f"a whole, readable {form or path.suffix.lstrip('.') or 'data'} file",
        found=f"{type(error).__name__}: {error}"[:300],
        next_step="fetch it again, or correct its rights; compare its sha256sum with where it comes from",
    )
