"""Between caller and worker: plans and records arrive as they were sent, however many there are."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import MISSING, fields, replace

from hypothesis import given
from hypothesis import strategies as st

from redline.load.client import LoadPlan
from redline.load.transfer import (
    decode_plan,
    decode_record,
    decode_report,
    encode_plan,
    encode_record,
    encode_report,
)
from redline.load.worker import LoadWorker, load_worker
from redline.model import (
    AudioPrompt,
    ChatPrompt,
    ClientReport,
    Outcome,
    Request,
    RequestRecord,
    StampSource,
    TextPrompt,
    TokenCounts,
    TokenPrompt,
)
from tests.load.hostile_server import good, hostile_server
from tests.load.windows import plan_of, request

TEXT = st.text(max_size=20)
COUNTS = st.integers(0, 2**62)
PROMPTS = st.one_of(
    st.builds(TokenPrompt, st.lists(COUNTS, max_size=5).map(tuple)),
    st.builds(TextPrompt, TEXT),
    st.builds(
        ChatPrompt,
        st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3).map(tuple),
        st.lists(TEXT, max_size=2).map(tuple),
    ),
    st.builds(AudioPrompt, st.binary(max_size=50), TEXT, TEXT, TEXT),
)
REQUESTS = st.builds(
    Request,
    index=COUNTS,
    prompt=PROMPTS,
    output_tokens=COUNTS,
    ignore_eos=st.booleans(),
    offset_ns=COUNTS,
    cache_salt=TEXT,
    stream=st.booleans(),
    output_tokens_min=COUNTS,
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1),
    keep_special_tokens=st.booleans(),
)
STAYS_WITH_THE_CALLER = {"expected"}
PLANS = st.builds(
    LoadPlan,
    base_urls=st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    model=TEXT,
    requests=st.lists(REQUESTS, max_size=4).map(tuple),
    in_flight_max=st.none() | COUNTS,
    window_s_max=st.floats(0, 1e6),
    request_s_max=st.none() | st.floats(0, 1e6),
    continuous_usage=st.booleans(),
    with_api_key=st.booleans(),
)
TIMES = st.integers(-(2**40), 2**62)
RECORDS = st.builds(
    RequestRecord,
    index=COUNTS,
    outcome=st.sampled_from(Outcome),
    sched_ns=TIMES,
    send_ns=TIMES,
    done_ns=TIMES,
    chunk_ns=st.lists(TIMES, max_size=4).map(tuple),
    chunk_tokens=st.lists(COUNTS, max_size=4).map(tuple),
    prompt_tokens=COUNTS,
    output_tokens=COUNTS,
    output_text=TEXT,
    finish_reason=TEXT,
    detail=TEXT,
    score=st.none(),
    replica=COUNTS,
    resent=st.booleans(),
)
REPORTS = st.builds(
    ClientReport,
    cpu_s=st.floats(0, 1e6),
    stamps=st.sampled_from(StampSource),
    token_counts=st.sampled_from(TokenCounts),
    chunk_count=COUNTS,
    coalesced_count=COUNTS,
    connection_count=COUNTS,
    resent_count=COUNTS,
    clock_step_ns=TIMES,
    tls=st.booleans(),
    simulated=st.booleans(),
)


@given(PLANS)
def test_a_plan_arrives_as_it_was_sent(plan: LoadPlan) -> None:
    """One line, whatever the texts in it hold, and every field of it."""
    line = encode_plan(plan)
    assert b"\n" not in line
    assert decode_plan(line.decode()) == plan


def test_every_field_that_the_engine_needs_arrives() -> None:
    """A field that is new to a request must be carried over: one that was forgotten would be its default again."""
    asked = request(1, stream=False, output_tokens_min=1, temperature=0.5, top_p=0.5, keep_special_tokens=True)
    (arrived,) = decode_plan(encode_plan(plan_of("http://a", [asked])).decode()).requests
    defaults = {field.name: field.default for field in fields(Request) if field.default is not MISSING}
    changed = {name for name, default in defaults.items() if getattr(arrived, name) != default}
    assert changed == set(defaults) - STAYS_WITH_THE_CALLER
    assert arrived == asked


def test_what_the_engine_does_not_need_stays_with_the_caller() -> None:
    """An expected answer is not for the worker."""
    plan = plan_of("http://a", [replace(request(0), expected="42")])
    assert b"42" not in encode_plan(plan)
    assert decode_plan(encode_plan(plan).decode()).requests == (request(0),)


@given(RECORDS)
def test_a_record_arrives_as_it_was_sent(record: RequestRecord) -> None:
    """Every field but the score, which is given later."""
    line = json.dumps(encode_record(record))
    assert "\n" not in line
    assert decode_record(json.loads(line)) == record


@given(REPORTS)
def test_a_report_arrives_as_it_was_sent(report: ClientReport) -> None:
    """Kinds are kinds again."""
    assert decode_report(json.loads(json.dumps(encode_report(report)))) == report


MANY = 100_000
_STAND_IN = f"""
import json, sys
sys.stdin.readline()
head = dict(started_at="", start_monotonic_ns=5, duration_ns=6, record_count={MANY})
record = dict(index=0, outcome="ok", sched_ns=1, send_ns=2, done_ns=3, chunk_ns=[4, 5], chunk_tokens=[1, 1],
              prompt_tokens=3, output_tokens=2, output_text="", finish_reason="", detail="", replica=0, resent=False)
report = dict(cpu_s=1, stamps="kernel", token_counts="ids", chunk_count=1, coalesced_count=0, connection_count=1,
              resent_count=0, clock_step_ns=0, tls=False, simulated=False)
write = sys.stdout.write
write(json.dumps(head) + "\\n")
for index in range({MANY}):
    record["index"] = index
    record["output_text"] = "x" * 3_000_000 if index == 7 else ""
    write(json.dumps(record) + "\\n")
write(json.dumps(report) + "\\n")
"""


def test_a_hundred_thousand_lines_are_read_one_by_one() -> None:
    """Lines of all sizes, cut by the pipe anywhere: none is lost, and none is read over and over."""
    command = [sys.executable, "-c", _STAND_IN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pieces: list[int] = []

        class Counting(LoadWorker):
            def _read(self, timeout_s: float) -> bytes:
                piece = super()._read(timeout_s)
                pieces.append(len(piece))
                return piece

        window = Counting(process, ()).run(plan_of("http://a", [request(0)]))
        process.stdin.close()
    assert [record.index for record in window.records] == list(range(MANY))
    assert len(window.records[7].output_text) == 3_000_000
    assert window.client.stamps is StampSource.KERNEL
    # Twenty megabytes in pieces of a pipe's size: what was read is what was written, once.
    assert sum(pieces) > 20_000_000


def test_a_window_of_thousands_goes_through_the_worker() -> None:
    """Both ways: the plan in, the records out, in order."""
    wanted = [request(index) for index in range(3_000)]
    with hostile_server(good) as server, load_worker() as worker:
        window = worker.run(plan_of(server.url, wanted, 16))
    assert [record.index for record in window.records] == list(range(3_000))
    assert {record.outcome for record in window.records} == {Outcome.OK}
    assert window.client.chunk_count == 6_000
