"""Exact match: 1 if the answer is the expected one, character by character, else 0."""

from __future__ import annotations


def exact_match(answer: str, expected: str) -> float:
    """1.0 if the texts are equal after stripping surrounding white space, else 0.0.

    Source: the usual exact_match of lm-evaluation-harness without its optional normalisations.
    """
    return 1.0 if answer.strip() == expected.strip() else 0.0
