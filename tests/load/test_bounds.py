"""What a window takes is known before it runs: the figures hold for real windows, and what does not fit is refused."""

from __future__ import annotations

import gc
import resource
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from redline.errors import LoadError
from redline.load import bounds, client
from redline.load.client import drive
from redline.load.exchange import Exchange
from redline.load.report import Reporter
from redline.load.spool import FLUSH_BYTES, Spool
from redline.load.transfer import encode_record
from redline.load.worker import load_worker
from redline.model import Outcome, RequestRecord
from tests.load.hostile_server import GOOD, Script, Talk, answer_stream, good, hostile_server
from tests.load.vllm_streams import HEAD
from tests.load.windows import Driven, driven, plan_of, request, requests

pytestmark = pytest.mark.slow

MIB = 1 << 20


# --- what is refused ----------------------------------------------------------------------------------------


def test_what_fits_is_let_through() -> None:
    """Just enough of everything is enough; an unknown amount of memory is no reason to refuse."""
    needs = bounds.needs_of(1_000, 10, 200, in_flight_max=4)
    assert needs.memory_bytes == 1_000 + 10 * bounds.REQUEST_OBJECT_BYTES + 200 * (
        bounds.CHUNK_BYTES + bounds.RECORD_CHUNK_BYTES
    )
    assert (needs.disk_bytes, needs.descriptors) == (0, 4 + bounds.DESCRIPTORS_KEPT)
    limit = needs.descriptors
    for memory_bytes in (2 * needs.memory_bytes, None):
        bounds.require_fit(needs, memory_bytes=memory_bytes, disk_bytes=0, descriptor_limit=limit, in_flight_max=4)


def test_answers_beyond_the_memory_bound_need_disk_and_no_more_memory() -> None:
    """From there on memory stays flat, and the disk takes it all."""
    at_bound = bounds.needs_of(0, 1, bounds.MEMORY_ANSWERS_BYTES_MAX // bounds.CHUNK_BYTES, None)
    beyond = bounds.needs_of(0, 1, 10 * bounds.MEMORY_ANSWERS_BYTES_MAX // bounds.CHUNK_BYTES, None)
    assert not at_bound.spooled
    assert beyond.spooled
    assert beyond.disk_bytes == beyond.answer_bytes
    assert beyond.memory_bytes - beyond.record_bytes == bounds.MEMORY_ANSWERS_BYTES_MAX


@pytest.mark.parametrize(
    ("values", "problem", "expected", "found"),
    [
        ({"memory_bytes": 100 * MIB}, "memory of the load client", "at most 50 MiB", "MiB for requests"),
        ({"disk_bytes": 100 * MIB}, "do not fit on the disk", "858 MiB free", "100 MiB free"),
        ({"descriptor_limit": 1024}, "more open connections", "5064 descriptors for 5000", "a limit of 1024"),
    ],
)
def test_what_does_not_fit_is_refused_with_figures(
    values: dict[str, int], problem: str, expected: str, found: str
) -> None:
    """Memory, disk and descriptors: what it takes, what there is, and what to do."""
    needs = bounds.needs_of(MIB, 10_000, 1_000_000, in_flight_max=5_000)
    plenty = {"memory_bytes": 1 << 40, "disk_bytes": 1 << 40, "descriptor_limit": 1 << 20}
    bounds.require_fit(needs, **plenty, in_flight_max=5_000)
    with pytest.raises(LoadError, match=problem) as caught:
        bounds.require_fit(needs, **(plenty | values), in_flight_max=5_000)
    assert expected in caught.value.expected
    assert found in caught.value.found
    assert caught.value.next_step


def test_an_open_loop_is_not_refused_for_descriptors() -> None:
    """It may turn out to need fewer than it has requests; running out is told then."""
    needs = bounds.needs_of(0, 5_000, 0, in_flight_max=None)
    bounds.require_fit(needs, memory_bytes=None, disk_bytes=0, descriptor_limit=1024, in_flight_max=None)


def test_a_plan_that_does_not_fit_is_refused_before_anything_is_sent() -> None:
    """A window of a trillion tokens fits no machine: LoadError, and the server has seen nothing."""
    with hostile_server(good) as server:
        with pytest.raises(LoadError, match="memory"):
            driven(plan_of(server.url, [request(0, output_tokens=10**12)]))
        with load_worker() as worker, pytest.raises(LoadError, match="memory") as caught:
            worker.run(plan_of(server.url, [request(0, output_tokens=10**12)]))
        assert server.talks == []
    assert "half of what is available" in caught.value.expected


def test_running_out_of_descriptors_is_this_clients_own_failure() -> None:
    """In an open loop it shows only then: each request that got no socket says whose limit that was."""

    def script(talk: Talk) -> None:
        while talk.read_request():
            talk.stall()

    with hostile_server(script) as server, load_worker() as worker:
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (150, 150))
        bound_s = 0.3
        window = worker.run(plan_of(server.url, requests(300), window_s_max=bound_s))
        while any("before it could be sent" in record.detail for record in window.records) and bound_s < 30:
            bound_s *= 10
            window = worker.run(plan_of(server.url, requests(300), window_s_max=bound_s))
    own = [record for record in window.records if "this client's own limit" in record.detail]
    assert 150 <= len(own) <= 250
    assert {record.outcome for record in own} == {Outcome.CONNECTION_ERROR}
    assert {record.outcome for record in window.records if record not in own} == {Outcome.TIMEOUT}


def test_the_descriptor_limit_is_raised_to_what_is_allowed() -> None:
    """The soft limit becomes the hard one."""
    limit = bounds.raise_descriptor_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit, limit)


