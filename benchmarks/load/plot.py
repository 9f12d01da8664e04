"""The results as an SVG: three panels over the rate, one line per client, both axes logarithmic. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.load.accuracy import Spread
from benchmarks.load.suite import Row
from reports.svg import COLOURS, Frame, LogarithmicAxis, line, picture, text

PANEL_WIDTH, PANEL_HEIGHT = 360, 300
LEFT, TOP, GAP, BOTTOM = 60, 50, 80, 90
SMALLEST_MS = 0.001
"""Errors may be negative or zero; on a logarithmic axis they stand at the bottom."""


@dataclass(frozen=True, slots=True)
class Panel:
    """What one panel shows: a title with its unit and a value per row."""

    title: str
    value: Callable[[Row], float | None]


def svg(rows: Sequence[Row], title: str) -> str:
    """The plot of rows of one workload and one number of hogs."""
    clients = list(dict.fromkeys(row.cell.client for row in rows))
    panels = (
        Panel("slip p99, ms", lambda row: _p99(row.figures.slip) if row.figures else None),
        Panel("TTFT error p99, ms", lambda row: _p99(row.figures.ttft_error) if row.figures else None),
        Panel("client CPU seconds per 1000 requests", lambda row: row.cpu_s_per_1000),
    )
    width = LEFT + len(panels) * (PANEL_WIDTH + GAP)
    height = TOP + PANEL_HEIGHT + BOTTOM
    parts = []
    for position, panel in enumerate(panels):
        parts += _panel(panel, rows, clients, LEFT + position * (PANEL_WIDTH + GAP))
    for position, client in enumerate(clients):
        x, y, colour = LEFT + position * 150, height - 15, COLOURS[position % len(COLOURS)]
        parts.append(line(x, y - 4, x + 20, y - 4, colour, width=2))
        parts.append(text(x + 25, y, client))
    return picture(width, height, title, parts)


def _panel(panel: Panel, rows: Sequence[Row], clients: Sequence[str], left: int) -> list[str]:
    points = [(row.cell.client, row.cell.rate_per_s, value) for row in rows if (value := panel.value(row)) is not None]
    parts = [text(left, TOP - 8, panel.title)]
    if not points:
        return parts
    frame = Frame(
        left,
        TOP,
        across=_axis([rate for _, rate, _ in points], PANEL_WIDTH),
        up=_axis([value for _, _, value in points], PANEL_HEIGHT),
        width=PANEL_WIDTH,
        height=PANEL_HEIGHT,
    )
    parts += frame.grid("requests per second")
    for position, client in enumerate(clients):
        values = [(rate, value) for name, rate, value in points if name == client]
        parts += frame.curve(values, COLOURS[position % len(COLOURS)])
    return parts


def _axis(values: Sequence[float], length: int) -> LogarithmicAxis:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return LogarithmicAxis(low, max(high, low + 1), length)


def _p99(spread: Spread | None) -> float | None:
    return None if spread is None else max(spread.p99_ms, SMALLEST_MS)
