"""Whether what an issue misses has come: its class and date follow from what identifies its cause. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from checks.cause_tracks import only_accepts
from checks.missing_nights import NEVER, missing_cause
from redline.model import Night, digest

DAYS_MAX = 400
"""So many days before its issue was opened something may have been missing already."""


def has_come(cause_id: str, opened: str, nights: Mapping[str, Sequence[Night]]) -> bool:
    """True if the runner class of a missing cause has a finished night of the date from which it was missing, or later.

    `opened`: the night (YYYY-MM-DD) that opened the issue, empty if nobody knows; `nights`: the finished ones of every
    runner class. A class without any has not come: a record may have been lost.
    """
    for runner_class, history in nights.items():
        measured = [night.date for night in history if not only_accepts(night)]
        since = _since(cause_id, runner_class, opened)
        if since is not None:
            return any(since == NEVER or day >= since for day in measured)
    return False


def _since(cause_id: str, runner_class: str, opened: str) -> str | None:
    """The date from which a class was missing something, NEVER, or None if the cause is of another class."""
    if digest(list(missing_cause(runner_class, NEVER))) == cause_id:
        return NEVER
    if not opened:
        return None
    try:
        last = date.fromisoformat(opened)
        days = [(last - timedelta(days=number)).isoformat() for number in range(DAYS_MAX)]
    except (ValueError, OverflowError):  # somebody has edited the issue
        return None
    return next((day for day in days if digest(list(missing_cause(runner_class, day))) == cause_id), None)