def test_available_memory_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In bytes; None where the file is not there or does not say."""
    found = bounds.memory_available_bytes()
    assert found is not None
    assert found > MIB
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(bounds, "_MEMINFO", meminfo)
    assert bounds.memory_available_bytes() is None
    meminfo.write_text("MemTotal: 5 kB\n")
    assert bounds.memory_available_bytes() is None
    meminfo.write_text("MemTotal: 5 kB\nMemAvailable:       3 kB\n")
    assert bounds.memory_available_bytes() == 3 * 1024


# --- what is measured ---------------------------------------------------------------------------------------


def traced_bytes() -> int:
    """Bytes that lines of the load engine allocated and that are still held."""
    gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/redline/load/*")])
    return sum(trace.size for trace in snapshot.traces)


def token_by_token(talk: Talk) -> None:
    """Answer so that every chunk is a read of its own."""
    while talk.read_request():
        stream = answer_stream(talk.content["max_tokens"])
        start = 0
        while start < len(stream):
            end = stream.index(b"\n\n\r\n", start) + 4 if b"\n\n\r\n" in stream[start:] else len(stream)
            talk.send(stream[start:end])
            talk.pause(0.0005)
            start = end


@pytest.mark.parametrize(("script", "count", "tokens"), [(token_by_token, 12, 60), (good, 200, 2)])
def test_the_figures_are_at_least_what_real_windows_take(script: Script, count: int, tokens: int) -> None:
    """Exchanges with their reads after the run, and records as they are handed over: measured, not guessed."""
    wanted = [request(index, output_tokens=tokens) for index in range(count)]
    tracemalloc.start()
    try:
        with hostile_server(script) as server:
            before = traced_bytes()
            plan = plan_of(server.url, wanted, 12)
            result = drive(plan)
            read_count = sum(len(exchange.reads) for exchange in result.exchanges)
            answers_bytes = traced_bytes() - before
            reporter = Reporter(result)
            pairs = zip(plan.requests, result.exchanges, strict=True)
            records = [reporter.record_of(each, exchange) for each, exchange in pairs]
            records_bytes = traced_bytes() - before
            encoded = [encode_record(record) for record in records]
            encoded_bytes = traced_bytes() - before - records_bytes
    finally:
        tracemalloc.stop()
    assert {record.outcome for record in records} == {Outcome.OK}
    chunk_count = sum(len(record.chunk_ns) for record in records)
    assert chunk_count == count * tokens
    # As many reads as were planned for: a client that this machine lets wait finds several chunks in one.
    predicted = count * bounds.REQUEST_OBJECT_BYTES + max(read_count, count * tokens) * bounds.CHUNK_BYTES
    assert predicted / 8 < answers_bytes <= predicted
    predicted = count * bounds.REQUEST_OBJECT_BYTES + chunk_count * bounds.RECORD_CHUNK_BYTES
    assert predicted / 8 < records_bytes <= predicted
    assert records_bytes + encoded_bytes <= predicted
    assert len(encoded) == count


# --- the spool ----------------------------------------------------------------------------------------------


def without_times(record: RequestRecord) -> RequestRecord:
    """A record but for its stamps."""
    return replace(record, send_ns=0, done_ns=0, chunk_ns=(0,) * len(record.chunk_ns))


def mixed(talk: Talk) -> None:
    """Good answers, an error, an early end and a stall, by token."""
    while talk.read_request():
        match talk.token:
            case 0 | 1:
                talk.send(answer_stream(talk.content["max_tokens"]))
            case 2:
                talk.send(b"HTTP/1.1 400 X\r\ncontent-length: 2\r\n\r\nno")
            case 3:
                talk.send(GOOD[:-9])
                return
            case _:
                talk.send(HEAD)
                talk.stall()


def test_a_spooled_window_gives_the_same_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forced to disk by a bound of nothing: outcomes, tokens and texts are those of a window in memory."""
    wanted = [request(index, index % 5) for index in range(50)]
    bound_in_memory = bounds.MEMORY_ANSWERS_BYTES_MAX

    def windows(bound_s: float) -> tuple[Driven, Driven]:
        plan = plan_of(server.url, wanted, window_s_max=bound_s)
        monkeypatch.setattr(bounds, "MEMORY_ANSWERS_BYTES_MAX", bound_in_memory)
        in_memory = driven(plan)
        monkeypatch.setattr(bounds, "MEMORY_ANSWERS_BYTES_MAX", 0)
        return in_memory, driven(plan)

    with hostile_server(mixed) as server:
        bound_s = 0.2
        in_memory, spooled = windows(bound_s)
        while any(each.outcomes.count(Outcome.TIMEOUT) != 10 for each in (in_memory, spooled)) and bound_s < 20:
            bound_s *= 10  # this machine let a request wait that the server answers
            in_memory, spooled = windows(bound_s)
    assert in_memory.result.spool is None
    assert spooled.result.spool is not None
    assert [without_times(record) for record in spooled.records] == [
        without_times(record) for record in in_memory.records
    ]
    assert set(spooled.outcomes) >= {Outcome.OK, Outcome.HTTP_ERROR, Outcome.TRUNCATED, Outcome.TIMEOUT}
    assert spooled.report.stamps is in_memory.report.stamps
    assert spooled.report.chunk_count == in_memory.report.chunk_count
    for record in spooled.records:
        assert list(record.chunk_ns) == sorted(record.chunk_ns)
        assert all(record.send_ns <= stamp <= record.done_ns for stamp in record.chunk_ns)


