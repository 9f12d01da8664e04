"""Every failure that can be asked for, as a client sees it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest

from redline.errors import DeployError
from redline.simulator.process import RunningSimulator, simulator
from redline.simulator.settings import parse_settings
from tests.simulator.asking import QUICK, body, counters, streamed, wait_until


@pytest.fixture
def impatient(running: RunningSimulator) -> Iterator[httpx.Client]:
    """A client that waits for half a second."""
    timeout = httpx.Timeout(60, read=0.5)
    with httpx.Client(base_url=running.base_url, timeout=timeout, trust_env=False) as client:
        yield client


def raw_answer(running: RunningSimulator, data: bytes) -> bytes:
    """What a socket gets for these bytes, until the other end closes. Raises ConnectionResetError."""
    address = urlsplit(running.base_url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as client:
        client.sendall(data)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        return answer


def answers(running: RunningSimulator) -> bool:
    """True if /health is answered."""
    try:
        return httpx.get(f"{running.base_url}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


COMPLETION = b'{"prompt":"x","max_tokens":8,"stream":true}'
POST = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(COMPLETION), COMPLETION)


def test_a_lost_request_gets_no_byte(client, running, change):
    """The connection ends without an answer, and the next request is served."""
    change("failures", lost={"share": 1.0})
    assert raw_answer(running, POST) == b""
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/v1/completions", json=body())
    assert client.get("/health").status_code == 200
    assert {entry.end for entry in running.log()} == {"failed: lost"}


@pytest.mark.parametrize("failure", ["reset_early", "reset"])
def test_a_reset_is_a_reset(running, change, failure):
    """RST before or in the middle of the answer."""
    change("failures", **{failure: 1})
    with pytest.raises(ConnectionResetError):
        raw_answer(running, POST)


def test_a_hung_request_is_never_answered(impatient, running, change):
    """No byte comes, and the connection stays open."""
    change("failures", hang=1)
    with pytest.raises(httpx.ReadTimeout):
        impatient.post("/v1/completions", json=body())
    assert running.log()[0].due_ns == ()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_error_status_has_its_form(client, change, status):
    """OpenAI's form of an error, and the connection goes on."""
    change("failures", http_error=1, http_error_status=status)
    response = client.post("/v1/completions", json=body())
    assert (response.status_code, response.json()["error"]["code"]) == (status, status)
    assert client.get("/health").status_code == 200


def test_garbage_is_not_http(client, running, change):
    """Bytes that no client can read, then the end."""
    change("failures", garbage=1)
    assert b"this is not HTTP" in raw_answer(running, POST)
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/v1/completions", json=body())


def test_a_stalled_stream_stops_in_the_middle(client, running, change):
    """Half of the chunks come, then silence; it ends when the client leaves, and counts as aborted."""
    change("failures", stall=1)
    before = counters(client)
    with client.stream("POST", "/v1/completions", json=body(), headers={"x-request-id": "s"}) as response:
        pieces = response.iter_raw()
        came = b""
        while came.count(b"data: ") < 4:
            came += next(pieces)
        time.sleep(0.3)
        assert (running.state().running, len(running.log()[0].sent_ns)) == (1, 4)
    wait_until(lambda: running.state().running == 0)
    [entry] = running.log()
    assert (entry.request_id, entry.end, len(entry.sent_ns)) == ("s", "aborted", 4)
    after = counters(client)
    aborted = 'vllm:request_success_total{finished_reason="abort"}'
    assert after[aborted] - before[aborted] == 1
    assert after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] == 4


def test_a_stalled_stream_does_not_stall_the_engine(running, change):
    """In lockstep the others go on stepping, those that run and those that come."""
    change("timing", lockstep=True)
    change("failures", stall={"after_requests": 0})
    timeout = httpx.Timeout(60)
    with httpx.Client(base_url=running.base_url, timeout=timeout, trust_env=False) as client:
        with client.stream("POST", "/v1/completions", json=body(), headers={"x-request-id": "s"}):
            wait_until(lambda: len(running.log()[-1].sent_ns) == 4)
            change("failures", stall=0)
            assert [streamed(client, json=body()).done for _ in range(2)] == [True, True]
            assert running.state().running == 1
        wait_until(lambda: running.state().running == 0)
    assert {entry.request_id: len(entry.sent_ns) for entry in running.log()}["s"] == 4


def test_a_truncated_stream_ends_without_done(client, running, change):
    """The connection is closed in the middle: the client sees an incomplete body."""
    change("failures", truncate=1)
    with pytest.raises(httpx.RemoteProtocolError):
        streamed(client, json=body())
    assert raw_answer(running, POST).count(b"data: ") == 4
    assert {entry.end for entry in running.log()} == {"failed: truncate"}


