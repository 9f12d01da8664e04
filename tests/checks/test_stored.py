"""One trial against a stored baseline: the four findings, the width, and what is said about it."""

from __future__ import annotations

import math

import pytest

from checks.stored import compare_stored, prediction_error
from redline.model import Finding
from tests.checks.policies import CPU

BASELINE = (0.100, 0.102, 0.099, 0.101, 0.098)


def against(candidate, baseline=BASELINE, metric="tpot_s_median"):
    """A candidate's reading against a stored baseline, three primaries."""
    return compare_stored("server", metric, baseline, candidate, CPU, primary_count=3)


@pytest.mark.parametrize(
    ("candidate", "finding"),
    [
        (0.100, Finding.NO_WORSE),
        (0.105, Finding.NO_WORSE),
        (0.120, Finding.INCONCLUSIVE),
        (0.200, Finding.REGRESSED),
        (0.050, Finding.IMPROVED),
    ],
)
def test_findings(candidate, finding):
    """Near the baseline is no worse, 20 % off undecided, double regressed and half improved."""
    assert against(candidate).finding is finding


def test_higher_is_better_is_turned_round():
    """A throughput cut in half is 50 % worse and regressed."""
    found = against(2000.0, (4000.0, 4050.0, 3950.0), "output_tokens_per_s")
    assert found.finding is Finding.REGRESSED
    assert found.effect == pytest.approx(0.5, abs=0.01)


def test_its_weakness_is_said():
    """Every comparison says that it is weaker than a gate, with its error rates and what they rest on."""
    found = against(0.1)
    assert "weaker than a gate" in found.warnings[0]
    assert "1% of equal suites" in found.warnings[0]
    assert "declared 8%" in found.warnings[0]
    assert "stored" in found.method
    assert found.pair_count == 0


def test_the_own_spread_only_widens():
    """A tight baseline does not narrow the declared noise; a wide one replaces it, and that is said."""
    declared = CPU.of("tpot_s_median").stored_noise_share
    one = prediction_error([0.0], declared, 10.0)
    tight = prediction_error([0.0, 1e-4, -1e-4], declared, 10.0)
    wide = prediction_error([0.0, 0.3, -0.3], declared, 10.0)
    assert (one.standard_error, one.df) == (declared, 10.0)
    assert tight.standard_error >= declared
    assert wide.standard_error > 0.3
    assert wide.df < 5
    found = against(0.1, (0.07, 0.1, 0.14))
    assert any("more than declared" in note for note in found.warnings)


@pytest.mark.parametrize(
    ("baseline", "candidate"),
    [((), 0.1), ((0.1, math.nan), 0.1), ((0.1, 0.0), 0.1), ((0.1,), math.nan), ((0.1,), -1.0), ((0.1,), 0.0)],
)
def test_impossible_readings_are_invalid(baseline, candidate):
    """No baseline reading, and any that is missing, zero or negative, makes the comparison invalid."""
    found = against(candidate, baseline)
    assert found.finding is Finding.INVALID
    assert (found.effect, found.effect_low, found.effect_high) == (0.0, 0.0, 0.0)


def test_the_metric_has_to_be_known():
    """A metric without a policy entry, and a suite without primaries, raise."""
    with pytest.raises(ValueError, match="no entry"):
        compare_stored("skill", "exact_match", (0.9,), 0.9, CPU, primary_count=1)
    with pytest.raises(ValueError, match="primary_count"):
        compare_stored("server", "tpot_s_median", (0.9,), 0.9, CPU, primary_count=0)
