"""ROUGE: how much of a reference text's words an answer shares, alone, in pairs and in order.

Agrees with rouge-score 0.1.2 (use_stemmer=True), which MLPerf's scripts call; that one has no wheel and is no
longer kept, so the measure is written here and tested against it. The stemmer is nltk's, as theirs is.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from redline.errors import ContentError
from redline.scoring.items import EMPTY_ANSWER, ItemResult, Scorer, counted, f1_of_counts, mean_percent, total
from redline.scoring.longest_common import common_length, common_subsequence
from redline.scoring.sentences import one_sentence_a_line

if TYPE_CHECKING:
    from nltk.stem.porter import PorterStemmer

FIGURES = ("rouge1", "rouge2", "rougeL", "rougeLsum")

# Bounds on one item, so that no answer can hold the scorer up. MLPerf's longest summaries are 1,024 tokens
# (Llama 2 70B) and 20,000 (Llama 3.1 405B): some 5,000 and 100,000 characters.
CHARACTERS_MAX = 200_000
TOKEN_PAIRS_MAX = 25_000_000  # answer's words x reference's: what the common subsequences cost
STEMMED_CHARACTERS_MAX = 100  # no English word is longer, and the stemmer walks such a one many times

_WORD = re.compile(r"[a-z0-9]+")


def words(text: str) -> tuple[str, ...]:
    """The runs of a-z and 0-9 of the text in small letters, those of more than three characters stemmed.

    Source: rouge-score 0.1.2, tokenize.py; a run of over STEMMED_CHARACTERS_MAX characters is kept whole here.
    """
    return tuple(_stem(word) if len(word) > 3 else word for word in _WORD.findall(text.lower()))


def rouge_n(reference: Sequence[str], answer: Sequence[str], n: int) -> float:
    """ROUGE-n F1 in [0, 1]: the share of n-grams in common, each counted as often as both have it.

    Source: Lin 2004, section 2; F1 as rouge-score gives it.
    """
    ours, theirs = _ngrams(answer, n), _ngrams(reference, n)
    return f1_of_counts((ours & theirs).total(), ours.total(), theirs.total())


def rouge_l(reference: Sequence[str], answer: Sequence[str]) -> float:
    """ROUGE-L F1 in [0, 1], from the longest common subsequence of the whole texts. Source: Lin 2004, section 3.1."""
    return f1_of_counts(common_length(reference, answer), len(answer), len(reference))


def rouge_lsum(reference: Sequence[Sequence[str]], answer: Sequence[Sequence[str]]) -> float:
    """ROUGE-Lsum F1 in [0, 1], from sentences of words.

    A reference sentence's hits are its words that are in a longest common subsequence with any answer
    sentence; no word is a hit more often than both texts hold it.
    Source: Lin 2004, section 3.2 (union LCS), with the clipping of ROUGE 1.5.5, as rouge-score has it.
    """
    left = Counter(word for sentence in answer for word in sentence)
    length_answer = left.total()
    length_reference = sum(len(sentence) for sentence in reference)
    holding: dict[str, list[tuple[str, ...]]] = {}
    for other in dict.fromkeys(tuple(sentence) for sentence in answer):  # equal ones have equal subsequences
        for word in dict.fromkeys(other):
            holding.setdefault(word, []).append(other)
    hits = 0
    for sentence in reference:
        for index in sorted(_union(sentence, holding)):
            if left[sentence[index]] > 0:
                left[sentence[index]] -= 1
                hits += 1
    return f1_of_counts(hits, length_answer, length_reference)


def item(answer: str, reference: str) -> ItemResult:
    """One answer against one reference text; the score is ROUGE-L's F1.

    Parts: the four F1 in [0, 1], and `characters`, the answer's length as MLPerf's gen_len counts it. An
    answer that is empty, or over the bounds above, is a problem. Raises ContentError if the reference is
    empty or by itself over a bound.
    """
    if not reference.strip() or len(reference) > CHARACTERS_MAX:
        raise ContentError(
            "a reference text cannot be scored against",
            expected=f"1 to {CHARACTERS_MAX} characters",
            found=f"{len(reference)} characters, white space included",
            next_step="look at the data set: it may be truncated or hold another column",
        )
    if not answer.strip():
        return _unreadable(0, EMPTY_ANSWER)
    if len(answer) > CHARACTERS_MAX:
        return _unreadable(len(answer.strip()), f"the answer has {len(answer)} characters, over {CHARACTERS_MAX}")
    try:
        lines = one_sentence_a_line(answer)
    except TimeoutError:  # nltk's own bound on its patterns: seconds, where a page of prose takes milliseconds
        return _unreadable(len(answer.strip()), "the ends of its sentences were not found within nltk's time limit")
    ours = tuple(words(line) for line in lines.split("\n"))
    theirs = tuple(words(line) for line in one_sentence_a_line(reference).split("\n"))
    all_ours = tuple(word for line in ours for word in line)
    all_theirs = tuple(word for line in theirs for word in line)
    if (pairs := len(all_ours) * len(all_theirs)) > TOKEN_PAIRS_MAX:
        problem = f"{len(all_ours)} x {len(all_theirs)} = {pairs} pairs of words, over {TOKEN_PAIRS_MAX}"
        return _unreadable(len(lines), problem)
    parts = {
        "rouge1": rouge_n(all_theirs, all_ours, 1),
        "rouge2": rouge_n(all_theirs, all_ours, 2),
        "rougeL": rouge_l(all_theirs, all_ours),
        "rougeLsum": rouge_lsum(theirs, ours),
        "characters": float(len(lines)),
    }
    return ItemResult(parts["rougeL"], parts)


def corpus(results: Sequence[ItemResult], output_tokens: Sequence[int]) -> Mapping[str, float]:
    """`rouge1`, `rouge2`, `rougeL`, `rougeLsum`: means over all items, in percent; `gen_len`: all answers' characters.

    Source: MLPerf's evaluation.py of GPT-J and Llama 3.1 8B and evaluate-accuracy.py of Llama 2 70B.
    """
    shared = counted(results, output_tokens)
    means = {figure: mean_percent(results, figure) for figure in FIGURES}
    return {**means, "gen_len": total(results, "characters"), **shared}


SCORER = Scorer("rouge", item, corpus)


def _unreadable(characters: int, problem: str) -> ItemResult:
    return ItemResult(0.0, {**dict.fromkeys(FIGURES, 0.0), "characters": float(characters)}, problem)


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def _union(sentence: Sequence[str], holding: Mapping[str, Sequence[tuple[str, ...]]]) -> set[int]:
    """Indices of the sentence's words that are in its common subsequence with any sentence that shares a word."""
    others = dict.fromkeys(other for word in dict.fromkeys(sentence) for other in holding.get(word, ()))
    return {index for other in others for index in common_subsequence(sentence, other)}


@functools.lru_cache(maxsize=100_000)  # a language's words come again and again, and stemming is the slow part
def _stem(word: str) -> str:
    return word if len(word) > STEMMED_CHARACTERS_MAX else _stemmer().stem(word)


@functools.lru_cache(maxsize=1)
def _stemmer() -> PorterStemmer:
    from nltk.stem.porter import PorterStemmer  # noqa: PLC0415 - nltk takes long to import, and few commands score text

    return PorterStemmer()
