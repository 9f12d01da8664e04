"""The page of `redline health`: one section per series of A/A rounds. Values in, Markdown out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.markdown import Safe, code, fence, table, text


@dataclass(frozen=True, slots=True)
class TextTable:
    """A titled table of cells that are written already; `right`: indices of right-aligned columns."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthSection:
    """One series: the answer in a line, why, what to do next, and what it rests on."""

    answer: str
    reasons: tuple[str, ...]
    next_step: str
    series: tuple[str, ...]
    tables: tuple[TextTable, ...]
    false_alarms: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HealthPage:
    """The whole page: `command` repeats it, `notes` are about what could not be read.

    `answer`: of all sections together; `rests_on`: what it rests on, empty for one section, whose own answer it is.
    """

    answer: str
    rests_on: str
    sections: tuple[HealthSection, ...]
    generated_at: str
    command: str
    data_location: str
    notes: tuple[str, ...] = ()


def render(page: HealthPage) -> str:
    """The page as Markdown. Strings from outside are escaped."""
    lines: list[str] = []
    if page.rests_on:
        lines += [f"# {text(page.answer)}", "", *_items([page.rests_on]), ""]
    level = "##" if page.rests_on else "#"
    for section in page.sections:
        lines += _section(section, level)
    if page.notes:
        lines += ["## Left out", "", *_items(page.notes), ""]
    lines += [
        "## This page",
        "",
        f"Made {text(page.generated_at)} from the A/A rounds in {code(page.data_location, 4_096)}.",
        "",
        fence(page.command, "sh"),
    ]
    return "\n".join(lines) + "\n"


def _section(section: HealthSection, level: str) -> list[str]:
    lines = [f"{level} {text(section.answer)}", "", *_items(section.reasons), ""]
    if section.next_step:
        lines += [f"Next: {code(section.next_step, 1_000)}", ""]
    lines += [*_items(section.series), ""]
    for each in section.tables:
        lines += [f"{level}# {text(each.title)}", "", table(each.head, each.rows, each.right), ""]
        lines += [*_items(each.notes), ""] if each.notes else []
    for title, said in (("False alarms", section.false_alarms), ("Warnings", section.warnings)):
        lines += [f"{level}# {title}", "", *_items(said), ""] if said else []
    return lines


def _items(values: Sequence[str]) -> list[Safe]:
    return [Safe(f"- {text(value, 1_000)}") for value in values]
