"""Whatever a server does over a real socket, each request ends with one classified outcome, and no other suffers."""

from __future__ import annotations

import resource
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterable
from contextlib import ExitStack

import pytest

from redline.load.client import ANSWER_BYTES_MIN
from redline.model import AudioPrompt, Outcome, Request
from tests.load.hostile_server import GOOD, Script, Talk, answer_stream, good, hostile_server
from tests.load.misbehaviours import BODY, CHUNK, MISBEHAVIOURS, OVERRUN_S_MAX, WINDOW_S, says_for_ever
from tests.load.vllm_streams import HEAD, chunked
from tests.load.windows import Driven, driven, in_enough_time, plan_of, request, requests, was_all_sent

FIRST_TOKEN = 1_000
LATE_SURPLUS = next(each for each in MISBEHAVIOURS if each.name == "surplus afterwards")
"""What comes so late that the connection may carry the next request already: nobody can tell whose it is."""


def misbehave(talk: Talk) -> None:
    """Do what the first token of each prompt names; anything else is answered well."""
    while talk.read_request():
        if talk.token < FIRST_TOKEN:
            talk.send(GOOD)
        else:
            MISBEHAVIOURS[talk.token - FIRST_TOKEN].act(talk)


def in_time(script: Script, wanted: tuple[Request, ...], in_flight_max: int | None = None, **values: float) -> Driven:
    """A window against a scripted server; it ends soon after its bound, though the server would stall for longer."""
    values = {"window_s_max": WINDOW_S} | values
    with hostile_server(script) as server:
        window = driven(plan_of(server.url, wanted, in_flight_max, **values))
    assert window.result.duration_ns / 1e9 < values["window_s_max"] + OVERRUN_S_MAX
    assert [record.index for record in window.records] == [each.index for each in wanted]
    return window


def test_every_misbehaviour_is_classified_and_disturbs_nobody_else() -> None:
    """All of them in one window, a good request after each: outcome, reason and the chunks that had come."""
    wanted: list[Request] = []
    told = [position for position, each in enumerate(MISBEHAVIOURS) if each is not LATE_SURPLUS]
    for position in told:
        wanted.append(request(2 * position, FIRST_TOKEN + position, offset_ns=position * 5_000_000))
        wanted.append(request(2 * position + 1, offset_ns=position * 5_000_000))

    def was_long_enough(window: Driven) -> bool:
        """Nobody ran out of time but those who must, and what these were to get had come."""
        misbehaving = zip(told, window.records[::2], strict=True)
        return Outcome.TIMEOUT not in window.outcomes[1::2] and all(
            record.outcome is not Outcome.TIMEOUT
            or (MISBEHAVIOURS[position].outcome, MISBEHAVIOURS[position].chunk_count)
            == (Outcome.TIMEOUT, len(record.chunk_ns))
            for position, record in misbehaving
        )

    window = in_enough_time(
        lambda bound_s: in_time(misbehave, tuple(wanted), window_s_max=bound_s), was_long_enough, (0.5, 5.0, 50.0)
    )
    for position, record in zip(told, window.records[::2], strict=True):
        misbehaviour = MISBEHAVIOURS[position]
        found = (misbehaviour.name, record.outcome, len(record.chunk_ns))
        assert found == (misbehaviour.name, misbehaviour.outcome, misbehaviour.chunk_count), record.detail
        assert misbehaviour.detail in record.detail, misbehaviour.name
        assert bool(record.detail) is (record.outcome is not Outcome.OK)
        assert 0 <= record.send_ns <= record.done_ns
    assert {record.outcome for record in window.records[1::2]} == {Outcome.OK}
    # On a busy machine a connection's end may be seen late, and a request go out on it: it is then sent once more.
    assert sum(record.resent for record in window.records) <= 2


SAID_TOO_MUCH = (
    "two answers at once",
    "two answers with a length at once",
    "surplus in the read of the end",
    "surplus in the read of the end, after others",
    "surplus in a read across the end",
    "surplus afterwards",
    "a good answer, then the end",
    "an answer until the connection closes",
    "a length that is too short",
    "garbage",
)


