"""Rows of the error table about accuracy and bisection."""

from __future__ import annotations

from functools import partial

from checks.error_table import Figure, Figures, Promise, Row, Section, at_least, at_most
from checks.policy import Policy
from checks.simulation import Noise
from checks.simulation_accuracy import AccuracyWorld, simulate_point_rule, simulate_regressed, simulate_threshold
from checks.simulation_bisection import BisectionWorld, simulate_bisections

ACCURACY_COUNT = 20_000
BISECTION_COUNT = 1000


def accuracy_rows(policy: Policy) -> tuple[Row, ...]:
    """Worse builds that are found and equal ones that are not; the bare point rule that others use beside it."""
    alpha, share_min = policy.accuracy.alpha, policy.accuracy.share_min

    def row(name: str, world: AccuracyWorld, *promises: Promise) -> Row:
        simulate = partial(_regressed, world, alpha)
        return Row(Section.ACCURACY, name, simulate, promises, count=ACCURACY_COUNT)

    def point(name: str, world: AccuracyWorld) -> Row:
        return Row(Section.ACCURACY, name, partial(_point_rule, world, share_min), count=ACCURACY_COUNT)

    return (
        row("two points lower, 1,000 items, 2 % flips", AccuracyWorld(drop=0.02), at_least(Figure.REGRESSED, 0.88)),
        row("one point lower, 1,000 items, 2 % flips", AccuracyWorld(drop=0.01)),
        row("equal builds, 1,000 items, 2 % flips", AccuracyWorld(), at_most(Figure.REGRESSED, 0.03)),
        row("equal builds, 1,000 items, 5 % flips", AccuracyWorld(flip_share=0.05), at_most(Figure.REGRESSED, 0.03)),
        point("bare point rule, equal builds, 1,000 items, 2 % flips", AccuracyWorld()),
        point("bare point rule, equal builds, 1,000 items, 5 % flips", AccuracyWorld(flip_share=0.05)),
    )


def threshold_rows(policy: Policy) -> tuple[Row, ...]:
    """A build exactly on the threshold: how often it passes by Redline's rule and by the usual one."""
    alpha, share_min = policy.accuracy.alpha, policy.accuracy.share_min
    return tuple(
        Row(
            Section.THRESHOLD,
            f"{item_count:,} items, {flips}",
            partial(_threshold, item_count, gained, share_min, alpha),
            (at_most(Figure.PASSED, 0.025),),
        )
        for gained, flips in ((0.0, "losses only"), (0.01, "1 % flips each way besides"))
        for item_count in (300, 350, 1000, 4000)
    )


def bisection_rows(policy: Policy) -> tuple[Row, ...]:
    """Whole bisections under the confirmation of `policy`, at a CV of 1 %; readings are pairs of trials."""
    confirmation = policy.for_confirmation()

    def row(name: str, world: BisectionWorld, *promises: Promise) -> Row:
        simulate = partial(_bisection, world, confirmation)
        return Row(Section.BISECTION, name, simulate, promises, count=BISECTION_COUNT)

    never_wrong = at_most(Figure.NAMED_WRONG, 0.01)
    return (
        row("64 builds, 3 % worse", BisectionWorld(64), never_wrong),
        row(
            "256 builds, 3 % worse",
            BisectionWorld(256),
            at_least(Figure.NAMED_RIGHT, 0.97),
            never_wrong,
            at_most(Figure.READINGS_MEAN, 40),
        ),
        row("512 builds, 3 % worse", BisectionWorld(512), never_wrong),
        row("256 builds, 3 % worse, t3", BisectionWorld(256, noise=Noise.T3), never_wrong),
        row("256 builds, 3 % worse, outliers", BisectionWorld(256, noise=Noise.OUTLIER), never_wrong),
        row("256 builds, 2 % worse", BisectionWorld(256, step=0.02), never_wrong),
        row("256 builds, no culprit", BisectionWorld(256, step=0.0), never_wrong),
    )


def _regressed(world: AccuracyWorld, alpha: float, seed: int, count: int) -> Figures:
    return {Figure.REGRESSED: simulate_regressed(world, alpha=alpha, seed=seed, repetition_count=count)}


def _point_rule(world: AccuracyWorld, share_min: float, seed: int, count: int) -> Figures:
    return {Figure.REGRESSED: simulate_point_rule(world, share_min=share_min, seed=seed, repetition_count=count)}


def _threshold(item_count: int, gained: float, share_min: float, alpha: float, seed: int, count: int) -> Figures:
    rates = simulate_threshold(item_count, gained, share_min=share_min, alpha=alpha, seed=seed, repetition_count=count)
    return {Figure.PASSED: rates.passed, Figure.PASSED_USUAL: rates.passed_usual}


def _bisection(world: BisectionWorld, policy: Policy, seed: int, count: int) -> Figures:
    rates = simulate_bisections(world, policy, seed=seed, bisection_count=count)
    return {
        Figure.NAMED_RIGHT: rates.named_right,
        Figure.NAMED_WRONG: rates.named_wrong,
        Figure.GAVE_UP: rates.gave_up,
        Figure.ENDS_EQUAL: rates.ends_equal,
        Figure.READINGS_MEAN: rates.readings_mean,
        Figure.READINGS_MAX: rates.readings_max,
        Figure.CONFIRMATION_PAIRS: rates.confirmation_pairs_mean,
        Figure.BUILDS_MEAN: rates.builds_mean,
    }
