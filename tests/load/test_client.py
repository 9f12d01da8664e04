"""One window of load: who is asked, when, how many at once, and what is left behind."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from collections import Counter

import httpx
import pytest

from redline.errors import LoadError
from redline.load.client import busiest_second, drive
from redline.load.connection import Connection
from redline.load.worker import load_worker
from redline.model import Outcome, StampSource
from redline.units import NS_PER_S
from tests.load.hostile_server import GOOD, Script, Talk, good, hostile_server, stalls_on
from tests.load.vllm_streams import HEAD
from tests.load.windows import (
    Driven,
    driven,
    in_enough_time,
    open_descriptors,
    plan_of,
    request,
    requests,
    was_all_sent,
)

GAP_NS = 2_000_000


class InFlight:
    """A script that counts the requests it has read and not yet answered.

    Nothing is answered before `full` of them are open at once (60 s at most), however slowly this machine
    runs the server's threads.
    """

    def __init__(self, answer_s: float = 0.005, full: int = 1) -> None:
        self.peak = self.count = self.total = 0
        self._answer_s, self._full = answer_s, full
        self._lock = threading.Lock()
        self._reached = threading.Event()

    def __call__(self, talk: Talk) -> None:
        """Answer each request after a moment."""
        while talk.read_request():
            with self._lock:
                self.count += 1
                self.total += 1
                self.peak = max(self.peak, self.count)
                if self.count >= self._full:
                    self._reached.set()
            self._reached.wait(60.0)
            talk.pause(self._answer_s)
            with self._lock:
                self.count -= 1
            talk.send(GOOD)


# --- how many at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [1, 16])
def test_a_bounded_window_never_exceeds_its_bound(bound: int) -> None:
    """The server sees at most so many requests at once, and the bound is used."""
    script = InFlight(full=bound)
    with hostile_server(script) as server:
        window = driven(plan_of(server.url, requests(32), bound))
    assert set(window.outcomes) == {Outcome.OK}
    assert script.peak == bound
    assert window.report.connection_count == bound
    assert window.report.stamps is StampSource.KERNEL


def test_one_at_a_time_sends_the_next_when_the_last_has_ended() -> None:
    """A closed loop of one: requests do not overlap, in the plan's order."""
    with hostile_server(InFlight(0.001)) as server:
        window = driven(plan_of(server.url, requests(20), 1))
    ends = [record.done_ns for record in window.records]
    starts = [record.send_ns for record in window.records]
    assert all(start >= end for start, end in zip(starts[1:], ends, strict=False))


def test_a_bounded_window_goes_on_when_requests_fail() -> None:
    """A place that a failure leaves is taken by the next request."""

    def script(talk: Talk) -> None:
        while talk.read_request():
            if talk.token:
                talk.reset()
            talk.send(GOOD)

    wanted = [request(index, index % 2) for index in range(40)]
    with hostile_server(script) as server:
        window = driven(plan_of(server.url, wanted, 4))
    assert window.outcomes == [Outcome.OK, Outcome.CONNECTION_ERROR] * 20


def test_an_open_loop_never_waits_for_an_answer() -> None:
    """A server that answers nothing is asked everything all the same, on time."""
    seen: list[int] = []

    def script(talk: Talk) -> None:
        while talk.read_request():
            seen.append(talk.token)
            talk.stall()

    wanted = [request(index, index, offset_ns=index * GAP_NS) for index in range(60)]

    def window_of(bound_s: float) -> Driven:
        seen.clear()
        with hostile_server(script) as server:
            return driven(plan_of(server.url, wanted, window_s_max=bound_s))

    window = in_enough_time(window_of, lambda window: was_all_sent(window) and len(seen) >= 60)
    assert sorted(seen) == list(range(60))
    assert window.outcomes == [Outcome.TIMEOUT] * 60
    assert all(record.send_ns >= record.sched_ns for record in window.records)


# --- ends of time -------------------------------------------------------------------------------------------


def test_the_end_of_the_window_ends_what_is_open_and_what_was_never_sent() -> None:
    """Each is a timeout that says which of the two it was."""
    with hostile_server(stalls_on(0)) as server:
        window = in_enough_time(
            lambda bound_s: driven(plan_of(server.url, requests(10), 3, window_s_max=bound_s)),
            lambda window: "before it could be sent" not in window.records[2].detail,
        )
    assert window.outcomes == [Outcome.TIMEOUT] * 10
    assert ["before it could be sent" in record.detail for record in window.records] == [False] * 3 + [True] * 7
    assert 0.3e9 <= window.result.duration_ns < 100e9  # the server would stall for longer


