"""TLS: the same streams and the kernel's stamps, with certificates checked as everywhere."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from redline.load.transport import StreamTransport
from redline.model import AudioPrompt, Outcome, Request, StampSource
from tests.load.hostile_server import GOOD, Script, Talk, good, hostile_server
from tests.load.vllm_streams import HEAD
from tests.load.windows import driven, plan_of, request, requests


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost and 127.0.0.1, its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redline test")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate-and-key.pem"
    key_text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(signed.public_bytes(Encoding.PEM) + key_text)
    return path


ServerContext: TypeAlias = Callable[..., ssl.SSLContext]


@pytest.fixture(scope="module")
def server_context(certificate: Path) -> ServerContext:
    """Contexts of servers that present the certificate; `tickets`: session tickets sent after the handshake."""

    def make(tickets: int = 2) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.num_tickets = tickets
        return context

    return make


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, certificate: Path) -> None:
    """The certificate is one that this process trusts, told as operators tell it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


def test_a_certificate_nobody_vouches_for_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, server_context: ServerContext
) -> None:
    """Before the window starts, in words that say what is wrong."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with hostile_server(good, tls=server_context()) as server:
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            driven(plan_of(server.url, requests(1)))
        with (
            httpx.Client(transport=StreamTransport(), trust_env=False) as client,
            pytest.raises(httpx.ConnectError, match="certificate verify failed"),
        ):
            client.get(server.url)


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, server_context: ServerContext
) -> None:
    """Trusted, but not for this address."""
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest, **more: real("127.0.0.1", *rest, **more))
    with hostile_server(good, tls=server_context()) as server:
        url = server.url.replace("127.0.0.1", "other.example")
        with pytest.raises(httpx.ConnectError, match=r"not valid for 'other.example'"):
            driven(plan_of(url, requests(1)))


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("tickets", [0, 2])
def test_streams_over_tls_have_the_kernels_stamps_and_share_connections(
    server_context: ServerContext, tickets: int
) -> None:
    """Session tickets close nothing: 40 requests go over the four connections opened beforehand."""
    seen: list[int] = []

    def script(talk: Talk) -> None:
        while talk.read_request():
            seen.append(talk.number)
            for start in range(0, len(GOOD), 100):
                talk.send(GOOD[start : start + 100])

    with hostile_server(script, tls=server_context(tickets)) as server:
        window = driven(plan_of(server.url, requests(40), in_flight_max=4))
    assert window.outcomes == [Outcome.OK] * 40
    assert window.report.stamps is StampSource.KERNEL
    assert window.report.tls
    assert window.report.connection_count == 4
    assert window.report.resent_count == 0
    assert len(set(seen)) <= 4
    for record in window.records:
        assert record.send_ns <= record.chunk_ns[0] <= record.chunk_ns[-1] <= record.done_ns


@pytest.mark.usefixtures("trusted")
def test_a_large_upload_over_tls_is_taken_whole(server_context: ServerContext) -> None:
    """Many records, sent as the kernel takes them."""
    content = bytes(range(256)) * 12_000
    received: list[bool] = []

    def script(talk: Talk) -> None:
        while talk.read_request():
            received.append(content in talk.body)
            talk.send(b'HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{"text":"a"}')

    upload = Request(0, AudioPrompt(content), 0, False, 0, "salt", stream=False)
    with hostile_server(script, tls=server_context()) as server:
        window = driven(plan_of(server.url, (upload, upload)))
    assert window.outcomes == [Outcome.OK] * 2
    assert received == [True, True]


def says_and_unwraps(data: bytes, *, together: bool) -> Script:
    """Send these and end the TLS session, but leave the connection open."""

    def script(talk: Talk) -> None:
        while talk.read_request():
            assert isinstance(talk.connection, ssl.SSLSocket)
            talk.send(data[: len(HEAD)])
            talk.pause(0.02)
            if together:  # one segment, and one read, for the data and the end of the session
                talk.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
                talk.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            talk.send(data[len(HEAD) :])
            talk.connection.unwrap()
            talk.stall()

    return script


PLAIN = b"data: [DONE]\n\n"


ENDED = (
    (GOOD, Outcome.OK),
    (GOOD[:-5], Outcome.TRUNCATED),
    (b"", Outcome.CONNECTION_ERROR),
    (HEAD[:30], Outcome.TRUNCATED),
    (GOOD[: GOOD.index(b"\n\n\r\n") + 4], Outcome.TRUNCATED),
    (GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), Outcome.OK),
    (b"HTTP/1.0 200 OK\r\n\r\n" + PLAIN, Outcome.SHORT),
)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("together", [False, True])
def test_the_end_of_the_session_is_the_end_of_the_answer(server_context: ServerContext, *, together: bool) -> None:
    """close_notify ends an answer as a closed connection does, though the servers keep the connections open."""
    with ExitStack() as servers:
        scripts = [says_and_unwraps(data, together=together) for data, _ in ENDED]
        urls = [servers.enter_context(hostile_server(script, tls=server_context())).url for script in scripts]
        window = driven(plan_of(urls, requests(len(ENDED)), window_s_max=90.0))
    assert window.outcomes == [outcome for _, outcome in ENDED]
    assert window.result.duration_ns < 60e9, "long before the window's own end"


@pytest.fixture
def plain_listener() -> Iterator[str]:
    """The https URL of a server that does not speak TLS."""

    def script(talk: Talk) -> None:
        talk.connection.recv(100)
        talk.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        talk.stall()

    with hostile_server(script) as server:
        yield server.url.replace("http:", "https:")


def test_a_server_that_does_not_speak_tls_is_a_clear_error(plain_listener: str) -> None:
    """The handshake fails with words, before the window starts."""
    with pytest.raises(httpx.ConnectError, match=r"(?i)ssl"):
        driven(plan_of(plain_listener, requests(1)))


@pytest.mark.usefixtures("trusted")
def test_garbage_inside_a_session_breaks_that_request_only(server_context: ServerContext) -> None:
    """Bytes that are no TLS records end the connection they came on."""

    def script(talk: Talk) -> None:
        while talk.read_request():
            if talk.token == 9:
                assert isinstance(talk.connection, ssl.SSLSocket)
                raw = socket.socket(fileno=talk.connection.detach())
                raw.sendall(b"no TLS record at all")
                raw.close()
                return
            talk.send(GOOD)

    wanted = (request(0), request(1, 9), request(2))
    with hostile_server(script, tls=server_context()) as server:
        window = driven(plan_of(server.url, wanted, in_flight_max=1))
    assert window.outcomes == [Outcome.OK, Outcome.CONNECTION_ERROR, Outcome.OK]
