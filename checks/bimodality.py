"""Do deployments of one build fall into two groups? Looked for in every arm, and said."""

from __future__ import annotations

from collections.abc import Sequence

COUNT_MIN = 5
# Gap over the wider group's range above which fewer than 2 % of normal samples lie (100,000 draws a size, seed 5).
GAP_RATIO_MIN = {5: 3.73, 6: 2.56, 7: 1.99, 8: 1.60, 9: 1.35}
GAP_RATIO_MIN_FROM_10 = 1.18


def two_groups(values: Sequence[float], gap_min: float) -> bool:
    """True if the values split into two tight groups, each of two or more, with a wide gap between them.

    The widest gap that leaves two values on each side must be at least `gap_min` (a gap too small to matter
    is no finding) and exceed a multiple of the wider group's range: the multiple only 2 % of normal samples of
    that size reach. Below five values nothing can be said and the answer is False. A rule of ours: with so
    few values no published test (dip, Silverman) has any power. It finds about half of what there is to find;
    docs/method.md has the figures.
    """
    count = len(values)
    if count < COUNT_MIN:
        return False
    ordered = sorted(values)
    split = max(range(1, count - 2), key=lambda index: ordered[index + 1] - ordered[index])
    gap = ordered[split + 1] - ordered[split]
    spread = max(ordered[split] - ordered[0], ordered[-1] - ordered[split + 1])
    return gap >= gap_min and gap > GAP_RATIO_MIN.get(count, GAP_RATIO_MIN_FROM_10) * spread
