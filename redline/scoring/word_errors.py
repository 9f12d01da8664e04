"""Word errors of a transcript: Whisper's English normaliser; words written together are forgiven, as by MLPerf."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from redline.errors import ContentError
from redline.scoring.items import EMPTY_ANSWER, PERCENT, ItemResult, Scorer, counted, total

if TYPE_CHECKING:
    from whisper_normalizer.english import EnglishTextNormalizer

# The normaliser's patterns take time quadratic in the text. MLPerf's clips are 30 s: some 600 characters.
CHARACTERS_MAX = 20_000
JOINED_WORDS_MAX = 3  # MLPerf's: "for ever more" = "forevermore"


def normalised(text: str) -> tuple[str, ...]:
    """The words of the text as Whisper's English normaliser writes them: small letters, numbers in digits.

    Raises ValueError if the normaliser cannot read a number in it.
    Source: Radford et al. 2022 (Whisper), appendix C; openai-whisper's code as whisper-normalizer packs it.
    """
    try:
        return tuple(_normaliser()(text).split())
    except (AssertionError, ArithmeticError) as error:  # it asserts that a run of digits is a number Python can read
        raise ValueError(f"a number in it is none that Python can read {error}".rstrip()) from error


def join_words(reference: Sequence[str], answer: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both word lists, with up to three words of one joined where together they are the next word of the other.

    Walks through both at once and never looks back: at a difference that joining does not explain, one word
    of each is passed over. So a join is seen only where both stand at the same place of the speech; behind a
    missing or an added word it is mostly not.
    Source: MLPerf's compute_wer_with_concatenation (speech2text/helpers.py).
    """
    left, right = list(reference), list(answer)
    joined_left: list[str] = []
    joined_right: list[str] = []
    i = j = 0
    while i < len(left) and j < len(right):
        taken_left, taken_right = _joined(left[i : i + JOINED_WORDS_MAX], right[j : j + JOINED_WORDS_MAX])
        joined_left.append("".join(left[i : i + taken_left]))
        joined_right.append("".join(right[j : j + taken_right]))
        i, j = i + taken_left, j + taken_right
    return joined_left + left[i:], joined_right + right[j:]


def word_errors(reference: Sequence[str], answer: Sequence[str]) -> int:
    """Substituted, deleted and inserted words between two lists of words, after `join_words`.

    Source: Levenshtein distance over words, counted by jiwer.
    """
    import jiwer  # noqa: PLC0415 - imports its compiled part, and few commands score speech

    left, right = join_words(reference, answer)
    counts = jiwer.process_words(" ".join(left), " ".join(right))
    return counts.substitutions + counts.deletions + counts.insertions


def item(answer: str, reference: str) -> ItemResult:
    """One transcript against what was said; the score is 1 - errors / words, but never below 0.

    Parts: `errors`, and `words` of the reference before joining. An answer that is empty, too long or has a
    number that the normaliser cannot read is a problem, and counts as wrong in every word it or the reference
    has. Raises ContentError if the reference has no words.
    """
    words = _reference_words(reference)
    if not answer.strip():
        return _unreadable(words, 0, EMPTY_ANSWER)
    if len(answer) > CHARACTERS_MAX:
        problem = f"the answer has {len(answer)} characters, over {CHARACTERS_MAX}"
        return _unreadable(words, len(answer.split()), problem)
    try:
        said = normalised(answer)
    except ValueError as error:
        return _unreadable(words, len(answer.split()), f"the normaliser cannot read the answer: {error}")
    errors = word_errors(words, said)
    return ItemResult(max(0.0, 1 - errors / len(words)), {"errors": float(errors), "words": float(len(words))})


def corpus(results: Sequence[ItemResult], output_tokens: Sequence[int]) -> Mapping[str, float]:
    """`wer`, errors of all items over words of all items, in percent, and `accuracy`, 100 - wer.

    wer can be over 100, and accuracy below 0, where an answer runs on.
    Source: word_error_rate of MLPerf's speech2text/accuracy_eval.py.
    """
    shared = counted(results, output_tokens)
    wer = PERCENT * total(results, "errors") / total(results, "words")
    return {"wer": wer, "accuracy": PERCENT - wer, **shared}


SCORER = Scorer("word-errors", item, corpus)


def _joined(left: Sequence[str], right: Sequence[str]) -> tuple[int, int]:
    """How many words of each side make the next pair. Shorter joins first; the reference's before the answer's."""
    if left[0] == right[0]:
        return 1, 1
    for count in range(2, JOINED_WORDS_MAX + 1):
        if len(left) >= count and "".join(left[:count]) == right[0]:
            return count, 1
        if len(right) >= count and "".join(right[:count]) == left[0]:
            return 1, count
    return 1, 1


def _reference_words(reference: str) -> tuple[str, ...]:
    found = f"{len(reference)} characters"
    if len(reference) <= CHARACTERS_MAX:
        try:
            if words := normalised(reference):
                return words
            found += ", no words after normalisation"
        except ValueError as error:
            found += f", and the normaliser says: {error}"
    raise ContentError(
        "a reference transcript cannot be scored against",
        expected=f"English words, at most {CHARACTERS_MAX} characters",
        found=found,
        next_step="look at the data set: it may be truncated or hold another column",
    )


def _unreadable(words: Sequence[str], answer_words: int, problem: str) -> ItemResult:
    """Wrong in every word: no two lists of words are further apart than the longer one is long."""
    errors = float(max(len(words), answer_words))
    return ItemResult(0.0, {"errors": errors, "words": float(len(words))}, problem)


@functools.lru_cache(maxsize=1)
def _normaliser() -> EnglishTextNormalizer:
    from whisper_normalizer.english import EnglishTextNormalizer  # noqa: PLC0415 - reads a table of 1,700 spellings

    return EnglishTextNormalizer()
