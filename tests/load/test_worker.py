"""The load engine over real sockets, in its own process, against a scripted server."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redline.errors import LoadError
from redline.load.client import LoadPlan
from redline.load.worker import LoadWorker, Window, load_worker
from redline.model import Outcome, Request, TokenPrompt
from tests.fakes import scripted_server as scripts
from tests.fakes.scripted_server import scripted_server

OUTCOMES = {
    scripts.OK: Outcome.OK,
    scripts.TWO_TOKENS: Outcome.OK,
    scripts.COMMENTS: Outcome.OK,
    scripts.BAD_REQUEST: Outcome.HTTP_ERROR,
    scripts.ERROR_CHUNK: Outcome.STREAM_ERROR,
    scripts.GARBAGE: Outcome.STREAM_ERROR,
    scripts.TRUNCATED: Outcome.TRUNCATED,
    scripts.RESET: Outcome.CONNECTION_ERROR,
    scripts.STALL: Outcome.TIMEOUT,
    scripts.SHORT: Outcome.SHORT,
}


def request(index: int, script: int, offset_ns: int = 0) -> Request:
    """A request whose first token names the script."""
    return Request(index, TokenPrompt((script, 1, 2)), 4, True, offset_ns, "salt")


@pytest.fixture(scope="module")
def worker() -> Iterator[LoadWorker]:
    """One worker for the windows of this module."""
    with load_worker() as worker:
        yield worker


def test_every_way_to_fail_is_a_classified_outcome(worker: LoadWorker) -> None:
    """A server's misbehaviour is counted by kind and disturbs no other request."""
    wanted = list(OUTCOMES.items())
    requests = tuple(request(index, script) for index, (script, _) in enumerate(wanted))
    bound_s = 0.5
    with scripted_server() as url:
        window = worker.run(LoadPlan((url,), "m", requests, None, window_s_max=bound_s))
        while [record.outcome for record in window.records].count(Outcome.TIMEOUT) > 1 and bound_s < 20:
            bound_s *= 6  # this machine let a request wait that the server answers
            window = worker.run(LoadPlan((url,), "m", requests, None, window_s_max=bound_s))
    assert [record.outcome for record in window.records] == [outcome for _, outcome in wanted]
    assert all(record.detail for record in window.records if record.outcome is not Outcome.OK)


def median_lag_s(window: Window) -> float:
    """By how much the requests of a window were late, in the middle."""
    return statistics.median(record.send_ns - record.sched_ns for record in window.records) / 1e9


def test_an_open_loop_sends_on_time_whatever_became_of_the_others(worker: LoadWorker) -> None:
    """A stalled request holds no later one back: each is sent within a tenth of the time for which it stalls."""
    requests = (request(0, scripts.STALL), *(request(index, scripts.OK, index * 20_000_000) for index in range(1, 20)))

    def is_good(window: Window, bound_s: float) -> bool:
        return median_lag_s(window) < bound_s / 10 and Outcome.TIMEOUT not in {
            record.outcome for record in window.records[1:]
        }

    bound_s = 0.5
    with scripted_server() as url:
        window = worker.run(LoadPlan((url,), "m", requests, None, window_s_max=bound_s))
        while not is_good(window, bound_s) and bound_s < 20:
            bound_s *= 6  # this machine let the client or the server wait
            window = worker.run(LoadPlan((url,), "m", requests, None, window_s_max=bound_s))
    assert min(record.send_ns - record.sched_ns for record in window.records) >= 0
    assert median_lag_s(window) < bound_s / 10
    assert window.records[0].outcome is Outcome.TIMEOUT
    assert [record.outcome for record in window.records[1:]] == [Outcome.OK] * 19


def test_offline_never_exceeds_its_bound_in_flight(worker: LoadWorker) -> None:
    """At no instant are more than `in_flight_max` requests between sending and their end."""
    requests = tuple(request(index, scripts.OK) for index in range(24))
    with scripted_server() as url:
        window = worker.run(LoadPlan((url,), "m", requests, in_flight_max=5, window_s_max=60.0))
    assert {record.outcome for record in window.records} == {Outcome.OK}
    edges = sorted(edge for record in window.records for edge in ((record.send_ns, 1), (record.done_ns, -1)))
    in_flight = peak = 0
    for _, step in edges:
        in_flight += step
        peak = max(peak, in_flight)
    assert 2 <= peak <= 5


def test_one_worker_drives_many_windows(worker: LoadWorker) -> None:
    """A worker answers one window per plan, and windows do not leak into each other."""
    with scripted_server() as url:
        counts = [
            len(worker.run(LoadPlan((url,), "m", (request(0, scripts.OK),) * 1, None, 60.0)).records) for _ in range(3)
        ]
    assert counts == [1, 1, 1]


def test_a_server_that_is_not_there_is_a_load_error(worker: LoadWorker) -> None:
    """Nothing to connect to is an error of the infrastructure with a next step, not a window of failures."""
    with pytest.raises(LoadError, match="could not drive"):
        worker.run(LoadPlan(("http://127.0.0.1:9",), "m", (request(0, scripts.OK),), None, 2.0))


def test_a_worker_that_was_killed_is_a_load_error() -> None:
    """The caller does not hang on a dead worker."""
    with scripted_server() as url, load_worker() as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(LoadError):
            worker.run(LoadPlan((url,), "m", (request(0, scripts.OK),), None, 2.0))


@pytest.mark.slow
def test_a_worker_ends_when_its_caller_is_killed() -> None:
    """Kill -9 of the caller leaves no worker behind, even in the middle of a window."""
    code = (
        "import sys, time\n"
        "from redline.load.worker import load_worker\n"
        "with load_worker() as worker:\n"
        "    print(worker.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    worker_pid = int(caller.stdout.readline())
    caller.kill()
    caller.wait(10)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker_pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker_pid}").exists()
