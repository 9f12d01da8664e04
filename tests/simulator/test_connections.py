"""Connections: kept, pipelined, closed, slow, hostile and encrypted. None of it harms the other clients."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from redline.simulator.process import RunningSimulator
from redline.simulator.wire import HEAD_BYTES_MAX
from tests.simulator.asking import body, streamed, wait_until

HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
COMPLETION = b'{"prompt":"x","max_tokens":4,"stream":true}'


def connected(running: RunningSimulator) -> socket.socket:
    """A socket to the stand-in."""
    address = urlsplit(running.base_url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=60)


def rest(client: socket.socket) -> bytes:
    """Everything until the other end closes."""
    answer = b""
    while piece := client.recv(65536):
        answer += piece
    return answer


def test_a_connection_is_kept(client, running):
    """Many requests of each kind go over one connection."""
    for _ in range(5):
        assert streamed(client, json=body()).done
        assert client.get("/version").status_code == 200
        assert client.post("/v1/completions", json=body(stream=False, stream_options=None)).status_code == 200
    assert running.state().connections == 2  # this client's and the one that asks


def test_an_idle_connection_is_closed(running, change):
    """After keep_alive_s without a request, and not before its first."""
    change("serving", keep_alive_s=0.1)
    with connected(running) as client:
        client.sendall(HEALTH)
        assert rest(client).startswith(b"HTTP/1.1 200 OK")


def test_chunked_bodies_are_read(client):
    """A body of unknown length comes in chunks."""
    pieces = iter([b'{"prompt": [1, 2], "max', b'_tokens": 3, "stre', b'am": true}'])
    assert len(streamed(client, content=pieces).token_events) == 3


def test_large_bodies_are_read(client):
    """An upload of megabytes is taken whole."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4_000_000}}
    request = {"messages": [{"role": "user", "content": [image]}], "max_tokens": 1}
    assert client.post("/v1/chat/completions", json=request).json()["usage"]["prompt_tokens"] == 256


def test_a_waiting_body_is_asked_for(running):
    """Expect: 100-continue is answered before the body comes."""
    with connected(running) as client:
        client.sendall(b"POST /tokenize HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 14\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n")
        client.sendall(b'{"prompt":"a"}')
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests_are_answered_in_order(running):
    """What is sent ahead waits for the answer before it."""
    post = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(COMPLETION), COMPLETION)
    last = b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with connected(running) as client:
        client.sendall(HEALTH + post + HEALTH * 3 + post + last)
        answer = rest(client)
    assert answer.count(b"HTTP/1.1 200 OK") == 7
    assert answer.count(b"[DONE]") == 2
    assert answer.endswith(b'{"version":"0.32.0","simulator":"redline"}')
    assert answer.index(b"[DONE]") < answer.index(b"content-length: 0", answer.index(b"event-stream"))


def test_http_1_0_is_answered_with_the_end(running):
    """No chunks: the stream ends with the connection."""
    head = b"POST /v1/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(COMPLETION)
    with connected(running) as client:
        client.sendall(head + COMPLETION)
        top, _, events = rest(client).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in top
    assert b"connection: close" in top
    assert events.startswith(b"data: {")
    assert events.count(b"\n\n") == 5
    assert events.endswith(b"}\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * HEAD_BYTES_MAX * 2, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n" * 10, 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n", 431),
        (b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    ],
)
def test_hostile_requests_are_refused_and_others_served(client, running, data, status):
    """The refusal arrives although the client sent more than was read, and the next client is served."""
    with connected(running) as hostile:
        hostile.sendall(data)
        answer = rest(hostile)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"x-redline-simulator: 1" in answer
    assert client.get("/health").status_code == 200


def test_slow_and_silent_clients_do_not_hold_up_others(client, running):
    """Half a request, an unread answer and a connection without a word: a stream runs beside them."""
    with connected(running) as half, connected(running), connected(running) as unread:
        half.sendall(HEALTH[:10])
        large = b'{"prompt":"x","max_tokens":30000,"stream":true}'
        unread.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(large) + large)
        assert streamed(client, json=body()).done
        half.sendall(HEALTH[10:])
        assert half.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_does_not_read_is_given_up(running, change):
    """What is held back for it is bounded: the connection ends, and the request counts as aborted."""
    change("timing", ttft_s=0, itl_s=0, tokens_per_chunk=1000)
    large = b'{"prompt":"x","max_tokens":32000,"stream":true,"return_token_ids":true}'
    with connected(running) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        post = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(large) + large
        client.sendall(post * 200)
        wait_until(lambda: any(entry.end == "aborted" for entry in running.log()))
    assert running.state().memory_bytes_max < 200_000_000


def test_a_client_that_leaves_ends_its_stream(client, running, change):
    """Nothing runs after it left, and the log says so."""
    change("timing", itl_s=0.05)
    with client.stream("POST", "/v1/completions", json=body(max_tokens=1000)) as response:
        pieces = response.iter_raw()
        next(pieces)
        assert running.state().running == 1
    wait_until(lambda: running.state().running == 0)
    assert running.log()[0].end == "aborted"


def test_many_connections_come_at_once(running):
    """Three hundred at a time are accepted and answered."""
    clients = [connected(running) for _ in range(300)]
    for entry in clients:
        entry.sendall(HEALTH)
    assert {entry.recv(1000)[:15] for entry in clients} == {b"HTTP/1.1 200 OK"}
    for entry in clients:
        entry.close()
    wait_until(lambda: running.state().connections == 1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """(Certificate, key) that name 127.0.0.1, made for the tests."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=stand-in", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True, timeout=30)
    return certificate, key


@pytest.fixture(scope="module")
def tls_address(certificate) -> Iterator[str]:
    """The address of a stand-in that serves HTTPS."""
    command = [sys.executable, "-m", "redline.simulator.program", "--until-stdin-ends", "--ttft-s=0.005"]
    command += [f"--tls-certificate={certificate[0]}", f"--tls-key={certificate[1]}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[2]
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def test_tls_serves_the_same(tls_address, certificate):
    """Streams, large uploads and kept connections go over TLS too."""
    assert tls_address.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with httpx.Client(base_url=tls_address, verify=context, trust_env=False) as client:
        for _ in range(3):
            assert len(streamed(client, json=body()).token_events) == 8
        content = client.post("/tokenize", json={"prompt": "word " * 200_000}).json()
        assert content["count"] == 200_000
        assert client.get("/version").headers["x-redline-simulator"] == "1"


def test_tls_survives_what_is_no_tls(tls_address, certificate):
    """Plain text on the encrypted port ends that connection only."""
    address = urlsplit(tls_address)
    with closing(socket.create_connection((address.hostname or "", address.port or 0), timeout=60)) as client:
        client.sendall(HEALTH)
        try:
            answer = rest(client)
        except ConnectionResetError:
            answer = b""
    assert b"200 OK" not in answer
    context = ssl.create_default_context(cafile=str(certificate[0]))
    assert httpx.get(f"{tls_address}/health", verify=context, trust_env=False).status_code == 200
