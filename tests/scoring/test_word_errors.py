"""Word errors agree with jiwer, and words written together are forgiven as MLPerf forgives them."""

from __future__ import annotations

import random

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.errors import ContentError
from redline.scoring import word_errors
from redline.scoring.word_errors import item, join_words, normalised
from tests.scoring.real_text import docstrings, with_gaps

WORDS = st.lists(st.sampled_from(("a", "b", "ab", "aba", "c", "ca")), max_size=10)


def test_agrees_with_jiwer_on_real_prose():
    """Where no words are to be joined, the errors are those that jiwer counts, in over 50 docstrings with gaps."""
    rng = random.Random(4)
    pairs = [(normalised(text), normalised(with_gaps(text, rng))) for text in docstrings()[:80]]
    apart = [(left, right) for left, right in pairs if join_words(left, right) == (list(left), list(right))]
    assert len(apart) >= 50
    for reference, answer in apart:
        counts = jiwer.process_words(" ".join(reference), " ".join(answer))
        expected = counts.substitutions + counts.deletions + counts.insertions
        assert word_errors.word_errors(reference, answer) == expected > 0


@pytest.mark.parametrize(
    ("reference", "answer", "errors"),
    [
        ("the cat sat", "the cat sat", 0),
        ("did any body come", "did anybody come", 0),
        ("did anybody come", "did any body come", 0),
        ("for ever more gone", "forevermore gone", 0),
        ("a b c d", "abcd", 4),  # four words are too many
        ("the any body went", "anybody went", 3),  # behind a missing word nothing is in step
        ("cat sat", "cat sat down", 1),
        ("cat sat down", "dog sat", 2),
        ("some thing else", "something other", 1),
        ("hello", "", 1),
    ],
)
def test_joined_words(reference, answer, errors):
    """Up to three words of one side are the next word of the other; the count of words stays the reference's."""
    result = item(answer, reference)
    words = len(reference.split())
    assert result.parts == {"errors": errors, "words": words}
    assert result.score == pytest.approx(max(0, 1 - errors / words))


def test_whispers_normaliser_comes_first():
    """Case, punctuation, spelling, titles, contractions, fillers and numbers are no errors."""
    said = "Mr. Smith's colour TV cost twenty-one dollars, uh, and 50 cents!"
    assert item("mister smith is color tv cost $21.50", said).parts == {"errors": 0, "words": 7}


@given(WORDS, WORDS)
def test_joining_loses_no_letter(reference, answer):
    """Both sides keep their letters in order, and only ever have fewer words."""
    left, right = join_words(reference, answer)
    assert "".join(left) == "".join(reference)
    assert "".join(right) == "".join(answer)
    assert len(left) <= len(reference)
    assert len(right) <= len(answer)
    assert word_errors.word_errors(reference, reference) == 0
    assert word_errors.word_errors(reference, answer) <= max(len(reference), len(answer))


def test_the_figures_are_errors_over_words_of_all_clips():
    """Not the mean of the clips' rates; accuracy is what is missing to 100, and may be below 0."""
    results = [item("one", "one"), item("a b c", "x y z w"), item("", "gone now")]
    figures = word_errors.corpus(results, (2, 6, 1))
    assert figures["wer"] == pytest.approx(100 * (0 + 4 + 2) / (1 + 4 + 2))
    assert figures["accuracy"] == pytest.approx(100 - figures["wer"])
    assert figures["unreadable"] == 1
    assert figures["tokens_per_sample"] == 3
    assert word_errors.corpus([item("a b c d", "x")], (4,))["accuracy"] == -300


@pytest.mark.parametrize(
    ("answer", "problem", "errors"),
    [
        ("", "the answer is empty", 3),
        (" \n", "the answer is empty", 3),
        ("word " * 1_000_000, "5000000 characters, over 20000", 1_000_000),
        ("9" * 5000, "none that Python can read", 3),
    ],
)
def test_an_answer_that_cannot_be_read_is_wrong_in_every_word(answer, problem, errors):
    """It is counted with a reason, and costs as many errors as two lists of words can be apart."""
    result = item(answer, "three plain words")
    assert problem in result.problem
    assert result.score == 0
    assert result.parts == {"errors": errors, "words": 3}


@pytest.mark.parametrize("answer", ["<" * 5000, "(" * 5000, "\ud800 hello", "one " * 4000, "$1 and ¢5 " * 500, "½ ² ٣"])
def test_hostile_answers_are_scored(answer):
    """Open brackets, half a surrogate pair, endless numbers and coins: numbers come out."""
    result = item(answer, "three plain words")
    assert not result.problem
    assert result.parts["errors"] >= 3


@pytest.mark.parametrize("reference", ["", "?!", "(laughs)", "x " * 20_000, "9" * 5000])
def test_a_bad_reference_is_the_data_sets_fault(reference):
    """A reference without a word, or too long, is an error of the content."""
    with pytest.raises(ContentError, match="reference transcript"):
        item("an answer", reference)
