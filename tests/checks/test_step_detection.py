"""The step search: what the reference says, and what it must not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.prior import NO_PRIOR, VariancePrior
from checks.step_detection import find_step
from tests.checks.policies import GPU
from tests.oracle.method_reference import glr

NIGHTLY = GPU.nightly
PRIOR = VariancePrior(10.0, 1e-4)


def history(seed: int, nights: int, first_bad: int | None = None, size: float = 0.0) -> list[float]:
    """Nights of CV 1 %, worse by `size` from one of them on."""
    values = np.random.default_rng(seed).normal(0.0, 0.01, nights)
    if first_bad is not None:
        values[first_bad:] += size
    return values.tolist()


@settings(deadline=None)
@given(
    st.integers(0, 2**32), st.integers(5, 80), st.floats(0, 0.1), st.integers(0, 79), st.sampled_from([PRIOR, NO_PRIOR])
)
def test_it_is_the_reference_for_what_got_worse(seed, nights, size, first_bad, prior):
    """Same alarm, z, night and size as the reference, which also alarms on what got better: that is left out."""
    values = history(seed, nights, min(first_bad, nights - 1), size)
    alarm, z, night, step = glr(values, prior.df, prior.variance)
    found = find_step(values, NIGHTLY, prior)
    if not alarm or step <= 0:
        return
    rest = np.asarray(values)
    if rest[night:].mean() <= rest[:night].mean():
        return
    assert found is not None
    if night == len(values) - 1 and found.first_bad < night:
        # The one departure: the reference calls a step that lasts "tonight alone", because only tonight is not clipped.
        before = np.median(rest[: found.first_bad])
        assert np.median(rest[found.first_bad : -1]) - before > (rest[-1] - before) / 2
        return
    assert found.first_bad == night
    assert found.size == pytest.approx(step)
    assert found.z == pytest.approx(z, rel=1e-6)


@pytest.mark.parametrize("size", [0.08, 0.15, 1.0])
def test_a_large_step_is_seen_the_same_night(size):
    """Tonight alone, eight CVs or more worse, is enough, and its size is not clipped."""
    found = find_step(history(3, 40, 39, size), NIGHTLY, PRIOR)
    assert found is not None
    assert found.tonight_alone
    assert found.first_bad == 39
    assert found.size == pytest.approx(size, abs=0.03)


def test_what_got_better_is_no_step_towards_worse():
    """A series that improves by 5 % raises nothing."""
    assert find_step(history(3, 40, 30, -0.05), NIGHTLY, PRIOR) is None


@given(st.integers(0, 1000), st.floats(-50, 50))
def test_the_unit_does_not_matter(seed, shift):
    """A constant in logs is a unit: night, size and z stay."""
    values = history(seed, 40, 33, 0.04)
    one, other = (find_step([each + shift * k for each in values], NIGHTLY, PRIOR) for k in (0, 1))
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one.first_bad == other.first_bad
        assert one.z == pytest.approx(other.z, rel=1e-6)


def test_too_few_nights_say_nothing():
    """Before `nights_min` nights there is no level to leave."""
    assert find_step(history(3, NIGHTLY.nights_min, NIGHTLY.nights_min - 1, 1.0), NIGHTLY) is None
    assert find_step([], NIGHTLY) is None


def test_a_series_without_spread_is_no_division_by_zero():
    """The same number every night is quiet; one that leaves it is a step, with a finite z."""
    assert find_step([0.5] * 40, NIGHTLY) is None
    found = find_step([0.5] * 40 + [0.6], NIGHTLY)
    assert found is not None
    assert math.isfinite(found.z)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_missing_night_is_refused(bad):
    """A night without a reading is left out by the caller, never judged."""
    with pytest.raises(ValueError, match="finite"):
        find_step([0.0] * 20 + [bad], NIGHTLY)


def test_the_nights_it_could_be_hold_the_best_one():
    """The set is ascending, holds the named night and, for a plain step, little else."""
    found = find_step(history(3, 60, 50, 0.05), NIGHTLY, PRIOR)
    assert found is not None
    assert found.first_bad in found.could_be
    assert list(found.could_be) == sorted(set(found.could_be))
    assert 50 in found.could_be
    assert len(found.could_be) <= 3


def test_a_lasting_step_is_named_though_tonight_alone_is_further_out():
    """A step of 15 CVs is the step's, not tonight's, from its second or third night on."""
    for nights in (3, 4, 8, 15):
        values = history(3, 40, 40 - nights, 0.15)
        found = find_step(values, NIGHTLY)
        assert found is not None
        assert found.first_bad == 40 - nights
        assert not found.tonight_alone


def test_rounded_readings_are_quiet_until_they_step():
    """Readings rounded to 3 % of their size: seldom suspected when quiet, and a lasting +50 % is a step."""
    series = [np.log(np.round(31 * np.exp(np.random.default_rng(seed).normal(0, 0.008, 60)))) for seed in range(40)]
    suspicions = sum(
        find_step(each[:night].tolist(), NIGHTLY) is not None for each in series for night in range(20, 60)
    )
    assert suspicions <= 0.02 * 40 * 40
    stepped = np.concatenate([series[0][:30], series[0][30:45] + math.log(1.5)])
    found = find_step(stepped.tolist(), NIGHTLY)
    assert found is not None
    assert found.first_bad == 30
