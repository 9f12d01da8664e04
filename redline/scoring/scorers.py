"""Every scorer by its name: what a data set names to have its answers scored.

| name | figures (with `unreadable` and `tokens_per_sample` in each) |
|---|---|
| exact-match | exact_match in percent |
| rouge | rouge1, rouge2, rougeL, rougeLsum in percent, gen_len in characters |
| word-errors | wer and accuracy in percent |
| hierarchical-f1 | f1_hierarchical, f1_brand, f1_secondhand in [0, 1] |
| final-answer | exact_match and exact_match_<kind> in percent, not_run |
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from redline.errors import ContentError
from redline.scoring import exact_match, final_answer, hierarchical_f1, rouge, word_errors
from redline.scoring.items import ItemResult, Scorer

__all__ = ["SCORERS", "ItemResult", "Scorer", "scorer"]

SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {module.SCORER.name: module.SCORER for module in (exact_match, rouge, word_errors, hierarchical_f1, final_answer)}
)


def scorer(name: str) -> Scorer:
    """The scorer of that name. Raises ContentError, with the nearest name, if there is none."""
    if name in SCORERS:
        return SCORERS[name]
    near = difflib.get_close_matches(name, SCORERS, n=1, cutoff=0.0)
    raise ContentError(
        f"there is no scorer {name!r}",
        expected=f"one of {', '.join(SCORERS)}",
        found=name,
        next_step=f"write {near[0]!r}, if that is what is meant" if near else "",
    )
