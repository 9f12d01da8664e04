"""The engine's sockets as an ordinary httpx transport: the same answers and the same errors as stock httpx."""

from __future__ import annotations

import gzip
import http.server
import json
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from redline.load.exchange import Exchange
from redline.load.transport import EpollLoop, Pool, StreamTransport, connect_all, resolve
from tests.fakes.local_server import LocalServer
from tests.load.hostile_server import GOOD, Talk, hostile_server
from tests.load.windows import open_descriptors

TEXT = json.dumps({"text": "ü" * 3000}, ensure_ascii=False).encode()


class Answers(http.server.BaseHTTPRequestHandler):
    """What a well-behaved HTTP/1.1 server of the standard library answers, by path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer by path; a body that was sent comes back."""
        length = int(self.headers.get("content-length", "0"))
        sent = self.rfile.read(length)
        match self.path.partition("?")[0]:
            case "/gzip":
                self._say(200, gzip.compress(TEXT), {"content-encoding": "gzip"})
            case "/echo":
                told = {"method": self.command, "type": self.headers.get("content-type"), "path": self.path}
                self._say(200, json.dumps(told).encode() + sent, {"x-twice": "1", "X-Twice": "2"})
            case "/chunked":
                self.send_response(200)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for piece in (TEXT[:1000], TEXT[1000:]):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")
            case "/redirect":
                self._say(302, b"", {"location": "/echo"})
            case "/none":
                self.send_response(204)
                self.end_headers()
            case "/closing":
                self._say(200, b"bye", {"connection": "close"})
            case _:
                self._say(404, b"no such page", {})

    do_POST = do_HEAD = do_PUT = do_GET  # noqa: N815 - the standard library's names

    def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """The base URL of such a server."""
    with LocalServer(Answers) as server:
        yield server.url


@pytest.fixture
def client(server_url: str) -> Iterator[httpx.Client]:
    """An httpx client over the engine's sockets."""
    with httpx.Client(transport=StreamTransport(), base_url=server_url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "values"),
    [
        ("GET", "/echo?a=b%20c&d=é", {}),
        ("POST", "/echo", {"json": {"a": ["é", 1]}}),
        ("POST", "/echo", {"content": b"\x00\xff" * 200_000}),
        ("POST", "/echo", {"data": {"model": "m"}, "files": {"file": ("a.wav", b"RIFF" * 999)}}),
        ("PUT", "/echo", {"content": iter([b"one", b"two"]), "headers": {"content-length": "6"}}),
        ("HEAD", "/echo", {}),
        ("GET", "/gzip", {}),
        ("GET", "/chunked", {}),
        ("GET", "/redirect", {}),
        ("GET", "/none", {}),
        ("GET", "/closing", {}),
        ("GET", "/missing", {}),
    ],
)
def test_it_agrees_with_stock_httpx(
    client: httpx.Client, server_url: str, method: str, path: str, values: dict[str, Any]
) -> None:
    """Status, headers and content are those of httpx's own transport; redirects stay as they came."""
    if "files" in values:
        values = values | {"headers": {"content-type": "multipart/form-data; boundary=same"}}
    content = list(values["content"]) if path == "/echo" and method == "PUT" else None
    with httpx.Client(base_url=server_url, trust_env=False) as stock:
        wanted = stock.request(method, path, **(values | ({"content": iter(content)} if content else {})))
    found = client.request(method, path, **(values | ({"content": iter(content)} if content else {})))
    assert found.status_code == wanted.status_code
    assert found.content == wanted.content
    assert found.text == wanted.text
    without_date = [
        [(name.lower(), value) for name, value in each.headers.raw if name.lower() != b"date"]
        for each in (found, wanted)
    ]
    assert without_date[0] == without_date[1]
    assert found.http_version == wanted.http_version
    assert found.is_redirect is wanted.is_redirect


def test_redirects_are_followed_if_asked_for(client: httpx.Client) -> None:
    """It is a transport: what httpx does above it works."""
    response = client.get("/redirect", follow_redirects=True)
    assert response.status_code == 200
    assert [each.status_code for each in response.history] == [302]