def test_requests_due_after_the_end_of_the_window_are_never_sent() -> None:
    """The window's bound holds for an open loop too."""
    wanted = [request(0), request(1, offset_ns=60 * NS_PER_S)]
    with hostile_server(good) as server:
        window = in_enough_time(
            lambda bound_s: driven(plan_of(server.url, wanted, window_s_max=bound_s)),
            lambda window: window.outcomes[0] is not Outcome.TIMEOUT,
        )
    assert window.outcomes == [Outcome.OK, Outcome.TIMEOUT]
    assert "before it could be sent" in window.records[1].detail


@pytest.mark.parametrize("in_flight_max", [2, None])
def test_each_request_has_its_own_bound(in_flight_max: int | None) -> None:
    """Those that stall, before and after a head, are given up after `request_s_max`; all others are good."""
    wanted = [request(index, int(index < 2), offset_ns=index * GAP_NS) for index in range(12)]
    with hostile_server(stalls_on(1)) as silent, hostile_server(stalls_on(1, HEAD)) as half:
        urls = [silent.url, half.url]
        bound_s = 0.1
        window = driven(plan_of(urls, wanted, in_flight_max, request_s_max=bound_s))
        while Outcome.TIMEOUT in window.outcomes[2:] and bound_s < 10:  # this machine lets even a good server wait
            bound_s *= 10
            window = driven(plan_of(urls, wanted, in_flight_max, request_s_max=bound_s))
    assert window.outcomes == [Outcome.TIMEOUT] * 2 + [Outcome.OK] * 10
    for record in window.records[:2]:
        assert f"within {bound_s:g} s" in record.detail
        assert record.done_ns - record.send_ns >= bound_s * NS_PER_S
    assert window.result.duration_ns < 55e9, "long before the window's own end"


def test_a_plan_without_requests_is_an_empty_window() -> None:
    """Nothing to do is done at once."""
    with hostile_server(good) as server:
        window = driven(plan_of(server.url, ()))
    assert (window.records, window.report.chunk_count) == ((), 0)


@pytest.mark.parametrize(
    ("due_s", "most"),
    [((), 0), ((5.0,), 1), ((0.0, 0.5, 0.999, 1.0), 3), ((0.0, 1.0, 2.0), 1), ((0.0, 0.6, 1.2, 1.5, 1.59), 4)],
)
def test_the_busiest_second_is_found(due_s: tuple[float, ...], most: int) -> None:
    """A second that begins with a request and leaves out its own end."""
    assert busiest_second([round(each * NS_PER_S) for each in due_s]) == most


# --- replicas, keys, addresses ------------------------------------------------------------------------------


def test_replicas_share_the_requests_evenly_and_each_record_names_its_own() -> None:
    """Every third request goes to each of three; what fails at one is counted there."""
    seen: list[Counter[int]] = [Counter() for _ in range(3)]

    def counting(place: int) -> Script:
        def script(talk: Talk) -> None:
            while talk.read_request():
                seen[place][talk.token] += 1
                assert talk.headers["host"] == urls[place].removeprefix("http://")
                if place == 1:
                    talk.reset()
                talk.send(GOOD)

        return script

    with (
        hostile_server(counting(0)) as first,
        hostile_server(counting(1)) as second,
        hostile_server(counting(2)) as third,
    ):
        urls = [first.url, second.url, third.url]
        wanted = [request(index, index, offset_ns=index * GAP_NS) for index in range(30)]
        window = driven(plan_of(urls, wanted))
    assert [record.replica for record in window.records] == [0, 1, 2] * 10
    assert [sorted(each) for each in seen] == [list(range(place, 30, 3)) for place in range(3)]
    assert [record.outcome for record in window.records] == [
        Outcome.OK,
        Outcome.CONNECTION_ERROR,
        Outcome.OK,
    ] * 10


def test_a_replica_that_is_not_there_stops_the_window_before_it_starts() -> None:
    """Half a service is not measured as a whole one."""
    with hostile_server(good) as server, pytest.raises(httpx.ConnectError, match="refused"):
        driven(plan_of([server.url, "http://127.0.0.1:1"], requests(4)))


def test_what_is_sent_names_the_request_and_asks_for_counts() -> None:
    """Greedy, salted, counted, by name: what the server is asked is what the plan says."""
    seen: list[Talk] = []

    def script(talk: Talk) -> None:
        while talk.read_request():
            seen.append(talk)
            talk.send(GOOD)

    with hostile_server(script) as server:
        driven(plan_of(f"{server.url}/proxied/", [request(7)], continuous_usage=True))
    assert seen[0].path == "/proxied/v1/completions"
    assert seen[0].headers["x-request-id"] == "salt-7"
    assert seen[0].headers["content-type"] == "application/json"
    assert seen[0].content == {
        "model": "m",
        "prompt": [0, 1, 2],
        "max_tokens": 2,
        "temperature": 0.0,
        "ignore_eos": True,
        "return_token_ids": True,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "cache_salt": "salt",
    }


def test_a_name_is_an_address_too() -> None:
    """`localhost`, although only one of its two families listens."""
    with hostile_server(good) as server:
        assert driven(plan_of(f"http://localhost:{server.port}", requests(2))).outcomes == [Outcome.OK] * 2