def is_in_time(window: Driven, said_ns: Iterable[int], due_ns: int) -> bool:
    """True if all this was said a while before that time of the window, and the client was not late for it either."""
    soon_ns = 10_000_000
    late_ns = min(record.send_ns - record.sched_ns for record in window.records if record.sched_ns == due_ns)
    return max(said_ns) < window.result.start_ns + due_ns - soon_ns and late_ns < soon_ns


def test_a_connection_that_said_too_much_is_not_used_again() -> None:
    """The next request goes over another connection, and its answer is its own. A replica for each way."""
    seen: dict[str, list[int]] = {}
    said_ns: dict[str, int] = {}
    acts = {each.name: each.act for each in MISBEHAVIOURS}
    count = len(SAID_TOO_MUCH)

    def once(name: str) -> Script:
        def script(talk: Talk) -> None:
            while talk.read_request():
                seen[name].append(talk.number)
                if len(seen[name]) == 1:
                    acts[name](talk)
                    said_ns[name] = time.monotonic_ns()
                else:
                    talk.send(GOOD)

        return script

    # Three requests for each replica; the second is due when surplus that comes late has come, on any machine.
    def window_of(second_s: float) -> Driven:
        seen.update({name: [] for name in SAID_TOO_MUCH})
        due_s = [0.0] * count + [second_s] * count + [1.5 * second_s] * count
        wanted = [request(index, offset_ns=round(due * 1e9)) for index, due in enumerate(due_s)]
        with ExitStack() as servers:
            urls = [servers.enter_context(hostile_server(once(name))).url for name in SAID_TOO_MUCH]
            return driven(plan_of(urls, wanted))

    window = in_enough_time(
        window_of,
        lambda window: is_in_time(window, said_ns.values(), window.records[count].sched_ns),
        (0.06, 0.6, 6.0),
    )
    assert window.outcomes[count:] == [Outcome.OK] * (2 * count)
    for name, numbers in seen.items():
        assert len(numbers) == 3, name
        assert numbers[0] not in numbers[1:], name
    assert window.report.resent_count == 0


@pytest.mark.parametrize("ending", ["closed", "reset"])
def test_an_answer_that_ends_early_is_never_ok(ending: str) -> None:
    """Cut at each of its bytes: only the whole answer is a good one."""
    event = b'data: {"choices":[{"text":"ab","token_ids":[5,6]}]}\n\n'
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(event, BODY)
    lengths = [*range(1, len(answer), 1 if ending == "closed" else 3), len(answer)]

    def script(talk: Talk) -> None:
        while talk.read_request():
            talk.send(answer[: talk.token])
            if ending == "reset":
                talk.reset()
            else:
                talk.connection.shutdown(socket.SHUT_RDWR)

    wanted = tuple(request(index, length) for index, length in enumerate(lengths))
    window = in_time(script, wanted, in_flight_max=8, window_s_max=60.0)
    if ending == "closed":
        assert window.outcomes == [Outcome.TRUNCATED] * (len(lengths) - 1) + [Outcome.OK]
    else:  # a reset may overtake what was sent before it
        assert set(window.outcomes[:-1]) <= {Outcome.TRUNCATED, Outcome.CONNECTION_ERROR, Outcome.OK}
        assert Outcome.OK not in window.outcomes[:-1]


def test_memory_is_bounded_by_the_answers_bound() -> None:
    """A server that never stops sending fills no memory: the bound and a little more is held, not what was sent."""
    endless = next(each for each in MISBEHAVIOURS if each.name == "a body that never ends")

    def script(talk: Talk) -> None:
        while talk.read_request():
            endless.act(talk)

    tracemalloc.start()
    try:
        window = in_time(script, requests(3), in_flight_max=3, window_s_max=60.0)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert window.outcomes == [Outcome.PROTOCOL_ERROR] * 3
    assert peak_bytes < 3 * 2 * ANSWER_BYTES_MIN


def test_a_server_that_resets_every_connection_is_a_connection_error() -> None:
    """Asked once more, because the connection had been idle; then it is said."""

    def script(talk: Talk) -> None:
        talk.connection.recv(1)
        talk.reset()

    window = in_time(script, requests(5), in_flight_max=2)
    assert window.outcomes == [Outcome.CONNECTION_ERROR] * 5
    assert [record.resent for record in window.records[:2]] == [True, True]


