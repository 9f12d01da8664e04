"""Exact match: 1 if the answer is the expected one, character by character, else 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redline.scoring.items import EMPTY_ANSWER, ItemResult, Scorer, counted, mean_percent


def exact_match(answer: str, expected: str) -> float:
    """1.0 if the texts are equal after stripping surrounding white space, else 0.0.

    Source: the usual exact_match of lm-evaluation-harness without its optional normalisations.
    """
    return 1.0 if answer.strip() == expected.strip() else 0.0


def item(answer: str, reference: str) -> ItemResult:
    """One answer against the expected one. Part: `exact_match`, 0 or 1. An empty answer to a question is a problem."""
    score = exact_match(answer, reference)
    problem = "" if score or answer.strip() else EMPTY_ANSWER
    return ItemResult(score, {"exact_match": score}, problem)


def corpus(results: Sequence[ItemResult], output_tokens: Sequence[int]) -> Mapping[str, float]:
    """`exact_match`: the share of equal answers, in percent."""
    shared = counted(results, output_tokens)
    return {"exact_match": mean_percent(results, "exact_match"), **shared}


SCORER = Scorer("exact-match", item, corpus)
