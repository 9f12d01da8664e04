"""What the telemetry of one window says, source by source: counts, spans and differences. Pure.

Telemetry is optional in every part: a source may be missing, and a name of a source, and an instant of a name. What
is not known is None or an empty tuple here, never 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from redline.model import Repeat
from redline.units import NS_PER_S

CPU = "cpu"
SAMPLER = "sampler"
"""What the sampler says of itself: `period_s` asked for, `cpu_share` of one CPU that it took, `failed` 1."""

READ_FAILED = "read_failed"
"""1, once a window: this source could not be read, at least once."""

COVERED_SHARE_MIN = 0.5
"""A source is taken as read in a window if it has at least this share of the instants that were due."""

BUSY_SHARE_MIN = 0.5
_NAME_CHARS_MIN = 12

Series = tuple[tuple[int, float], ...]
"""(at_ns since the start of the window, value), ascending."""


@dataclass(frozen=True, slots=True)
class WindowReadings:
    """The samples of one repeat by source and name."""

    index: int
    duration_ns: int
    by_source: Mapping[str, Mapping[str, Series]]

    @property
    def devices(self) -> tuple[str, ...]:
        """The UUIDs of the accelerators that were sampled, or should have been, sorted."""
        return tuple(sorted(self.by_source.keys() - {CPU, SAMPLER}))

    @property
    def sampler_failed(self) -> bool:
        """True if the sampler itself did not come up, ended or did not answer."""
        return any(value > 0 for value in self.values(SAMPLER, "failed"))

    def series(self, source: str, name: str) -> Series:
        """The samples of one name; empty where there are none."""
        return self.by_source.get(source, {}).get(name, ())

    def values(self, source: str, name: str) -> tuple[float, ...]:
        """The values of one name in the order of time; empty where there are none."""
        return tuple(value for _, value in self.series(source, name))

    def covered_share(self, source: str) -> float:
        """Instants at which a source was read, as a share of those that were due; 0 if that cannot be told."""
        period_s = max(self.values(SAMPLER, "period_s"), default=0.0)
        if period_s <= 0 or self.duration_ns <= 0:
            return 0.0
        names = self.by_source.get(source, {})
        instants = {at_ns for name, series in names.items() if name != READ_FAILED for at_ns, _ in series}
        return len(instants) / max(1.0, self.duration_ns / NS_PER_S / period_s)

    def is_read(self, source: str) -> bool:
        """True if enough of a source was sampled to say something of the whole window."""
        return self.covered_share(source) >= COVERED_SHARE_MIN

    def busy_values(self, source: str, name: str) -> tuple[float, ...]:
        """The values at instants at which the device was busy at least half of the time: an idle clock says nothing."""
        busy = {at_ns for at_ns, share in self.series(source, "utilisation_share") if share >= BUSY_SHARE_MIN}
        return tuple(value for at_ns, value in self.series(source, name) if at_ns in busy)

    def growth(self, source: str, name: str) -> float | None:
        """How far a counter grew between its first and last sample; None for fewer than two, or one that went back."""
        series = self.series(source, name)
        if len(series) < 2 or any(later < earlier for (_, earlier), (_, later) in itertools.pairwise(series)):
            return None
        return series[-1][1] - series[0][1]

    def whole_growth(self, source: str, name: str) -> float | None:
        """`growth` for the whole window, at the rate between the first and last sample; None where that is None."""
        grown, series = self.growth(source, name), self.series(source, name)
        span_ns = series[-1][0] - series[0][0] if series else 0
        return None if grown is None or span_ns <= 0 else grown * self.duration_ns / span_ns


def window_readings(repeat: Repeat) -> WindowReadings:
    """The telemetry of a repeat by source and name."""
    by_source: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for sample in repeat.telemetry:
        by_source.setdefault(sample.source, {}).setdefault(sample.name, []).append((sample.at_ns, sample.value))
    ordered = {
        source: {name: tuple(sorted(series)) for name, series in names.items()} for source, names in by_source.items()
    }
    return WindowReadings(repeat.index, repeat.duration_ns, ordered)


def short_names(sources: Iterable[str]) -> dict[str, str]:
    """UUIDs as people can tell them apart: the shortest beginnings, of at least 12 characters, that are distinct."""
    distinct = set(sources)
    longest = max(map(len, distinct), default=0)
    for length in range(_NAME_CHARS_MIN, longest):
        if len({source[:length] for source in distinct}) == len(distinct):
            return {source: f"{source[:length]}…" if len(source) > length else source for source in distinct}
    return {source: source for source in distinct}
