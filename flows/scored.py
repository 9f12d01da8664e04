"""From answers to scores: each item's own, and what the scorer says of all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from redline.scoring.scorers import scorer

from redline.model import Outcome, Request, RequestRecord

NOT_READABLE = "the answer could not be read: "


def scored(
    name: str, requests: Sequence[Request], records: Sequence[RequestRecord]
) -> tuple[tuple[RequestRecord, ...], Mapping[str, float]]:
    """(the records with their scores, figures of all answers by the scorer's names).

    A request that failed is scored as an empty answer, and so is one whose answer could not be read; the latter says so
    in its `detail` and is counted in the figure `unreadable`. Raises ContentError for an unknown scorer.
    """
    found = scorer(name)
    asked = {request.index: request.expected or "" for request in requests}
    answered = [record.output_text if record.outcome is Outcome.OK else "" for record in records]
    results = [found.item(answer, asked[record.index]) for answer, record in zip(answered, records, strict=True)]
    figures = found.corpus(results, [record.output_tokens for record in records])
    with_scores = tuple(
        replace(record, score=result.score, detail=record.detail or _said(result.problem))
        for record, result in zip(records, results, strict=True)
    )
    return with_scores, figures


def _said(problem: str) -> str:
    return f"{NOT_READABLE}{problem}" if problem else ""
