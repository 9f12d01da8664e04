"""The error table as an SVG: how surely each rule sees a worse build, and beside it how often it cries wolf. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.method_data import MethodDocument, MethodRow
from reports.svg import COLOURS, Frame, LinearAxis, bar, picture, text

LEFT, TOP = 60, 60
CURVES_WIDTH, CURVES_HEIGHT = 400, 280
BARS_LEFT, BARS_WIDTH = 520, 260
BAR_PITCH, BAR_HEIGHT = 38, 12
PANEL_PITCH = 380
WIDTH = 920
QUIET_NIGHTS = "quiet, CV 1 %"


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over the effect on the left, one bar per rule on the right; the bars name the curves' colours.

    `curves`: per rule, (effect in percent, seen in percent); `bars`: per rule, its false alarms in the unit of
    `bars_title`; None is a rule that was not measured.
    """

    title: str
    bars_title: str
    curves: dict[str, list[tuple[float, float]]]
    bars: dict[str, float | None]


def svg(document: MethodDocument) -> str:
    """The plot of a table that has pull requests, nights or both; without either it is only a title."""
    panels = [panel for panel in (_pull_requests(document), _nights(document)) if panel.bars]
    parts = []
    for position, panel in enumerate(panels):
        parts += _panel(panel, TOP + position * PANEL_PITCH)
    title = f"Seen when worse, and false alarms when nothing changed: simulated, seed {document.seed}"
    return picture(WIDTH, TOP + max(1, len(panels)) * PANEL_PITCH, title, parts)


def _pull_requests(document: MethodDocument) -> Panel:
    rows = document.of("pull-requests")
    return Panel(
        "pull request, six metrics, CV 1 %, one of them worse: blocked, %",
        "equal builds blocked, %",
        _curves(rows, "blocked"),
        {row.name: _percent(row, "blocked") for row in rows if row.effect == 0},
    )


def _nights(document: MethodDocument) -> Panel:
    rows = document.of("nights")
    return Panel(
        "nightly, CV 1 %: flagged within three nights of a worse build, %",
        "flags per 100 quiet nights",
        _curves(rows, "flagged within 3 nights"),
        {row.name: row.figures.get("flags per 100 quiet nights") for row in rows if row.group == QUIET_NIGHTS},
    )


def _curves(rows: Sequence[MethodRow], figure: str) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.effect is not None and figure in row.figures:
            found.setdefault(row.name, []).append((100 * row.effect, 100 * row.figures[figure]))
    return {name: sorted(points) for name, points in found.items()}


def _percent(row: MethodRow, figure: str) -> float | None:
    return 100 * row.figures[figure] if figure in row.figures else None


def _panel(panel: Panel, top: int) -> list[str]:
    # Ours first, in red; the others in the order of the table.
    names = sorted(panel.bars, key=lambda name: not name.startswith("Redline"))
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    widest = max((effect for points in panel.curves.values() for effect, _ in points), default=1.0)
    frame = Frame(
        LEFT,
        top,
        across=LinearAxis(math.ceil(widest - 1e-9), 1.0, CURVES_WIDTH),
        up=LinearAxis(100.0, 25.0, CURVES_HEIGHT),
        width=CURVES_WIDTH,
        height=CURVES_HEIGHT,
    )
    parts = [text(LEFT, top - 10, panel.title), *frame.grid("worse by, %")]
    for name in reversed(names):  # ours is drawn last, over the others
        if name in panel.curves:
            parts += frame.curve(panel.curves[name], colours[name])
    return [*parts, *_bars(panel, names, colours, top)]


def _bars(panel: Panel, names: Sequence[str], colours: dict[str, str], top: int) -> list[str]:
    measured = [value for value in panel.bars.values() if value is not None]
    axis = LinearAxis(max([1e-9, *measured]), 1.0, BARS_WIDTH)
    parts = [text(BARS_LEFT, top - 10, panel.bars_title)]
    for index, name in enumerate(names):
        y, value = top + 6 + index * BAR_PITCH, panel.bars[name]
        length = axis.at(value or 0.0)
        shown = "not measured" if value is None else f"{value:.2f}"
        parts.append(text(BARS_LEFT, y + 4, name))
        parts.append(bar(BARS_LEFT, y + 9, length, BAR_HEIGHT, colours[name]))
        parts.append(text(BARS_LEFT + length + 8, y + 9 + BAR_HEIGHT - 2, shown))
    return parts