def test_an_error_event_comes_inside_the_stream(client, running, change):
    """Status 200, half of the chunks, an error, [DONE]; the connection goes on."""
    change("failures", error_chunk=1)
    answer = streamed(client, json=body())
    assert (answer.status, answer.done, len(answer.token_events)) == (200, True, 4)
    assert answer.events[-1]["error"]["code"] == 500
    assert running.state().running == 0
    assert client.get("/health").status_code == 200


def test_a_garbled_event_does_not_end_the_stream(client, change):
    """One event is not JSON; all tokens come."""
    change("failures", garbage_chunk=1)
    with client.stream("POST", "/v1/completions", json=body()) as response:
        data = response.read()
    assert data.count(b"not JSON") == 1
    assert data.count(b'"text"') == 8
    assert data.endswith(b"data: [DONE]\n\n")


def test_a_short_output_says_stop(client, change):
    """Half of the tokens, reason "stop", and the usage says so."""
    change("failures", short_output=1)
    answer = streamed(client, json=body())
    assert len(answer.token_events) == answer.events[-1]["usage"]["completion_tokens"] == 4
    assert answer.token_events[-1]["choices"][0]["finish_reason"] == "stop"


def test_comments_leave_the_answer_whole(client, running, change):
    """Keep-alive comments before the first chunk and in the middle; every token comes."""
    change("failures", keep_alive_comments=1)
    answer = streamed(client, json=body())
    assert (len(answer.token_events), answer.done) == (8, True)
    pieces = raw_answer(running, POST.replace(b"host: x", b"host: x\r\nconnection: close")).split(b": keep-alive")
    assert [piece.count(b'"text"') for piece in pieces] == [0, 4, 4]


@pytest.mark.parametrize(
    ("failure", "status", "is_json"),
    [("error_chunk", 500, True), ("garbage_chunk", 200, False), ("short_output", 200, True)],
)
def test_a_whole_answer_fails_too(client, change, failure, status, is_json):
    """What befalls a stream has its counterpart without streaming."""
    change("failures", **{failure: 1})
    response = client.post("/v1/completions", json=body(stream=False, stream_options=None))
    assert response.status_code == status
    if is_json:
        assert isinstance(response.json(), dict)
    else:
        with pytest.raises(ValueError, match="Expecting"):
            response.json()


def test_a_whole_answer_can_be_cut(client, change):
    """Fewer bytes than its length says."""
    change("failures", truncate=1)
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/v1/completions", json=body(stream=False, stream_options=None))


def test_failures_follow_their_share_and_count(client, change):
    """A share is drawn by seed, the same each time; a count lets the first ones by."""
    outcomes = []
    for _ in range(2):
        change("failures", http_error={"share": 0.5, "after_requests": 5})
        outcomes.append([client.post("/v1/completions", json=body()).status_code for _ in range(25)])
        change("failures", http_error=0)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][:5] == [200] * 5
    assert 4 <= outcomes[0][5:].count(500) <= 16


def test_a_wrong_version_is_told(client, change):
    """/version says something else, and still that it is a stand-in."""
    change("failures", wrong_version="0.1.0")
    assert client.get("/version").json() == {"version": "0.1.0", "simulator": "redline"}


def test_it_can_be_unready(client, running, change):
    """Everything but its own endpoints answers 503 until it is ready."""
    change("failures", not_ready_s=600)
    assert [client.get(path).status_code for path in ("/health", "/v1/models")] == [503, 503]
    assert client.post("/v1/completions", json=body()).status_code == 503
    change("failures", not_ready_s=0)
    assert client.get("/health").status_code == 200


@pytest.mark.slow
def test_it_can_refuse_connections_for_a_while():
    """Refused at first, served later, at the address that was announced; and only at the start."""
    refused = False
    for listen_after_s in (2, 10, 40):  # later only where this machine lets us come too late to be refused
        settings = parse_settings(QUICK | {"failures": {"listen_after_s": listen_after_s}})
        with simulator(settings) as running:
            refused = not answers(running)
            wait_until(partial(answers, running))
            with pytest.raises(DeployError, match="at the start only"):
                running.change(parse_settings({"failures": {"listen_after_s": 3}}, settings))
        if refused:
            break
    assert refused


def test_it_can_crash():
    """After the requests that it lets by the process ends, and whoever asks next is refused."""
    settings = parse_settings(QUICK | {"failures": {"crash": {"after_requests": 2}}})
    with simulator(settings) as running, httpx.Client(base_url=running.base_url, trust_env=False) as client:
        assert [streamed(client, json=body()).done for _ in range(2)] == [True, True]
        with pytest.raises(httpx.TransportError):
            client.post("/v1/completions", json=body())
        wait_until(lambda: not answers(running))
        with pytest.raises(DeployError, match="does not answer"):
            running.log()
