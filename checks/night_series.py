"""The nights of a runner class as series: which nights belong together, and what is suspicious about the last."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

from checks.effects import log_from_share
from checks.gate import Key
from checks.nightly import Outcome, Suspicion, suspect
from checks.policy import Policy
from redline.errors import UsageError
from redline.metrics import CATALOGUE
from redline.model import LevelChange, LevelKind, Night, digest

SETTLED_SUFFIX = "-settled"
"""Ends the run id of the second half of a night's record: its readings are kept before anything is confirmed."""


@dataclass(frozen=True, slots=True)
class Series:
    """One primary metric over the nights that have a reading of it, oldest first, tonight's last.

    `readings`: oriented logs; `changes`: the level changes on record, with indices of these nights.
    """

    key: Key
    scenario_hash: str
    nights: tuple[Night, ...]
    readings: tuple[float, ...]
    changes: tuple[LevelChange, ...]

    @property
    def tonight(self) -> int:
        """The index of the last reading."""
        return len(self.readings) - 1


def series_id_of(extra_args: Sequence[str], models: Sequence[tuple[str, str]], fingerprint_id: str) -> str:
    """What nights must share to be one history: the machine and how the server is started, not the build."""
    return digest([fingerprint_id, tuple(extra_args), tuple(models)])


def whole(recorded: Sequence[Night]) -> tuple[Night, ...]:
    """The nights with both halves of their records joined, oldest first; acceptances stay as they are.

    Of a date that a series has measured more than once only the first finished night counts, and one that was cut
    short only if none is finished: measuring again until it fits gains nothing, and no step is on record twice.
    """
    left_out = {each.run_id for each in measured_again(recorded)}
    return tuple(each for each in _joined(recorded) if each.run_id not in left_out)


def measured_again(recorded: Sequence[Night]) -> tuple[Night, ...]:
    """The nights that `whole` leaves out, oldest first: their series has a finished night of the same date."""
    finished = {each.run_id.removesuffix(SETTLED_SUFFIX) for each in recorded if each.run_id.endswith(SETTLED_SUFFIX)}
    measured = [each for each in _joined(recorded) if each.readings or each.trial_ids]
    first: dict[tuple[str, str, str], str] = {}
    for each in measured:
        if each.run_id in finished:
            first.setdefault((each.runner_class, each.series_id, each.date), each.run_id)
    return tuple(
        each
        for each in measured
        if first.get((each.runner_class, each.series_id, each.date), each.run_id) != each.run_id
    )


def _joined(recorded: Sequence[Night]) -> tuple[Night, ...]:
    halves = {each.run_id: each for each in recorded if each.run_id.endswith(SETTLED_SUFFIX)}
    return tuple(
        replace(each, findings=half.findings, changes=half.changes)
        if (half := halves.get(each.run_id + SETTLED_SUFFIX)) is not None
        else each
        for each in recorded
        if each.run_id not in halves
    )


def history_of(nights: Sequence[Night], tonight: Night) -> tuple[Night, ...]:
    """The nights that tonight may be compared with, tonight last; `nights` are whole.

    Raises UsageError if tonight is on record already, or is not later than the last night.
    """
    before = tuple(night for night in nights if night.series_id == tonight.series_id)
    if before and before[-1].run_id >= tonight.run_id:
        raise UsageError(
            "this machine's clock is behind the record",
            expected=f"a run after {before[-1].run_id}",
            found=tonight.run_id,
            next_step="set the clock; a night with a date of the future has to be moved away from the record",
        )
    if any(night.date == tonight.date and night.readings for night in before):
        raise UsageError(
            f"the night of {tonight.date} is on record",
            expected="one night a date: measuring again until it fits is a choice of results",
            found=next(night.run_id for night in before if night.date == tonight.date),
            next_step="give the night its own name if it is another one: --date YYYY-MM-DD",
        )
    return (*before, tonight)


def series_of(nights: Sequence[Night], key: Key, scenario_hash: str) -> Series:
    """One metric of one version of one scenario over these nights."""
    metric = CATALOGUE[key[1]]
    chosen: list[Night] = []
    readings: list[float] = []
    for night in nights:
        for reading in night.readings:
            if (reading.scenario, reading.metric, reading.scenario_hash) == (*key, scenario_hash):
                chosen.append(night)
                readings.append(metric.oriented_log(reading.value))
    run_ids = [night.run_id for night in chosen]
    changes = [
        LevelChange(change.kind, bisect.bisect_left(run_ids, change.first_run_id), change.size, change.excused)
        for night in nights
        for change in night.changes
        if (change.scenario, change.metric, change.scenario_hash) == (*key, scenario_hash)
    ]
    return Series(key, scenario_hash, tuple(chosen), tuple(readings), tuple(changes))


def release_of(series: Series, policy: Policy, release_pin_id: str | None) -> Sequence[int]:
    """The nights of the release's build; without one, the first nights of the series."""
    released = [index for index, night in enumerate(series.nights) if night.pin_id == release_pin_id]
    return released or range(min(policy.nightly.drift_nights, len(series.nights)))


def suspicion_of(series: Series, policy: Policy, release_pin_id: str | None) -> Suspicion | None:
    """What is wrong with tonight's reading of a series, or None."""
    metric = CATALOGUE[series.key[1]]
    margin = policy.for_confirmation().of(metric.metric_id).margin
    return suspect(
        series.readings,
        series.changes,
        policy.nightly,
        margin_log=log_from_share(margin, metric.better),
        release=release_of(series, policy, release_pin_id),
        open_since=_open_since(series),
    )


def _open_since(series: Series) -> int | None:
    """The first bad night of the suspicion that last night left open, back through every night that left it open."""
    run_ids = [night.run_id for night in series.nights]
    first: int | None = None
    for night in reversed(series.nights[:-1]):
        named = [
            each.first_run_id
            for each in night.findings
            if each.kind == Outcome.OPEN.value and (each.scenario, each.metric) == series.key
        ]
        if not named:
            return first
        index = min(bisect.bisect_left(run_ids, named[0]), series.tonight)
        if any(change.kind is LevelKind.ACCEPTED and change.first >= index for change in series.changes):
            return first
        first = index if first is None else min(first, index)
    return first


def one_build(series: Series, suspicion: Suspicion) -> bool:
    """True if every night from the last good one on measured the same build: it costs nothing against itself."""
    builds = {night.sut_id for night in series.nights[suspicion.last_good :]}
    return len(builds) == 1


def went_back(series: Series, suspicion: Suspicion) -> str:
    """Why a gate of tonight's build would settle nothing: it is the good one again. Empty if it is not."""
    good, tonight = series.nights[suspicion.last_good], series.nights[-1]
    if good.sut_id != tonight.sut_id or one_build(series, suspicion):
        return ""
    suspected = next(night for night in series.nights[suspicion.last_good :] if night.sut_id != good.sut_id)
    return (
        f"tonight measured {good.sut_label} again, the suspected build is {suspected.sut_label}: "
        "compare the two with `redline gate`"
    )
