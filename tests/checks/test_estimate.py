"""Edges of the estimate, the prior, the bounds and the power figures that random data seldom meets."""

from __future__ import annotations

import math

import pytest

from checks.boundaries import bounds
from checks.estimate import estimate
from checks.power import items_needed, pair_limit, pairs_to_decide
from checks.prior import NO_PRIOR, VariancePrior, fit_prior


def test_one_pair_has_no_spread():
    """Fewer than two differences, or one that is not finite, raise."""
    with pytest.raises(ValueError, match="at least 2"):
        estimate([0.1], NO_PRIOR)
    with pytest.raises(ValueError, match="finite"):
        estimate([0.1, math.nan, 0.2], NO_PRIOR)


def test_no_spread_at_all_gives_a_p_and_no_nan():
    """Differences that are all equal have p 0 if they differ from zero and p 1 if they do not."""
    assert estimate([0.5, 0.5, 0.5], NO_PRIOR).p_two_sided == 0.0
    assert estimate([0.0, 0.0, 0.0], NO_PRIOR).p_two_sided == 1.0


def test_one_wild_pair_is_clipped():
    """With history, one pair far out moves the estimate little and is counted."""
    fit = estimate([0.0, 0.005, -0.005, 0.002, 0.5], VariancePrior(8.0, 0.0001))
    assert fit.clipped_count == 1
    assert abs(fit.location) < 0.02


def test_history_loses_weight_on_a_noisy_day():
    """A variance today far above history takes the weight from the prior."""
    assert estimate([0.2, -0.2, 0.15, -0.18, 0.1], VariancePrior(8.0, 0.0001)).prior_df < 0.1


def test_a_prior_has_to_be_possible():
    """A negative variance, or a prior that counts without one, raises; odd rounds are left out of a fit."""
    for df, variance in ((-1.0, 1.0), (1.0, -1.0), (1.0, 0.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match=r"must|needs"):
            VariancePrior(df, variance)
    assert fit_prior([(math.nan, 5.0), (0.0, 5.0), (0.1, 0.0), (math.inf, 4.0)]) is NO_PRIOR


@pytest.mark.parametrize(("alpha", "looks"), [(0.0, (3,)), (0.6, (3,)), (0.02, ()), (0.02, (4, 3)), (0.02, (1, 2))])
def test_impossible_bounds_are_refused(alpha, looks):
    """An alpha outside (0, 0.5) and looks that do not ascend from two raise."""
    with pytest.raises(ValueError, match=r"alpha|looks"):
        bounds(alpha, looks)


def test_power_figures_refuse_the_impossible():
    """A margin of zero and an accuracy of zero raise; deciding always takes more pairs than there were."""
    with pytest.raises(ValueError, match="margin"):
        pair_limit(0.01, 0.0, floor=4, budget=8)
    with pytest.raises(ValueError, match="accuracy"):
        items_needed(0.02, 0.0, 0.99)
    for location in (-0.2, 0.0, 0.05, 0.099, 0.3):
        assert pairs_to_decide(location, 0.002, 10, 0.1, alpha_regressed=0.007, alpha_no_worse=0.025) > 10


def test_answers_without_a_flip_still_need_items():
    """Items needed never falls below what zero flips can prove: 405 for 99 % of an accuracy of .95."""
    assert items_needed(0.0, 0.95, 0.99) == 405
    assert items_needed(0.0, 0.95, 0.98) == 203
