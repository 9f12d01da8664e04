"""The highest rate a server holds within latency limits, and how well it is known. Pure.

One search brackets the rate: double until a limit breaks, halve until none does, then halve the bracket on the
logarithmic scale. Searches on fresh deployments are the unit of replication: their spread is the uncertainty.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from checks.fingerprints import may_compare
from redline.model import RunnerFingerprint, require

PROBE_COUNT_MAX = 24
FLOOR_SHARE = 1 / 16
"""Below this share of the first rate a search gives up: windows of so few requests a second take hours."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits, seconds: p99 of TTFT (from the scheduled instant) and p99 of TPOT."""

    ttft_s_p99: float
    tpot_s_p99: float

    def __post_init__(self) -> None:
        for name in ("ttft_s_p99", "tpot_s_p99"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, f"{name} must be positive")


@dataclass(frozen=True, slots=True)
class Probe:
    """One window at one rate; a reading of None is undefined, as when requests failed."""

    rate_per_s: float
    ttft_s_p99: float | None
    tpot_s_p99: float | None
    failed_count: int = 0

    def within(self, limits: RateLimits) -> bool:
        """True if every request was answered and both limits are kept."""
        kept = (
            (self.ttft_s_p99, limits.ttft_s_p99),
            (self.tpot_s_p99, limits.tpot_s_p99),
        )
        return self.failed_count == 0 and all(value is not None and value <= limit for value, limit in kept)


@dataclass(frozen=True, slots=True)
class Bracket:
    """What one search found: within the limits at `held_per_s` (0: nowhere), beyond them at `broken_per_s`.

    `broken_per_s` is infinite if no rate that was tried broke a limit.
    """

    held_per_s: float
    broken_per_s: float

    @property
    def middle_per_s(self) -> float:
        """The geometric middle; 0 or infinite if one side was never found."""
        return math.sqrt(self.held_per_s * self.broken_per_s) if self.held_per_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """The rate with its 95 % interval over searches; `low` and `high` are None for a single search."""

    rate_per_s: float
    low_per_s: float | None
    high_per_s: float | None
    search_count: int


def bracket(probes: Sequence[Probe], limits: RateLimits) -> Bracket:
    """The bracket after these probes, in their order: a later probe outweighs an earlier one that contradicts it."""
    held, broken = 0.0, math.inf
    for probe in probes:
        if probe.within(limits):
            held = probe.rate_per_s
            broken = broken if broken > held else math.inf
        else:
            broken = probe.rate_per_s
            held = held if held < broken else 0.0
    return Bracket(held, broken)


def next_rate(
    probes: Sequence[Probe], limits: RateLimits, *, first_per_s: float, resolution: float, ceiling_per_s: float
) -> float | None:
    """The rate to try next, or None when the bracket is as narrow as `resolution` (a share) or tries ran out.

    A rate that broke a limit once is tried again before the search ends with it: one stray request must not fix
    the answer.
    """
    if not probes:
        return min(first_per_s, ceiling_per_s)
    if len(probes) >= PROBE_COUNT_MAX:
        return None
    found = bracket(probes, limits)
    if math.isinf(found.broken_per_s):
        return min(found.held_per_s * 2, ceiling_per_s) if found.held_per_s < ceiling_per_s else None
    if found.held_per_s == 0:
        return found.broken_per_s / 2 if found.broken_per_s / 2 >= first_per_s * FLOOR_SHARE else None
    if found.broken_per_s / found.held_per_s > 1 + resolution:
        return found.middle_per_s
    tried = sum(probe.rate_per_s == found.broken_per_s for probe in probes)
    return found.broken_per_s if tried < 2 else None


def on_one_machine(machines: Sequence[RunnerFingerprint]) -> tuple[int, ...]:
    """The indices of the searches that may be put together, ascending; `machines`: of each search.

    They are those of the machine that was searched most often, the first of equals: a rate is a machine's as much as a
    build's, and no pair of arms cancels what two machines differ by. Blind to what the searches found.
    """
    if not machines:
        return ()
    groups = [[i for i, other in enumerate(machines) if may_compare(machine, other)] for machine in machines]
    largest = max(groups, key=len)
    return tuple(largest)


def estimate(brackets: Sequence[Bracket]) -> RateEstimate | None:
    """The rate over several searches: geometric mean of the brackets' middles, Student's t on the logarithms.

    A bracket says no more than that the rate lies in it, and searches on one grid share that error: the interval
    is never narrower than the brackets' own mean edges. None if a search found no held or no broken rate.
    """
    if not brackets or any(found.held_per_s <= 0 or math.isinf(found.broken_per_s) for found in brackets):
        return None
    middles = [math.log(found.middle_per_s) for found in brackets]
    centre = statistics.fmean(middles)
    count = len(middles)
    if count == 1:
        return RateEstimate(math.exp(centre), None, None, 1)
    half = float(stats.t.ppf(0.975, count - 1)) * math.sqrt(statistics.variance(middles) / count)
    held = statistics.fmean(math.log(found.held_per_s) for found in brackets)
    broken = statistics.fmean(math.log(found.broken_per_s) for found in brackets)
    low, high = min(centre - half, held), max(centre + half, broken)
    return RateEstimate(math.exp(centre), math.exp(low), math.exp(high), count)
