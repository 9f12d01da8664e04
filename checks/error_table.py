"""The error table: what is simulated, what is promised of it, and whether the promise is kept.

A row is one made-up world, judged by the shipped code; `checks.error_rows_all` has every row. Each row has a seed of
its own, derived from the table's seed and the row's name, so that its figures do not depend on which other rows are
measured, in which order, or by how many processes. Pure.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from redline.model import require

SUITES = 2000
"""The size of a full table: rows that count otherwise are scaled from here."""

COUNT_MIN = 20
CHANCE_ERRORS = 3.0
CHANCE_SHARE = 0.05
"""What a smaller table allows beyond a promise: three standard errors, of a mean 5 % of the limit."""


class Section(enum.StrEnum):
    """The parts of the table; the values are what the command line and the documents call them."""

    GATE = "gate"
    STORED = "stored"
    SIGNOFF = "sign-off"
    NIGHTLY = "nightly"
    ACCURACY = "accuracy"
    THRESHOLD = "threshold"
    BISECTION = "bisection"
    PULL_REQUESTS = "pull-requests"
    NIGHTS = "nights"


class Figure(enum.StrEnum):
    """What is measured of a row. Shares are of simulated suites, histories, comparisons or bisections."""

    REGRESSED = "regressed"
    PASSED = "passed"
    UNDECIDED = "undecided"
    PAIRS_MEAN = "mean pairs"
    PAIRS_MAX = "most pairs"
    HALF_WIDTH = "half-width of the 95 % interval"
    PAGES_PER_100 = "pages per 100 quiet nights"
    SUSPICIONS_PER_100 = "gates for nothing per 100 quiet nights"
    PAGED = "paged"
    FOUND = "found"
    NIGHTS_MEDIAN = "median nights to the page"
    NIGHTS_P90 = "90 % within nights"
    NAMED_WITHIN_ONE = "first night named within one"
    COULD_BE_HOLDS = "first night among those it could be"
    ENVIRONMENT = "environment step on record"
    PASSED_USUAL = "passed by the usual test"
    NAMED_RIGHT = "culprit named"
    NAMED_WRONG = "another named"
    GAVE_UP = "gave up"
    ENDS_EQUAL = "ends found equal"
    READINGS_MEAN = "mean readings"
    READINGS_MAX = "most readings"
    CONFIRMATION_PAIRS = "mean pairs of the confirmation"
    BUILDS_MEAN = "mean builds"
    BLOCKED = "blocked"
    TRIALS_MEAN = "mean trials"
    FLAGS_PER_100 = "flags per 100 quiet nights"
    FLAGGED_IN_1 = "flagged on the first night"
    FLAGGED_IN_3 = "flagged within 3 nights"
    FLAGGED_IN_7 = "flagged within 7 nights"


SHARES = frozenset(
    {
        Figure.REGRESSED,
        Figure.PASSED,
        Figure.UNDECIDED,
        Figure.PAGED,
        Figure.FOUND,
        Figure.NAMED_WITHIN_ONE,
        Figure.COULD_BE_HOLDS,
        Figure.ENVIRONMENT,
        Figure.PASSED_USUAL,
        Figure.NAMED_RIGHT,
        Figure.NAMED_WRONG,
        Figure.GAVE_UP,
        Figure.ENDS_EQUAL,
        Figure.BLOCKED,
        Figure.FLAGGED_IN_1,
        Figure.FLAGGED_IN_3,
        Figure.FLAGGED_IN_7,
    }
)
PER_100_NIGHTS = frozenset({Figure.PAGES_PER_100, Figure.SUSPICIONS_PER_100, Figure.FLAGS_PER_100})

Figures: TypeAlias = Mapping[Figure, float]
Simulate: TypeAlias = Callable[[int, int], Figures]
"""(seed, how many suites, histories, comparisons or bisections) to figures."""


@dataclass(frozen=True, slots=True)
class Promise:
    """`figure` is at most `limit`, or at least that; the measured figure itself has to keep it."""

    figure: Figure
    limit: float
    at_least: bool = False

    def kept_by(self, value: float) -> bool:
        """Whether a measured value keeps it; NaN keeps nothing."""
        return value >= self.limit if self.at_least else value <= self.limit


def at_most(figure: Figure, limit: float) -> Promise:
    """The promise that a figure does not exceed a limit."""
    return Promise(figure, limit)


def at_least(figure: Figure, limit: float) -> Promise:
    """The promise that a figure reaches a limit."""
    return Promise(figure, limit, at_least=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One world. `count`: what a full table simulates of it; `group`: rows of one group are measured on the same data.

    `nights`: quiet nights per history, where figures are per 100 of them (0: none are). `effect`: how much worse the
    build is, an oriented share, where a group differs from the next in that alone.
    """

    section: Section
    name: str
    simulate: Simulate
    promises: tuple[Promise, ...] = ()
    group: str = ""
    count: int = SUITES
    nights: int = 0
    effect: float | None = None

    @property
    def key(self) -> str:
        """Names the row in the whole table."""
        return f"{self.section}: {self.group}: {self.name}" if self.group else f"{self.section}: {self.name}"