def filled(index: int) -> Exchange:
    """An exchange with reads, one of them without a stamp."""
    exchange = Exchange(index, b"", 0, print)
    exchange.reads = [b"a" * index, b"", b"\x00\xff"]
    exchange.user_ns = [1, 2**62, 3]
    exchange.ancillary = [[(1, 35, b"x" * 16)], [], [(1, 35, b"y"), (2, 3, b"")]]
    return exchange


def test_what_the_spool_takes_it_gives_back(tmp_path: Path) -> None:
    """In any order, with writing in between, and nothing is left in the directory."""
    spool = Spool(tmp_path)
    exchanges = [filled(index) for index in range(40)]
    for exchange in exchanges[:30]:
        spool.keep(exchange)
        assert (exchange.reads, exchange.user_ns, exchange.ancillary) == ([], [], [])
    spool.flush()
    spool.take_back(exchanges[7])
    for exchange in exchanges[30:]:
        spool.keep(exchange)
    for exchange in [*exchanges[:7], *reversed(exchanges[8:])]:
        spool.take_back(exchange)
    for index, exchange in enumerate(exchanges):
        wanted = filled(index)
        assert (exchange.reads, exchange.user_ns, exchange.ancillary) == (
            wanted.reads,
            wanted.user_ns,
            wanted.ancillary,
        )
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_the_spool_asks_for_a_write_when_enough_waits(tmp_path: Path) -> None:
    """In pieces of FLUSH_BYTES, so that a write is worth its while."""
    spool = Spool(tmp_path)
    exchange = filled(FLUSH_BYTES // 2)
    spool.keep(exchange)
    due = [spool.is_due]
    spool.keep(filled(FLUSH_BYTES // 2 + 1))
    due.append(spool.is_due)
    spool.flush()
    due.append(spool.is_due)
    spool.close()
    assert due == [False, True, False]


@pytest.mark.parametrize("answer_bytes", [40_000, 1_000_000], ids=["while records are read", "while the window runs"])
def test_a_disk_that_refuses_a_write_is_a_load_error(answer_bytes: int) -> None:
    """Neither a hang nor half a window; the worker is asked for more than it may write."""
    comment = b": " + b"x" * answer_bytes + b"\n\n"
    answer = GOOD.removesuffix(b"0\r\n\r\n") + b"%x\r\n%b\r\n" % (len(comment), comment) + b"0\r\n\r\n"

    def script(talk: Talk) -> None:
        while talk.read_request():
            talk.send(answer)

    tokens = bounds.MEMORY_ANSWERS_BYTES_MAX // bounds.CHUNK_BYTES // 10 + 1
    wanted = [request(index, output_tokens=tokens, offset_ns=index * 30_000_000) for index in range(10)]
    with hostile_server(script) as server, load_worker() as worker:
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(LoadError, match="could not drive") as caught:
            worker.run(plan_of(server.url, wanted))
    assert "OSError" in caught.value.found
    assert "too large" in caught.value.found


def test_an_answer_may_be_larger_than_asked_for_but_not_without_end() -> None:
    """The bound of an answer leaves room for verbose servers: 16 KiB a token and 4 MiB."""
    assert client.ANSWER_BYTES_PER_TOKEN_MAX > 10 * bounds.CHUNK_BYTES
