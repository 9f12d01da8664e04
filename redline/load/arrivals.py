"""When requests are due: nanoseconds after the start of a repeat. Pure, seeded, materialised before the run."""

from __future__ import annotations

import hashlib
import random

from redline.load import loadgen
from redline.mlperf import seeds_of
from redline.model import Arrivals, Concurrency, Offline, Scenario, Server, SingleStream
from redline.units import NS_PER_S


def offsets_ns(scenario: Scenario) -> tuple[int, ...]:
    """Due times of every repeat, ascending, shape (request_count,).

    The schedule is part of the scenario, the same in all repeats and on both arms, as in MLPerf: with a new
    one per repeat the medians of two arms come from different schedules, and that difference (a fifth of TPOT
    on short windows) is noise. Prompts differ from repeat to repeat.
    """
    text = f"{scenario.seed}/arrivals"
    rng = random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
    return schedule_ns(scenario.arrivals, scenario.request_count, rng, loadgen_seed=seeds_of(scenario).schedule)


def schedule_ns(
    arrivals: Arrivals, request_count: int, rng: random.Random, *, loadgen_seed: int | None = None
) -> tuple[int, ...]:
    """Offsets of `request_count` requests, ascending: all zero unless the server scenario spreads them out.

    Offline and the closed loops (concurrency, single stream) have no due times of their own: a request goes
    out when its turn comes, so all are due at 0. `loadgen_seed` replaces `rng` for process "loadgen", whose
    generator is LoadGen's own (schedule_rng_seed, of which the low 32 bits count).
    Raises ValueError if process "loadgen" gets no loadgen_seed.
    """
    match arrivals:
        case Offline() | Concurrency() | SingleStream():
            return (0,) * request_count
        case Server():
            return _server_ns(arrivals, request_count, rng, loadgen_seed)


def _server_ns(arrivals: Server, request_count: int, rng: random.Random, loadgen_seed: int | None) -> tuple[int, ...]:
    match arrivals.process:
        case "poisson":
            return _summed_ns([rng.expovariate(arrivals.rate_per_s) for _ in range(request_count)])
        case "gamma":
            return _gamma_ns(arrivals.rate_per_s, arrivals.burstiness, request_count, rng)
        case "constant":
            return tuple(round(index * NS_PER_S / arrivals.rate_per_s) for index in range(request_count))
        case "loadgen":
            if loadgen_seed is None:
                raise ValueError('process = "loadgen" needs loadgen_seed')
            return loadgen.server_offsets_ns(request_count, arrivals.rate_per_s, loadgen_seed)


def _gamma_ns(rate_per_s: float, shape: float, request_count: int, rng: random.Random) -> tuple[int, ...]:
    """Gamma gaps of mean 1 / rate and coefficient of variation 1 / sqrt(shape).

    Source: `vllm bench serve --burstiness`, but for its last step: vLLM stretches the schedule so that the last
    request is due at exactly request_count / rate. A stretched schedule is no longer a gamma process, and its
    due times would change with the number of requests.
    """
    return _summed_ns([rng.gammavariate(shape, 1.0 / (rate_per_s * shape)) for _ in range(request_count)])


def _summed_ns(gaps_s: list[float]) -> tuple[int, ...]:
    """Due times after gaps; the first request is due after the first gap.

    Source: in a Poisson process the wait for the first arrival has the distribution of any other gap. MLPerf
    LoadGen starts with a request at 0 instead (process "loadgen").
    """
    offsets: list[int] = []
    now_s = 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        offsets.append(round(now_s * NS_PER_S))
    return tuple(offsets)
