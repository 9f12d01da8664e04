"""What a runner class should have measured and did not, as long as it lasted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby

from checks.cause_tracks import Track, only_accepts
from redline.model import CauseKind, Night, NightFinding

NEVER = "never"
"""Stands for the first missing date of a runner class that has no night at all: its cause stays one."""


def missing_cause(runner_class: str, since: str) -> tuple[str, ...]:
    """What identifies the cause of what a runner class misses without a break from a date on, or NEVER had."""
    return ("missing", runner_class, since)


@dataclass(slots=True)
class _Episode:
    """Dates without a whole night, one after the other: since when, and what was missing."""

    runner_class: str
    since: str
    tracks: dict[tuple[str, str], Track] = field(default_factory=dict)

    def miss(self, finding: NightFinding, first: str, last: str) -> None:
        """Note that something was missing from `first` to `last`."""
        key = (finding.scenario, finding.metric)
        track = self.tracks.get(key)
        if track is None:
            cause = missing_cause(self.runner_class, self.since)
            track = Track(cause, CauseKind.MISSING, self.runner_class, ("", ""), finding, first, last)
            self.tracks[key] = track
        track.last, track.ended = last, ""

    def has_come(self, day: str, holes: Sequence[NightFinding]) -> None:
        """Note that of a night of `day` only `holes` are missing."""
        missing = {(each.scenario, each.metric) for each in holes}
        for key, track in self.tracks.items():
            if key not in missing and not track.ended:
                track.ended = f"measured again on {day}"
        for each in holes:
            self.miss(each, day, day)


def missing_tracks(runner_class: str, nights: Sequence[Night], *, due: bool, day: str) -> tuple[Track, ...]:
    """What was missing of a runner class until `day`, in the order in which it began; `nights`: oldest first.

    A night is due every day between two nights, and on `day` itself if the class is `due`. What is missing in an
    unbroken row of dates is of one cause; it stands only while the class is due: nobody waits for it otherwise.
    """
    found: list[Track] = []
    episode: _Episode | None = None
    before = ""
    measured = sorted((each for each in nights if not only_accepts(each)), key=lambda night: night.date)
    for night_date, group in groupby(measured, key=lambda night: night.date):
        if before and _next_day(before) < night_date:
            episode = episode or _Episode(runner_class, _next_day(before))
            episode.miss(_absent(runner_class, before), _next_day(before), _day_before(night_date))
        holes = [each for night in group for each in night.findings if each.kind == "missing" and each.scenario]
        if holes or episode is not None:
            episode = episode or _Episode(runner_class, night_date)
            episode.has_come(night_date, holes)
        if episode is not None and not holes:
            found += episode.tracks.values()
            episode = None
        before = night_date
    if due and before < day:
        since = _next_day(before) if before else NEVER
        episode = episode or _Episode(runner_class, since)
        episode.miss(_absent(runner_class, before), _next_day(before) if before else day, day)
    if episode is not None:
        found += episode.tracks.values()
        if not due:
            for track in episode.tracks.values():
                track.ended = track.ended or "this runner class is not expected any more"
    return tuple(found)


def _absent(runner_class: str, before: str) -> NightFinding:
    since = f"since {before}" if before else "on record"
    return NightFinding("missing", "", "", f"{runner_class} has no finished night {since}: its job did not run or died")


def _next_day(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def _day_before(day: str) -> str:
    return (date.fromisoformat(day) - timedelta(days=1)).isoformat()
