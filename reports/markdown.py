"""Markdown tables whose cells cannot break them; the escaping itself is `redline.markdown`, whose names stand here too.

Source: GitHub Flavored Markdown 0.29 (tables).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from redline.markdown import Safe, clean, code, cut, fence, one_line, text

__all__ = ["Safe", "clean", "code", "cut", "display_width", "fence", "one_line", "table", "text"]

# Cells wider than this overflow their column instead of widening it for every row.
_COLUMN_CHARS_MAX = 72


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Safe:
    """A GitHub table with aligned columns, readable in its raw form too; `right`: indices of right-aligned columns.

    Cells that are not `Safe` are escaped. Raises ValueError if a row's length differs from the head's.
    """
    cells = [[_cell(value) for value in row] for row in (head, *rows)]
    if any(len(row) != len(head) for row in cells):
        raise ValueError(f"every row must have {len(head)} cells")
    widths = [
        min(_COLUMN_CHARS_MAX, max(3, *(display_width(row[column]) for row in cells))) for column in range(len(head))
    ]
    rule = [("-" * (width - 1) + ":") if column in right else "-" * width for column, width in enumerate(widths)]
    lines = [cells[0], rule, *cells[1:]]
    return Safe(
        "\n".join(
            "| " + " | ".join(_pad(cell, widths[i], i in right) for i, cell in enumerate(line)) + " |" for line in lines
        )
    )


def display_width(value: str) -> int:
    """How many columns of a terminal the string takes."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in value
    )


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * max(0, width - display_width(cell))
    return space + cell if right else cell + space


def _cell(value: str) -> str:
    """A cell whose remaining pipes, all inside code spans, do not part it.

    One backslash is enough even behind other backslashes: the table takes it away before code is read.
    """
    return text(value).replace("|", "\\|")
