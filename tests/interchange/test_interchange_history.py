"""The table of a recorded history: what is written is read back, and what is wrong is named by row and column."""

from __future__ import annotations

import csv
import dataclasses
import io
from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redline.errors import ContentError, StoreError, UsageError
from redline.interchange.history import (
    COLUMNS,
    CellError,
    HistoryRow,
    Source,
    read_history,
    to_csv,
    write_history,
)
from redline.metrics import CATALOGUE

ROW = HistoryRow("0.31.0", "2026-11-20T02:00:00Z", "h200", "chat", "ttft_s_median", 0.05, "night-20", 0)

texts = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
rows = st.builds(
    HistoryRow,
    build=texts,
    date=st.datetimes().map(datetime.isoformat),
    runner=texts,
    scenario=texts,
    metric=st.sampled_from([name for name, metric in CATALOGUE.items() if metric.unit != "1"]),
    reading=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    deployment=texts,
    repeat=st.integers(0, 10**6),
    source=st.sampled_from(Source),
    definition=st.text(max_size=20),
)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=st.lists(rows, min_size=1, max_size=10, unique_by=lambda row: row.key))
def test_what_is_written_is_read_back_exactly(tmp_path, suffix, some):
    """Any text, with commas, quotes and newlines in it, and any number, to the last bit."""
    path = tmp_path / f"history{suffix}"
    write_history(path, some)
    assert read_history(path) == tuple(some)


def test_a_hand_written_history_needs_eight_columns(tmp_path):
    """`source` and `definition` may be missing, and further columns are passed over."""
    path = tmp_path / "history.csv"
    path.write_text(
        "date,build,runner,scenario,metric,reading,deployment,repeat,comment\r\n"
        "2026-11-20,0.31.0,h200,chat,ttft_s_median,0.05,night-20,0,quiet night\r\n"
    )
    assert read_history(path) == (dataclasses.replace(ROW, date="2026-11-20"),)


def test_a_parquet_file_may_have_real_dates_and_integers(tmp_path):
    """What another program writes with types of its own: a date column, readings as integers."""
    path = tmp_path / "history.parquet"
    cells = dataclasses.asdict(ROW) | {"date": date(2026, 11, 20), "reading": 2, "source": "given"}
    pq.write_table(pa.Table.from_pylist([cells]), path)
    assert read_history(path) == (dataclasses.replace(ROW, date="2026-11-20", reading=2.0),)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("build", "", "text"),
        ("runner", " ", "text"),
        ("date", "20 November", "ISO 8601"),
        ("metric", "ttft", "ttft_s_median"),
        ("reading", "fast", "a number"),
        ("reading", "nan", "above 0"),
        ("reading", "0", "above 0"),
        ("reading", "-1", "above 0"),
        ("repeat", "1.5", "whole number"),
        ("repeat", "-1", "from 0"),
        ("source", "guess", "requests"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_wrong_cell_is_named(tmp_path, suffix, column, value, expected):
    """File, row and column, what was expected and what was found."""
    path = tmp_path / f"history{suffix}"
    cells = [{name: str(cell) for name, cell in dataclasses.asdict(ROW).items()} for _ in range(2)]
    cells[1] |= {"repeat": "1"} | {column: value}
    if suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(cells)
    else:
        pq.write_table(pa.Table.from_pylist(cells), path)
    with pytest.raises(ContentError) as caught:
        read_history(path)
    place = "line 3" if suffix == ".csv" else "row 2"
    assert caught.value.problem == f"{path}: {place}, column {column}"
    assert expected in caught.value.expected
    assert value.strip("' ") in caught.value.found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column build"),
        (b"build,date\n", "no column runner"),
        (to_csv([]).encode(), "no rows"),
        (to_csv([ROW, ROW]).encode(), "two readings of the same thing"),
        (to_csv([ROW]).encode() + b"0.31.0,2026\n", "line 3"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (to_csv([ROW]).replace("reading", "repeat", 1).encode(), "no column reading"),
        (to_csv([ROW]).replace("definition", "build", 1).encode(), "named twice"),
        (to_csv([ROW]).encode() + b'"never closed', "expected"),
    ],
)
def test_a_broken_csv_is_refused(tmp_path, content, message):
    """Whatever is wrong with the file as a whole."""
    path = tmp_path / "history.csv"
    path.write_bytes(content)
    with pytest.raises(ContentError) as caught:
        read_history(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | rows.map(lambda row: to_csv([row]).encode()[:-5]))
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_no_content_gets_past_without_a_message(tmp_path, suffix, content):
    """Bytes of any kind are a history or a ContentError, and never another exception."""
    path = tmp_path / f"history{suffix}"
    path.write_bytes(content)
    try:
        said = str(len(read_history(path)))
    except ContentError as error:
        said = error.problem.partition(str(path))[1]
    assert said
    assert said != "0"


@pytest.mark.parametrize("path", ["history.json", "history"])
def test_only_csv_and_parquet_are_histories(tmp_path, path):
    """By the suffix, for writing and for reading."""
    with pytest.raises(UsageError, match="CSV or a Parquet"):
        write_history(tmp_path / path, [ROW])
    with pytest.raises(UsageError, match="CSV or a Parquet"):
        read_history(tmp_path / path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_and_the_same_thing_twice_are_not_written(tmp_path):
    """An empty history and one that contradicts itself would only be found when they are read."""
    path = tmp_path / "history.csv"
    with pytest.raises(UsageError, match="nothing to write"):
        write_history(path, [])
    with pytest.raises(UsageError, match="two readings"):
        write_history(path, [ROW, dataclasses.replace(ROW, reading=0.06)])
    assert not path.exists()


def test_a_refused_write_leaves_what_was_there(tmp_path):
    """A place that cannot be written raises StoreError and leaves no half file and no temporary one."""
    path = tmp_path / "history.csv"
    path.mkdir()
    with pytest.raises(StoreError, match="could not be written"):
        write_history(path, [ROW])
    assert [item.name for item in tmp_path.iterdir()] == ["history.csv"]


def test_a_share_may_be_zero():
    """Exact match lies in [0, 1]; nothing else may be 0, because its logarithm is taken."""
    assert dataclasses.replace(ROW, metric="exact_match", reading=0.0).reading == 0
    with pytest.raises(CellError, match="share"):
        dataclasses.replace(ROW, metric="exact_match", reading=1.1)
    with pytest.raises(CellError, match="Unicode"):
        dataclasses.replace(ROW, build="half a pair \ud83d")


def test_the_csv_is_what_the_documentation_shows():
    """The header in its order, numbers as their shortest exact text."""
    lines = list(csv.reader(io.StringIO(to_csv([ROW]))))
    assert lines[0] == list(COLUMNS)
    assert lines[1][5] == "0.05"
