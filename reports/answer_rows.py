"""The rows of an answer: every metric and accuracy of every runner class in words, the worst first. Plain text.

Nothing here is escaped for Markdown: the same words stand in pages, in plain titles and in workflow commands.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redline.model import AccuracyComparison, Comparison, Finding
from reports import phrases
from reports.data import Leg
from reports.markdown import Safe, code, one_line, table, text

# Worst first: what is proven, then what could not be measured, then what could not be told.
ORDER = (
    Finding.REGRESSED,
    Finding.ERROR,
    Finding.INVALID,
    Finding.INCONCLUSIVE,
    Finding.NO_BASELINE,
    Finding.IMPROVED,
    Finding.NO_WORSE,
)
PASSES = frozenset({Finding.NO_WORSE, Finding.IMPROVED})

_NAME_CHARS_MAX = 80
_CELL_CHARS_MAX = 60
_SPEED_UNITS = frozenset({"s", "tok/s", "req/s"})
_SHARE_SHOWN_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one runner class. `lead` and `sentence` are for headlines: `Slower`, `TTFT median in x is ...`.

    `weight`: how bad within its finding, more is worse. `decides`: a primary metric or an accuracy.
    """

    runner_class: str
    scenario: str
    metric: str
    finding: Finding
    decides: bool
    readings: str
    effect: str
    margin: str
    weight: float
    lead: str
    sentence: str


def rows_of(legs: Iterable[Leg]) -> tuple[Row, ...]:
    """The rows of every report: by finding, answers before speed, then by how far beyond the margin."""
    found: list[Row] = []
    for leg in legs:
        if leg.report is not None:
            found += [_of_accuracy(leg.runner_class, each) for each in leg.report.verdict.accuracy]
            found += [_of_speed(leg.runner_class, each) for each in leg.report.verdict.comparisons]
    return tuple(sorted(found, key=lambda row: (not row.decides, ORDER.index(row.finding), -row.weight)))


def rows_table(rows: Sequence[Row], *, with_runner: bool) -> Safe:
    """One line per row; `with_runner`: with the runner class as the first column."""
    head = ("scenario", "metric", "baseline → candidate", "effect (interval; + is worse)", "margin", "finding")
    cells = [
        (
            code(row.scenario, _CELL_CHARS_MAX),
            text(row.metric, _CELL_CHARS_MAX),
            row.readings,
            row.effect,
            row.margin,
            phrases.finding(row.finding) + ("" if row.decides else ", descriptive"),
        )
        for row in rows
    ]
    if not with_runner:
        return table(head, cells, right=(4,))
    runners = [code(row.runner_class, _CELL_CHARS_MAX) for row in rows]
    return table(
        ("runner class", *head), [(runner, *cell) for runner, cell in zip(runners, cells, strict=True)], right=(5,)
    )


def share(value: float) -> str:
    """A share as a reader says it, without sign: `3.1 %`, `46 %`, `over 1,000 %`, `unknown`."""
    size = abs(value)
    if math.isnan(size):
        return "unknown"
    if size > _SHARE_SHOWN_MAX:
        return f"over {_SHARE_SHOWN_MAX * 100:,.0f} %"
    percent = size * 100
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f}".removesuffix(".0") + " %"


def lower_first(label: str) -> str:
    """`output throughput` of `Output throughput`, and `TTFT median` as it is."""
    return label if label[1:2].isupper() or label[1:2].isdigit() else label[:1].lower() + label[1:]


def runner_name(runner_class: str) -> str:
    """A runner class in a sentence."""
    return one_line(runner_class, _NAME_CHARS_MAX)


def _of_speed(runner_class: str, found: Comparison) -> Row:
    invalid = found.finding is Finding.INVALID
    values = (found.baseline, found.candidate)
    return Row(
        runner_class=runner_class,
        scenario=found.scenario,
        metric=phrases.metric_label(found.metric),
        finding=found.finding,
        decides=found.primary,
        readings=phrases.UNKNOWN if invalid else _readings(found.metric, values),
        effect="not compared" if invalid else phrases.effect(found),
        margin=phrases.size(found.margin),
        weight=_speed_weight(found),
        lead=_speed_lead(found),
        sentence=_speed_sentence(found),
    )


def _of_accuracy(runner_class: str, found: AccuracyComparison) -> Row:
    invalid = found.finding is Finding.INVALID
    leads = {Finding.REGRESSED: "Worse answers", Finding.IMPROVED: "Better answers"}
    return Row(
        runner_class=runner_class,
        scenario=found.scenario,
        metric=phrases.metric_label(found.metric),
        finding=found.finding,
        decides=True,
        readings=phrases.UNKNOWN if invalid else _readings(found.metric, (found.baseline, found.candidate)),
        effect="not compared" if invalid else _points(found),
        margin=f"{found.share_min * 100:g} % kept",
        weight=math.inf,
        lead=leads.get(found.finding, ""),
        sentence=_accuracy_sentence(found),
    )


