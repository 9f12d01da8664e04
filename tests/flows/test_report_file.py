"""A report's data as a file: what a page was rendered from comes back as it was, or not at all."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from flows.report_file import REPORT_BYTES_MAX, read_report, write_report
from redline.errors import StoreError
from reports.report import render
from tests.reports.situations import SITUATIONS, regressed


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_situation_comes_back_and_renders_the_same_page(name: str, tmp_path: Path):
    """What is read renders to the very page, down to the last character."""
    data = SITUATIONS[name]()
    write_report(tmp_path / "x.data.json", data)
    found = read_report(tmp_path / "x.data.json")
    assert found == data
    assert render(found) == render(data)


def test_an_interval_without_an_end_and_a_number_that_is_none_come_back(tmp_path: Path):
    """JSON has no word for infinity: it is kept all the same."""
    data = regressed()
    comparison = replace(data.verdict.comparisons[0], effect_high=math.inf, df=math.nan)
    write_report(tmp_path / "x.data.json", replace(data, verdict=replace(data.verdict, comparisons=(comparison,))))
    found = read_report(tmp_path / "x.data.json").verdict.comparisons[0]
    assert found.effect_high == math.inf
    assert math.isnan(found.df)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("verdict"),
        lambda value: value.update(surprise=1),
        lambda value: value["verdict"].update(finding="splendid"),
        lambda value: value.update(duration_s=-1),
        lambda value: value.update(scenarios="all of them"),
        lambda value: value.update(repeat_command=" "),
    ],
)
def test_a_file_that_says_something_else_is_refused(change, tmp_path: Path):
    """A missing key, one too many, an impossible value: an error that names the file, never half a report."""
    path = tmp_path / "x.data.json"
    write_report(path, regressed())
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(StoreError, match=r"x\.data\.json cannot be read"):
        read_report(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(content: bytes, tmp_path: Path):
    """Whatever bytes a stranger's job leaves there."""
    (tmp_path / "x.data.json").write_bytes(content)
    with pytest.raises(StoreError, match="cannot be read"):
        read_report(tmp_path / "x.data.json")


def test_a_file_that_is_missing_or_too_large_is_refused_before_it_is_read(tmp_path: Path):
    """The size is looked at first."""
    with pytest.raises(StoreError, match="cannot be read"):
        read_report(tmp_path / "none.data.json")
    with (tmp_path / "x.data.json").open("wb") as file:
        file.truncate(REPORT_BYTES_MAX + 1)
    with pytest.raises(StoreError, match="too large"):
        read_report(tmp_path / "x.data.json")