def test_a_connection_is_kept_and_used_again() -> None:
    """Ten requests, one connection; the stamps of a body's reads are told."""
    ports: set[int] = set()

    def script(talk: Talk) -> None:
        while talk.read_request():
            ports.add(talk.connection.getpeername()[1])
            talk.send(GOOD)

    with hostile_server(script) as server, httpx.Client(transport=StreamTransport(), trust_env=False) as client:
        responses = [client.get(server.url) for _ in range(10)]
    assert len(ports) == 1
    assert all(response.text.endswith("[DONE]\n\n") for response in responses)
    stamps = [stamp for response in responses for stamp, _ in response.extensions["stamps"]]
    assert stamps == sorted(stamps)


def test_a_connection_that_the_server_closed_is_replaced(server_url: str, client: httpx.Client) -> None:
    """Asked to close or closed while idle: the next request does not notice."""
    assert client.get("/closing").text == "bye"
    assert client.get("/closing").text == "bye"

    def script(talk: Talk) -> None:
        if talk.read_request():
            talk.send(GOOD)

    with hostile_server(script) as server:
        assert [client.get(server.url).status_code for _ in range(5)] == [200] * 5


@pytest.mark.parametrize(
    ("pieces", "error", "timeout_s"),
    [
        ((), httpx.ReadTimeout, 0.1),
        ((GOOD[:50],), httpx.ReadTimeout, 0.1),
        ((GOOD[:-5],), httpx.ReadTimeout, 0.1),
        ((b"garbage\r\n\r\n",), httpx.RemoteProtocolError, 60.0),
        ((GOOD[:-5], None), httpx.RemoteProtocolError, 60.0),
        ((None,), httpx.ReadError, 60.0),
    ],
)
def test_what_goes_wrong_is_an_httpx_error(
    pieces: tuple[bytes | None, ...], error: type[httpx.TransportError], timeout_s: float
) -> None:
    """Timeouts, garbage and early ends are told as httpx tells them; None closes."""

    def script(talk: Talk) -> None:
        while talk.read_request():
            for piece in pieces:
                if piece is None:
                    talk.connection.shutdown(socket.SHUT_RDWR)
                    return
                talk.send(piece)

    transport = StreamTransport()
    with (
        hostile_server(script) as server,
        httpx.Client(transport=transport, trust_env=False, timeout=timeout_s) as client,
        pytest.raises(error) as caught,
    ):
        client.get(server.url)
    assert str(caught.value)
    assert caught.value.request.url == server.url


def test_a_slow_but_steady_answer_is_waited_for_until_the_transports_own_bound() -> None:
    """httpx's read timeout counts from the last read; `timeout_s` bounds the whole."""
    slow, answered = 1, 0

    def script(talk: Talk) -> None:
        while talk.read_request():
            talk.send(GOOD[:200])
            for start in range(200, 320, 20):
                talk.pause(0.04 * slow)
                talk.send(GOOD[start : start + 20])
            talk.send(GOOD[320:])

    with hostile_server(script) as server:
        for slow in (1, 10, 50):  # slower only where this machine lets the server wait for longer than it means to
            with httpx.Client(transport=StreamTransport(), trust_env=False, timeout=0.15 * slow) as client:
                try:
                    answered = client.get(server.url).status_code
                except httpx.ReadTimeout:
                    continue
                break
        assert answered == 200
        slow = 1
        with (
            httpx.Client(transport=StreamTransport(timeout_s=0.1), trust_env=False) as client,
            pytest.raises(httpx.ReadTimeout, match=r"no complete answer within 0\.1 s"),
        ):
            client.get(server.url)


def test_nobody_listening_is_a_connect_error() -> None:
    """Refused, and unknown by name."""
    with socket.socket() as bound, httpx.Client(transport=StreamTransport(), trust_env=False) as client:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        port = bound.getsockname()[1]
        with pytest.raises(httpx.ConnectError, match="refused"):
            client.get(f"http://127.0.0.1:{port}")
        with pytest.raises(httpx.ConnectError, match=r"nowhere\.invalid cannot be resolved"):
            client.get("http://nowhere.invalid")


