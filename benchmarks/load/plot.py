"""The results as an SVG: three panels over the rate, one line per client, both axes logarithmic. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.load.accuracy import Spread
from benchmarks.load.suite import Row

COLOURS = ("#d62728", "#222222", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
PANEL_WIDTH, PANEL_HEIGHT = 360, 300
LEFT, TOP, GAP, BOTTOM = 60, 50, 80, 90
FONT = 'font-family="sans-serif" font-size="12"'
SMALLEST_MS = 0.001
"""Errors may be negative or zero; on a logarithmic axis they stand at the bottom."""


@dataclass(frozen=True, slots=True)
class Panel:
    """What one panel shows: a title with its unit and a value per row."""

    title: str
    value: Callable[[Row], float | None]


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis from 10**low to 10**high over `length` pixels."""

    low: int
    high: int
    length: int

    def at(self, value: float) -> float:
        """Pixels from the axis's start."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return share * self.length

    @property
    def ticks(self) -> list[float]:
        """Powers of ten."""
        return [10.0**power for power in range(self.low, self.high + 1)]


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
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
    ]
    for position, panel in enumerate(panels):
        parts += _panel(panel, rows, clients, LEFT + position * (PANEL_WIDTH + GAP))
    for position, client in enumerate(clients):
        x, y, colour = LEFT + position * 150, height - 15, COLOURS[position % len(COLOURS)]
        parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 20}" y2="{y - 4}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 25}" y="{y}">{escape(client)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, rows: Sequence[Row], clients: Sequence[str], left: int) -> list[str]:
    points = [(row.cell.client, row.cell.rate_per_s, value) for row in rows if (value := panel.value(row)) is not None]
    parts = [f'<text x="{left}" y="{TOP - 8}">{escape(panel.title)}</text>']
    if not points:
        return parts
    across = _axis([rate for _, rate, _ in points], PANEL_WIDTH)
    up = _axis([value for _, _, value in points], PANEL_HEIGHT)
    bottom = TOP + PANEL_HEIGHT
    for tick in across.ticks:
        x = left + across.at(tick)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for tick in up.ticks:
        y = bottom - up.at(tick)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + PANEL_WIDTH}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(
        f'<text x="{left + PANEL_WIDTH / 2}" y="{bottom + 34}" text-anchor="middle">requests per second</text>'
    )
    for position, client in enumerate(clients):
        line = [(left + across.at(rate), bottom - up.at(value)) for name, rate, value in points if name == client]
        colour = COLOURS[position % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in line]
    return parts


def _axis(values: Sequence[float], length: int) -> Axis:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis(low, max(high, low + 1), length)


def _p99(spread: Spread | None) -> float | None:
    return None if spread is None else max(spread.p99_ms, SMALLEST_MS)