def test_a_reset_at_accept_is_a_connection_error() -> None:
    """Only the connections opened beforehand were taken; no request gets through, and each is told so."""

    def script(talk: Talk) -> None:
        if talk.number <= 5:
            talk.connection.recv(1)
        talk.reset()

    window = in_time(script, requests(50), in_flight_max=5)
    assert window.outcomes == [Outcome.CONNECTION_ERROR] * 50


def test_a_request_lost_on_an_idle_connection_is_sent_once_more() -> None:
    """The server had closed it; the request goes out again on a new one, is good, and says so."""

    def script(talk: Talk) -> None:
        if talk.number <= 3:  # 0 is the client's trial of the address, 1 to 3 are opened beforehand
            talk.connection.recv(1)
            talk.reset()
        else:
            good(talk)

    window = in_time(script, requests(9), in_flight_max=3)
    assert window.outcomes == [Outcome.OK] * 9
    assert [record.resent for record in window.records] == [True] * 3 + [False] * 6
    assert window.report.resent_count == 3


def test_a_server_that_closes_idle_connections_at_once_is_served() -> None:
    """Connections that are gone before they are used, or after each answer, fail no request."""

    def script(talk: Talk) -> None:
        if talk.number > 4 and talk.read_request():
            talk.send(GOOD)

    window = in_time(script, requests(60), in_flight_max=4, window_s_max=60.0)
    assert set(window.outcomes) == {Outcome.OK}


def test_a_server_that_neither_reads_nor_answers_is_told_how_much_it_left() -> None:
    """A large upload that the server does not take: the timeout says how many bytes are still here."""

    def script(talk: Talk) -> None:
        talk.stall()

    upload = Request(0, AudioPrompt(b"x" * 12_000_000), 0, False, 0, "salt")
    window = in_enough_time(lambda bound_s: in_time(script, (upload,), window_s_max=bound_s), was_all_sent)
    assert window.outcomes == [Outcome.TIMEOUT]
    assert "bytes of the request were never taken" in window.records[0].detail


def test_a_large_upload_is_taken_whole() -> None:
    """The kernel takes some at a time; what arrives is what was sent, and other requests go on meanwhile."""
    content = bytes(range(256)) * 20_000
    received: list[bool] = []

    def script(talk: Talk) -> None:
        while talk.read_request():
            if "audio" in talk.path:
                received.append(content in talk.body)
                body = b'{"text": "so it goes"}'
                talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            else:
                talk.send(GOOD)

    upload = Request(0, AudioPrompt(content), 0, False, 0, "salt", stream=False)
    window = in_time(script, (upload, request(1), request(2)), window_s_max=60.0)
    assert window.outcomes == [Outcome.OK] * 3
    assert received == [True]


