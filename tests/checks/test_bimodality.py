"""Two groups of deployments: how often they are found, and how often they are made up."""

from __future__ import annotations

import numpy as np
import pytest

from checks.bimodality import two_groups


@pytest.mark.parametrize("count", [5, 6, 7, 8, 10])
def test_normal_samples_are_seldom_split(count):
    """At most 3 % of normal samples are called bimodal, whatever their size."""
    generator = np.random.default_rng(11)
    found = sum(two_groups(generator.standard_normal(count).tolist(), 0.0) for _ in range(2000))
    assert found / 2000 <= 0.03


def test_clear_groups_are_found():
    """Two even groups twenty standard deviations apart are found in nine of ten samples of eight or ten."""
    generator = np.random.default_rng(12)
    for count in (8, 10):
        values = generator.standard_normal((1000, count)) + 20 * (np.arange(count) % 2)
        assert sum(two_groups(row.tolist(), 0.0) for row in values) >= 900


def test_small_gaps_and_few_values_are_no_finding():
    """A gap below what matters is not said, nor is anything below five values."""
    assert two_groups([0.0, 0.001, 0.002, 1.0, 1.001], 0.5)
    assert not two_groups([0.0, 0.001, 0.002, 1.0, 1.001], 2.0)
    assert not two_groups([0.0, 0.001, 1.0, 1.001], 0.5)
    assert not two_groups([0.0, 0.001, 0.002, 0.003, 1.0], 0.1)
