"""The stand-in, the C client and the log, on real sockets; compiled with gcc where there is one."""

import http.client
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load.accuracy import compare
from benchmarks.load.driver import Place, Task, WallClock
from benchmarks.load.drivers import DRIVERS
from benchmarks.load.process_tree import run_client
from benchmarks.load.stand_in import stand_in
from benchmarks.load.workload import Cell, Workload, schedule_s

pytestmark = pytest.mark.slow

QUICK = Workload("Q", ttft_s=0.01, itl_s=0.005, chunk_count=4)
KINDS = ["simulator", *(["c"] if shutil.which("gcc") else [])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client", ["redline", "httpx", *(["c"] if shutil.which("gcc") else [])])
def test_a_client_is_measured(kind, client, tmp_path):
    """A handful of requests through a real client: all answered, every chunk found in the log with a small error."""
    cell = Cell(client, QUICK, rate_per_s=50, hog_count=0, load_s=0.2)
    with stand_in(kind, tmp_path, ()) as server:
        server.begin(QUICK)
        due_s = schedule_s(cell.rate_per_s, cell.request_count, cell.seed)
        task = Task(cell, due_s, server.port, tmp_path, Place(tmp_path), client_cpu=min(os.sched_getaffinity(0)))
        DRIVERS[client].prepare(task.place)
        command = DRIVERS[client].command(task)
        run = run_client(
            command.arguments, environment=command.environment, cpu_ids=(), directory=tmp_path, timeout_s=60
        )
        assert run.exit_code == 0, run.output_tail
        figures = compare(cell, DRIVERS[client].read(task, WallClock.read()), server.log(tmp_path))
    assert figures.answered_count == 10
    assert figures.failed_count == 0
    assert figures.chunk_mismatch_count == 0
    assert figures.stamp_error.count == 40
    assert figures.slip.count == 10


@pytest.mark.parametrize("kind", KINDS)
def test_begin_empties_the_log(kind, tmp_path):
    """What was logged before `begin` is gone, and what comes after it is logged with its key and its chunks."""
    with stand_in(kind, tmp_path, ()) as server:
        server.begin(QUICK)
        for key in ("first", "second"):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            body = '{"model": "tiny", "prompt": "a", "max_tokens": 3, "stream": true, "ignore_eos": true}'
            headers = {"content-type": "application/json", "x-request-id": key}
            connection.request("POST", "/v1/completions", body, headers)
            answer = connection.getresponse().read()
            connection.close()
            assert answer.endswith(b"data: [DONE]\n\n")
            log = server.log(tmp_path)
            assert [row.key for row in log.served] == [key]
            assert len(log.served[0].sent_ns) == 3
            assert np.all(np.diff(log.served[0].sent_ns) > 0)
            assert log.served[0].received_ns < log.served[0].sent_ns[0]
            server.begin(QUICK)


def test_a_hanging_client_is_stopped(tmp_path):
    """A process that does not end is killed at its bound, and its children with it."""
    child = "import time; time.sleep(60)"
    start = f"child = subprocess.Popen([sys.executable, '-c', '{child}'])"
    program = f"import subprocess, sys; {start}; print(child.pid, flush=True); child.wait()"
    run = run_client((sys.executable, "-c", program), environment={}, cpu_ids=(), directory=tmp_path, timeout_s=2.0)
    assert run.exit_code is None
    state = Path(f"/proc/{int(run.output_tail)}/stat")
    deadline = time.monotonic() + 5  # killed is not yet gone
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
