"""`redline nights`: what is on record, for people, and the acceptance of a level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from checks.effects import share_from_log
from checks.gate import Key
from checks.night_findings import accepted
from checks.night_series import Series, series_of, suspicion_of, whole
from checks.nightly import owed
from flows.query import table
from flows.workspace import Workspace, content_root
from redline.errors import UsageError
from redline.metrics import CATALOGUE
from redline.model import Night
from redline.runner.lock import runner_lock
from redline.store.nights import read_nights, write_night
from redline.units import format_percent, format_value

ACCEPTED_MARK = "-then-accepted-"
"""Sorts a record behind both halves of the night before it, and before every later night."""


def show(state_dir: Path, runner: str) -> Iterator[str]:
    """The nights of a runner class, one line each, then every series with its level. Raises StoreError."""
    recorded = whole(read_nights(Workspace(content_root(), state_dir).nights_dir, runner))
    if not recorded:
        yield f"no nights of runner class {runner} on record"
        yield "  the first one: redline nightly --build BUILD"
        return
    rows = [
        (night.date, night.sut_label, len(night.readings), "; ".join(each.kind for each in night.findings) or "quiet")
        for night in recorded
    ]
    yield from table(("night", "build", "readings", "said"), rows)
    yield ""
    levels = [_level(series) for series in every_series(recorded)]
    yield from table(("scenario", "metric", "nights", "last", "changes of level", "owed to the release"), levels)
    for night in recorded:
        for finding in night.findings:
            yield f"{night.date}: {finding.text}"


def every_series(recorded: Sequence[Night]) -> tuple[Series, ...]:
    """Every series of these nights that the last night of its kind has part in, in order of appearance."""
    keys = dict.fromkeys(
        (night.series_id, reading.scenario, reading.metric, reading.scenario_hash)
        for night in recorded
        for reading in night.readings
    )
    return tuple(
        series_of([night for night in recorded if night.series_id == series_id], (scenario, metric), of_hash)
        for series_id, scenario, metric, of_hash in keys
    )


def accept(state_dir: Path, runner: str, key: Key, by: str, reason: str, wait_s: float, seen: str = "") -> Path:
    """Put on record that the level a series has now is right; its path.

    The machine is held meanwhile (waited for at most `wait_s`), and the acceptance stands on record right after the
    last night that it knows: a nightly that is under way, here or on another machine, must not find its regression
    accepted unseen. `seen`: the date of the last night that whoever accepts has looked at, if they say so.

    Raises:
        UsageError: an unknown series, no reason, or a last night that is not the one that was seen.
        RunnerBusyError: a measurement is under way.
    """
    workspace = Workspace(content_root(), state_dir)
    if not reason.strip() or not by.strip():
        raise UsageError("an acceptance says who and why", expected="--reason and --by with words in them")
    with runner_lock(wait_s, lambda _: None):
        recorded = whole(read_nights(workspace.nights_dir, runner))
        if seen:
            _require_seen(recorded, runner, seen)
        found = [series for series in every_series(recorded) if series.key == key]
        if not found:
            known = sorted({" ".join(series.key) for series in every_series(recorded)})
            raise UsageError(
                f"no night of runner class {runner} has read {key[1]} in {key[0]}",
                expected=f"one of: {', '.join(known)}" if known else "nights on record: redline nightly",
                found=" ".join(key),
                next_step="see `redline nights`",
            )
        latest = max(found, key=lambda series: series.nights[-1].run_id)
        policy = workspace.policy(workspace.runner_class(runner).policy)
        baseline = workspace.baseline(runner, key[0])
        suspicion = suspicion_of(latest, policy, baseline.pin_id if baseline is not None else None)
        now = datetime.now(UTC)
        run_id = f"{latest.nights[-1].run_id}{ACCEPTED_MARK}{now:%Y%m%dT%H%M%S}"
        night = accepted(latest, suspicion, run_id, reason, by, now.date().isoformat())
        return write_night(workspace.nights_dir, night)


def _require_seen(recorded: Sequence[Night], runner: str, seen: str) -> None:
    last = max((night.date for night in recorded if night.readings or night.trial_ids), default="")
    if last != seen:
        raise UsageError(
            f"the last night of runner class {runner} is another one than the one that was looked at",
            expected=f"{last}, the last one on record" if last else "a night on record",
            found=seen,
            next_step="look at that night, and accept again if its level is right too; nothing was accepted",
        )


def _level(series: Series) -> tuple[object, ...]:
    metric = CATALOGUE[series.key[1]]
    last = next(each.value for each in series.nights[-1].readings if (each.scenario, each.metric) == series.key)
    steps = ", ".join(
        f"{change.kind.value} {format_percent(share_from_log(change.size, metric.better))}" for change in series.changes
    )
    debt = owed(series.changes)
    return (
        *series.key,
        len(series.nights),
        format_value(last, metric.unit),
        steps or "none",
        format_percent(share_from_log(debt, metric.better)) if debt else "nothing",
    )
