"""Which confirmed regressions may have one culprit: a runner class that missed nights knows it less narrowly. Pure.

A regression lies between its last good and its first bad build. Where one range certainly lies around another one of
the same scenario, and of no second one, both are one cause. Builds are put in order only by what their versions say for
certain: development versions of one release (`0.33.1rc1.dev110` after `0.33.1rc1.dev109`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from checks.cause_tracks import BUILD, Track

_DEVELOPED = re.compile(r"(?P<line>\d[0-9a-z.]*)\.dev(?P<number>\d{1,9})(?:\+|$)")
_UNKNOWN = 10**9
"""The width of a range whose builds have no order: wider than any that is known."""

CauseKey: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Range:
    """The development versions (good, bad] of one release in which something got worse."""

    line: str
    good: int
    bad: int

    def around(self, other: _Range) -> bool:
        """True if this one is wider, and whatever is in the other one is in this one too."""
        return self != other and self.line == other.line and self.good <= other.good and other.bad <= self.bad


def narrowed(tracks: Sequence[Track]) -> tuple[CauseKey, ...]:
    """What identifies the cause of each track, in their order: its own, or that of the culprit it shares.

    Shared ones are called by whichever was said first, so that its issue goes on.
    """
    ranges = {id(track): _range(track) for track in tracks}
    groups: dict[tuple[CauseKey, _Range], list[Track]] = {}
    for track in tracks:
        found = ranges[id(track)]
        if found is not None:
            groups.setdefault((track.cause, found), []).append(track)
    inside = {key: _inside(key, groups) for key in groups}
    cores = {key: _core(key, inside) for key in groups}
    names = _names(cores, groups)
    return tuple(
        track.cause if (found := ranges[id(track)]) is None else names[cores[track.cause, found]] for track in tracks
    )


def width_of(track: Track) -> int:
    """How many builds a track's range holds; more than any other where nobody knows."""
    found = _range(track)
    return found.bad - found.good if found is not None else _UNKNOWN


def _range(track: Track) -> _Range | None:
    if track.cause[0] != BUILD:
        return None
    ends = [_place(label) for label in (track.build_good, track.build_bad)]
    good, bad = ends
    if good is None or bad is None or good[0] != bad[0] or good[1] >= bad[1]:
        return None
    return _Range(good[0], good[1], bad[1])


def _place(label: str) -> tuple[str, int] | None:
    """(release, number of the development version) of a build's label: the same on every platform."""
    words = label.split()
    found = _DEVELOPED.match(words[1]) if len(words) > 1 else None
    return (found["line"], int(found["number"])) if found is not None else None


_Key: TypeAlias = tuple[CauseKey, _Range]


def _inside(key: _Key, groups: dict[_Key, list[Track]]) -> _Key | None:
    """The one narrower range of another cause that a range lies around; None where there is none, or several."""
    scenarios = {track.finding.scenario for track in groups[key]}
    found = [
        other
        for other, members in groups.items()
        if key[1].around(other[1]) and scenarios & {track.finding.scenario for track in members}
    ]
    causes = {other[0] for other in found}
    if len(causes) != 1 or key[0] in causes:
        return None
    return min(found, key=lambda other: other[1].bad - other[1].good)


def _core(key: _Key, inside: dict[_Key, _Key | None]) -> CauseKey:
    """The cause at the end of the way inwards; each step is narrower, so there is an end."""
    while (following := inside[key]) is not None:
        key = following
    return key[0]


def _names(cores: dict[_Key, CauseKey], groups: dict[_Key, list[Track]]) -> dict[CauseKey, CauseKey]:
    """Core -> what its cause is called: whichever of its causes was said first and is of no other core."""
    of_cause: dict[CauseKey, set[CauseKey]] = {}
    for (cause, _), core in cores.items():
        of_cause.setdefault(cause, set()).add(core)
    names: dict[CauseKey, CauseKey] = {}
    for core in set(cores.values()):
        began = [
            (min(track.began for track in groups[key]), key[0] != core, key[0])
            for key, its in cores.items()
            if its == core and of_cause[key[0]] == {core}
        ]
        names[core] = min(began)[2] if began else core
    return names