def test_a_closed_client_leaves_no_descriptor(server_url: str) -> None:
    """Sockets, timers and the epoll are given back, after answers and after errors."""
    before = open_descriptors()
    for path in ("/echo", "/closing"):
        with httpx.Client(transport=StreamTransport(), base_url=server_url, trust_env=False) as client:
            client.get(path)
            with pytest.raises(httpx.ConnectError):
                client.get("http://127.0.0.1:1")
    assert open_descriptors(before) == before


def test_a_name_with_one_family_listening_is_found() -> None:
    """`localhost` may be ::1 first; the server that listens on 127.0.0.1 only is reached all the same."""

    def script(talk: Talk) -> None:
        while talk.read_request():
            talk.send(GOOD)

    for host in {str(found[4][0]) for found in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}:
        with (
            hostile_server(script, host=host) as server,
            httpx.Client(transport=StreamTransport(), trust_env=False) as client,
        ):
            assert client.get(f"http://localhost:{server.port}").status_code == 200
            assert client.get(server.url).status_code == 200


def test_a_name_of_two_addresses_leads_to_the_one_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address of the name refuses; the second is taken, and the first if none answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        assert resolve(httpx.URL(f"http://two.example:{port}")).sockaddr == ("127.0.0.1", port)
    assert resolve(httpx.URL(f"http://two.example:{port}")).sockaddr == ("127.0.0.2", port)


def test_idle_connections_are_dropped_before_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sweep and when one is about to be used; those used lately stay."""

    def script(talk: Talk) -> None:
        while talk.read_request():
            talk.send(GOOD)

    loop = EpollLoop()
    with hostile_server(script) as server:
        pool = Pool(loop, resolve(httpx.URL(server.url)))
        connect_all(loop, [pool], [5], 60.0)
        assert (pool.idle_count, pool.open_count) == (5, 5)
        pool.sweep()
        assert pool.open_count == 5
        monkeypatch.setattr("redline.load.transport.IDLE_S_MAX", 0.05)
        threading.Event().wait(0.06)
        pool.launch(Exchange(0, b"GET / HTTP/1.1\r\n\r\n", 0, print))
        assert (pool.idle_count, pool.open_count) == (5, 6), "none of the stale ones is used"
        monkeypatch.setattr("redline.load.transport.SWEPT_MAX", 3)
        pool.sweep()
        assert (pool.idle_count, pool.open_count) == (2, 3), "a few at a time"
        pool.sweep()
        assert (pool.idle_count, pool.open_count) == (0, 1)
        pool.close()
        assert pool.open_count == 0
    loop.close()


def test_a_client_that_asks_now_and_then_keeps_no_stale_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """What went stale between two requests is closed before the second is sent."""
    monkeypatch.setattr("redline.load.transport.IDLE_S_MAX", 0.01)
    before = open_descriptors()
    asked: list[int] = []

    def script(talk: Talk) -> None:
        while talk.read_request():
            asked.append(talk.number)
            talk.send(GOOD)

    with hostile_server(script) as server, httpx.Client(transport=StreamTransport(), trust_env=False) as client:
        for _ in range(6):
            assert client.get(server.url).status_code == 200
            threading.Event().wait(0.02)
        assert len(set(asked)) == 6
        assert open_descriptors(before + 4) <= before + 4, "the listener, the epoll, one connection at both ends"


def test_what_is_buried_is_closed_at_the_end_of_the_turn() -> None:
    """A descriptor is not given to a new socket while events of this turn may still mean the old one."""
    loop = EpollLoop()
    gone, keeper = socket.socketpair()
    calls: list[int] = []

    def handle(_: int) -> None:
        calls.append(1)
        fd = gone.fileno()
        loop.bury(gone)
        with socket.socket() as new:
            assert new.fileno() != fd

    loop.watch(gone.fileno(), select.EPOLLIN, handle)
    keeper.send(b"x")
    loop.run_until(lambda: bool(calls))
    assert gone.fileno() == -1
    keeper.close()
    loop.close()
