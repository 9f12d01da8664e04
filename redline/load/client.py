"""How requests are sent: streaming completions by token ids over httpx, one stamp per read, nothing parsed in flight.

This is the simple engine; a faster transport can take its place behind `drive`.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from redline.load.timing import RawAnswer
from redline.model import Outcome, Request
from redline.units import nanoseconds, seconds

CONNECT_S_MAX = 10.0
PREPARE_S_MAX = 30.0
CONNECTIONS_WARM_MAX = 256


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One window of load: every request with its due time, where to send it, and the bounds.

    `in_flight_max` None is an open loop: a request is sent when it is due, whatever became of the others.
    `window_s_max` bounds the whole window; what is open then has failed with outcome timeout.
    """

    base_url: str
    model: str
    requests: tuple[Request, ...]
    in_flight_max: int | None
    window_s_max: float


@dataclass(frozen=True, slots=True)
class DriveResult:
    """Raw answers, one per request in the plan's order, and what the client itself cost."""

    answers: tuple[RawAnswer, ...]
    started_at_ns: int
    duration_ns: int
    client_cpu_s: float


def body_of(request: Request, model: str) -> dict[str, object]:
    """The JSON body of one streaming completion: greedy, token ids in and counted out, salted prefix cache."""
    return {
        "model": model,
        "prompt": list(request.prompt_token_ids),
        "max_tokens": request.output_tokens,
        "temperature": 0.0,
        "ignore_eos": request.ignore_eos,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "cache_salt": request.cache_salt,
    }


async def drive(plan: LoadPlan) -> DriveResult:
    """Send the plan's requests and return every answer; never raises for what a server does.

    Raises httpx.HTTPError if the server cannot even be connected to before the window starts.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    timeout = httpx.Timeout(plan.window_s_max, connect=CONNECT_S_MAX)
    async with httpx.AsyncClient(base_url=plan.base_url, limits=limits, timeout=timeout, trust_env=False) as client:
        prepared = [
            client.build_request("POST", "/v1/completions", json=body_of(request, plan.model))
            for request in plan.requests
        ]
        await _open_connections(client, min(plan.in_flight_max or len(prepared), len(prepared), CONNECTIONS_WARM_MAX))
        with _garbage_collection_paused():
            cpu_start_s, started_at_ns, start_ns = time.process_time(), time.time_ns(), time.perf_counter_ns()
            deadline_s = asyncio.get_running_loop().time() + plan.window_s_max
            if plan.in_flight_max is None:
                answers = await _open_loop(client, plan.requests, prepared, start_ns, deadline_s)
            else:
                answers = await _bounded(client, plan.requests, prepared, start_ns, deadline_s, plan.in_flight_max)
            duration_ns = time.perf_counter_ns() - start_ns
            cpu_s = time.process_time() - cpu_start_s
    return DriveResult(tuple(answers), started_at_ns, duration_ns, cpu_s)


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """No collection inside a window: one costs up to a hundred milliseconds of every open stream."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def _open_connections(client: httpx.AsyncClient, count: int) -> None:
    """Connect before the clock starts, so that no measured request pays for a handshake."""
    async with asyncio.timeout(PREPARE_S_MAX):
        responses = await asyncio.gather(*(client.get("/health") for _ in range(count)))
    for response in responses:
        response.raise_for_status()


async def _open_loop(
    client: httpx.AsyncClient,
    requests: Sequence[Request],
    prepared: Sequence[httpx.Request],
    start_ns: int,
    deadline_s: float,
) -> list[RawAnswer]:
    tasks: list[asyncio.Task[RawAnswer]] = []
    for request, http_request in zip(requests, prepared, strict=True):
        wait_s = seconds(start_ns + request.offset_ns - time.perf_counter_ns())
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        exchange = _exchange(client, request.index, http_request, start_ns, deadline_s)
        tasks.append(asyncio.create_task(exchange))
    return list(await asyncio.gather(*tasks))


async def _bounded(
    client: httpx.AsyncClient,
    requests: Sequence[Request],
    prepared: Sequence[httpx.Request],
    start_ns: int,
    deadline_s: float,
    in_flight_max: int,
) -> list[RawAnswer]:
    answers: list[RawAnswer | None] = [None] * len(requests)
    queue = iter(range(len(requests)))

    async def sender() -> None:
        for position in queue:  # one iterator shared by all senders: each request is taken once
            answers[position] = await _exchange(
                client, requests[position].index, prepared[position], start_ns, deadline_s
            )

    await asyncio.gather(*(sender() for _ in range(min(in_flight_max, len(requests)))))
    return [answer for answer in answers if answer is not None]


async def _exchange(
    client: httpx.AsyncClient, index: int, http_request: httpx.Request, start_ns: int, deadline_s: float
) -> RawAnswer:
    """One request and its answer; every failure is a value."""
    reads: list[tuple[int, bytes]] = []
    status = 0
    failure: Outcome | None = None
    detail = ""
    send_ns = time.perf_counter_ns() - start_ns
    try:
        async with asyncio.timeout_at(deadline_s):
            response = await client.send(http_request, stream=True)
            try:
                status = response.status_code
                async for piece in response.aiter_raw():
                    reads.append((time.perf_counter_ns() - start_ns, piece))  # noqa: PERF401 - stamped as they come
            finally:
                await response.aclose()
    except (TimeoutError, httpx.TimeoutException) as error:
        failure, detail = Outcome.TIMEOUT, f"no complete answer within the window ({type(error).__name__})"
    except httpx.RemoteProtocolError as error:
        failure = Outcome.TRUNCATED if status else Outcome.CONNECTION_ERROR
        detail = str(error)
    except httpx.HTTPError as error:
        failure, detail = Outcome.CONNECTION_ERROR, f"{type(error).__name__}: {error}"
    return RawAnswer(index, send_ns, time.perf_counter_ns() - start_ns, status, tuple(reads), failure, detail)


def window_bound_s(plan: LoadPlan) -> float:
    """The longest a window of this plan can take, connecting and parsing included."""
    last_due_s = seconds(max((request.offset_ns for request in plan.requests), default=0))
    return PREPARE_S_MAX + max(plan.window_s_max, last_due_s) + CONNECT_S_MAX + seconds(nanoseconds(30.0))
