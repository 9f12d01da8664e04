"""The error table as Markdown, JSON and plot: what stands where, and what a reader must not miss."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET

import pytest

from checks.error_table import Figure
from reports import method_table
from reports.method_data import MethodDocument, MethodPromise, MethodRow, as_json, from_json
from reports.method_plot import svg
from reports.method_table import markdown, sections

SPACE = "{http://www.w3.org/2000/svg}"


def gate_row(name="cpu, equal builds", **figures):
    """A row of the gate."""
    return MethodRow("gate", "", name, 2000, None, {"regressed": 0.004, "passed": 0.981, **figures})


def suite_row(group, effect, name, blocked, trials=10.0):
    """A rule on pull requests."""
    return MethodRow("pull-requests", group, name, 2000, effect, {"blocked": blocked, "mean trials": trials})


def night_rows(name, flags, power, problem=""):
    """A rule on quiet nights and on a step of 3 %."""
    quiet = {} if problem else {"flags per 100 quiet nights": flags}
    within = ("flagged on the first night", "flagged within 3 nights", "flagged within 7 nights")
    step = {} if problem else dict(zip(within, power, strict=True))
    return (
        MethodRow("nights", "quiet, CV 1 %", name, 400, None, quiet, problem),
        MethodRow("nights", "3 % worse", name, 400, 0.03, step, problem),
    )


DOCUMENT = MethodDocument(
    seed=1,
    suites=2000,
    rows=(
        gate_row(),
        suite_row("equal builds", 0.0, "Welch", 0.1),
        suite_row("one metric 3 % worse", 0.03, "Welch", 0.99),
        suite_row("equal builds", 0.0, "Redline", 0.004, 9.6),
        suite_row("one metric 3 % worse", 0.03, "Redline", 0.95, 9.2),
        *night_rows("vLLM <nightly>", 6.7, (0.84, 0.95, 0.96)),
        *night_rows("Otava", 0.0, (), problem="no network | none at all"),
        *night_rows("Redline", 0.02, (0.34, 0.92, 1.0)),
    ),
    promises=(
        MethodPromise("gate", "cpu, equal builds", "regressed", False, 0.01, 0.004, 0.0015, "kept"),
        MethodPromise("gate", "cpu, equal builds", "passed", True, 0.99, 0.981, 0.003, "broken"),
        MethodPromise("gate", "cpu, equal builds", "mean pairs", False, 5, None, None, "broken"),
    ),
)


def test_a_document_survives_json():
    """What is stored is what is read back, a row a line; another format is refused."""
    text = as_json(DOCUMENT)
    assert from_json(text) == DOCUMENT
    assert sum(line.startswith('  {"section"') for line in text.splitlines()) == len(DOCUMENT.rows) + 3
    with pytest.raises(ValueError, match="format 1"):
        from_json(text.replace('"format": 1', '"format": 2'))


def test_figures_stand_in_percent():
    """Shares are written in percent with one decimal; a figure that a row does not have is left empty."""
    assert "| cpu, equal builds | 0.4 | 98.1 |  |  |  |\n" in sections(DOCUMENT)["gate"]


def test_promises_say_what_became_of_them():
    """Limit, figure, standard error and outcome of every promise; a broken one in bold."""
    lines = sections(DOCUMENT)["promises"].splitlines()
    assert "| cpu, equal builds | regressed | <= 1.0 % | 0.4 | 0.15 | kept |" in lines
    assert "| cpu, equal builds | passed | >= 99.0 % | 98.1 | 0.30 | **broken** |" in lines
    assert "| cpu, equal builds | mean pairs | <= 5.0 | not measured |  | **broken** |" in lines
    assert [each.figure for each in DOCUMENT.broken] == ["passed", "mean pairs"]


def test_rules_stand_side_by_side():
    """A line per rule, a column per group; trials where they vary as a range."""
    lines = sections(DOCUMENT)["pull-requests"].splitlines()
    assert lines[0] == "| rule: blocked % | equal builds | one metric 3 % worse | trials |"
    assert "| Welch | 10.0 | 99.0 | 10 |" in lines
    assert "| Redline | 0.4 | 95.0 | 9.2 to 9.6 |" in lines


def test_what_was_not_measured_says_why():
    """A rule that could not be run keeps its lines, with the reason, which cannot break the table."""
    nights = sections(DOCUMENT)["nights"]
    assert nights.count("| Otava | not measured: no network / none at all |\n") == 2
    assert "| vLLM <nightly> | 6.70 |" in nights
    assert "| Redline | 34 / 92 / 100 |" in nights


def test_every_line_of_a_table_has_as_many_cells():
    """No cell is lost: headings, rule and lines of each table agree."""
    for table in re.split(r"\n\n", "\n\n".join(sections(DOCUMENT).values())):
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1, table


def test_sections_without_rows_are_left_out():
    """Only what was measured is shown; the whole begins with its seed and size."""
    assert list(sections(DOCUMENT)) == ["gate", "pull-requests", "nights", "promises"]
    assert "Seed 1, 2,000 suites a row" in markdown(DOCUMENT)


def test_columns_are_figures_of_the_code():
    """Every figure that the tables ask for is one that is measured, by its exact name."""
    asked = {each.figure for columns in method_table.PLAIN.values() for each in columns}
    asked |= {each.figure for each in (*method_table.NIGHTLY_QUIET, *method_table.NIGHTLY_STEP)}
    asked |= {*method_table.WITHIN, *method_table.RATES, method_table.SUSPICIONS, "blocked", "mean trials", "paged"}
    assert asked <= {figure.value for figure in Figure}


def test_the_plot_is_a_picture_of_both_parts():
    """Well-formed SVG: a curve per measured rule and part, a bar per rule, the unmeasured one said to be so."""
    root = ET.fromstring(svg(DOCUMENT))  # noqa: S314 - our own text
    assert len(root.findall(f"{SPACE}polyline")) == 2 + 2
    assert len(root.findall(f"{SPACE}rect")) == 1 + 2 + 3
    words = [element.text for element in root.findall(f"{SPACE}text")]
    assert words.count("not measured") == 1
    assert "vLLM <nightly>" in words
    assert "6.70" in words


def test_ours_has_one_colour():
    """Redline's curve is the same red in both parts, and drawn over the others."""
    curves = re.findall(r'<polyline [^>]*stroke="(#\w+)"', svg(DOCUMENT))
    assert curves[1] == curves[3] == "#d62728"
    assert curves[0] != curves[1]


def test_a_table_without_rivals_has_an_empty_plot():
    """Only a title, and no error."""
    empty = dataclasses.replace(DOCUMENT, rows=(gate_row(),))
    root = ET.fromstring(svg(empty))  # noqa: S314 - our own text
    assert root.findall(f"{SPACE}polyline") == []
