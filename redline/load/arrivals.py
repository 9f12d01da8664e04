"""When requests are due: nanoseconds after the start of a repeat. Pure, seeded, materialised before the run."""

from __future__ import annotations

import hashlib
import random

from redline.model import Arrivals, Offline, Scenario, Server
from redline.units import NS_PER_S


def offsets_ns(scenario: Scenario) -> tuple[int, ...]:
    """Due times of every repeat, ascending, shape (request_count,).

    The schedule is part of the scenario, the same in all repeats and on both arms, as in MLPerf: with a new
    one per repeat the medians of two arms come from different schedules, and that difference (a fifth of TPOT
    on short windows) is noise. Prompts differ from repeat to repeat.
    """
    text = f"{scenario.seed}/arrivals"
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
