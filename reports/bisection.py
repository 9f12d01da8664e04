"""The answer of a bisection: terminal lines, JSON and a Markdown page from one set of values."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from redline.model import Comparison
from redline.units import format_percent
from reports import phrases
from reports.markdown import Safe, code, display_width, one_line, table, text

JSON_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One build of the list: its number there, its line, and what its readings against the good end say.

    `effect_mean`: share, above 0 is worse; `probability`: of being the first bad one; None where unknown.
    """

    number: int
    build: str
    reading_count: int
    effect_mean: float | None
    probability: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class BisectionReport:
    """Everything that is said about a bisection.

    `rows`: builds that were read, skipped, or stand out, in the order of the list; `culprit`: rows of the first bad
    build, several where those between could not be measured, empty if none is named; `span`: first and last number
    of the builds that hold 95 % of the probability; `pairs_before`: pairs that earlier calls had measured.
    """

    outcome: str
    reason: str
    exit_code: int
    scenario: str
    metric: str
    margin: float
    candidate_count: int
    rows: tuple[BuildRow, ...]
    culprit: tuple[BuildRow, ...]
    parent: BuildRow | None
    comparison: Comparison | None
    span: tuple[int, int] | None
    differences: tuple[str, ...]
    reading_count: int
    confirmation_pair_count: int
    pairs_before: int
    runner_class: str
    policy: str
    repeat_command: str
    state_path: str
    report_path: str
    generated_at: str


def headline(report: BisectionReport) -> str:
    """The answer in one sentence."""
    if not report.culprit:
        return f"{report.outcome}: {report.reason}" if report.outcome not in report.reason else report.reason
    names = " or ".join(f"{row.number} ({one_line(row.build)})" for row in report.culprit)
    effect = f", {phrases.effect(report.comparison)}" if report.comparison is not None else ""
    return f"the first bad build is {names}{effect}: {report.reason}"


def facts(report: BisectionReport) -> tuple[str, ...]:
    """What stands beside the answer, a sentence each."""
    found = [
        f"{report.scenario}, {phrases.metric_label(report.metric)}, margin {phrases.size(report.margin)}",
        f"{report.candidate_count} builds could be the first bad one",
        f"{report.reading_count} pairs of the ends and the search, {report.confirmation_pair_count} of confirmations",
    ]
    if report.pairs_before:
        found.append(f"continued: {report.pairs_before} of these pairs were measured by earlier calls")
    if report.culprit and report.parent is not None:
        found.append(f"its parent, the last good build: {report.parent.number} ({one_line(report.parent.build)})")
    if report.span is not None:
        first, last = report.span
        where = f"build {first}" if first == last else f"builds {first} to {last}"
        found.append(f"at least 95 % of the probability lies on {where}")
    return tuple(found)


def terminal_lines(report: BisectionReport) -> tuple[str, ...]:
    """The table of builds, the facts, what differs, where it is kept; the last line is the answer."""
    head = ("build", "readings", "mean effect", "first bad", "what")
    rows = [head, *(_cells(row) for row in report.rows)]
    widths = [max(display_width(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row in rows:
        padded = [" " * (width - display_width(cell)) + cell for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*padded, row[4]]))
    lines += [one_line(fact) for fact in facts(report)]
    if report.comparison is not None:
        lines.append(_tested(report.comparison))
    lines += [f"evidence, not proof of a cause: {one_line(each)}" for each in report.differences]
    lines += [f"state: {report.state_path}", f"report: {report.report_path}"]
    return (*lines, f"bisection: {headline(report)}")


def _cells(row: BuildRow) -> tuple[str, ...]:
    what = one_line(row.build, limit=120) + (f"  [{one_line(row.note)}]" if row.note else "")
    return (
        str(row.number),
        str(row.reading_count) if row.reading_count else "-",
        "-" if row.effect_mean is None else format_percent(row.effect_mean),
        _probability(row.probability),
        what,
    )


def _probability(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{share * 100:.1f} %" if 0.001 <= share <= 0.999 else ("< 0.1 %" if share < 0.5 else "> 99.9 %")


def _tested(found: Comparison) -> str:
    return (
        f"tested: {phrases.effect(found)} in {found.pair_count} pairs, margin {phrases.size(found.margin)}: "
        f"{found.finding.value}"
    )


def to_json(report: BisectionReport) -> str:
    """The answer as one JSON object; its keys are the fields of `BisectionReport`, effects as shares."""
    value = {"schema": JSON_SCHEMA, "headline": headline(report), **asdict(report)}
    if report.comparison is not None:
        value["comparison"] |= {"finding": report.comparison.finding.value}
        value["comparison"] = {key: _finite(item) for key, item in value["comparison"].items()}
    return json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False)


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def render(report: BisectionReport) -> str:
    """The Markdown page; every outside string is escaped."""
    parts = [f"# Redline bisection: {text(headline(report))}"]
    parts.append("\n".join(f"- {text(fact)}" for fact in facts(report)))
    if report.comparison is not None:
        parts.append(f"{text(_tested(report.comparison))}. {text(report.comparison.method)}.")
    parts.append("## Builds\n\n" + _table(report.rows))
    if report.differences:
        listed = "\n".join(f"- {text(each)}" for each in report.differences)
        parts.append(f"## What differs between the culprit and its parent\n\nNot a claimed cause.\n\n{listed}")
    told = f"Runner class {code(report.runner_class)}, policy {code(report.policy)}, {text(report.generated_at)}."
    repeat = f"{told} State: {code(report.state_path)}. The same command goes on or says this again:"
    parts.append(f"## To repeat\n\n{repeat} {code(report.repeat_command, limit=2_000)}")
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[BuildRow]) -> str:
    head = ("build", "readings", "mean effect (+ is worse)", "probability of being the first bad", "what")
    cells = [(*_cells(replace(row, note=""))[:4], code(row.build) if not row.note else _noted(row)) for row in rows]
    return str(table(head, cells, right=(0, 1, 2, 3)))


def _noted(row: BuildRow) -> Safe:
    return Safe(f"{code(row.build)}: {text(row.note)}")
