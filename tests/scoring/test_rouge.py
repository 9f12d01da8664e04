"""ROUGE agrees with rouge-score 0.1.2, word for word, and no answer can hold it up."""

from __future__ import annotations

import functools
import itertools
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rouge_score import rouge_scorer  # type: ignore[import-untyped]

from redline.errors import ContentError
from redline.scoring import rouge
from redline.scoring.longest_common import common_length, common_subsequence
from redline.scoring.sentences import one_sentence_a_line
from tests.scoring.real_text import docstrings, with_gaps

ODD_TEXTS = (
    "",
    " \n ",
    "?!",
    "one",
    "The cats were running; the cat runs.",
    "1,234.5 apples cost $3.50 in 2024, 10% more than 1999's",
    "Ünïcödé straße naïve İstanbul 東京 Привет ﬁne",
    "generalizations generalization generalizing generalized ponies caresses skies dying happily sky",
    "a a a a b b b",
    "b b b a a a a",
    "first line\nsecond line\n\nthird line",
    "third line\nfirst line",
    "line one.\nline two. line three!",
    "under_scored snake_case CamelCase it's o'clock",
)
WORDS = st.lists(st.sampled_from("abcdefg"), max_size=12)


@functools.lru_cache(maxsize=1)
def reference_implementation() -> rouge_scorer.RougeScorer:
    """rouge-score as MLPerf's scripts call it."""
    return rouge_scorer.RougeScorer(list(rouge.FIGURES), use_stemmer=True)


def of_reference_implementation(answer: str, reference: str) -> dict[str, float]:
    """Its four F1 of texts that are split into sentences already."""
    scores = reference_implementation().score(one_sentence_a_line(reference), one_sentence_a_line(answer))
    return {figure: scores[figure].fmeasure for figure in rouge.FIGURES}


def ours(answer: str, reference: str) -> dict[str, float]:
    """The same four of ours."""
    result = rouge.item(answer, reference)
    return {figure: result.parts[figure] for figure in rouge.FIGURES}


def test_agrees_on_real_prose():
    """120 pairs of docstrings, related and not, get the F1 that rouge-score 0.1.2 gives them."""
    rng = random.Random(20)
    texts = docstrings()
    assert len(texts) > 200
    for _ in range(60):
        reference, other = rng.choice(texts), rng.choice(texts)
        for answer in (other, with_gaps(reference, rng)):
            assert ours(answer, reference) == pytest.approx(of_reference_implementation(answer, reference), abs=1e-12)


def test_agrees_on_odd_texts():
    """Unicode, numbers, stems, repeated words, lines and emptiness too, each against each."""
    for answer, reference in itertools.product(ODD_TEXTS, ODD_TEXTS):
        if reference.strip():
            expected = of_reference_implementation(answer, reference)
            assert ours(answer, reference) == pytest.approx(expected, abs=1e-12), (answer, reference)


@given(st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4))
def test_agrees_where_subsequences_tie(reference, answer):
    """Over few words there are many longest common subsequences: ours is the one rouge-score walks."""
    texts = ["\n".join(" ".join(sentence) for sentence in text) for text in (reference, answer)]
    expected = reference_implementation().score(*texts)["rougeLsum"].fmeasure
    assert rouge.rouge_lsum(reference, answer) == pytest.approx(expected, abs=1e-12)


@given(WORDS, WORDS)
def test_the_subsequence_is_common_and_longest(reference, answer):
    """It is in both, in order, as long as the table of the textbook says, whichever side comes first."""
    kept = common_subsequence(reference, answer)
    position = iter(answer)
    assert list(kept) == sorted(set(kept))
    assert all(reference[index] in position for index in kept)
    table = [[0] * (len(answer) + 1) for _ in range(len(reference) + 1)]
    for i, j in itertools.product(range(len(reference)), range(len(answer))):
        table[i + 1][j + 1] = table[i][j] + 1 if reference[i] == answer[j] else max(table[i][j + 1], table[i + 1][j])
    assert len(kept) == table[-1][-1] == common_length(reference, answer) == common_length(answer, reference)


@given(st.text(max_size=60), st.text(max_size=60))
def test_bounds_and_symmetry(answer, reference):
    """Every F1 is in [0, 1]; 1, 2 and L do not care which text is which; a text matches itself."""
    assume(reference.strip() and answer.strip())
    one, other = ours(answer, reference), ours(reference, answer)
    assert all(0 <= value <= 1 for value in one.values())
    for figure in ("rouge1", "rouge2", "rougeL"):
        assert one[figure] == other[figure]
    if rouge.words(reference):
        assert ours(reference, reference)["rougeLsum"] == 1


def test_the_figures_are_mlperfs():
    """Means in percent, and gen_len the characters of all answers, stripped, one between two sentences."""
    results = [rouge.item("The cat sat.   It slept. ", "the cat sat"), rouge.item("", "the dog ran")]
    figures = rouge.corpus(results, (7, 0))
    assert figures["rouge1"] == pytest.approx(100 * (2 * 3 / (5 + 3)) / 2)
    assert figures["gen_len"] == len("The cat sat.\nIt slept.")
    assert figures["unreadable"] == 1
    assert figures["tokens_per_sample"] == 3.5


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Dr. Smith left the U.S. on Friday. He flew.", 2),
        ("It cost $3.50. Why? Nobody knows!", 3),
        ("highlight one .\nhighlight two .", 2),
        ("no end\nof a sentence", 2),
        ("Tools, e.g. hammers.", 2),  # as Punkt's English parameters have it
    ],
)
def test_sentences_end_where_punkt_says(text, lines):
    """Titles and sums of money end no sentence; a newline that is there stays."""
    assert one_sentence_a_line(f"  {text}\n").count("\n") + 1 == lines


def test_an_answer_over_a_bound_is_counted_and_not_scored():
    """Megabytes, and too many pairs of words, are problems with a score of 0: the scorer ends at once."""
    long = rouge.item("word " * 1_000_000, "some word")
    wide = rouge.item("ab " * 6_000, "ab " * 6_000)
    for result in (long, wide):
        assert result.score == result.parts["rouge1"] == 0
    assert "5000000 characters, over 200000" in long.problem
    assert long.parts["characters"] == 4_999_999
    assert "36000000 pairs of words" in wide.problem


@pytest.mark.parametrize("answer", ["y" * 50_000, "a\n" * 50_000, '."' * 50_000, "." * 100_000, "\ud800 \x00 text"])
def test_hostile_answers_are_scored(answer):
    """One word of 50,000 letters, as many lines, marks only, half a surrogate pair: numbers come out."""
    result = rouge.item(answer, "a text with words")
    assert not result.problem
    assert 0 <= result.score < 1


@pytest.mark.parametrize("reference", ["", " \n", "x" * 200_001])
def test_a_bad_reference_is_the_data_sets_fault(reference):
    """An empty or overlong reference is an error of the content, not a zero of the model's."""
    with pytest.raises(ContentError, match="reference text"):
        rouge.item("an answer", reference)
