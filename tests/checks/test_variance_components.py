"""Variance components: known truths are recovered, what cannot be known is said to be unknown."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.variance_components import Component, chi_square_quantile, nested_components

LEVELS = ("day", "deployment", "repeat")


def span(component: Component) -> tuple[float, float, float]:
    """(low, estimate, high) of a component that is known."""
    assert component.low is not None and component.variance is not None and component.high is not None
    return component.low, component.variance, component.high


def made_up(seed: int, sds: tuple[float, float, float], day_count: int) -> tuple[Component, ...]:
    """Components of unbalanced made-up data: 4 to 10 deployments a day, 2 to 4 windows each."""
    generator = np.random.default_rng(seed)
    values, days, deployments = [], [], []
    for day in range(day_count):
        of_day = sds[0] * generator.standard_normal()
        for deployment in range(generator.integers(4, 11)):
            level = of_day + sds[1] * generator.standard_normal()
            for _ in range(generator.integers(2, 5)):
                values.append(level + sds[2] * generator.standard_normal())
                days.append(day)
                deployments.append(deployment)
    return nested_components(values, ["build"] * len(values), [("day", days), ("deployment", deployments)], "repeat")


@pytest.mark.parametrize(
    ("sds", "day_count"),
    [((0.03, 0.02, 0.03), 4), ((0.0, 0.02, 0.03), 5), ((0.05, 0.005, 0.03), 8), ((0.02, 0.0, 0.03), 3)],
)
def test_known_components_are_recovered(sds: tuple[float, float, float], day_count: int) -> None:
    """Nominal 95 % intervals of unbalanced data hold the truth in at least 91 % of 400 seeds, level by level."""
    found = [made_up(seed, sds, day_count) for seed in range(400)]
    for index, sd in enumerate(sds):
        spans = [span(each[index]) for each in found]
        assert np.mean([low <= sd**2 <= high for low, _, high in spans]) >= 0.91
        assert all(low <= estimate <= high for low, estimate, high in spans)
    repeat = math.sqrt(np.mean([each[2].variance for each in found]))
    assert repeat == pytest.approx(sds[2], rel=0.02)
    if sds[1] > 0.01:
        assert math.sqrt(np.mean([each[1].variance for each in found])) == pytest.approx(sds[1], rel=0.05)


def test_balanced_data_are_textbook_anova() -> None:
    """With equal numbers the estimates are differences of mean squares over those numbers."""
    generator = np.random.default_rng(2)
    cube = generator.standard_normal((4, 1, 1)) + generator.standard_normal((4, 5, 1)) + np.zeros((4, 5, 3))
    cube = cube + generator.standard_normal((4, 5, 3))
    within = cube.var(axis=2, ddof=1).mean()
    deployments = 3 * cube.mean(axis=2).var(axis=1, ddof=1).mean()
    days = 15 * cube.mean(axis=(1, 2)).var(ddof=1)
    labels = np.indices(cube.shape).reshape(3, -1).tolist()
    found = nested_components(
        cube.ravel().tolist(), [0] * 60, [("day", labels[0]), ("deployment", labels[1])], "repeat"
    )
    assert [each.level for each in found] == list(LEVELS)
    assert [each.df for each in found] == [3, 16, 40]
    expected = [(days - deployments) / 15, (deployments - within) / 3, within]
    assert [each.variance for each in found] == pytest.approx([max(value, 0.0) for value in expected])
    assert found[2].low == pytest.approx(40 * within / chi_square_quantile(40, 0.975))
    assert found[2].high == pytest.approx(40 * within / chi_square_quantile(40, 0.025))


def test_one_day_says_nothing_about_days() -> None:
    """A level with one group is unknown and says why; the levels below it are estimated all the same."""
    day, deployment, repeat = made_up(1, (0.03, 0.02, 0.03), 1)
    assert (day.variance, day.low, day.high, day.df) == (None, None, None, 0)
    assert day.unknown_because
    assert deployment.variance is not None
    assert repeat.variance is not None


def test_what_cannot_be_told_apart_is_unknown() -> None:
    """One window a deployment hides the repeat in the deployment; one deployment a day hides it in the day."""
    days = [0, 0, 0, 1, 1, 1]
    one_window = nested_components([1.0, 2, 3, 4, 6, 8], [0] * 6, [("day", days), ("deployment", range(6))], "repeat")
    assert [each.variance for each in one_window] == [None, None, None]
    assert "deployment has two repeats" in one_window[2].unknown_because
    assert "told apart from the repeat" in one_window[1].unknown_because
    one_deployment = nested_components([1.0, 2, 3, 4, 6, 8], [0] * 6, [("day", days), ("deployment", days)], "repeat")
    assert [each.variance is None for each in one_deployment] == [True, True, False]
    assert "told apart from the deployment" in one_deployment[0].unknown_because


def test_builds_are_no_noise() -> None:
    """Two builds a mile apart, measured on days of their own, leave the day's component where it was."""
    days, values = [0, 0, 1, 1, 2, 2, 3, 3], [0.1, 0.2, 0.0, 0.3, 0.2, 0.1, 0.1, 0.4]
    builds = ["a"] * 4 + ["b"] * 4
    apart = [value + 50.0 * (build == "b") for value, build in zip(values, builds, strict=True)]
    here, there = (nested_components(each, builds, [("day", days)], "repeat") for each in (values, apart))
    assert [each.variance for each in there] == pytest.approx([each.variance for each in here], abs=1e-9)
    assert here[0].df == 2


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=12, max_size=12),
    st.floats(-5, 5),
    st.floats(0.5, 3),
)
def test_shift_and_scale(values: list[float], shift: float, scale: float) -> None:
    """A common shift changes no component, a scale changes each by its square."""
    labels = [("deployment", [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3])]
    plain = nested_components(values, [0] * 12, labels, "repeat")
    moved = nested_components([shift + scale * value for value in values], [0] * 12, labels, "repeat")
    for before, after in zip(plain, moved, strict=True):
        scaled = [value * scale**2 for value in span(before)]
        assert span(after) == pytest.approx(scaled, rel=1e-6, abs=1e-9)


def test_bad_values_are_refused() -> None:
    """No values, a missing value, or labels that do not fit raise."""
    for values, labels in (([], []), ([1.0, math.nan], [0, 1]), ([1.0, 2.0], [0])):
        with pytest.raises(ValueError, match=r"values|label"):
            nested_components(values, [0] * len(values), [("day", labels)], "repeat")
