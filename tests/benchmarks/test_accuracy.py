"""What a client says against what the server did: worked examples with known answers."""

import dataclasses

import numpy as np
import pytest

from benchmarks.load.accuracy import compare, spread
from benchmarks.load.report import ClientReport, from_stamps
from benchmarks.load.server_log import Served, ServerLog, answer_id
from benchmarks.load.workload import WORKLOADS, Cell, prompt, schedule_s

MS = 1_000_000
CELL = Cell("redline", WORKLOADS["W2"], rate_per_s=100, hog_count=0, load_s=0.03)


def served(index: int, *, late_ms: int = 0, done: bool = True) -> Served:
    """Request `index` of a schedule 10 ms apart, received `late_ms` late, chunks 50, 60 and 70 ms after that."""
    received_ns = (1000 + 10 * index + late_ms) * MS
    sent_ns = np.array([received_ns + offset * MS for offset in (50, 60, 70)], dtype=np.int64)
    return Served(f"r{index}", received_ns, int(sent_ns[-1]) if done else 0, sent_ns)


def report(rows: list[Served], *, stamp_late_ns: int = 0, due_is_absolute: bool = True) -> ClientReport:
    """A client that sends on time by its own clock and stamps every chunk `stamp_late_ns` late."""
    made = from_stamps(
        keys=[row.key for row in rows],
        due_ns=np.array([(1000 + 10 * index) * MS for index in range(len(rows))], dtype=np.int64),
        send_ns=np.array([row.received_ns for row in rows], dtype=np.int64),
        chunk_ns=[row.sent_ns + stamp_late_ns for row in rows],
        failed_count=0,
    )
    return dataclasses.replace(made, due_is_absolute=due_is_absolute)


def test_an_exact_client_has_no_error():
    """Stamps that are the truth give errors of zero, and the rate was held."""
    rows = [served(index) for index in range(3)]
    figures = compare(CELL, report(rows), ServerLog(tuple(rows)))
    assert figures.held
    assert figures.achieved_share == pytest.approx(1.0)
    for found in (figures.slip, figures.ttft_error, figures.stamp_error, figures.gap_error):
        assert found is not None
        assert (found.p50_ms, found.p99_ms) == (0.0, 0.0)


def test_late_stamps_are_stamp_and_ttft_errors_but_no_gap_errors():
    """A constant delay of every stamp moves TTFT by as much and cancels in the gaps."""
    rows = [served(index) for index in range(3)]
    figures = compare(CELL, report(rows, stamp_late_ns=2 * MS), ServerLog(tuple(rows)))
    assert figures.ttft_error.p50_ms == pytest.approx(2.0)
    assert figures.stamp_error.p99_ms == pytest.approx(2.0)
    assert figures.stamp_error.count == 9
    assert figures.gap_error.max_ms == 0.0


def test_slip_is_arrival_minus_due():
    """One request 4 ms late: the slip's maximum; where the start is fitted, relative to the most punctual one."""
    rows = [served(0, late_ms=1), served(1, late_ms=1), served(2, late_ms=5)]
    log = ServerLog(tuple(rows))
    assert compare(CELL, report(rows), log).slip.max_ms == pytest.approx(5.0)
    assert compare(CELL, report(rows, due_is_absolute=False), log).slip.max_ms == pytest.approx(4.0)


def test_a_slow_client_has_not_held_the_rate():
    """Arrivals stretched by a fifth are 83 % of the rate."""
    rows = [served(0), served(1, late_ms=2), served(2, late_ms=4)]
    figures = compare(CELL, report(rows), ServerLog(tuple(rows)))
    assert not figures.held
    assert figures.achieved_share == pytest.approx(20 / 24)


@pytest.mark.parametrize("lost", ["never sent", "cut off", "failed"])
def test_a_missing_request_is_not_held(lost):
    """A request that the server never saw, did not finish, or the client calls failed, breaks the cell."""
    rows = [served(0), served(1), served(2, done=lost != "cut off")]
    said = report(rows)
    log = ServerLog(tuple(rows[:2] if lost == "never sent" else rows))
    if lost == "failed":
        said = dataclasses.replace(said, failed_count=1)
    figures = compare(CELL, said, log)
    assert not figures.held
    assert figures.failed_count == 1


def test_other_chunk_counts_are_counted_and_not_compared():
    """A client that merged two chunks has no stamp error for that request, and says so."""
    rows = [served(0), served(1), served(2)]
    said = report(rows)
    assert said.chunk_ns is not None
    stamps = (said.chunk_ns[0][1:], *said.chunk_ns[1:])
    figures = compare(CELL, dataclasses.replace(said, chunk_ns=stamps), ServerLog(tuple(rows)))
    assert figures.chunk_mismatch_count == 1
    assert figures.stamp_error.count == 6


def test_undefined_stays_undefined():
    """A tool without schedule, stamps and gaps has no slip, stamp error or gap error, and keeps its TTFT error."""
    rows = [served(index) for index in range(3)]
    said = ClientReport(
        keys=tuple(row.key for row in rows),
        due_ns=None,
        due_is_absolute=False,
        ttft_ns=np.array([51.0, np.nan, 51.0]) * MS,
    )
    figures = compare(CELL, said, ServerLog(tuple(rows)))
    assert (figures.slip, figures.stamp_error, figures.gap_error) == (None, None, None)
    assert figures.ttft_error.count == 2
    assert figures.ttft_error.p50_ms == pytest.approx(1.0)


def test_probes_do_not_count():
    """Requests that the client does not report, such as a tool's test request, change nothing."""
    rows = [served(index) for index in range(3)]
    probe = dataclasses.replace(served(0), key="", received_ns=1)
    figures = compare(CELL, report(rows), ServerLog((probe, *rows)))
    assert figures.held
    assert figures.achieved_share == pytest.approx(1.0)


def test_answers_are_found_by_their_id():
    """A tool that knows only the answer's id is matched by it."""
    rows = tuple(served(index) for index in range(3))
    assert ServerLog(rows).rows()[answer_id(2)] is rows[2]
    assert ServerLog(rows).rows()["cmpl-r1"] is rows[1]


def test_the_spread_of_nothing_is_none():
    """No finite value, no percentile."""
    assert spread(np.array([np.nan])) is None


def test_the_schedule_ends_exactly_at_the_asked_rate():
    """Ascending, as many as asked, the last one due at count / rate, the same for the same seed."""
    due_s = schedule_s(50.0, 500, seed=3)
    assert due_s.shape == (500,)
    assert np.all(np.diff(due_s) > 0)
    assert due_s[-1] == pytest.approx(10.0)
    assert np.array_equal(due_s, schedule_s(50.0, 500, seed=3))
    assert not np.array_equal(due_s, schedule_s(50.0, 500, seed=4))


def test_prompts_name_their_request():
    """Every prompt has the same length and its index at the start."""
    assert {len(prompt(index)) for index in (0, 9, 4321)} == {120}
    assert prompt(4321).startswith("rid=4321 ")
