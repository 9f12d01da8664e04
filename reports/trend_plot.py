"""A series as an SVG for a page: readings by date, their level, what changed it and what was found. Pure.

Colours are classes of the page's style sheet, so that one plot is right on light and dark ground. Dates stand where
they belong: nights that did not run are gaps.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from statistics import median

from redline.markdown import one_line
from reports import phrases
from reports.overview_data import Trend, TrendPoint
from reports.overview_words import point_words
from reports.trend import in_words, span, tick_label

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 84, 16, 28, 34
EARLIER_SHARE_MAX = 0.5
"""Earlier readings whose middle is further off than this share are not drawn: the others would become a flat line."""

_TICKS = 4
_WORDS_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where dates and values stand: ordinals of days across, the metric's base unit upwards."""

    first: int
    last: int
    low: float
    high: float

    def x(self, day: int) -> float:
        """Pixels from the left; a single day stands in the middle."""
        width = WIDTH - LEFT - RIGHT
        share = (day - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return LEFT + share * width

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def plot(trend: Trend, identity: str) -> str:
    """The SVG element. `identity`: unique in the page, of letters, digits and hyphens: names its title and description.

    Every point says its night, reading and build when it is pointed at. Raises ValueError for a date that is none.
    """
    earlier = drawn_earlier(trend)
    shown = [*earlier, *trend.points]
    frame = _frame(shown)
    title = f"{trend.runner_class}, {trend.scenario}: {phrases.metric_label(trend.metric)}"
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{identity}-t {identity}-d">',
        f'<title id="{identity}-t">{_safe(title)}</title>',
        f'<desc id="{identity}-d">{_safe(in_words(trend))}</desc>',
        *_grid(trend, frame),
        *_line(earlier, frame, "earlier"),
        *_border(earlier, trend.points, frame),
        *_level(trend.points, frame),
        *_line(trend.points, frame, "readings"),
        *_changes(trend.points, frame),
        *(_point(trend, point, frame, "earlier") for point in earlier),
        *(_point(trend, point, frame, "found" if point.findings else "") for point in trend.points),
        "</svg>",
    ]
    return "\n".join(parts)


def drawn_earlier(trend: Trend) -> tuple[TrendPoint, ...]:
    """The earlier readings, unless they are of another size than those that count."""
    if not trend.earlier:
        return ()
    old, new = (median(point.value for point in points) for points in (trend.earlier, trend.points))
    return trend.earlier if abs(old - new) <= EARLIER_SHARE_MAX * new else ()


def _frame(points: Sequence[TrendPoint]) -> _Frame:
    days = [_day(point) for point in points]
    low, high = span([value for point in points for value in (point.value, point.level)])
    return _Frame(min(days), max(days), low, high)


def _day(point: TrendPoint) -> int:
    return date.fromisoformat(point.date).toordinal()


def _grid(trend: Trend, frame: _Frame) -> list[str]:
    parts = []
    for step in range(_TICKS + 1):
        value = frame.low + (frame.high - frame.low) * step / _TICKS
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 6, y + 4, tick_label(trend, value), "end"))
    days = sorted({frame.first, (frame.first + frame.last) // 2, frame.last})
    if frame.last - frame.first < 3:
        days = sorted({frame.first, frame.last})
    for day in days:
        anchor = (
            "start" if day == frame.first != frame.last else "end" if day == frame.last != frame.first else "middle"
        )
        parts.append(_text(frame.x(day), HEIGHT - BOTTOM + 18, date.fromordinal(day).isoformat(), anchor))
    return parts


def _line(points: Sequence[TrendPoint], frame: _Frame, name: str) -> list[str]:
    if len(points) < 2:
        return []
    path = " ".join(f"{frame.x(_day(point)):.1f},{frame.y(point.value):.1f}" for point in points)
    return [f'<polyline class="{name}" points="{path}"/>']


def _level(points: Sequence[TrendPoint], frame: _Frame) -> list[str]:
    """Flat within a level, a step where it changes."""
    if len(points) < 2:
        return []
    steps = [f"M{frame.x(_day(points[0])):.1f} {frame.y(points[0].level):.1f}"]
    for before, after in itertools.pairwise(points):
        steps.append(f"H{frame.x(_day(after)):.1f}")
        if after.level != before.level:
            steps.append(f"V{frame.y(after.level):.1f}")
    return [f'<path class="level" d="{"".join(steps)}"/>']


def _border(earlier: Sequence[TrendPoint], points: Sequence[TrendPoint], frame: _Frame) -> list[str]:
    if not earlier:
        return []
    x = (frame.x(_day(earlier[-1])) + frame.x(_day(points[0]))) / 2
    words = "another machine, scenario version or arguments: not comparable with what follows"
    line = f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>'
    label = _text(x, TOP - 8, "not comparable", "end" if x > (LEFT + WIDTH) / 2 else "start")
    return [f'<g class="border"><title>{escape(words)}</title>{line}{label}</g>']


def _changes(points: Sequence[TrendPoint], frame: _Frame) -> list[str]:
    """A line and a word where a level changes on record."""
    parts = []
    for point in points:
        if point.changes:
            x = frame.x(_day(point))
            right = x > (LEFT + WIDTH) / 2
            words = _safe("; ".join(point.changes))
            parts.append(
                f'<g class="change"><title>{_safe(f"{point.date}: ")}{words}</title>'
                f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>'
                f"{_text(x, TOP - 8, '; '.join(point.changes)[:40], 'end' if right else 'start')}</g>"
            )
    return parts


def _point(trend: Trend, point: TrendPoint, frame: _Frame, kind: str) -> str:
    """A dot; a cross in a ring, twice as large, where something was found: a shape, not only a colour."""
    x, y = frame.x(_day(point)), frame.y(point.value)
    title = f"<title>{_safe(point_words(trend, point))}</title>"
    if kind == "found":
        cross = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
        return f'<g class="found">{title}<circle cx="{x:.1f}" cy="{y:.1f}" r="7"/><path d="{cross}"/></g>'
    name = f"point {kind}".strip()
    return f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="3">{title}</circle>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_safe(words)}</text>'


def _safe(words: str) -> str:
    return escape(one_line(words, _WORDS_CHARS_MAX))
