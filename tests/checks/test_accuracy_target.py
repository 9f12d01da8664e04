"""Figures against their references: MLPerf's point rule."""

import math

import pytest

from checks.accuracy_target import target_readings
from redline.model import AccuracyTarget, Arm

LLAMA2 = AccuracyTarget(
    reference={"rouge1": 44.4312, "tokens_per_sample": 294.45},
    share_min=0.999,
    source="submission checker",
    share_min_of={"tokens_per_sample": 0.9},
    share_max_of={"tokens_per_sample": 1.1},
)


def readings(**figures):
    """Figure -> its reading, of a made-up run of Llama 2."""
    return {each.figure: each for each in target_readings("llama2", LLAMA2, figures, Arm.CANDIDATE)}


def test_the_reference_itself_is_reached():
    """The reference is within its own bounds, and a figure without an upper share has none."""
    found = readings(rouge1=44.4312, tokens_per_sample=294.45)
    assert all(each.ok for each in found.values())
    assert found["rouge1"].low == pytest.approx(44.38677)
    assert found["rouge1"].high is None


@pytest.mark.parametrize(
    ("rouge1", "tokens", "reached"),
    [(44.39, 294, (True, True)), (44.38, 265.1, (False, True)), (60, 324, (True, False)), (60, 264.9, (True, False))],
)
def test_each_figure_has_its_own_bounds(rouge1, tokens, reached):
    """Only a figure with an upper bound can be too good: answers that are too long."""
    found = readings(rouge1=rouge1, tokens_per_sample=tokens)
    assert (found["rouge1"].ok, found["tokens_per_sample"].ok) == reached


def test_what_is_not_reported_is_not_reached():
    """Neither a missing figure nor one that is no number passes."""
    assert not readings(rouge1=44.5)["tokens_per_sample"].ok
    assert not readings(rouge1=math.nan, tokens_per_sample=294)["rouge1"].ok
    assert "is not reported" in readings()["rouge1"].sentence


def test_the_sentence_says_what_is_needed():
    """Value, bound and share, whichever bound is broken."""
    assert readings(rouge1=40.0)["rouge1"].sentence == (
        "rouge1 in llama2 is 40, at least 44.387 is needed (99.9 % of the reference 44.4312)"
    )
    too_long = readings(tokens_per_sample=400.0)["tokens_per_sample"].sentence
    assert "at most 323.9 is needed (110 % of the reference 294.45)" in too_long
