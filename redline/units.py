"""Conversion at the door: inside Redline it is seconds, tokens per second, bytes and integer nanoseconds."""

from __future__ import annotations

NS_PER_S = 1_000_000_000


def seconds(duration_ns: int) -> float:
    """Seconds of a duration in nanoseconds."""
    return duration_ns / NS_PER_S


def nanoseconds(duration_s: float) -> int:
    """Nanoseconds, rounded to the nearest, of a duration in seconds."""
    return round(duration_s * NS_PER_S)


def format_value(value: float, unit: str) -> str:
    """A reading as people write it: `12.3 ms`, `4531 tok/s`, `95.4 %`.

    `unit` is the base unit of the metric catalogue: `s`, `tok/s`, `req/s` or `1` (a share).
    """
    if unit == "s":
        if abs(value) < 1.0:
            return f"{value * 1e3:.3g} ms" if abs(value) < 0.1 else f"{value * 1e3:.0f} ms"
        return f"{value:.2f} s"
    if unit == "1":
        return f"{value * 100:.2f} %"
    digits = 0 if abs(value) >= 100 else 2
    return f"{value:.{digits}f} {unit}"


def format_percent(effect: float) -> str:
    """A relative effect with sign: `+3.1 %`."""
    return f"{effect * 100 + 0.0:+.1f} %".replace("-0.0 %", "+0.0 %")


def format_duration(duration_s: float) -> str:
    """A wait as people say it: `45 s`, `2 min 05 s`, `1 h 03 min`."""
    whole = max(0, round(duration_s))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
