"""The error table of docs/method.md: every row is there, keeps what is promised, and is what the code does."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from checks.error_rows_all import pure_rows
from checks.error_table import SHARES, SUITES, Figure, Row, seed_of, standard_error
from checks.simulation import Noise, World, simulate_gate
from flows.verify import OTAVA, SEED
from redline.model import Finding
from reports.method_data import from_json
from reports.method_plot import svg
from reports.method_table import sections
from tests.checks.policies import CPU, GPU, THREE

DOCS = Path(__file__).resolve().parents[2] / "docs"
METHOD = (DOCS / "method.md").read_text()
DOCUMENT = from_json((DOCS / "method-errors.json").read_text())
STATED = {(row.section, row.group, row.name): row for row in DOCUMENT.rows}
ROWS = {row.key: row for row in pure_rows(CPU, GPU)}
SEED_QUICK = 7  # another seed than the table's: agreement is no coincidence of one

# Re-measured in every test run, with so many suites, histories, comparisons or bisections; the rest, and the table
# itself, by `redline method verify`.
QUICK = {
    "gate: cpu, equal builds, CV 2 %": 500,
    "gate: cpu, equal builds, CV 3 %": 500,
    "gate: cpu, equal builds, CV 4 %": 500,
    "gate: cpu, equal builds, CV 3 %, history": 300,
    "gate: cpu, throughput 15 % worse, CV 4 %": 500,
    "gate: cpu, TPOT 15 % worse, CV 4 %": 500,
    "gate: cpu, TPOT 100 % worse, CV 4 %": 500,
    "gate: gpu, equal builds": 300,
    "gate: gpu, one metric 3 % worse": 300,
    "gate: gpu, one metric 5 % worse": 300,
    "stored: stored, equal builds, 1 trial": 500,
    "stored: stored, equal builds, 5 trials": 500,
    "stored: stored, TPOT 30 % worse, 5 trials": 500,
    "stored: stored, TPOT 50 % worse, 5 trials": 500,
    "stored: stored, TPOT 100 % worse, 5 trials": 500,
    "sign-off: sign-off, margin 2 %, equal builds": 500,
    "sign-off: sign-off, margin 1 %, equal builds": 500,
    "nightly: quiet": 60,
    "nightly: 5 % worse": 80,
    "nightly: 3 % worse": 120,
    "accuracy: two points lower, 1,000 items, 2 % flips": 2000,
    "accuracy: equal builds, 1,000 items, 2 % flips": 2000,
    "accuracy: bare point rule, equal builds, 1,000 items, 5 % flips": 2000,
    "threshold: 350 items, losses only": 1000,
    "bisection: 256 builds, 3 % worse": 60,
    "pull-requests: equal builds: one run against a stored one, any > 5 %": 1000,
    "pull-requests: equal builds: benchstat, 10 interleaved runs": 500,
    "pull-requests: equal builds: Welch, 5 interleaved runs": 1000,
    "pull-requests: one metric 2 % worse: Redline": 300,
    "nights: quiet, CV 1 %: vLLM nightly, 2 sigma of 7 nights and 1 %": 400,
    "nights: quiet, CV 1 %: Bencher t-test .99, 64 nights": 400,
    "nights: 3 % worse: Redline": 120,
    "nights: 3 % worse: vLLM nightly, 2 sigma of 7 nights and 1 %": 400,
}
ERRORS_ALLOWED = 4.0  # of a difference; there are over a hundred of them, and three would fail one suite in four
NEAR = {
    Figure.PAIRS_MEAN: 0.5,
    Figure.TRIALS_MEAN: 1.0,
    Figure.HALF_WIDTH: 0.0004,
    Figure.NIGHTS_MEDIAN: 1.0,
    Figure.READINGS_MEAN: 4.0,
    Figure.FLAGS_PER_100: 0.8,
    Figure.PAGES_PER_100: 0.1,
}
"""How far a mean, median or rate may lie from the table's: about three standard errors at the numbers above."""


def stated(row: Row):
    """The table's row of a row of the code."""
    return STATED[row.section.value, row.group, row.name]


def test_the_table_is_a_full_one():
    """The committed table has the seed and the size that it is said to have, Otava's rows measured."""
    assert (DOCUMENT.seed, DOCUMENT.suites) == (SEED, SUITES)
    assert [row.name for row in DOCUMENT.rows if row.problem] == []
    assert any(row.name == OTAVA for row in DOCUMENT.rows)


def test_the_table_has_every_row_of_the_code():
    """The rows and their numbers are those of the code; only Otava's, which no formula has, come on top."""
    others = {(row.section.value, row.group, row.name): row.count for row in ROWS.values()}
    assert {key: row.count for key, row in STATED.items() if row.name != OTAVA} == others


def test_the_table_makes_the_promises_of_the_code():
    """Every promise of the code stands in the table with its limit."""
    assert [(each.row, each.figure, each.at_least, each.limit) for each in DOCUMENT.promises] == [
        (row.name, promise.figure, promise.at_least, promise.limit) for row in ROWS.values() for promise in row.promises
    ]


def test_every_promise_is_kept():
    """The table's own figures keep every promise, without any allowance for chance."""
    assert [each for each in DOCUMENT.promises if each.status != "kept"] == []
    for each in DOCUMENT.promises:
        assert each.value is not None
        assert each.value >= each.limit if each.at_least else each.value <= each.limit


@pytest.mark.parametrize("section", [*sections(DOCUMENT)])
def test_the_document_has_the_table(section):
    """Every section of docs/method-errors.json stands in docs/method.md as `redline method verify` writes it."""
    assert sections(DOCUMENT)[section] in METHOD


def test_the_plot_is_that_of_the_table():
    """docs/method-errors.svg is drawn from docs/method-errors.json, and the document shows it."""
    assert (DOCS / "method-errors.svg").read_text() == svg(DOCUMENT)
    assert "(method-errors.svg)" in METHOD


@pytest.mark.slow
@pytest.mark.parametrize("key", QUICK)
def test_the_code_does_what_the_document_states(key):
    """A fresh simulation agrees with the stated row: shares within four standard errors, means closely."""
    row, count = ROWS[key], QUICK[key]
    said, found = stated(row), row.simulate(seed_of(SEED_QUICK, row), count)
    assert set(found) >= set(said.figures)
    for name, value in said.figures.items():
        figure = Figure(name)
        if figure in SHARES:
            error, own_error = (
                standard_error(figure, value, said.count, 0),
                standard_error(figure, found[figure], count, 0),
            )
            assert error is not None and own_error is not None  # a share has one
            assert abs(found[figure] - value) <= ERRORS_ALLOWED * math.hypot(error, own_error), figure
        elif figure in NEAR:
            assert abs(found[figure] - value) <= NEAR[figure], figure


def test_a_simulation_is_its_seed():
    """The same seed gives the same rates, another seed other ones."""
    world = World(THREE, (0.04, 0.04, 0.08), (0.05, 0.0, 0.0), Noise.BIMODAL, history_rounds=2)
    first, again, other = (simulate_gate(world, CPU, seed=seed, suite_count=30) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert math.isclose(sum(first.shares.values()), 1.0)
    assert first.regressed + first.passed + first.inconclusive + first.shares.get(
        Finding.INVALID, 0.0
    ) == pytest.approx(1)
