"""What holds for every scorer."""

from __future__ import annotations

import json

import pytest

from redline.errors import ContentError
from redline.scoring.exact_match import exact_match
from redline.scoring.items import ItemResult
from redline.scoring.scorers import SCORERS, scorer

REFERENCES = {
    "exact-match": "abc",
    "rouge": "A text with words.",
    "word-errors": "a text with words",
    "hierarchical-f1": json.dumps({"category": "Home > Decor", "brand": "acme", "is_secondhand": True}),
    "final-answer": "gpqa:B",
}
FIGURES = {
    "exact-match": {"exact_match"},
    "rouge": {"rouge1", "rouge2", "rougeL", "rougeLsum", "gen_len"},
    "word-errors": {"wer", "accuracy"},
    "hierarchical-f1": {"f1_hierarchical", "f1_brand", "f1_secondhand"},
    "final-answer": {"exact_match", "exact_match_gpqa", "not_run"},
}
PERFECT = dict(REFERENCES) | {"final-answer": "B"}


@pytest.fixture(params=sorted(SCORERS))
def name(request):
    """Each scorer's name in turn."""
    return request.param


def test_there_is_a_scorer_by_each_name(name):
    """The registry's key is the scorer's own name."""
    assert scorer(name).name == name
    assert set(SCORERS) == set(REFERENCES)


@pytest.mark.parametrize(
    ("wrong", "near"), [("rogue", "rouge"), ("exact_match", "exact-match"), ("wer", "word-errors")]
)
def test_an_unknown_name_gets_the_nearest(wrong, near):
    """A mistyped name is an error that says what was probably meant."""
    with pytest.raises(ContentError) as caught:
        scorer(wrong)
    assert near in caught.value.next_step
    assert all(known in caught.value.expected for known in SCORERS)


def test_a_perfect_answer_scores_one_and_an_empty_one_is_a_problem(name):
    """1 without a problem; 0 with one; the figures count it and have MLPerf's names."""
    perfect = SCORERS[name].item(PERFECT[name], REFERENCES[name])
    empty = SCORERS[name].item("", REFERENCES[name])
    assert (perfect.score, perfect.problem) == (1, "")
    assert (empty.score, empty.problem) == (0, "the answer is empty")
    figures = SCORERS[name].corpus([perfect, empty], (5, 0))
    assert set(figures) == FIGURES[name] | {"unreadable", "tokens_per_sample"}
    assert figures["unreadable"] == 1
    assert figures["tokens_per_sample"] == 2.5


def test_no_items_are_not_a_zero(name):
    """No items, or counts of tokens that are not theirs, are refused."""
    result = SCORERS[name].item(PERFECT[name], REFERENCES[name])
    for results, tokens in (([], []), ([result], []), ([], [3]), ([result], [-1])):
        with pytest.raises(ValueError, match=r"no items|output tokens"):
            SCORERS[name].corpus(results, tokens)


@pytest.mark.parametrize(
    "answer",
    [
        "word " * 400_000,
        "\ud800\udfff",
        "\x00",
        "[" * 200_000,
        '{"category": ' * 50_000,
        "\\boxed{" * 50_000,
        "```" * 70_000,
        "\n" * 300_000,
        "\u202e\u200b\ufeff",
        "9" * 400_000,
    ],
    ids=lambda answer: ascii(answer[:6]),
)
def test_hostile_answers_get_a_score(name, answer):
    """Megabytes, broken text, bombs: every scorer gives each of them a score, and all its figures."""
    result = SCORERS[name].item(answer, REFERENCES[name])
    assert 0 <= result.score < 1
    assert FIGURES[name] <= set(SCORERS[name].corpus([result], (1,)))


def test_a_result_is_what_it_says():
    """A score outside [0, 1], or one above 0 of what could not be read, cannot be made."""
    with pytest.raises(ValueError, match="score must be in"):
        ItemResult(1.5, {})
    with pytest.raises(ValueError, match="could not be read"):
        ItemResult(0.5, {}, "broken")


@pytest.mark.parametrize(("answer", "expected", "score"), [(" abc\n", "abc", 1), ("abd", "abc", 0), ("", "", 1)])
def test_exact_match_ignores_white_space_around(answer, expected, score):
    """Only what surrounds the text is stripped."""
    assert exact_match(answer, expected) == score
    assert SCORERS["exact-match"].item(answer, expected).score == score
