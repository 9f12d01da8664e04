"""Hierarchical F1 of product categories: Qwen3-VL on Shopify's catalogue, as MLPerf scores it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ConfigDict, TypeAdapter, ValidationError
from rapidfuzz import fuzz

from redline.errors import ContentError
from redline.scoring.items import EMPTY_ANSWER, ItemResult, Scorer, counted, f1_of_counts, total

SEPARATOR = " > "
BRAND_LIKENESS_PERCENT = 90.0  # above it a brand counts as found


@dataclass(frozen=True, slots=True)
class Product:
    """What the model is asked for, as JSON with exactly these keys; the reference has the same form.

    `category` is a path from the broadest to the narrowest level, parted by " > ".
    Source: ProductMetadata of MLPerf's multimodal/qwen3-vl.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    category: str
    brand: str
    is_secondhand: bool


def path_overlap(predicted: str, true: str) -> tuple[int, int, int]:
    """(levels in common from the top, levels predicted, levels true). Even an empty path has one level.

    Source: get_hierarchical_components of MLPerf's multimodal/qwen3-vl evaluation.py.
    """
    ours = [level.strip() for level in predicted.split(SEPARATOR)]
    theirs = [level.strip() for level in true.split(SEPARATOR)]
    common = 0
    for our, their in zip(ours, theirs, strict=False):
        if our != their:
            break
        common += 1
    return common, len(ours), len(theirs)


def is_same_brand(predicted: str, true: str) -> bool:
    """True if the names are over 90 % alike, without regard to case and surrounding white space.

    Source: rapidfuzz's fuzz.ratio, 100 x (1 - insertions and deletions / letters of both), with MLPerf's limit.
    """
    return fuzz.ratio(true.strip().lower(), predicted.strip().lower()) > BRAND_LIKENESS_PERCENT


def item(answer: str, reference: str) -> ItemResult:
    """One product's JSON against the true one; the score is the hierarchical F1 of its category path.

    JSON that MLPerf's schema refuses (a code fence around it, another key) is a problem. It counts as a path
    as long as the true one with nothing right, a wrong brand, and the wrong is_secondhand; MLPerf draws that
    last one at random, so f1_secondhand can differ from its figure by the unreadable answers.
    Raises ContentError if the reference does not have the form of `Product`.
    """
    true = _reference(reference)
    try:
        product = _schema().validate_json(answer)
    except ValidationError as error:
        levels = path_overlap("", true.category)[2]
        problem = _why(error) if answer.strip() else EMPTY_ANSWER
        return _result(
            (0, levels, levels), brand=False, secondhand=(not true.is_secondhand, true.is_secondhand), problem=problem
        )
    overlap = path_overlap(product.category, true.category)
    brand = is_same_brand(product.brand, true.brand)
    return _result(overlap, brand=brand, secondhand=(product.is_secondhand, true.is_secondhand))


def corpus(results: Sequence[ItemResult], output_tokens: Sequence[int]) -> Mapping[str, float]:
    """`f1_hierarchical`, `f1_brand` and `f1_secondhand`, each in [0, 1] as MLPerf prints it.

    f1_hierarchical comes from the levels of all items together. f1_brand is the share of brands found.
    f1_secondhand is the F1 of "second-hand"; it is left out where no product is second-hand and none was
    called so: scikit-learn, which MLPerf calls, says 0 there.
    Source: evaluation.py of MLPerf's multimodal/qwen3-vl.
    """
    shared = counted(results, output_tokens)
    hits, predicted, true = (total(results, part) for part in ("levels_hit", "levels_predicted", "levels_true"))
    figures = {
        "f1_hierarchical": f1_of_counts(hits, predicted, true),
        "f1_brand": total(results, "brand_hit") / len(results),
    }
    hits, predicted, true = (
        total(results, part) for part in ("secondhand_hit", "secondhand_predicted", "secondhand_true")
    )
    if predicted + true:
        figures["f1_secondhand"] = f1_of_counts(hits, predicted, true)
    return {**figures, **shared}


SCORER = Scorer("hierarchical-f1", item, corpus)


@functools.lru_cache(maxsize=1)
def _schema() -> TypeAdapter[Product]:
    return TypeAdapter(Product)


def _reference(reference: str) -> Product:
    try:
        return _schema().validate_json(reference)
    except ValidationError as error:
        raise ContentError(
            "a reference product cannot be scored against",
            expected='JSON such as {"category": "Home & Garden > Decor", "brand": "acme", "is_secondhand": false}',
            found=_why(error),
            next_step="look at the data set: it may be truncated or hold another column",
        ) from error


def _why(error: ValidationError) -> str:
    """The first complaint of the validator, with its key; never the text itself, which may be long."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    key = ".".join(str(part) for part in first["loc"])[:40]
    return f"{key}: {first['msg']}" if key else first["msg"]


def _result(
    overlap: tuple[int, int, int], *, brand: bool, secondhand: tuple[bool, bool], problem: str = ""
) -> ItemResult:
    predicted, true = secondhand
    parts = {
        "levels_hit": float(overlap[0]),
        "levels_predicted": float(overlap[1]),
        "levels_true": float(overlap[2]),
        "brand_hit": float(brand),
        "secondhand_hit": float(predicted and true),
        "secondhand_predicted": float(predicted),
        "secondhand_true": float(true),
    }
    return ItemResult(f1_of_counts(*overlap), parts, problem)
