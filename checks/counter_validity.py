"""What the servers' own counters say of a trial: was the prefix cache in use, were requests preempted?

A rule that could not be read says `not read` and why, never a figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from checks.machine_validity import NOT_READ
from checks.measures import CACHE_HITS, CACHE_QUERIES, PREEMPTIONS
from redline.model import Repeat, Scenario, ValidityReading

CACHE_USE, PREEMPTED = "prefix cache hits", "preemptions"


def _unread(counted: Sequence[Repeat], *, readable: bool) -> str:
    """Why the servers' counters say nothing of a repeat that counts; empty if they were read in each of them."""
    if not readable:
        return f"{NOT_READ}: behind a router no single server can be asked"
    if not counted:
        return f"{NOT_READ}: no repeat counts"
    silent = sum(not repeat.server_counters for repeat in counted)
    return f"{NOT_READ} in {silent} of {len(counted)} repeats: not reported by the server" if silent else ""


def cache_reading(scenario: Scenario, counted: Sequence[Repeat], *, own: bool, readable: bool) -> ValidityReading:
    """Hit tokens over queried tokens by the servers' own counters, the worst repeat that they were read in.

    A server of ours that can be asked and reports no counter at all breaks the rule: that cannot be told from a full
    cache. Behind a router, and of an endpoint, it is not read.
    """
    limit = scenario.limits.prefix_cache_hit_share_max
    unread = _unread(counted, readable=readable)
    shares = [_hit_share(repeat.server_counters) for repeat in counted if readable and repeat.server_counters]
    silent = readable and len(shares) < len(counted)
    if not all(0 <= share < math.inf for share in shares):
        return ValidityReading(CACHE_USE, "counters that fell or are no numbers", _at_most(limit), ok=False)
    said = [f"{max(shares) * 100:.2f} %"] if shares else []
    kept = max(shares, default=0.0) <= limit and not (silent and own and limit < 1)
    return ValidityReading(CACHE_USE, "; ".join([*said, *([unread] if unread else [])]), _at_most(limit), kept)


def _hit_share(counters: Mapping[str, float]) -> float:
    """Of one repeat; NaN for counters that fell, as when a server was started anew, or are no numbers.

    Counters that did not move are absent, so a server that reports others but no queries has no cache in use.
    """
    queries, hits = counters.get(CACHE_QUERIES, 0.0), counters.get(CACHE_HITS, 0.0)
    if not (queries >= 0 and hits >= 0):
        return math.nan
    return hits / queries if queries > 0 else float(hits > 0)


def preemptions_reading(counted: Sequence[Repeat], *, readable: bool) -> ValidityReading:
    """Listed, never broken: running out of KV cache is something a build does, and may be the regression."""
    unread = _unread(counted, readable=readable)
    counts = [repeat.server_counters.get(PREEMPTIONS, 0.0) for repeat in counted if readable and repeat.server_counters]
    said = [f"{sum(counts):.0f}"] if counts else []
    return ValidityReading(PREEMPTED, "; ".join([*said, *([unread] if unread else [])]), "none (listed only)", ok=True)


def _at_most(share: float) -> str:
    return f"at most {share * 100:g} %"