def _readings(metric: str, values: tuple[float, float]) -> str:
    return " → ".join(phrases.metric_value(metric, value) for value in values)


def _speed_weight(found: Comparison) -> float:
    """The effect in margins, as the verdict ranks; an improvement the larger the heavier; 0 for what is no number."""
    weight = found.effect / found.margin if found.margin > 0 else found.effect
    if math.isnan(weight):
        return 0.0
    return -weight if found.finding is Finding.IMPROVED else weight


def _speed_lead(found: Comparison) -> str:
    of_speed = phrases.metric_unit(found.metric) in _SPEED_UNITS
    match found.finding:
        case Finding.REGRESSED:
            return "Slower" if of_speed else "Worse"
        case Finding.IMPROVED:
            return "Faster" if of_speed else "Better"
        case _:
            return ""


def _speed_sentence(found: Comparison) -> str:
    """`output throughput in offline-short is 17 % worse (13 to 21 %), beyond the 10 % margin`."""
    name = f"{_metric(found.metric)} in {one_line(found.scenario, _NAME_CHARS_MAX)}"
    match found.finding:
        case Finding.INVALID:
            return f"{name} could not be compared: {_told(found.warnings)}"
        case Finding.INCONCLUSIVE:
            needed = _needed(found.pairs_needed, found.pair_count, "pairs", "measured")
            margin = f"the margin is {share(found.margin)}"
            return f"{name} is somewhere between {_span(found.effect_low, found.effect_high)}, and {margin}{needed}"
        case Finding.REGRESSED:
            beyond = found.effect_low >= found.margin
            tail = f"beyond the {share(found.margin)} margin" if beyond else f"the margin is {share(found.margin)}"
            return f"{name} is {_change(found)}, {tail}"
        case _:
            return f"{name} is {_change(found)}"


def _change(found: Comparison) -> str:
    """`17 % worse (13 to 21 %)`; where the interval holds both signs `0.6 % worse (2.1 % better to 3.4 % worse)`."""
    low, high = found.effect_low, found.effect_high
    said = f"{share(found.effect)} {'better' if found.effect < 0 else 'worse'}"
    if low > 0 or high < 0:
        near, far = sorted((abs(low), abs(high)))
        return f"{said} ({share(near).removesuffix(' %')} to {_end(far)})"
    return f"{said} ({_side(low)} to {_side(high)})"


def _span(low: float, high: float) -> str:
    """`3.1 % better and 20 % worse`."""
    return f"{_side(low)} and {_side(high)}"


def _side(value: float) -> str:
    if math.isinf(value):
        return f"any amount {'better' if value < 0 else 'worse'}"
    return f"{share(value)} {'better' if value < 0 else 'worse'}"


def _end(value: float) -> str:
    return "unbounded" if math.isinf(value) else share(value)


def _metric(metric_id: str) -> str:
    return one_line(lower_first(phrases.metric_label(metric_id)), _NAME_CHARS_MAX)


def _points(found: AccuracyComparison) -> str:
    """Oriented as the other rows are: + is worse, so the change's interval turns around."""
    shown = phrases.points(found.change)
    interval = f"({phrases.points(-found.change_high)} to {phrases.points(-found.change_low)} points)"
    if shown == "0.00":
        return f"no change {interval}"
    return f"{shown.lstrip('+-')} points {'worse' if found.change < 0 else 'better'} {interval}"


def _accuracy_sentence(found: AccuracyComparison) -> str:
    """`accuracy in accuracy-tiny fell from 95.4 % to 91.3 %, 46 items lost and 5 gained of 1,000`."""
    name = f"accuracy in {one_line(found.scenario, _NAME_CHARS_MAX)}"
    if found.finding is Finding.INVALID:
        return f"{name} could not be compared: {_told(found.warnings)}"
    flips = f"{found.lost_count:,} items lost and {found.gained_count:,} gained of {found.item_count:,}"
    moved = "stays at" if found.change == 0 else "fell" if found.change < 0 else "rose"
    values = f"{found.candidate * 100:.1f} %"
    values = values if found.change == 0 else f"from {found.baseline * 100:.1f} % to {values}"
    if found.finding is not Finding.INCONCLUSIVE:
        return f"{name} {moved} {values}, {flips}"
    needed = _needed(found.items_needed, found.item_count, "items", "asked")
    return f"{name} {moved} {values}, which may be chance{needed}"


def _needed(needed: int | None, count: int, noun: str, verb: str) -> str:
    """`; about 19 pairs would decide it, 8 were measured`; empty where nobody knows."""
    return "" if needed is None else f"; about {needed:,} {noun} would decide it, {count:,} were {verb}"


def _told(warnings: Sequence[str]) -> str:
    return one_line("; ".join(warnings) or "no reason given", 200)
