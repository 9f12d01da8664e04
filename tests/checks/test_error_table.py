"""The error table's parts: seeds, counts, promises and what chance may do to them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from checks.error_rows_all import pure_rows
from checks.error_rows_rivals import NIGHT_GROUPS, OURS, arms_of, night_readings
from checks.error_table import (
    COUNT_MIN,
    SUITES,
    Figure,
    Measured,
    Row,
    Section,
    Status,
    at_least,
    at_most,
    count_of,
    measure,
    promises_of,
    seed_of,
    standard_error,
)
from checks.nightly import better, suspect
from checks.prior import VariancePrior
from checks.simulation_nightly import METRIC, PRIOR_DF
from redline.model import LevelChange
from tests.checks.policies import CPU, GPU

ROWS = {row.key: row for row in pure_rows(CPU, GPU)}


def row(*promises, count=SUITES, nights=0, group=""):
    """A row whose figure is its seed's last digit as a share."""
    return Row(
        Section.GATE,
        "made up",
        lambda seed, count: {Figure.PASSED: seed % 10 / 10},
        promises,
        group=group,
        count=count,
        nights=nights,
    )


def judged(promise, value, *, count=SUITES, nights=0):
    """The status of one promise about a measured value."""
    (found,) = promises_of([Measured(row(promise, nights=nights), count, {promise.figure: value})])
    return found.status


def test_every_row_has_a_key_of_its_own():
    """No two rows are called the same, and every section has one."""
    assert len(ROWS) == len(pure_rows(CPU, GPU))
    assert {each.section for each in ROWS.values()} == set(Section)


def test_a_seed_depends_on_table_section_and_group_alone():
    """Rows of one group get the same seed, others another, and so does another table."""
    group = [each for each in ROWS.values() if each.group == "quiet, CV 1 %"]
    assert len(group) > 5
    assert len({seed_of(1, each) for each in group}) == 1
    alone = [each for each in ROWS.values() if not each.group]
    assert len({seed_of(1, each) for each in alone}) == len(alone)
    assert seed_of(1, group[0]) != seed_of(2, group[0])


def test_a_row_is_measured_with_its_seed():
    """The figures follow from the table's seed and the row's name."""
    found = measure(row(), seed=3, suites=SUITES)
    assert found.count == SUITES
    assert found.figures == {Figure.PASSED: seed_of(3, row()) % 10 / 10}


def test_counts_are_scaled_from_a_full_table():
    """A row of 1,000 histories has 100 in a table of 200 suites, and never less than a handful."""
    assert count_of(row(count=1000), 200) == 100
    assert count_of(row(count=1000), SUITES) == 1000
    assert count_of(row(), 1) == COUNT_MIN
    with pytest.raises(ValueError, match="suites"):
        count_of(row(), 0)


def test_a_full_table_allows_nothing_for_chance():
    """The measured figure itself keeps the promise or breaks it, however narrowly; NaN breaks both kinds."""
    assert judged(at_most(Figure.REGRESSED, 0.01), 0.01) is Status.KEPT
    assert judged(at_most(Figure.REGRESSED, 0.01), 0.0105) is Status.BROKEN
    assert judged(at_least(Figure.PASSED, 0.95), 0.95) is Status.KEPT
    assert judged(at_least(Figure.PASSED, 0.95), 0.9495) is Status.BROKEN
    for promise in (at_most(Figure.REGRESSED, 0.01), at_least(Figure.PASSED, 0.95)):
        assert judged(promise, math.nan) is Status.BROKEN


def test_a_small_table_allows_three_standard_errors():
    """At 200 suites a share may miss by three standard errors and a mean by 5 %; more is broken, NaN always is."""
    promise = at_least(Figure.PASSED, 0.95)
    assert judged(promise, 0.92, count=200) is Status.WITHIN_CHANCE
    assert judged(promise, 0.85, count=200) is Status.BROKEN
    assert judged(promise, math.nan, count=200) is Status.BROKEN
    assert judged(at_most(Figure.PAIRS_MEAN, 5), 5.2, count=200) is Status.WITHIN_CHANCE
    assert judged(at_most(Figure.PAIRS_MEAN, 5), 5.3, count=200) is Status.BROKEN


def test_what_was_not_measured_keeps_nothing():
    """A row without figures breaks its promises."""
    (found,) = promises_of([Measured(row(at_most(Figure.REGRESSED, 0.01)), SUITES, {}, "no network")])
    assert found.status is Status.BROKEN
    assert found.standard_error is None


def test_standard_errors():
    """Binomial for shares, Poisson for rates per 100 nights, none for means; never 0 at the edge."""
    assert standard_error(Figure.PASSED, 0.5, 10_000, 0) == pytest.approx(0.005, rel=0.001)
    assert standard_error(Figure.PASSED, 1.0, 2000, 0) == pytest.approx(math.sqrt(2) / 2004, rel=0.001)
    assert standard_error(Figure.PAGES_PER_100, 0.03, 1000, 100) == pytest.approx(100 * math.sqrt(31) / 100_000)
    assert standard_error(Figure.PAIRS_MEAN, 5.0, 2000, 0) is None
    assert standard_error(Figure.PASSED, math.nan, 2000, 0) is None


def ever_suspected(readings, world):
    """Whether the shipped nightly would suspect anything in these readings, up to the first suspicion."""
    logs = np.log(readings).tolist()
    changes: list[LevelChange] = []
    prior = VariancePrior(PRIOR_DF, world.cv**2)
    margin_log = math.log1p(GPU.for_confirmation().of(METRIC).margin)
    release = range(GPU.nightly.drift_nights)
    for tonight in range(len(logs)):
        seen = logs[: tonight + 1]
        if suspect(seen, changes, GPU.nightly, margin_log=margin_log, release=release, prior=prior):
            return True
        change = better(seen, changes, GPU.nightly, prior)
        changes += [change] if change else []
    return False


def test_ours_is_judged_on_the_nights_that_the_others_are():
    """The arrays that other rules get are those that our simulation judges: it suspects what is suspect in them."""
    group = next(group for group in NIGHT_GROUPS if group.name == "quiet, CV 1 %")
    row = ROWS[f"nights: {group.name}: {OURS}"]
    readings = night_readings(group, 5, 8)
    assert readings.shape == (8, group.world.nights)
    assert night_readings(group, 5, 2).tolist() == readings[:2].tolist()
    suspected = [ever_suspected(each, group.world) for each in readings]
    assert 0 < sum(suspected) < 8
    # One history more at a time: the rate times the histories is the number of suspicions so far.
    totals = [count * row.simulate(5, count)[Figure.SUSPICIONS_PER_100] for count in range(1, 9)]
    rises = [after - before > 1e-9 for before, after in itertools.pairwise([0.0, *totals])]
    assert rises == suspected


def test_arms_differ_as_they_are_said_to():
    """The first metric is worse by the effect, the others are not; a stored run is a day away as declared."""
    arms = arms_of(0.05, GPU, 3, 4000)
    change = (arms.candidate - arms.baseline).mean(axis=(0, 2))
    assert change[0] == pytest.approx(-math.log(0.95), abs=3e-4)  # a throughput
    assert abs(change[1:]).max() < 3e-4
    assert (arms.candidate[:, 1, :1] - arms.stored[:, 1]).std() == pytest.approx(0.025, rel=0.05)
