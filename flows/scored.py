"""From answers to scores: each item's own, and what the scorer says of all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flows import code_judge
from redline.model import Outcome, Request, RequestRecord
from redline.scoring.final_answer import CODE, NOT_RUN, is_not_run, not_run
from redline.scoring.items import ItemResult
from redline.scoring.scorers import scorer

NOT_READABLE = "the answer could not be read: "


def scored(
    name: str, requests: Sequence[Request], records: Sequence[RequestRecord], *, run_code: bool = False
) -> tuple[tuple[RequestRecord, ...], Mapping[str, float]]:
    """(the records with their scores, figures of all answers by the scorer's names).

    A request that failed is scored as an empty answer, and so is one whose answer could not be read; the latter says so
    in its `detail` and is counted in the figure `unreadable`. `run_code`: run the programs in answers, in the sandbox;
    without it they are counted as `not_run`, and have no score. Raises ContentError for an unknown scorer, SandboxError
    if programs are to be run and there is no sandbox.
    """
    found = scorer(name)
    asked = {request.index: request.expected or "" for request in requests}
    answers = [(record.output_text if record.outcome is Outcome.OK else "", asked[record.index]) for record in records]
    results = [
        not_run(NOT_RUN) if reference.startswith(CODE) and not run_code else found.item(answer, reference)
        for answer, reference in answers
    ]
    reasons = [_said(result) for result in results]
    programs = [position for position, result in enumerate(results) if is_not_run(result)] if run_code else []
    if programs:
        judged = code_judge.judged([answers[position] for position in programs])
        for position, each in zip(programs, judged, strict=True):
            results[position], reasons[position] = each.result, each.reason
    figures = found.corpus(results, [record.output_tokens for record in records])
    with_scores = tuple(
        replace(record, score=None if is_not_run(result) else result.score, detail=record.detail or reason)
        for record, result, reason in zip(records, results, reasons, strict=True)
    )
    return with_scores, figures


def _said(result: ItemResult) -> str:
    if is_not_run(result):
        return result.problem
    return f"{NOT_READABLE}{result.problem}" if result.problem else ""
