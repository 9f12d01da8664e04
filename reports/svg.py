"""The parts of a plot as SVG text: axes, a grid, curves, words. Pure; coordinates in pixels from the top left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

COLOURS = ("#d62728", "#222222", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#7f7f7f")
FONT = 'font-family="sans-serif" font-size="12"'
GRID_COLOUR = "#ddd"


class Axis(Protocol):
    """Where values stand along an axis, and which of them are marked."""

    def at(self, value: float) -> float:
        """Pixels from the axis's start."""

    @property
    def ticks(self) -> Sequence[float]:
        """The values that are marked."""


@dataclass(frozen=True, slots=True)
class LogarithmicAxis:
    """From 10**low to 10**high over `length` pixels; powers of ten are marked."""

    low: int
    high: int
    length: int

    def at(self, value: float) -> float:
        """Pixels from the axis's start."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return share * self.length

    @property
    def ticks(self) -> Sequence[float]:
        """Powers of ten."""
        return [10.0**power for power in range(self.low, self.high + 1)]


@dataclass(frozen=True, slots=True)
class LinearAxis:
    """From 0 to `high` over `length` pixels, marked every `step`."""

    high: float
    step: float
    length: int

    def at(self, value: float) -> float:
        """Pixels from the axis's start."""
        return value / self.high * self.length

    @property
    def ticks(self) -> Sequence[float]:
        """Multiples of the step, 0 and the end included."""
        return [self.step * index for index in range(round(self.high / self.step) + 1)]


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle that a panel's axes span: its left and top edge, and its axes."""

    left: int
    top: int
    across: Axis
    up: Axis
    width: int
    height: int

    @property
    def bottom(self) -> int:
        """Its lower edge."""
        return self.top + self.height

    def point(self, across: float, up: float) -> tuple[float, float]:
        """(x, y) of two values."""
        return self.left + self.across.at(across), self.bottom - self.up.at(up)

    def grid(self, label: str) -> list[str]:
        """A line and its value per tick of both axes, and the words below."""
        parts = []
        for tick in self.across.ticks:
            x = self.left + self.across.at(tick)
            parts.append(line(x, self.top, x, self.bottom, GRID_COLOUR))
            parts.append(text(x, self.bottom + 16, f"{tick:g}", anchor="middle"))
        for tick in self.up.ticks:
            y = self.bottom - self.up.at(tick)
            parts.append(line(self.left, y, self.left + self.width, y, GRID_COLOUR))
            parts.append(text(self.left - 6, y + 4, f"{tick:g}", anchor="end"))
        parts.append(text(self.left + self.width / 2, self.bottom + 34, label, anchor="middle"))
        return parts

    def curve(self, values: Sequence[tuple[float, float]], colour: str) -> list[str]:
        """A line through the values, and a dot at each."""
        points = [self.point(across, up) for across, up in values]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots]


def picture(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """The whole SVG: a white ground, the title at its top left, and the parts."""
    return (
        "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>',
                f'<rect width="{width}" height="{height}" fill="white"/>',
                f'<text x="60" y="20" font-size="15">{escape(title)}</text>',
                *parts,
                "</svg>",
            ]
        )
        + "\n"
    )


def text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    """Words at a place, escaped; `anchor`: start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: int = 1) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def bar(x: float, y: float, length: float, height: float, colour: str) -> str:
    """A horizontal bar; one of no length is still a hair wide."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(length, 0.5):.1f}" height="{height:.1f}" fill="{colour}"/>'
