"""A series as a small picture in text: a sparkline for a table's cell, a Mermaid chart that GitHub draws. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from redline.units import format_value
from reports import phrases
from reports.overview_data import Trend

SPARK_POINTS_MAX = 30
SPAN_SHARE_MIN = 0.1
"""A picture spans at least so much of the readings' middle: a quiet series looks quiet."""

LABEL_CHARS_MAX = 80
_BLOCKS = "▁▂▃▄▅▆▇█"
_UNSAFE = re.compile(r"[^A-Za-z0-9 .,:/()+-]+")
# The first colour of Mermaid's own list is hardly seen on white; these two are seen on white and on GitHub's dark.
_SETTINGS = (
    '%%{init: {"xyChart": {"width": 720, "height": 260}, '
    '"themeVariables": {"xyChart": {"plotColorPalette": "#1f77b4, #d9730d"}}}}%%'
)


def span(values: Sequence[float]) -> tuple[float, float]:
    """(low, high) of a picture of positive readings: a little more than they span, and never less than a tenth."""
    low, high = min(values), max(values)
    middle = (low + high) / 2
    half = max((high - low) / 2 * 1.1, middle * SPAN_SHARE_MIN / 2)
    return max(0.0, middle - half), middle + half


def sparkline(values: Sequence[float]) -> str:
    """The last readings as blocks of eight heights, oldest first; a change of a few percent stays a small step."""
    shown = values[-SPARK_POINTS_MAX:]
    if not shown:
        return ""
    low, high = span(shown)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((value - low) / (high - low) * top) if high > low else 0] for value in shown)


def in_words(trend: Trend) -> str:
    """What a picture of the series shows, for who does not see it: how many nights, their range, the last one."""
    values = [point.value for point in trend.points]
    label = phrases.metric_label(trend.metric)
    if len(values) == 1:
        return f"{label}: one night, {phrases.metric_value(trend.metric, values[0])}"
    return (
        f"{label} over {len(values)} nights, {trend.points[0].date} to {trend.points[-1].date}: from "
        f"{phrases.metric_value(trend.metric, min(values))} to {phrases.metric_value(trend.metric, max(values))}, "
        f"last {phrases.metric_value(trend.metric, values[-1])}"
    )


def mermaid(trend: Trend) -> str:
    """The source of an xychart of the readings and their level; empty for less than two readings.

    One step across is one reading, not one day: Mermaid has no gaps. Labels are restricted to letters, digits and
    plain marks, numbers to decimals, which is all that its grammar reads.
    Source: mermaid-js/mermaid, packages/mermaid/src/diagrams/xychart/parser/xychart.jison and xychartDb.ts.
    """
    if len(trend.points) < 2:
        return ""
    factor, unit = scale(trend)
    values = [point.value * factor for point in trend.points]
    levels = [point.level * factor for point in trend.points]
    low, high = span([*values, *levels])
    first, last = trend.points[0].date, trend.points[-1].date
    lines = [
        _SETTINGS,
        "xychart-beta",
        f'    title "{safe_label(f"{trend.runner_class}, {trend.scenario}: {phrases.metric_label(trend.metric)}")}"',
        f'    x-axis "nights from {safe_label(first)} to {safe_label(last)}" 1 --> {len(values)}',
        f'    y-axis "{safe_label(unit)}" {decimal(low)} --> {decimal(high)}',
        f"    line [{', '.join(map(decimal, values))}]",
        f"    line [{', '.join(map(decimal, levels))}]",
    ]
    return "\n".join(lines)


def scale(trend: Trend) -> tuple[float, str]:
    """(factor, unit) that make a series' readings easy to read: seconds below one become milliseconds."""
    unit = phrases.metric_unit(trend.metric)
    match unit:
        case "s" if max(point.value for point in trend.points) < 1.0:
            return 1e3, "ms"
        case "1":
            return 100.0, "percent"
        case None:
            return 1.0, "unit unknown"
        case _:
            return 1.0, unit


def decimal(value: float) -> str:
    """A number of six significant digits or more, never with an exponent."""
    digits = 6
    size = abs(value)
    while size >= 10 and digits > 0:
        size, digits = size / 10, digits - 1
    while 0 < size < 1 and digits < 15:
        size, digits = size * 10, digits + 1
    shown = f"{value:.{digits}f}"
    return (shown.rstrip("0").rstrip(".") if "." in shown else shown) or "0"


def safe_label(value: str) -> str:
    """An outside string as a quoted Mermaid label may hold it; what could end or change it becomes a blank."""
    plain = " ".join(_UNSAFE.sub(" ", value).split())
    return plain[:LABEL_CHARS_MAX].rstrip() or "(no name)"


def tick_label(trend: Trend, value: float) -> str:
    """A value of the axis with its unit."""
    unit = phrases.metric_unit(trend.metric)
    return f"{value:.4g}" if unit is None else format_value(value, unit)