def test_ipv6_is_an_address_too() -> None:
    """The loopback of IPv6, where the machine has one."""
    try:
        with hostile_server(good, host="::1") as server:
            assert driven(plan_of(server.url, requests(2))).outcomes == [Outcome.OK] * 2
    except OSError as error:
        pytest.skip(f"no IPv6 loopback: {error}")


# --- what is left behind ------------------------------------------------------------------------------------


def test_connections_that_ended_are_freed_without_the_garbage_collector() -> None:
    """It is off during a window: what a closed connection held must go by itself, or memory grows with the load."""
    alive: list[int] = []
    asked = 0
    lock = threading.Lock()
    before = sys.getrefcount(Connection)  # every instance holds its class once; looking at the objects would hold them

    def script(talk: Talk) -> None:
        nonlocal asked
        if talk.read_request():
            talk.send(GOOD)  # and close: each request needs a connection of its own
            with lock:
                asked += 1
                if asked % 200 == 0:
                    alive.append(sys.getrefcount(Connection) - before)

    with hostile_server(script) as server:
        window = driven(plan_of(server.url, requests(800), 8))
    assert set(window.outcomes) == {Outcome.OK}
    assert window.report.connection_count >= 800
    assert len(alive) == 4
    assert 0 < max(alive) <= 3 * 8


def test_no_descriptor_is_left_whatever_became_of_the_window() -> None:
    """After good answers, stalls, resets, a refused start and an exception in the middle: all closed."""

    def script(talk: Talk) -> None:
        while talk.read_request():
            match talk.token:
                case 0:
                    talk.send(GOOD)
                case 1:
                    talk.reset()
                case _:
                    talk.stall()

    before = open_descriptors()
    with hostile_server(script) as server:
        driven(plan_of(server.url, [request(index, index % 3) for index in range(30)], window_s_max=0.2))
        driven(plan_of(server.url, [request(index, index % 2) for index in range(30)], 4))
        with pytest.raises(httpx.ConnectError):
            driven(plan_of([server.url, "http://127.0.0.1:1"], requests(4)))
    assert open_descriptors(before) == before


def test_idle_connections_are_closed_with_the_window() -> None:
    """The server sees the end of every connection before the next window begins."""
    ended = threading.Semaphore(0)

    def script(talk: Talk) -> None:
        good(talk)
        ended.release()

    with hostile_server(script) as server:
        result = drive(plan_of(server.url, requests(10), 5))
        assert all(ended.acquire(timeout=60) for _ in range(1 + 5)), "the trial of the address and the five"
    assert result.connection_count == 5


def test_the_garbage_collector_is_back_after_a_window() -> None:
    """Off while it runs; on, and nothing frozen, afterwards, also when it could not start."""
    seen: list[bool] = []

    def script(talk: Talk) -> None:
        while talk.read_request():
            seen.append(gc.isenabled())
            talk.send(GOOD)

    with hostile_server(script) as server:
        driven(plan_of(server.url, requests(3), 1))
    assert seen == [False] * 3
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


# --- the worker ---------------------------------------------------------------------------------------------


def test_a_worker_that_is_told_to_end_is_a_load_error_at_once() -> None:
    """SIGTERM in the middle of a window: the caller does not wait for the window's bound."""

    def script(talk: Talk) -> None:
        while talk.read_request():
            os.kill(worker.pid, signal.SIGTERM)
            talk.stall()

    with (
        hostile_server(script) as server,
        load_worker() as worker,
        pytest.raises(LoadError, match="ended without an answer") as caught,
    ):
        worker.run(plan_of(server.url, requests(1), window_s_max=60.0))
    assert "-15" in caught.value.found


def test_a_worker_is_good_for_the_next_window_after_it_could_not_drive_one() -> None:
    """An error is an answer: what follows is not shifted by it."""
    with hostile_server(good) as server, load_worker() as worker:
        with pytest.raises(LoadError):
            worker.run(plan_of("http://127.0.0.1:1", requests(1)))
        window = worker.run(plan_of(server.url, requests(5), 2))
    assert [record.index for record in window.records] == list(range(5))


def test_what_the_worker_says_survives_json() -> None:
    """Text of any language and half characters, told by the server, come through standard output."""
    text = json.dumps({"error": {"message": "Ü\u2028\ud800"}}).encode()

    def script(talk: Talk) -> None:
        while talk.read_request():
            talk.send(b"HTTP/1.1 500 X\r\ncontent-length: %d\r\n\r\n%b" % (len(text) + 2, text + b"\xff\n"))

    with hostile_server(script) as server, load_worker() as worker:
        record = worker.run(plan_of(server.url, requests(1))).records[0]
    assert record.outcome is Outcome.HTTP_ERROR
    assert record.detail.endswith("\ufffd\n")
