"""How long to wait before GitHub is asked again: its rate limits, and answers that were no answer.

Source: docs.github.com, "Rate limits for the REST API" and "Best practices for using the REST API".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

ATTEMPTS_MAX = 6
WAIT_S_MAX = 900.0
"""Seconds that one client waits in all: a step of a job that waits for longer is better started again."""

_SECONDARY_S = 60.0
_BROKEN_S = 1.0
_SECONDARY_WORDS = ("secondary rate limit", "abuse detection")


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, as something to hand in: seconds since 1970, seconds that never go back, and waiting."""

    epoch_s: Callable[[], float] = time.time
    monotonic_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def limited_s(status: int, headers: Mapping[str, str], body: str, attempt: int, now_epoch_s: float) -> float | None:
    """Seconds to wait after an answer that says "too many requests", None if it says something else.

    `attempt` counts from 0. The instant when a limit is lifted is GitHub's, so it is compared with the answer's own
    date; this machine's clock decides only where the answer has none.
    """
    if status not in (403, 429):
        return None
    now_s = _epoch_s(headers.get("date", ""))
    now_s = now_epoch_s if now_s is None else now_s
    asked_s = retry_after_s(headers, now_s)
    if asked_s is not None:
        return asked_s
    if headers.get("x-ratelimit-remaining") == "0":
        reset = headers.get("x-ratelimit-reset", "")
        if reset.isascii() and reset.isdigit():
            return max(0.0, float(reset[:18]) - now_s) + 1.0  # reset is in whole seconds
        return _SECONDARY_S * 2.0**attempt
    secondary = status == 429 or any(words in body.lower() for words in _SECONDARY_WORDS)
    return _SECONDARY_S * 2.0**attempt if secondary else None


def broken_s(headers: Mapping[str, str], attempt: int, now_epoch_s: float) -> float:
    """Seconds to wait after a server error or a connection that broke; doubles with each attempt."""
    asked_s = retry_after_s(headers, now_epoch_s)
    return _BROKEN_S * 2.0**attempt if asked_s is None else asked_s


def retry_after_s(headers: Mapping[str, str], now_epoch_s: float) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or as a date; None without one that can be read."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:18])
    until_s = _epoch_s(value)
    return None if until_s is None else max(0.0, until_s - now_epoch_s)


def _epoch_s(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
