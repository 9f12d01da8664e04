"""MLPerf's rules in a report: what one run keeps of them, and where it stands beside published results. Pure.

Whatever is shown says that MLCommons has not verified it. Its guidelines ask for the word `unverified` beside each
score, and let MLPerf results be compared only with results that keep the rules of the same benchmark: a run of
Redline keeps most of them, so the comparison is for the reader's own use.
Source: MLCommons' MLPerf Results Messaging Guidelines and terms of use.
"""

from __future__ import annotations

from dataclasses import dataclass

from redline.model import ValidityReading
from redline.units import format_value
from reports.markdown import Safe, code, table, text

NOT_VERIFIED = "MLPerf-style, not verified by MLCommons"
OWN_USE = (
    "For your own use: MLCommons' guidelines let official results be compared in public only with results that keep "
    "every rule of the same benchmark."
)


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One published result of the same benchmark, scenario and hardware; `ratio`: this run's value over its own."""

    round: str
    division: str
    submitter: str
    system: str
    benchmark: str
    software: str
    value: float
    unit: str
    ratio: float
    source: str


@dataclass(frozen=True, slots=True)
class MlperfSection:
    """What a report says of one window under MLPerf's rules.

    `scenario`: MLPerf's name of it. `value` in `unit`, None if undefined. `shorter`: in which ways less was run than
    MLPerf demands; `deviations`: what else is not as its Closed division wants it. `published`: results beside which
    the run stands, none if the hardware is another. `whose`: which run it is, if a page shows several.
    """

    benchmark: str
    round: str
    scenario: str
    valid: bool
    value: float | None
    unit: str
    readings: tuple[ValidityReading, ...]
    shorter: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    published: tuple[PublishedRow, ...] = ()
    whose: str = ""


def mlperf_part(section: MlperfSection) -> Safe:
    """Everything about one window: the answer, the rules, what is shorter, deviations, published results."""
    parts = [answer(section), rules_table(section)]
    if section.shorter:
        parts.append(_listed("Shorter than MLPerf demands:", section.shorter))
    if section.deviations:
        parts.append(_listed("Otherwise than MLPerf's Closed division wants it:", section.deviations))
    parts.append(published_part(section))
    return Safe("\n\n".join(parts))


def answer(section: MlperfSection) -> Safe:
    """`VALID` or `INVALID` for the settings of the run, its result, and that nobody has verified it."""
    whose = f"{text(section.whose)}: " if section.whose else ""
    extent = ", shorter than MLPerf demands" if section.shorter else ""
    return Safe(
        f"{whose}**{'VALID' if section.valid else 'INVALID'}** for the settings of this run{extent}: "
        f"{_value(section.value, section.unit)} (unverified), {code(section.benchmark)} {text(section.scenario)}, "
        f"rules of {text(section.round)}. {NOT_VERIFIED}."
    )


def rules_table(section: MlperfSection) -> Safe:
    """Every rule with its reading and limit, kept or broken."""
    rows = [
        (found.rule, found.reading, found.limit, Safe("kept" if found.ok else "**broken**"))
        for found in section.readings
    ]
    return table(("rule of MLPerf", "reading", "limit", "result"), rows)


def published_part(section: MlperfSection) -> Safe:
    """Where the run stands beside published results; a sentence where there are none for this hardware."""
    if not section.published:
        return Safe("No published result is at hand for this benchmark, scenario, unit and hardware.")
    head = ("published", "division", "submitter", "system", "benchmark", "software", "result", "this run (unverified)")
    rows = [
        (
            each.round,
            each.division,
            each.submitter,
            code(each.system),
            code(each.benchmark),
            each.software,
            _value(each.value, each.unit),
            f"{each.ratio * 100:.1f} %",
        )
        for each in section.published
    ]
    sources = "; ".join(dict.fromkeys(each.source for each in section.published))
    caution = ""
    if section.shorter or not section.valid:
        caution = " This run is INVALID:" if not section.valid else " This run is shorter than MLPerf demands:"
        caution += " the ratio is a hint at most."
    return Safe(f"{table(head, rows, right=(6, 7))}\n\nSource: {text(sources)}.{caution} {OWN_USE}")


def _value(value: float | None, unit: str) -> Safe:
    return Safe("no result") if value is None else text(format_value(value, unit))


def _listed(title: str, lines: tuple[str, ...]) -> Safe:
    return Safe("\n".join([title, "", *(f"- {text(line)}" for line in lines)]))
