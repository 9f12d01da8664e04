"""The series of a runner class as the overview shows them: the last readings, their level, the last good one. Pure."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from statistics import median

from checks.effects import share_from_log
from checks.gate import Key
from checks.night_findings import LEGS_NIGHTS
from checks.night_series import Series, series_of
from checks.nightly import MARKS, levelled
from redline.metrics import CATALOGUE, Better
from redline.model import Night, NightFinding
from redline.units import format_percent
from reports.overview_data import Trend, TrendPoint

POINTS_MAX = 60
"""So many nights a series shows."""

NIGHTS_READ_MAX = 120
"""So many nights of a runner class are looked at: a last good one before them is not found."""

SAYS_NOTHING_BAD = frozenset({"missing", "improvement", "accepted"})
"""Kinds of findings after which a night still counts as good."""


def is_bad(finding: NightFinding) -> bool:
    """True if a night with this finding is no good one to compare with."""
    return finding.kind not in SAYS_NOTHING_BAD


def bad_run_ids(nights: Sequence[Night], key: Key | None = None) -> frozenset[str]:
    """The nights that something speaks against: of one series, or of any.

    A finding speaks against its own night and every one back to the first bad night that it names.
    """
    run_ids = [night.run_id for night in nights]
    found: set[str] = set()
    for index, night in enumerate(nights):
        for each in night.findings:
            if is_bad(each) and key in (None, (each.scenario, each.metric)):
                first = bisect.bisect_left(run_ids, each.first_run_id) if each.first_run_id else index
                found.update(run_ids[min(first, index) : index + 1])
    return frozenset(found)


def trends_of(runner_class: str, nights: Sequence[Night], date: str) -> tuple[Trend, ...]:
    """Every series of a runner class that the night of `date` or the nights shortly before have read.

    `nights`: whole, of this class, oldest first, none after `date`. Series of a metric that the catalogue no longer
    holds are left out.
    """
    nights = nights[-NIGHTS_READ_MAX:]
    measured = [night for night in nights if night.readings]
    recent = {night.run_id for night in measured[-LEGS_NIGHTS:]}
    by_key: dict[Key, list[tuple[str, Series]]] = {}
    for series_id, series in _every_series(nights):
        by_key.setdefault(series.key, []).append((series_id, series))
    found = []
    for of_key in by_key.values():
        of_key.sort(key=lambda each: each[1].nights[-1].run_id)
        succeeded: set[int] = set()
        for position in reversed(range(len(of_key))):
            series = of_key[position][1]
            if position in succeeded or series.nights[-1].run_id not in recent:
                continue
            earlier = _predecessor([each[1] for each in of_key[:position]], series)
            succeeded |= {earlier} if earlier is not None else set()
            before = _points(of_key[earlier][1], nights) if earlier is not None else ()
            found.append(_trend(runner_class, series, nights, date, before))
    return tuple(sorted(found, key=lambda trend: (trend.scenario, tuple(CATALOGUE).index(trend.metric))))


def _every_series(nights: Sequence[Night]) -> list[tuple[str, Series]]:
    """(series id, series) of all that these nights have read."""
    by_id: dict[str, list[Night]] = {}
    for night in nights:
        by_id.setdefault(night.series_id, []).append(night)
    keys = dict.fromkeys(
        (night.series_id, reading.scenario, reading.metric, reading.scenario_hash)
        for night in nights
        for reading in night.readings
        if reading.metric in CATALOGUE
    )
    return [
        (series_id, series_of(by_id[series_id], (scenario, metric), of_hash))
        for series_id, scenario, metric, of_hash in keys
    ]


def _predecessor(others: Sequence[Series], series: Series) -> int | None:
    """The index of the series that ended last before this one began: it went on as this one."""
    ended = [index for index, each in enumerate(others) if each.nights[-1].run_id < series.nights[0].run_id]
    return max(ended, default=None)


def _trend(
    runner_class: str, series: Series, nights: Sequence[Night], date: str, before: tuple[TrendPoint, ...]
) -> Trend:
    points = _points(series, nights)
    metric = CATALOGUE[series.key[1]]
    tonight = points[-1] if points[-1].date == date else None
    last = len(points) - (1 if tonight is not None else 0)
    bad = bad_run_ids(nights, series.key)
    good = next((index for index in reversed(range(last)) if series.nights[index].run_id not in bad), None)
    change = None
    if tonight is not None and good is not None:
        change = share_from_log(series.readings[-1] - series.readings[good], metric.better)
    found = dict.fromkeys(
        (each.kind, each.text)
        for night in nights
        if night.date == date and night.series_id == series.nights[-1].series_id
        for each in night.findings
        if (each.scenario, each.metric) == series.key
    )
    shown = points[-POINTS_MAX:]
    room = POINTS_MAX - len(shown)
    return Trend(
        runner_class,
        *series.key,
        points=shown,
        earlier=before[-room:] if room else (),
        tonight=tonight,
        good=points[good] if good is not None else None,
        change=change,
        found=tuple(found),
        omitted=len(points) - len(shown),
    )


def _points(series: Series, nights: Sequence[Night]) -> tuple[TrendPoint, ...]:
    metric = CATALOGUE[series.key[1]]
    middle = median(levelled(series.readings, series.changes).tolist())
    begins, found = _change_words(series, metric.better), _finding_words(series, nights)
    points = []
    for index, night in enumerate(series.nights):
        moved = sum(each.size for each in series.changes if each.first <= index and each.kind not in MARKS)
        reading = next(
            each.value
            for each in night.readings
            if (each.scenario, each.metric, each.scenario_hash) == (*series.key, series.scenario_hash)
        )
        level = math.exp((middle + moved) * (1 if metric.better is Better.LOWER else -1))
        points.append(
            TrendPoint(night.date, night.sut_label, reading, level, begins.get(index, ()), found.get(night.run_id, ()))
        )
    return tuple(points)


def _change_words(series: Series, better: Better) -> Mapping[int, tuple[str, ...]]:
    """Index of a reading -> the changes of level that begin there; what began before the first one is not shown."""
    found: dict[int, tuple[str, ...]] = {}
    for change in series.changes:
        if 0 < change.first < len(series.nights):
            size = format_percent(share_from_log(change.size, better))
            words = f"{change.kind.value} {size}" if change.size else change.kind.value
            found[change.first] = (*found.get(change.first, ()), words)
    return found


def _finding_words(series: Series, nights: Sequence[Night]) -> Mapping[str, tuple[str, ...]]:
    """Run id -> kinds of what was found of this series that night; what is only owed still is not said every night."""
    found: dict[str, tuple[str, ...]] = {}
    for night in nights:
        kinds = [
            each.kind
            for each in night.findings
            if (each.scenario, each.metric) == series.key and is_bad(each) and each.kind != "owed"
        ]
        if kinds:
            found[night.run_id] = tuple(dict.fromkeys(kinds))
    return found
