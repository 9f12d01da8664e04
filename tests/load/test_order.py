"""Which item a request uses: each once per pass, the same for the same seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.load import loadgen
from redline.load.order import OrderKind, order

KINDS = st.sampled_from(get_args(OrderKind))
SEEDS = st.integers(0, 2**63 - 1)


@given(KINDS, st.integers(1, 60), st.integers(0, 300), SEEDS)
def test_each_pass_is_a_permutation(kind: OrderKind, item_count: int, request_count: int, seed: int) -> None:
    """Whole passes hold each item once, the last one no item twice."""
    items = order(item_count, request_count, seed, kind)
    assert len(items) == request_count
    for start in range(0, request_count, item_count):
        one_pass = items[start : start + item_count]
        assert set(one_pass) <= set(range(item_count))
        assert len(set(one_pass)) == len(one_pass)


@given(KINDS, st.integers(1, 40), st.integers(0, 100), st.integers(0, 100), SEEDS)
def test_fewer_requests_are_the_beginning_of_more(
    kind: OrderKind, item_count: int, count: int, more: int, seed: int
) -> None:
    """A longer scenario repeats the shorter one and goes on."""
    assert order(item_count, count + more, seed, kind)[:count] == order(item_count, count, seed, kind)


def test_sequential_goes_through_the_data_set_again_and_again() -> None:
    """0, 1, 2 and from the start, whatever the seed."""
    assert order(3, 7, 1, "sequential") == order(3, 7, 2, "sequential") == (0, 1, 2, 0, 1, 2, 0)


@pytest.mark.parametrize("kind", ["shuffled", "loadgen"])
def test_passes_and_seeds_differ(kind: OrderKind) -> None:
    """Each pass has a permutation of its own, and so has each seed."""
    items = order(500, 1500, 3, kind)
    passes = {items[:500], items[500:1000], items[1000:], order(500, 500, 4, kind)}
    assert len(passes) == 4


def test_all_permutations_are_equally_likely() -> None:
    """3 items, 6,000 passes: each of 6 permutations; chi-square with 5 degrees below its 99.9 % quantile, 20.5."""
    items = order(3, 18_000, 8, "shuffled")
    counts = Counter(items[start : start + 3] for start in range(0, 18_000, 3))
    assert len(counts) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 20.5


def test_loadgen_is_loadgens_equal_issue_order_with_one_seed_for_all() -> None:
    """The first whole passes of a LoadGen run with qsl_rng_seed and sample_index_rng_seed set to the seed."""
    loaded = loadgen.loaded_samples(977, 42)
    assert order(977, 2000, 42, "loadgen") == loadgen.sample_order(
        loaded, 2000, 42, "equal-issue", min_query_count=2000
    )


@pytest.mark.parametrize(
    ("kind", "first_passes", "sha256"),
    [
        (
            "shuffled",
            (2, 3, 6, 4, 1, 0, 5, 5, 4, 3, 2, 6, 1, 0),
            "af7a885a818bce7cf21212388d3b577b999fe963944107a7ee148e8a1cc5c93e",
        ),
        (
            "loadgen",
            (0, 5, 6, 4, 2, 1, 3, 0, 6, 1, 3, 4, 5, 2),
            "a34dd635158a17dd227b3bd92ec1ccfebf15409636ebcfc19d0c14634bf71e2c",
        ),
    ],
)
def test_orders_are_the_ones_that_results_were_stored_with(
    kind: OrderKind, first_passes: tuple[int, ...], sha256: str
) -> None:
    """Scenario hashes are made of the requests in order: a changed order orphans every stored result."""
    assert order(7, 14, 11, kind) == first_passes
    text = ",".join(map(str, order(1000, 5000, 11, kind)))
    assert hashlib.sha256(text.encode()).hexdigest() == sha256


@pytest.mark.parametrize(("item_count", "request_count"), [(0, 1), (-1, 0), (3, -1)])
@pytest.mark.parametrize("kind", get_args(OrderKind))
def test_impossible_counts_are_refused(kind: OrderKind, item_count: int, request_count: int) -> None:
    """There is no order of nothing."""
    with pytest.raises(ValueError, match="must"):
        order(item_count, request_count, 0, kind)
