"""Nights that did not run and legs that are missing: in a recorded past each is a finding of its own."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from checks.nightly import missing_dates
from checks.replay import Recording, Series

GAPS_MIN = 5
"""Fewer gaps between nights than this teach no cadence."""
REGULAR_SHARE_MIN = 0.75
"""A cadence is one if at least this share of the gaps keeps to it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What is missing from `first` to `last` (both YYYY-MM-DD, `night_count` nights): a whole night or a leg.

    `scenario` is empty for a night on which nothing ran; `metric` is empty where all of a scenario is missing.
    """

    runner: str
    first: str
    last: str
    night_count: int
    scenario: str = ""
    metric: str = ""


def cadence_days(dates: Sequence[str]) -> int | None:
    """Days from one night to the next (the median gap), or None if the nights are too few or keep to no cadence.

    `dates`: the nights of one runner, ascending. Weekdays on which it never ran are not due: nights that rest over
    the weekend keep to a cadence of one day.
    """
    days = [date.fromisoformat(each) for each in dates]
    gaps = [(later - earlier).days for earlier, later in itertools.pairwise(days)]
    if len(gaps) < GAPS_MIN:
        return None
    every = max(1, round(statistics.median(gaps)))
    weekdays = _weekdays(dates)
    kept = sum(not _due_between(*pair, every, weekdays) for pair in itertools.pairwise(dates))
    return every if kept >= REGULAR_SHARE_MIN * len(gaps) else None


def missing_nights(runner: str, dates: Sequence[str], every_days: int) -> tuple[Gap, ...]:
    """The nights that were due and did not run, one entry per stretch."""
    weekdays = _weekdays(dates)
    found = []
    for earlier, later in itertools.pairwise(dates):
        if due := _due_between(earlier, later, every_days, weekdays):
            found.append(Gap(runner, due[0], due[-1], len(due)))
    return tuple(found)


def missing_legs(recording: Recording, runner: str) -> tuple[Gap, ...]:
    """The scenarios and metrics, once begun, that are absent on a night that measured others, per stretch of nights."""
    dates = recording.dates(runner)
    by_scenario: dict[str, list[Series]] = {}
    for series in recording.of_runner(runner):
        by_scenario.setdefault(series.scenario, []).append(series)
    found = []
    for scenario, legs in by_scenario.items():
        absent = {series.metric: _absent(series, dates) for series in legs}
        begun = {series.metric: series.nights[0].date for series in legs}
        whole = [
            night
            for night in dates
            if any(first <= night for first in begun.values())
            and all(night in absent[metric] for metric, first in begun.items() if first <= night)
        ]
        found += _stretches(dates, whole, runner, scenario, "")
        for metric, nights in absent.items():
            found += _stretches(
                dates, [night for night in dates if night in nights - set(whole)], runner, scenario, metric
            )
    return tuple(sorted(found, key=lambda gap: (gap.first, gap.scenario, gap.metric)))


def _due_between(earlier: str, later: str, every_days: int, weekdays: frozenset[int]) -> tuple[str, ...]:
    due = missing_dates([earlier], later, every_days)
    return due if every_days > 1 else tuple(each for each in due if date.fromisoformat(each).weekday() in weekdays)


def _weekdays(dates: Sequence[str]) -> frozenset[int]:
    """The weekdays on which anything ever ran."""
    return frozenset(date.fromisoformat(each).weekday() for each in dates)


def _absent(series: Series, dates: Sequence[str]) -> frozenset[str]:
    """The runner's nights after the series' first on which it has no reading."""
    own = {night.date for night in series.nights}
    return frozenset(each for each in dates if each > series.nights[0].date and each not in own)


def _stretches(dates: Sequence[str], nights: Sequence[str], runner: str, scenario: str, metric: str) -> list[Gap]:
    """Successive nights of the runner as one entry."""
    place = {each: index for index, each in enumerate(dates)}
    found: list[Gap] = []
    for night in nights:
        if found and place[night] == place[found[-1].last] + 1:
            last = found.pop()
            found.append(Gap(runner, last.first, night, last.night_count + 1, scenario, metric))
        else:
            found.append(Gap(runner, night, night, 1, scenario, metric))
    return found
