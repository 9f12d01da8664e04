"""Accuracy: the five findings exclude each other, and their error rates are the stated ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from checks.accuracy import compare, worse_p
from checks.policy import AccuracyPolicy
from checks.simulation_accuracy import (
    AccuracyWorld,
    simulate_point_rule,
    simulate_regressed,
    simulate_threshold,
)
from redline.model import Finding, ItemScores
from tests.checks.policies import CPU

STRICT = AccuracyPolicy(alpha=0.025, share_min=0.99, run_count=1)


def scores(values, scenario="skill", run_count=1):
    """Item scores from a sequence, items numbered."""
    return ItemScores(scenario, {f"item-{index:05d}": float(value) for index, value in enumerate(values)}, run_count)


def flipped(values, lost, gained):
    """The same scores with that many items lost and gained."""
    after = np.array(values, dtype=float)
    after[np.flatnonzero(after == 1)[:lost]] = 0
    after[np.flatnonzero(np.array(values) == 0)[:gained]] = 1
    return after


BEFORE = np.array([1.0] * 950 + [0.0] * 50)  # as many as the shipped set has


@pytest.mark.parametrize("count", [420, 1000])
def test_equal_answers_are_no_worse(count):
    """Bit-equal answers to 420 items or to the shipped 1,000 are no worse under the CPU policy."""
    values = np.array([1.0] * int(count * 0.95) + [0.0] * (count - int(count * 0.95)))
    found = compare(scores(values), scores(values), CPU.accuracy)
    assert (found.finding, found.share_finding) == (Finding.NO_WORSE, Finding.NO_WORSE)
    assert (found.change, found.change_low, found.change_high, found.worse_p) == (0.0, 0.0, 0.0, 0.5)
    assert "identical" in found.warnings[0]


def test_few_items_prove_nothing_even_when_equal():
    """Bit-equal answers to 300 items cannot prove 99 %: inconclusive, and 405 or more are asked for."""
    values = np.array([1.0] * 285 + [0.0] * 15)
    found = compare(scores(values), scores(values), CPU.accuracy)
    assert found.finding is Finding.INCONCLUSIVE
    assert found.items_needed is not None
    assert found.items_needed >= 405


@pytest.mark.parametrize(
    ("lost", "gained", "finding"),
    [
        (0, 0, Finding.NO_WORSE),
        (3, 0, Finding.NO_WORSE),
        (8, 4, Finding.INCONCLUSIVE),
        (12, 1, Finding.REGRESSED),
        (0, 12, Finding.IMPROVED),
    ],
)
def test_findings(lost, gained, finding):
    """Three items lost of 1,000 are no worse, eight against four undecided, twelve regressed or improved."""
    found = compare(scores(BEFORE), scores(flipped(BEFORE, lost, gained)), CPU.accuracy)
    assert found.finding is finding
    assert (found.lost_count, found.gained_count) == (lost, gained)
    assert (found.items_needed is not None) == (finding is Finding.INCONCLUSIVE)


def test_a_proven_loss_within_the_share_is_still_regressed():
    """In a large set a small loss is proven: regressed, with a warning that the share is kept."""
    before = np.array([1.0] * 9500 + [0.0] * 500)
    found = compare(scores(before), scores(flipped(before, 30, 5)), STRICT)
    assert (found.finding, found.share_finding) == (Finding.REGRESSED, Finding.NO_WORSE)
    assert "still above 99.0%" in found.warnings[0]


def test_missing_items_are_invalid_and_counted():
    """Items missing on one side make the comparison invalid, with their number."""
    after = scores(BEFORE[:-3])
    found = compare(scores(BEFORE), after, STRICT)
    assert found.finding is Finding.INVALID
    assert "3 items are missing from the candidate, 0 from the baseline" in found.warnings
    assert compare(after, scores(BEFORE), STRICT).finding is Finding.INVALID
    assert compare(scores([]), scores([]), STRICT).finding is Finding.INVALID


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1, math.inf])
def test_scores_that_are_no_shares_are_invalid(bad):
    """A score that is not within [0, 1] makes the comparison invalid, and no figure is NaN."""
    found = compare(scores(BEFORE), scores([*BEFORE[:-1], bad]), STRICT)
    assert found.finding is Finding.INVALID
    assert (found.baseline, found.change, found.worse_p) == (0.0, 0.0, 1.0)


def test_a_baseline_that_answers_nothing_is_invalid():
    """Where the baseline scores nothing there is nothing to lose and no pass."""
    assert compare(scores([0.0] * 50), scores([0.0] * 50), STRICT).finding is Finding.INVALID


def test_scenarios_are_not_mixed():
    """Scores of two scenarios are not compared."""
    with pytest.raises(ValueError, match="skill is compared with other"):
        compare(scores(BEFORE), scores(BEFORE, "other"), STRICT)


def test_graded_scores_use_the_mean_change():
    """Scores between 0 and 1 are compared by their mean change; equal ones and constant shifts give no NaN."""
    graded = np.tile([0.25, 0.5, 0.75, 1.0], 250)
    assert compare(scores(graded), scores(graded), CPU.accuracy).finding is Finding.NO_WORSE
    assert compare(scores(graded), scores(graded - 0.1), CPU.accuracy).finding is Finding.REGRESSED
    assert worse_p(graded[:1], graded[:1]) == 0.5


def test_mcnemar_agrees_with_a_published_example():
    """Mid-p McNemar of 1 against 7 discordant pairs is 0.0391 two-sided. Source: Fagerland et al. 2013."""
    before = np.array([1.0] * 7 + [0.0] * 1 + [1.0] * 13)
    after = np.array([0.0] * 7 + [1.0] * 1 + [1.0] * 13)
    assert 2 * worse_p(before, after) == pytest.approx(0.0391, abs=5e-5)


def test_fewer_runs_than_asked_for_are_said():
    """A policy of two runs says so when a build was run once."""
    policy = AccuracyPolicy(alpha=0.025, share_min=0.98, run_count=2)
    assert any("1 of 2 runs" in note for note in compare(scores(BEFORE), scores(BEFORE), policy).warnings)


def regressed_share(world):
    """How often a candidate of this world is regressed."""
    return simulate_regressed(world, alpha=STRICT.alpha, seed=1, repetition_count=5000)


def test_a_two_point_drop_is_found():
    """At 1,000 items with 2 % flips of chance on top, a drop of two points is found in at least 88 %."""
    assert regressed_share(AccuracyWorld(drop=0.02)) >= 0.88


def test_an_equal_build_is_seldom_regressed():
    """At 1,000 items of which 2 % flip by chance, an equal build is regressed in at most 3 %."""
    assert regressed_share(AccuracyWorld()) <= 0.03


@pytest.mark.parametrize("count", [300, 350, 1000, 4000])
@pytest.mark.parametrize("gained", [0.0, 0.01])
def test_a_build_on_the_threshold_seldom_passes(count, gained):
    """A build that keeps exactly 99 % passes non-inferiority in at most 3.5 % (2.5 % plus the draw)."""
    rates = simulate_threshold(count, gained, share_min=0.99, alpha=0.025, seed=23, repetition_count=2000)
    assert rates.passed <= 0.035


def test_the_usual_test_lets_a_handful_of_losses_prove_too_much():
    """Without a floor under its variance a build on the threshold passes far oftener than 2.5 % at 350 items."""
    rates = simulate_threshold(350, 0.0, share_min=0.99, alpha=0.025, seed=23, repetition_count=1000)
    assert rates.passed < 0.025
    assert rates.passed_usual > 0.08


def test_a_bare_point_rule_fails_equal_builds():
    """Below 99 % without any allowance for chance: an equal build fails in 5 % or more where 5 % of the items flip."""
    world = AccuracyWorld(flip_share=0.05)
    assert 0.05 <= simulate_point_rule(world, share_min=0.99, seed=1, repetition_count=2000) <= 0.1


def test_worlds_that_cannot_be_are_refused():
    """More flips than wrong answers can give, or a drop of everything, is refused."""
    with pytest.raises(ValueError, match="flip_share"):
        AccuracyWorld(flip_share=0.2)
    with pytest.raises(ValueError, match="drop"):
        AccuracyWorld(drop=0.95)
