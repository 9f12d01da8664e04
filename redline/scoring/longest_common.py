"""The longest common subsequence of two token sequences: how long it is, and which tokens are in it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def common_subsequence(reference: Sequence[Hashable], answer: Sequence[Hashable]) -> tuple[int, ...]:
    """Indices into `reference`, ascending, of one longest common subsequence with `answer`.

    Several may be equally long; this is the one found by walking back from the ends of both, stepping over an
    answer's token only where that keeps more than stepping over the reference's, which is rouge-score's
    choice: ROUGE-Lsum depends on it.

    Time and memory: len(reference) integers of len(answer) bits.
    Source: bit-parallel LCS, Hyyro 2004; a zero bit is where the length grows along a row.
    """
    rows = _rows(reference, answer)
    i, j = len(reference), len(answer)
    kept: list[int] = []
    # Lengths in the corner (i, j) and one row above it, updated bit by bit.
    length, above = (_length(rows[i], j), _length(rows[i - 1], j)) if i else (0, 0)
    while i > 0 and j > 0:
        bit = 1 << (j - 1)
        if reference[i - 1] == answer[j - 1]:
            kept.append(i - 1)
            i, j = i - 1, j - 1
            length = above - (not rows[i] & bit)
            above = _length(rows[i - 1], j) if i else 0
        elif length > above:  # an answer's token can go without loss, a reference's cannot
            length -= not rows[i] & bit
            above -= not rows[i - 1] & bit
            j -= 1
        else:
            i -= 1
            length = above
            above = _length(rows[i - 1], j) if i else 0
    return tuple(reversed(kept))


def common_length(reference: Sequence[Hashable], answer: Sequence[Hashable]) -> int:
    """How long the longest common subsequence is. Time: len(reference) steps over len(answer) bits."""
    ones, places = _places(answer)
    row = ones
    for token in reference:
        row = _next_row(row, places.get(token, 0), ones)
    return _length(row, len(answer))


def _rows(reference: Sequence[Hashable], answer: Sequence[Hashable]) -> list[int]:
    ones, places = _places(answer)
    rows = [ones]
    for token in reference:
        rows.append(_next_row(rows[-1], places.get(token, 0), ones))
    return rows


def _places(answer: Sequence[Hashable]) -> tuple[int, dict[Hashable, int]]:
    """(one bit for each token, the bits at which each token stands)."""
    places: dict[Hashable, int] = {}
    for index, token in enumerate(answer):
        places[token] = places.get(token, 0) | 1 << index
    return (1 << len(answer)) - 1, places


def _next_row(row: int, matches: int, ones: int) -> int:
    hits = row & matches
    return ((row + hits) | (row - hits)) & ones


def _length(row: int, width: int) -> int:
    """The zero bits among the lowest `width`."""
    return width - (row & ((1 << width) - 1)).bit_count()
