"""What a scorer says of one answer, and what every scorer says of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PERCENT = 100.0
EMPTY_ANSWER = "the answer is empty"


@dataclass(frozen=True, slots=True)
class ItemResult:
    """One answer against its reference.

    `score` is in [0, 1], 1 is best: what pairs the same item of two builds. `parts` are the numbers that the
    figures of all items are made of. `problem` says why the answer could not be read; the score is then 0,
    and the item is counted as unreadable, never left out.
    """

    score: float
    parts: Mapping[str, float]
    problem: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise ValueError(f"score must be in [0, 1], not {self.score}")
        if self.problem and self.score != 0:
            raise ValueError(f"an answer that could not be read scores 0, not {self.score}")


@dataclass(frozen=True, slots=True)
class Scorer:
    """A way to score: `item(answer, reference)` for one answer, `corpus(results, output_tokens)` for all.

    `item` raises ContentError if the reference, which is the data set's, cannot be read. `corpus` takes one
    result and one count of output tokens for each item, in the same order, and gives the figures in MLPerf's
    names and units, with `unreadable` (items with a problem) and `tokens_per_sample` (mean output tokens)
    among them. It raises ValueError if there are no items, or more of the one than of the other.
    """

    name: str
    item: Callable[[str, str], ItemResult]
    corpus: Callable[[Sequence[ItemResult], Sequence[int]], Mapping[str, float]]


def counted(results: Sequence[ItemResult], output_tokens: Sequence[int]) -> dict[str, float]:
    """`unreadable` and `tokens_per_sample`: the figures of every scorer.

    Raises ValueError if there are no items, a number of tokens is negative, or the lengths differ.
    Source: tokens_per_sample is MLPerf's name for the mean number of generated tokens (Llama 2 70B's script).
    """
    if not results:
        raise ValueError("no items were scored: no items is not a zero")
    if len(results) != len(output_tokens):
        raise ValueError(f"{len(results)} results but {len(output_tokens)} counts of output tokens")
    if min(output_tokens) < 0:
        raise ValueError(f"a count of output tokens is negative: {min(output_tokens)}")
    return {
        "unreadable": float(sum(1 for result in results if result.problem)),
        "tokens_per_sample": sum(output_tokens) / len(output_tokens),
    }


def total(results: Sequence[ItemResult], part: str) -> float:
    """The sum of one part over all items."""
    return math.fsum(result.parts[part] for result in results)


def mean_percent(results: Sequence[ItemResult], part: str) -> float:
    """The mean of one part over all items, in percent. Raises ZeroDivisionError if there are none."""
    return PERCENT * total(results, part) / len(results)


def f1_of_counts(hits: float, predicted: float, true: float) -> float:
    """F1 in [0, 1] from counts: 2 x hits / (predicted + true); 0 if nothing was hit, or was there to hit.

    Source: the harmonic mean of hits / predicted and hits / true, van Rijsbergen 1979.
    """
    return 2 * hits / (predicted + true) if hits else 0.0
