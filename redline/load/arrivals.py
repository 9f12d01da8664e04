"""When requests are due: nanoseconds after the start of a repeat. Pure, seeded, materialised before the run."""

from __future__ import annotations

import hashlib
import random

from redline.model import Arrivals, Offline, Scenario, Server
from redline.units import NS_PER_S


def offsets_ns(scenario: Scenario, repeat_index: int) -> tuple[int, ...]:
    """Due times of one repeat, ascending, shape (request_count,).

    Both arms of a comparison get the same schedule; every repeat gets another one, so that no single
    lucky burst decides a metric.
    """
    text = f"{scenario.seed}/arrivals/{repeat_index}"
    rng = random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
    return schedule_ns(scenario.arrivals, scenario.request_count, rng)


def schedule_ns(arrivals: Arrivals, request_count: int, rng: random.Random) -> tuple[int, ...]:
    """Offsets of `request_count` requests: all zero offline, a Poisson process for the server scenario.

    Source: inter-arrival times of a Poisson process are exponential with mean 1 / rate. The first request
    is due after one such gap, as in MLPerf LoadGen.
    """
    match arrivals:
        case Offline():
            return (0,) * request_count
        case Server(rate_per_s=rate_per_s):
            offsets: list[int] = []
            now_s = 0.0
            for _ in range(request_count):
                now_s += rng.expovariate(rate_per_s)
                offsets.append(round(now_s * NS_PER_S))
            return tuple(offsets)
