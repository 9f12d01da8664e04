"""The table and the plot of a few rows."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.load.__main__ import cells_of, options_of
from benchmarks.load.accuracy import Figures, Spread
from benchmarks.load.plot import svg
from benchmarks.load.suite import Row
from benchmarks.load.table import highest_held, markdown, pair, significant
from benchmarks.load.workload import WORKLOADS, Cell


def row(client: str, rate_per_s: float, *, held: bool = True, cpu_s: float = 0.25, reason: str = "") -> Row:
    """A row with plain figures, or with a reason instead."""
    cell = Cell(client, WORKLOADS["W1"], rate_per_s, hog_count=0, load_s=10)
    if reason:
        return Row(cell, reason=reason)
    error = Spread(0.04, 0.13, 0.5, 100)
    figures = Figures(held, 1.0, 100, 100, 0, 0, error, error, None, error, due_is_absolute=client != "aiperf")
    return Row(
        cell, figures=figures, cpu_s_per_1000=cpu_s, cpu_share=0.25, memory_mb_max=80.0, start_s=0.5, foreign_share=0.01
    )


ROWS = [
    row("redline", 50),
    row("aiperf", 50, cpu_s=1.0),
    row("redline", 100),
    row("aiperf", 100, held=False, cpu_s=2.0),
    row("redline", 200),
    row("aiperf", 200, reason="not tried: did not hold the last 2 rates"),
]


def test_the_table_shows_ratios_reasons_and_undefined():
    """Ratios to Redline, the reason of a row without figures, dashes for what a tool does not expose, fitted slips."""
    text = markdown(ROWS, {"cpu": "EPYC"}, {"redline": "0.1.0"}, {"aiperf": "No stamps."})
    lines = text.splitlines()
    assert "| redline | 200 |" in lines
    assert "| aiperf | 50 (x 0.25) |" in lines
    slow = next(line for line in lines if line.startswith("| 50 | aiperf"))
    assert (
        slow
        == "| 50 | aiperf | yes | 100.0 | 0.04 / 0.13* | 0.04 / 0.13 | - | 0.04 / 0.13 | 1 | 4 | 25% | 80 | 0.5 | 1% |"
    )
    assert "- aiperf at 200/s: not tried: did not hold the last 2 rates" in lines
    assert "- **aiperf**: No stamps." in lines


def test_a_lost_rate_ends_what_was_held():
    """A rate that is held above one that was not does not count."""
    rows = [row("httpx", 50), row("httpx", 100, held=False), row("httpx", 200)]
    assert highest_held(rows) == {("W1", 0, "httpx"): 50}


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.00002, "0.00002"), (0.0412, "0.0412"), (12.345, "12.3"), (4321.0, "4321")]
)
def test_three_digits_without_exponents(value, shown):
    """Figures of very different size stand in one column."""
    assert significant(value) == shown


def test_an_undefined_pair_is_a_dash():
    """Nothing to show is shown as such."""
    assert pair(None) == "-"


def test_the_plot_is_a_picture_with_a_line_per_client():
    """Well-formed SVG; every client's line in every panel, and a point per value."""
    root = ET.fromstring(svg(ROWS, "W1 <idle>"))  # noqa: S314 - our own text
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}polyline")) == 2 * 3
    assert len(root.findall(f"{space}circle")) == 5 * 3


def test_quick_is_three_clients_at_three_rates():
    """Nine cells of five seconds, rates ascending, clients side by side."""
    cells = cells_of(options_of(["--quick", "--output", "somewhere"]))
    assert len(cells) == 9
    assert {cell.load_s for cell in cells} == {5}
    assert [cell.client for cell in cells[:3]] == ["redline", "c", "httpx"]
    assert [cell.rate_per_s for cell in cells[::3]] == [100, 500, 1000]


def test_an_unknown_client_is_refused(capsys):
    """The message names the known ones."""
    with pytest.raises(SystemExit):
        options_of(["--clients", "curl", "--output", "somewhere"])
    assert "unknown curl; known: redline" in capsys.readouterr().err