@dataclass(frozen=True, slots=True)
class Measured:
    """A row with its figures, or with the `problem` why there are none. `count`: suites, histories and so on."""

    row: Row
    count: int
    figures: Figures
    problem: str = ""


class Status(enum.StrEnum):
    """What became of a promise. Only a table smaller than a full one makes an allowance for chance, and says so."""

    KEPT = "kept"
    WITHIN_CHANCE = "not kept, within chance"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Judged:
    """A promise beside what was measured; `standard_error`: None where the figure is not a share or a rate."""

    row: Row
    promise: Promise
    value: float
    standard_error: float | None
    status: Status


def seed_of(seed: int, row: Row) -> int:
    """The row's own seed: that of its group where it has one, so that every rule there gets the same data."""
    name = f"{seed}/{row.section}/{row.group or row.name}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def count_of(row: Row, suites: int) -> int:
    """How many of a row's suites, histories and so on a table of this size simulates. Raises ValueError below 1."""
    require(suites >= 1, "suites must be at least 1")
    return max(COUNT_MIN, round(row.count * suites / SUITES))


def measure(row: Row, *, seed: int, suites: int) -> Measured:
    """The row's figures in a table with this seed and size."""
    count = count_of(row, suites)
    return Measured(row, count, dict(row.simulate(seed_of(seed, row), count)))


def promises_of(measured: Iterable[Measured]) -> tuple[Judged, ...]:
    """Every promise about these rows, in order. What was not measured keeps nothing."""
    found = []
    for each in measured:
        for promise in each.row.promises:
            value = each.figures.get(promise.figure, math.nan)
            error = standard_error(promise.figure, value, each.count, each.row.nights)
            status = _status(promise, value, error, small=each.count < each.row.count)
            found.append(Judged(each.row, promise, value, error, status))
    return tuple(found)


def _status(promise: Promise, value: float, error: float | None, *, small: bool) -> Status:
    if promise.kept_by(value):
        return Status.KEPT
    allowed = CHANCE_ERRORS * error if error is not None else CHANCE_SHARE * promise.limit
    within = small and abs(value - promise.limit) <= allowed  # NaN is never within
    return Status.WITHIN_CHANCE if within else Status.BROKEN


def standard_error(figure: Figure, value: float, count: int, nights: int) -> float | None:
    """Of a simulated share, or of a rate per 100 nights; None for a mean, a median or a maximum.

    Never 0: two successes and two failures are added to a share (Agresti and Coull 1998), one event to a rate.
    """
    if math.isnan(value):
        return None
    if figure in SHARES:
        share = (value * count + 2) / (count + 4)
        return math.sqrt(share * (1 - share) / (count + 4))
    if figure in PER_100_NIGHTS and nights:
        total = count * nights
        return 100 * math.sqrt(value / 100 * total + 1) / total
    return None
