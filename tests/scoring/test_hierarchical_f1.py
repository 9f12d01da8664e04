"""Hierarchical F1, by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.errors import ContentError
from redline.scoring.hierarchical_f1 import corpus, is_same_brand, item, path_overlap

LEVELS = st.lists(st.sampled_from("abc"), min_size=1, max_size=5)


def product(category: str, brand: str = "acme", *, is_secondhand: bool = False) -> str:
    """A product as the model should write it, and as the data set holds it."""
    return json.dumps({"category": category, "brand": brand, "is_secondhand": is_secondhand})


TRUE = product("Home > Decor > Vases", "Acme")


@pytest.mark.parametrize(
    ("predicted", "overlap"),
    [
        ("Home > Decor > Vases", (3, 3, 3)),
        ("Home > Decor", (2, 2, 3)),
        ("Home > Decor > Rugs > Round", (2, 4, 3)),
        ("Home > Rugs > Vases", (1, 3, 3)),  # nothing below the first mistake counts
        ("Garden", (0, 1, 3)),
        ("home > Decor > Vases", (0, 3, 3)),  # case counts
        (" Home >  Decor > Vases ", (3, 3, 3)),
        ("Home>Decor>Vases", (0, 1, 3)),  # not the separator
        ("", (0, 1, 3)),
    ],
)
def test_overlap_from_the_top(predicted, overlap):
    """Levels count from the top to the first difference; the score is 2 x common / (predicted + true)."""
    assert path_overlap(predicted, "Home > Decor > Vases") == overlap
    assert item(product(predicted), TRUE).score == pytest.approx(2 * overlap[0] / (overlap[1] + overlap[2]))


@given(LEVELS, LEVELS)
def test_bounds_and_symmetry(one, other):
    """The score is in [0, 1], 1 only for the same path, and the same both ways."""
    first, second = product(" > ".join(one)), product(" > ".join(other))
    score = item(first, second).score
    assert 0 <= score <= 1
    assert (score == 1) == (one == other)
    assert score == item(second, first).score


def test_the_figures_come_from_all_levels_together():
    """Hand-computed: three products, one of them unreadable."""
    results = [
        item(product("Home > Decor > Vases", "ACME ", is_secondhand=True), product("Home > Decor > Vases", "acme")),
        item(product("Toys", "brio", is_secondhand=True), product("Toys > Trains", "lego", is_secondhand=True)),
        item("Toys > Trains", product("Toys > Trains", "brio", is_secondhand=True)),
    ]
    figures = corpus(results, (10, 20, 30))
    hits, predicted, true = 3 + 1 + 0, 3 + 1 + 2, 3 + 2 + 2
    precision, recall = hits / predicted, hits / true
    assert figures["f1_hierarchical"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert figures["f1_brand"] == pytest.approx(1 / 3)
    # called second-hand: first (wrong) and second (right); the third's answer counts as the wrong one: missed
    assert figures["f1_secondhand"] == pytest.approx(2 * 1 / (2 + 2))
    assert figures["unreadable"] == 1
    assert figures["tokens_per_sample"] == 20


def test_an_undefined_f1_is_left_out():
    """Where nothing is second-hand and nothing was called so there is no F1, not one of 0."""
    assert "f1_secondhand" not in corpus([item(TRUE, TRUE)], (1,))


@pytest.mark.parametrize(
    ("predicted", "true", "same"),
    [
        (" NIKE ", "nike", True),
        ("giorgio arman", "giorgio armani", True),  # 27 letters, 1 of them deleted: 96 %
        ("adodas", "adidas", False),  # 12 letters, 2 of them changed: 83 %
        ("giorgio", "giorgio armani", False),
        ("", "nike", False),
        ("n" * 1_000_000, "nike", False),
    ],
)
def test_brands_may_differ_a_little(predicted, true, same):
    """Over 90 % alike is the same brand, as rapidfuzz's ratio measures it."""
    assert is_same_brand(predicted, true) == same


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "the answer is empty"),
        ("The category is Home.", "Invalid JSON"),
        (f"```json\n{TRUE}\n```", "Invalid JSON"),
        (TRUE[:-5], "Invalid JSON"),
        ("[" * 1_000_000, "recursion limit"),
        ('{"a":' * 100_000, "recursion limit"),
        ("null", "object"),
        ("[]", "object"),
        ('{"category": "Home"}', "brand"),
        ('{"category": 3, "brand": "x", "is_secondhand": false}', "category"),
        (TRUE[:-1] + ', "price": 3}', "price"),
        ('{"category": "\ud800", "brand": "x", "is_secondhand": false}', "unicode"),
        ("9" * 1_000_000, "Invalid JSON"),
    ],
)
def test_what_the_schema_refuses_is_counted_and_wrong(answer, problem):
    """Broken JSON, JSON in a fence, bombs, other keys and types: a reason, and as wrong as an answer can be."""
    result = item(answer, TRUE)
    assert problem in result.problem
    assert len(result.problem) < 200
    assert result.score == result.parts["levels_hit"] == result.parts["brand_hit"] == 0
    assert result.parts["levels_predicted"] == result.parts["levels_true"] == 3
    assert result.parts["secondhand_predicted"] == 1


@pytest.mark.parametrize("written", ['"true"', "1", '"yes"'])
def test_truth_may_be_written_as_mlperf_reads_it(written):
    """Pydantic's lax reading of truth values is MLPerf's."""
    answer = f'{{"category": "Home", "brand": "acme", "is_secondhand": {written}}}'
    assert item(answer, product("Home", is_secondhand=True)).parts["secondhand_hit"] == 1


@pytest.mark.parametrize("reference", ["", "Home > Decor", '{"category": "Home"}'])
def test_a_bad_reference_is_the_data_sets_fault(reference):
    """A reference in another form is an error of the content."""
    with pytest.raises(ContentError, match="reference product"):
        item(TRUE, reference)