def test_a_refusal_before_the_upload_ended_is_read() -> None:
    """The server says 413 and resets while the client still sends: the answer counts, not the broken pipe."""

    def script(talk: Talk) -> None:
        while talk.connection.recv(1000):
            talk.send(b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig")
            talk.connection.close()  # with bytes unread: the kernel sends RST at once

    uploads = tuple(Request(index, AudioPrompt(b"x" * 8_000_000), 0, False, 0, "salt") for index in range(8))
    window = in_time(script, uploads, in_flight_max=4, window_s_max=60.0)
    assert [record.detail for record in window.records] == ["HTTP 413: big"] * 8
    assert set(window.outcomes) == {Outcome.HTTP_ERROR}


def test_a_server_that_reads_byte_by_byte_is_waited_for() -> None:
    """A slow reader is slow, and nothing else."""

    def script(talk: Talk) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = talk.connection.recv(1)
            if not piece:
                return
            head += piece
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        for _ in range(length):
            talk.connection.recv(1)
        talk.send(GOOD)
        talk.stall()

    window = in_time(script, requests(3), window_s_max=60.0)
    assert window.outcomes == [Outcome.OK] * 3


@pytest.mark.parametrize("in_flight_max", [8, None])
def test_a_server_that_goes_away_fails_thousands_of_requests_one_by_one(in_flight_max: int | None) -> None:
    """Refused in the middle of a run: no stack grows, every request is classified, those before are untouched."""
    count = 2_000

    def script(talk: Talk) -> None:
        while talk.read_request():
            if talk.token and in_flight_max is not None:
                all_answered.wait(60.0)  # however late this machine runs the threads of the first connections
            talk.send(GOOD)
            if talk.token:
                server.stop_listening()
                talk.connection.shutdown(socket.SHUT_RDWR)
                gone.append(talk.number)
                continue
            answered.append(talk.number)
            if len(answered) >= 20:
                all_answered.set()
            if gone:
                talk.connection.shutdown(socket.SHUT_RDWR)

    gone: list[int] = []
    answered: list[int] = []
    all_answered = threading.Event()
    wanted = [request(index, int(index >= 20), offset_ns=index * 100_000) for index in range(count)]
    with hostile_server(script) as server:
        window = driven(plan_of(server.url, wanted, in_flight_max, window_s_max=60.0))
    if in_flight_max is not None:  # an open loop has connections that were never accepted: they end with the rest
        assert window.outcomes[:10] == [Outcome.OK] * 10
    assert set(window.outcomes) <= {Outcome.OK, Outcome.CONNECTION_ERROR}
    assert window.outcomes.count(Outcome.CONNECTION_ERROR) > count / 2
    assert all(record.detail for record in window.records if record.outcome is not Outcome.OK)


def test_running_out_of_descriptors_in_a_closed_loop_grows_no_stack() -> None:
    """Each launch then fails at once, within the end of the last: all are classified, and the loop comes back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def script(talk: Talk) -> None:
        if talk.read_request():
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # of this process: what is open stays open
            talk.send(GOOD)

    try:
        window = in_time(script, requests(2_000), in_flight_max=2, window_s_max=60.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert window.outcomes.count(Outcome.CONNECTION_ERROR) >= 1_990
    assert "this client's own limit" in window.records[-1].detail


def test_an_answer_before_the_question_is_not_taken_for_one() -> None:
    """A server that talks first, on a connection nobody has used: the connection is dropped."""
    said_ns: dict[int, int] = {}

    def script(talk: Talk) -> None:
        if talk.number in (1, 2):
            talk.send(GOOD)
            said_ns[talk.number] = time.monotonic_ns()
            talk.stall()
        good(talk)

    talks: list[Talk] = []

    def window_of(due_s: float) -> Driven:
        wanted = tuple(request(index, offset_ns=round(due_s * 1e9)) for index in range(2))
        said_ns.clear()
        with hostile_server(script) as server:
            window = driven(plan_of(server.url, wanted, in_flight_max=2))
            talks[:] = [talk for talk in server.talks if talk.method]
        return window

    window = in_enough_time(  # the requests are due after it has come, on any machine
        window_of,
        lambda window: len(said_ns) == 2 and is_in_time(window, said_ns.values(), window.records[0].sched_ns),
        (0.1, 1.0, 10.0),
    )
    assert window.outcomes == [Outcome.OK] * 2
    assert {talk.number for talk in talks}.isdisjoint({1, 2})


def test_the_clock_of_a_window_is_not_stopped_by_a_flood() -> None:
    """Endless bodies in small chunks, several at once: the window still ends in time."""
    start = time.monotonic()

    def script(talk: Talk) -> None:
        while talk.read_request():
            says_for_ever(HEAD, CHUNK % (16, b"data: {}      \n\n"))(talk)

    window = in_time(script, requests(3), in_flight_max=3, window_s_max=0.2)
    assert set(window.outcomes) <= {Outcome.TIMEOUT, Outcome.PROTOCOL_ERROR}
    assert time.monotonic() - start < 120


def test_answer_stream_counts_what_it_says() -> None:
    """The stand-in's own good answer is one: the tests above rest on it."""
    with hostile_server(good) as server:
        window = driven(plan_of(server.url, [request(0, output_tokens=7)]))
    assert (window.records[0].outcome, window.records[0].output_tokens) == (Outcome.OK, 7)
    assert answer_stream(7).count(b'"token_ids":[7]') == 7
