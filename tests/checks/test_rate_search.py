"""The rate search against a server whose capacity is known, with and without noise."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.rate_search import (
    PROBE_COUNT_MAX,
    Bracket,
    Probe,
    RateLimits,
    bracket,
    estimate,
    next_rate,
    on_one_machine,
)
from redline.model import RunnerFingerprint

LIMITS = RateLimits(0.1, 0.02)


def search(capacity, first=10.0, resolution=0.05, ceiling=20_000.0, noise=lambda: 1.0):
    """The probes of one search on a server that is within its limits up to `capacity` requests a second."""
    probes: list[Probe] = []
    while (
        rate := next_rate(probes, LIMITS, first_per_s=first, resolution=resolution, ceiling_per_s=ceiling)
    ) is not None:
        ok = rate <= capacity * noise()
        probes.append(Probe(rate, 0.05 if ok else 0.5, 0.01))
    return probes


@given(st.floats(0.01, 5_000), st.floats(0.1, 1_000), st.floats(0.01, 0.5))
def test_a_search_brackets_the_capacity(capacity, first, resolution):
    """However far off it starts, the bracket holds the capacity; it is as narrow as asked unless the search gave up."""
    probes = search(capacity, first, resolution)
    found = bracket(probes, LIMITS)
    assert found.held_per_s <= capacity < found.broken_per_s
    assert len(probes) <= PROBE_COUNT_MAX
    if len(probes) < PROBE_COUNT_MAX and found.held_per_s > 0:
        assert found.broken_per_s / found.held_per_s <= 1 + resolution


def test_a_server_that_never_breaks_is_tried_up_to_the_ceiling():
    """No estimate is made up where no limit broke."""
    probes = search(math.inf, first=10.0, ceiling=100.0)
    assert [probe.rate_per_s for probe in probes] == [10, 20, 40, 80, 100]
    assert estimate([bracket(probes, LIMITS)]) is None


def test_a_server_that_holds_nothing_has_no_rate():
    """Halving ends; what was found is said, not a rate."""
    probes = search(0.0)
    assert [probe.rate_per_s for probe in probes] == [10, 5, 2.5, 1.25, 0.625]
    assert bracket(probes, LIMITS).held_per_s == 0
    assert estimate([bracket(probes, LIMITS)]) is None


@pytest.mark.parametrize(
    "probe",
    [Probe(1, 0.2, 0.01), Probe(1, 0.05, 0.03), Probe(1, None, 0.01), Probe(1, 0.05, None), Probe(1, 0.05, 0.01, 1)],
)
def test_one_broken_limit_or_one_failed_request_is_beyond(probe):
    """Undefined is not kept, and neither is a request that nobody answered."""
    assert not probe.within(LIMITS)
    assert Probe(1, 0.1, 0.02).within(LIMITS)


def test_the_interval_covers_the_capacity_as_often_as_it_says():
    """400 estimates of five noisy searches each: the 95 % interval misses about one in twenty, not more than 8 %."""
    rng = random.Random(7)
    missed = 0
    for _ in range(400):
        brackets = []
        for _ in range(5):
            today = math.exp(rng.gauss(0, 0.08))  # this deployment's capacity
            brackets.append(bracket(search(50 * today, first=12.0), LIMITS))
        found = estimate(brackets)
        assert found is not None and found.low_per_s is not None and found.high_per_s is not None
        missed += not found.low_per_s <= 50 <= found.high_per_s
    assert 0.005 <= missed / 400 <= 0.06


def test_one_stray_failure_does_not_fix_the_answer():
    """The third window fails for no reason of the rate: the search comes back to that rate and goes on upwards."""
    probes: list[Probe] = []
    while (rate := next_rate(probes, LIMITS, first_per_s=4, resolution=0.1, ceiling_per_s=20_000)) is not None:
        stray = len(probes) == 2
        probes.append(Probe(rate, 0.05 if rate <= 100 else 0.5, 0.01, failed_count=int(stray)))
    found = bracket(probes, LIMITS)
    assert found.held_per_s <= 100 < found.broken_per_s <= found.held_per_s * 1.1


def test_equal_searches_do_not_pretend_to_certainty():
    """Twenty searches that end in the same bracket know the rate to the bracket, no better; one knows no interval."""
    found = estimate([Bracket(50, 55)] * 20)
    alone = estimate([Bracket(50, 55)])
    assert found is not None and found.low_per_s is not None and found.high_per_s is not None
    assert found.low_per_s == pytest.approx(50)
    assert found.high_per_s == pytest.approx(55)
    assert alone is not None and alone.low_per_s is None


@pytest.mark.parametrize("ttft", [0.0, -1.0, math.nan, math.inf])
def test_limits_are_positive(ttft):
    """A limit that nothing or everything meets is refused."""
    with pytest.raises(ValueError, match="ttft_s_p99"):
        RateLimits(ttft, 0.1)


def test_searches_of_the_machine_that_was_searched_most_often_go_together():
    """The first of equals; a note decides nothing, and of none there are none."""
    a, b = (RunnerFingerprint({"nodes": name, "accelerator": "H200"}) for name in ("a", "b"))
    noted = RunnerFingerprint(a.facts, {"kernel": "6.9"})
    assert on_one_machine([a, noted, a]) == (0, 1, 2)
    assert on_one_machine([b, a, noted]) == (1, 2)
    assert on_one_machine([a, b]) == (0,)
    assert on_one_machine([b, a, b, a]) == (0, 2)
    assert on_one_machine([]) == ()
