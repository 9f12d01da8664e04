"""The page, the terminal lines and the CSV of a replay: what Redline would have said of a recorded past."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from reports.markdown import Safe, display_width, one_line, table, text

PAGE_ROWS_MAX = 2_000
SAID_LINES_MAX = 200
SUMMARY_LINES_MAX = 40
_CELL_CHARS_MAX = 60
_WORDS_CHARS_MAX = 400


@dataclass(frozen=True, slots=True)
class ReplayTable:
    """Cells of outside strings, unescaped; `right`: right-aligned columns; `empty`: what is said of no rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str
    right: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """A replay for people: the answer in one sentence, what was judged, what was said, and each series."""

    title: str
    answer: str
    facts: tuple[str, ...]
    said: ReplayTable
    summary: ReplayTable
    notes: tuple[str, ...]


def markdown(page: ReplayPage, findings_name: str) -> str:
    """The page as GitHub Markdown; tables beyond `PAGE_ROWS_MAX` rows are cut and say so, `findings_name` has all."""
    blocks = [f"# {text(page.title)}", f"**{text(page.answer)}**", _bullets(page.facts)]
    for each in (page.said, page.summary):
        blocks.append(f"## {text(each.title)}")
        blocks.append(_table(each))
        if len(each.rows) > PAGE_ROWS_MAX:
            blocks.append(f"The first {PAGE_ROWS_MAX:,} of {len(each.rows):,} rows.")
    if page.notes:
        blocks += ["## Notes", _bullets(page.notes)]
    blocks.append(f"Every finding with its figures: {text(findings_name)}")
    return "\n\n".join(blocks) + "\n"


def terminal_lines(page: ReplayPage, written: Sequence[str]) -> tuple[str, ...]:
    """What was said, each series, the notes and the paths written; the last line is the answer.

    Control characters of outside strings are taken out. Tables are cut to `SAID_LINES_MAX` and `SUMMARY_LINES_MAX`
    rows and say so.
    """
    lines = [one_line(fact) for fact in page.facts]
    for each, rows_max in ((page.said, SAID_LINES_MAX), (page.summary, SUMMARY_LINES_MAX)):
        lines += ["", f"{each.title}:"]
        lines += aligned(each, rows_max)
    lines += [""] if page.notes else []
    lines += [f"note: {one_line(note)}" for note in page.notes]
    lines += [f"wrote {one_line(path, limit=4_096)}" for path in written]
    return (*lines, f"replay: {one_line(page.answer)}")


def aligned(shown: ReplayTable, rows_max: int) -> list[str]:
    """The table as lines of aligned columns; only the last column may be long."""
    if not shown.rows:
        return [f"  {shown.empty}"]
    last = len(shown.head) - 1
    cells = [
        [
            one_line(cell, limit=_WORDS_CHARS_MAX if column == last else _CELL_CHARS_MAX)
            for column, cell in enumerate(row)
        ]
        for row in (shown.head, *shown.rows[:rows_max])
    ]
    widths = [max(display_width(row[column]) for row in cells) for column in range(len(shown.head))]
    lines = []
    for row in cells:
        padded = []
        for column, cell in enumerate(row):
            space = " " * (widths[column] - display_width(cell))
            padded.append(space + cell if column in shown.right else cell + space)
        lines.append("  " + "  ".join(padded).rstrip())
    if len(shown.rows) > rows_max:
        lines.append(f"  and {len(shown.rows) - rows_max:,} more: see the page")
    return lines


def findings_csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Comma-separated values with RFC 4180's line ends; floats as their shortest exact text."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows(rows)
    return sink.getvalue()


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {text(line)}" for line in lines)


def _table(shown: ReplayTable) -> Safe:
    if not shown.rows:
        return text(shown.empty)
    return table(shown.head, shown.rows[:PAGE_ROWS_MAX], shown.right)
