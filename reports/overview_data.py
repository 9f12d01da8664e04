"""What the page over all runner classes of a night is made of. Frozen values; every string may be an outsider's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from redline.model import Cause, Finding, require
from reports.answer_rows import ORDER

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class ClassNight:
    """What one runner class says of the night: its finding, in one sentence why.

    `run_id` and `build` are empty if there is no night of that date; `last_date` is then the last one on record, empty
    if there never was one. `expected`: service.toml asks for a night here.
    """

    runner_class: str
    finding: Finding
    reason: str
    run_id: str = ""
    build: str = ""
    last_date: str = ""
    expected: bool = True


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One night's reading of a series, in the metric's base unit.

    `level`: what the readings scattered around then. `changes`: the changes of level on record that begin with this
    night; `findings`: what that night, or one that looked back to it, had to say of this metric. Words.
    """

    date: str
    build: str
    value: float
    level: float
    changes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trend:
    """One metric of one scenario on one runner class, oldest night first, of the last nights alone.

    `points` may be compared with each other. `earlier`: readings of another machine, scenario version or arguments,
    which may not be compared with these. `tonight`: the night's reading, None if there is no valid one. `good`: the
    last reading before it that nothing was said against; `change`: tonight against that one, a share, + is worse.
    `found`: what tonight had to say of it, each a kind and its sentence. `omitted`: how many older nights are left out.
    """

    runner_class: str
    scenario: str
    metric: str
    points: tuple[TrendPoint, ...]
    earlier: tuple[TrendPoint, ...] = ()
    tonight: TrendPoint | None = None
    good: TrendPoint | None = None
    change: float | None = None
    found: tuple[tuple[str, str], ...] = ()
    omitted: int = 0

    def __post_init__(self) -> None:
        require(len(self.points) > 0, "a trend has at least one reading")


@dataclass(frozen=True, slots=True)
class NightChanges:
    """What is not the same on a runner class as in its last good night. `good_date` is empty if there was none.

    `link`: compares the two builds' commits or version tags, empty where they are not known or the same; `refs` names
    them. `packages`, `machine`, `arguments`: one change each, in words, the most telling first. `unknown`: what could
    not be compared, and why.
    """

    runner_class: str
    good_date: str
    good_build: str
    build: str
    link: str = ""
    refs: str = ""
    packages: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """True if everything that Redline knows of is as it was."""
        parts = (self.packages, self.machine, self.arguments, self.unknown)
        return self.good_build == self.build and not any(parts)


@dataclass(frozen=True, slots=True)
class Overview:
    """Every runner class's night of one date (UTC, YYYY-MM-DD), what lies behind its findings, and the trends.

    `links`: (last good build, first bad build), as causes name them, to an address that compares the two.
    """

    date: str
    classes: tuple[ClassNight, ...]
    causes: tuple[Cause, ...] = ()
    changes: tuple[NightChanges, ...] = ()
    trends: tuple[Trend, ...] = ()
    links: Mapping[tuple[str, str], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(_DATE.fullmatch(self.date) is not None, "date must be YYYY-MM-DD")
        require(len(self.classes) > 0, "an overview needs a runner class")

    @property
    def decisive(self) -> ClassNight:
        """The runner class that decides what the night as a whole is; the first of those in order."""
        return min(self.classes, key=lambda each: ORDER.index(each.finding))

    @property
    def finding(self) -> Finding:
        """What the night as a whole is: the worst of all runner classes."""
        return self.decisive.finding

    @property
    def causes_newest_first(self) -> tuple[Cause, ...]:
        """Those that still stand, the newest first, then those that are gone."""
        newest = sorted(self.causes, key=lambda cause: cause.since, reverse=True)
        return tuple(sorted(newest, key=lambda cause: not cause.standing))
