"""A recorded past as series of nights: readings of past builds, aggregated as the method would have done it.

    repeats        the median over the repeats of one deployment (of one or two that is their mean)
    deployments    one reading each; a night's reading of a build is the mean of their logs
    builds         a night that measured several builds: the nightly takes the newest, the gate takes pairs of them
    night          the day of the date, as it is written; instants order deployments, a date without a zone is UTC

Pure: rows come in, series come out. `checks.replay_nightly` and `checks.replay_gate` judge them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

from checks.effects import metric_named
from checks.policy import Policy

SeriesKey: TypeAlias = tuple[str, str, str]  # (runner, scenario, metric)


class RecordedReading(Protocol):
    """One row of a recorded history: one reading of one repeat on one deployment of one build."""

    @property
    def build(self) -> str:
        """The build, by name."""

    @property
    def date(self) -> str:
        """ISO 8601; without a zone it is UTC."""

    @property
    def runner(self) -> str:
        """The machine or runner class."""

    @property
    def scenario(self) -> str:
        """The load."""

    @property
    def metric(self) -> str:
        """An id of the catalogue."""

    @property
    def reading(self) -> float:
        """In the metric's base unit, above 0 unless that unit is "1"."""

    @property
    def deployment(self) -> str:
        """One fresh start of the server."""

    @property
    def repeat(self) -> int:
        """Windows on a deployment, counted from 0."""

    @property
    def definition(self) -> str:
        """How the reading differs from the catalogue's; empty: not at all."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows count: empty tuples mean all; `since`: the first night, YYYY-MM-DD, or empty.

    `drop_first_repeat`: repeat 0 of each deployment was warm-up and does not count.
    """

    runners: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    since: str = ""
    drop_first_repeat: bool = False

    def takes(self, row: RecordedReading) -> bool:
        """True if the row's names are chosen; the date and the repeat are looked at elsewhere."""
        return (
            (not self.runners or row.runner in self.runners)
            and (not self.scenarios or row.scenario in self.scenarios)
            and (not self.metrics or row.metric in self.metrics)
        )


@dataclass(frozen=True, slots=True)
class BuildNight:
    """One build on one night of one series: one reading per deployment, in order of time, in the base unit."""

    build: str
    readings: tuple[float, ...]
    log: float
    """The night's reading: the mean of the oriented logs."""


