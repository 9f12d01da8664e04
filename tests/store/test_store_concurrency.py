"""Two at once: a second process waits with a bound, and a killed one leaves all or nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from redline.errors import StoreBusyError
from redline.store.database import ingest, query
from redline.store.trials import write_trial
from tests.store.trial_examples import dump, make_trial

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WAIT_S_MAX = 60.0


HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(database: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the database open until its standard input is closed, or the context ends."""
    command = [sys.executable, "-c", HOLD, str(database), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


@pytest.mark.parametrize("how", ["write", "read"])
def test_a_held_database_is_waited_for_with_a_bound(tmp_path: Path, how: str) -> None:
    """While another process holds the file, ingest gives up after `wait_s` and names that process."""
    write_trial(tmp_path / "trials", make_trial())
    database = tmp_path / "redline.db"
    ingest(tmp_path / "trials", database)
    with held(database, how) as holder:
        started = time.monotonic()
        with pytest.raises(StoreBusyError) as caught:
            ingest(tmp_path / "trials", database, wait_s=0.5)
        assert 0.4 < time.monotonic() - started < WAIT_S_MAX
        assert str(holder.pid) in caught.value.found
    assert ingest(tmp_path / "trials", database).skipped == 1


def test_a_reader_waits_for_the_writer(tmp_path: Path) -> None:
    """A query while another process writes gets its answer once that is done, or a clear refusal in time."""
    write_trial(tmp_path / "trials", make_trial())
    database = tmp_path / "redline.db"
    ingest(tmp_path / "trials", database)
    with held(database, "write") as holder:
        with pytest.raises(StoreBusyError):
            query(database, "SELECT 1", wait_s=0.2)
        assert holder.stdin is not None
        done = threading.Timer(0.5, holder.stdin.close)
        done.start()
        assert query(database, "SELECT count(*) FROM trials", wait_s=WAIT_S_MAX)[1] == [(1,)]
        done.join()
    with held(database, "read"):
        assert query(database, "SELECT count(*) FROM trials", wait_s=0)[1] == [(1,)]


INGEST = """
import sys
from pathlib import Path
from redline.store.database import ingest
print("ready", flush=True)
report = ingest(Path(sys.argv[1]), Path(sys.argv[2]), wait_s=60)
print(report.added, report.skipped, len(report.damaged))
"""


def start_ingest(directory: Path, database: Path) -> subprocess.Popen[str]:
    """`ingest` in a process of its own."""
    command = [sys.executable, "-c", INGEST, str(directory), str(database)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_ingest_at_once(tmp_path: Path) -> None:
    """Of two processes that ingest the same trials together, each trial goes in once and neither fails."""
    for number in range(60):
        write_trial(tmp_path / "trials", make_trial(f"t{number}", seed=number))
    running = [start_ingest(tmp_path / "trials", tmp_path / "redline.db") for _ in range(2)]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert sorted(out.split()[1:] for out, _ in said) == [["0", "60", "0"], ["60", "0", "0"]]
    ingest(tmp_path / "trials", tmp_path / "alone.db")
    assert dump(tmp_path / "redline.db") == dump(tmp_path / "alone.db")


def test_threads_ingest_and_query_at_once(tmp_path: Path) -> None:
    """Threads of one process wait for each other as processes do."""
    for number in range(20):
        write_trial(tmp_path / "trials", make_trial(f"t{number}"))
    database = tmp_path / "redline.db"
    ingest(tmp_path / "trials", database)
    failures: list[Exception] = []

    def work(action: Any, *arguments: Any) -> None:
        try:
            for _ in range(5):
                action(*arguments, wait_s=WAIT_S_MAX)
        except Exception as error:  # noqa: BLE001  # whatever went wrong in a thread is the test's finding
            failures.append(error)

    threads = [threading.Thread(target=work, args=(ingest, tmp_path / "trials", database)) for _ in range(2)]
    threads += [threading.Thread(target=work, args=(query, database, "SELECT 1")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.slow
def test_a_killed_ingest_leaves_all_or_nothing(tmp_path: Path) -> None:
    """After an ingest is killed at any moment, the next one makes the file whole: the same as a fresh one."""
    for number in range(60):
        write_trial(tmp_path / "trials", make_trial(f"t{number}", seed=number))
    ingest(tmp_path / "trials", tmp_path / "fresh.db")
    expected = dump(tmp_path / "fresh.db")
    for attempt in range(4):
        database = tmp_path / f"killed{attempt}.db"
        process = start_ingest(tmp_path / "trials", database)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.2 * attempt)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        report = ingest(tmp_path / "trials", database)
        assert (report.added, report.skipped) in {(60, 0), (0, 60)}
        assert dump(database) == expected