@dataclass(frozen=True, slots=True)
class Night:
    """One night of one series: every build it measured, the newest last."""

    date: str
    builds: tuple[BuildNight, ...]

    @property
    def taken(self) -> BuildNight:
        """The build whose reading is the nightly's: the newest."""
        return self.builds[-1]

    def of(self, build: str) -> BuildNight | None:
        """A build's readings of this night, or None."""
        return next((each for each in self.builds if each.build == build), None)


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one scenario on one runner, oldest night first."""

    runner: str
    scenario: str
    metric: str
    nights: tuple[Night, ...]
    definitions: tuple[str, ...] = ("",)

    @property
    def key(self) -> SeriesKey:
        """(runner, scenario, metric)."""
        return self.runner, self.scenario, self.metric


@dataclass(frozen=True, slots=True)
class Recording:
    """Every series, sorted by key. `builds`: per runner, in the order in which they were first measured.

    `left_out`: metric id -> why it is not judged; `dropped_count`: first repeats that were dropped.
    """

    series: tuple[Series, ...]
    builds: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, str]
    dropped_count: int = 0

    def of_runner(self, runner: str) -> tuple[Series, ...]:
        """The series of one runner."""
        return tuple(each for each in self.series if each.runner == runner)

    def dates(self, runner: str) -> tuple[str, ...]:
        """The nights of a runner on which anything was measured, ascending."""
        return tuple(sorted({night.date for each in self.of_runner(runner) for night in each.nights}))


@dataclass(slots=True)
class _Deployment:
    """The repeats of one deployment so far, and when it began."""

    began: float
    values: list[float]


_Cell: TypeAlias = tuple[SeriesKey, str, str]  # series, night, build


def recording(
    rows: Iterable[RecordedReading], choice: Choice, policy: Policy, *, primaries_only: bool = False
) -> Recording:
    """The series of a recorded history.

    Metrics without an entry in the policy, shares, which have no logarithm, and with `primaries_only` those that
    cannot block are left out and named.
    """
    instants: dict[str, tuple[str, float]] = {}
    first_seen: dict[tuple[str, str], float] = {}
    cells: dict[_Cell, dict[str, _Deployment]] = {}
    definitions: dict[SeriesKey, dict[str, None]] = {}
    reasons: dict[str, str] = {}
    dropped = 0
    for row in rows:
        if row.date not in instants:
            instants[row.date] = _night_and_instant(row.date)
        night, instant = instants[row.date]
        if not choice.takes(row) or night < choice.since:
            continue
        if row.metric not in reasons:
            reasons[row.metric] = _why_left_out(row.metric, policy, primaries_only=primaries_only)
        if reasons[row.metric]:
            continue
        if choice.drop_first_repeat and row.repeat == 0:
            dropped += 1
            continue
        who = (row.runner, row.build)
        first_seen[who] = min(instant, first_seen.get(who, math.inf))
        key = (row.runner, row.scenario, row.metric)
        definitions.setdefault(key, {}).setdefault(row.definition)
        deployments = cells.setdefault((key, night, row.build), {})
        if (found := deployments.get(row.deployment)) is None:
            deployments[row.deployment] = _Deployment(instant, [row.reading])
        else:
            found.values.append(row.reading)
            found.began = min(found.began, instant)
    builds = _in_order(first_seen)
    series = _series(cells, builds, definitions)
    left_out = {metric: why for metric, why in reasons.items() if why}
    return Recording(series, builds, left_out, dropped)


def pooled_reading(values: Sequence[float]) -> float:
    """The reading of a deployment: the median of its repeats, which is the mean of one or two. Raises IndexError."""
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low + (high - low) / 2  # (low + high) / 2 overflows


def _why_left_out(metric: str, policy: Policy, *, primaries_only: bool) -> str:
    if metric_named(metric).unit == "1":
        return "a share: accuracy is judged item by item, not by steps"
    if policy.missing([metric]):
        return f"the policy {policy.name} has no entry for it"
    if primaries_only and not policy.of(metric).primary:
        return f"descriptive in the policy {policy.name}: the nightly looks at primary metrics"
    return ""


def _night_and_instant(text: str) -> tuple[str, float]:
    """(YYYY-MM-DD as it is written, seconds since 1970)."""
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return moment.date().isoformat(), aware.timestamp()


def _in_order(first_seen: Mapping[tuple[str, str], float]) -> dict[str, tuple[str, ...]]:
    """Runner -> builds by their first instant; those of one instant stay in the order of the file."""
    found: dict[str, list[str]] = {}
    for runner, build in sorted(first_seen, key=lambda who: first_seen[who]):
        found.setdefault(runner, []).append(build)
    return {runner: tuple(builds) for runner, builds in found.items()}


def _series(
    cells: Mapping[_Cell, Mapping[str, _Deployment]],
    builds: Mapping[str, tuple[str, ...]],
    definitions: Mapping[SeriesKey, Mapping[str, None]],
) -> tuple[Series, ...]:
    rank = {(runner, build): index for runner, named in builds.items() for index, build in enumerate(named)}
    nights: dict[SeriesKey, dict[str, list[BuildNight]]] = {}
    for (key, night, build), deployments in cells.items():
        nights.setdefault(key, {}).setdefault(night, []).append(_build_night(key[2], build, deployments))
    found = []
    for key, of_key in sorted(nights.items()):
        ordered = tuple(
            Night(date, tuple(sorted(of_key[date], key=lambda each: rank[key[0], each.build])))
            for date in sorted(of_key)
        )
        found.append(Series(*key, ordered, tuple(definitions[key])))
    return tuple(found)


def _build_night(metric: str, build: str, deployments: Mapping[str, _Deployment]) -> BuildNight:
    in_order = sorted(deployments.values(), key=lambda each: each.began)
    readings = tuple(pooled_reading(each.values) for each in in_order)
    logs = [metric_named(metric).oriented_log(reading) for reading in readings]
    return BuildNight(build, readings, math.fsum(logs) / len(logs))
