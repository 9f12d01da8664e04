"""What servers may do to a client over a real socket, and what must be said of each."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from redline.model import Outcome
from tests.load.hostile_server import GOOD, Talk
from tests.load.vllm_streams import HEAD, completion_event

WINDOW_S = 60.0
OVERRUN_S_MAX = 60.0
"""Far more than a window takes, so that a machine that lets a thread wait fails no test; a server stalls for longer."""
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
BODY = b"data: [DONE]\n\n"
CHUNK = b"%x\r\n%b\r\n"
ONE_TOKEN = CHUNK % (len(completion_event("[7]", "a")), completion_event("[7]", "a"))
EVENTS = GOOD.removeprefix(HEAD)


def plain_events() -> bytes:
    """The events of the good answer without HTTP's chunks."""
    body, rest = b"", EVENTS
    while not rest.startswith(b"0\r\n"):
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


PLAIN = plain_events()


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """What a server does after it read a request, and what must be said about it."""

    name: str
    act: Callable[[Talk], object]
    outcome: Outcome
    detail: str = ""
    chunk_count: int = 0


def says(*pieces: bytes) -> Callable[[Talk], None]:
    """Send these, a moment apart so that each is a read of its own, and go on."""

    def act(talk: Talk) -> None:
        for position, piece in enumerate(pieces):
            if position:
                talk.pause(0.02)
            talk.send(piece)

    return act


def says_and_stalls(*pieces: bytes) -> Callable[[Talk], None]:
    """Send these and nothing more."""

    def act(talk: Talk) -> None:
        says(*pieces)(talk)
        talk.stall()

    return act


def says_and_closes(*pieces: bytes) -> Callable[[Talk], None]:
    """Send these and close."""

    def act(talk: Talk) -> None:
        says(*pieces)(talk)
        talk.connection.shutdown(socket.SHUT_RDWR)

    return act


def says_for_ever(start: bytes, piece: bytes) -> Callable[[Talk], None]:
    """Send until the client has had enough."""

    def act(talk: Talk) -> None:
        talk.send(start)
        for _ in range(1_000_000):
            talk.send(piece)

    return act


def resets(*pieces: bytes) -> Callable[[Talk], None]:
    """Send these, then close without a goodbye."""

    def act(talk: Talk) -> None:
        says(*pieces)(talk)
        talk.pause(0.05)
        talk.reset()

    return act


def byte_by_byte(talk: Talk) -> None:
    """A good answer in segments of one byte."""
    talk.send_bytewise(GOOD)


MISBEHAVIOURS = (
    # heads
    Misbehaviour(
        "a head that never ends",
        says_for_ever(b"HTTP/1.1 200 OK\r\n", b"x-more: header\r\n" * 100),
        Outcome.PROTOCOL_ERROR,
        "response head of more than",
    ),
    Misbehaviour(
        "a head of 100 kB",
        says(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"),
        Outcome.PROTOCOL_ERROR,
        "response head of more than",
    ),
    Misbehaviour("a head byte by byte", byte_by_byte, Outcome.OK, chunk_count=2),
    Misbehaviour("garbage", says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Outcome.PROTOCOL_ERROR, "no HTTP/1.x status line"),
    Misbehaviour("garbage, then the end", says_and_closes(b"\x00" * 99), Outcome.TRUNCATED, "middle of an answer"),
    Misbehaviour("HTTP/2", says(b"HTTP/2 200 \r\n\r\n"), Outcome.PROTOCOL_ERROR, "no HTTP/1.x status line"),
    Misbehaviour(
        "switching protocols",
        says(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"),
        Outcome.PROTOCOL_ERROR,
        "switches protocols",
    ),
    Misbehaviour(
        "interim responses first",
        says(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", GOOD),
        Outcome.OK,
        chunk_count=2,
    ),
    Misbehaviour(
        "header names shouted, repeated and folded",
        says(
            b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\nx-b: one\r\n two\r\n"
            b"CONTENT-TYPE: text/event-stream\r\nTRANSFER-ENCODING: Chunked\r\n\r\n" + EVENTS
        ),
        Outcome.OK,
        chunk_count=2,
    ),
    # bodies
    Misbehaviour(
        "a chunk of 1 GB announced",
        says_and_stalls(HEAD + b"40000000\r\ndata: {}"),
        Outcome.TIMEOUT,
        "no complete answer",
    ),
    Misbehaviour(
        "a chunk size that is none", says(HEAD + ONE_TOKEN, b"zz\r\n"), Outcome.PROTOCOL_ERROR, "no chunk size", 1
    ),
    Misbehaviour(
        "a body that never ends",
        says_for_ever(HEAD, CHUNK % (65_536, b"data: " + b" " * 65_528 + b"\n\n")),
        Outcome.PROTOCOL_ERROR,
        "an answer of more than",
    ),
    Misbehaviour(
        "a body without chunks that never ends",
        says_for_ever(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 65_536),
        Outcome.PROTOCOL_ERROR,
        "an answer of more than",
    ),
    Misbehaviour(
        "chunk extensions and trailers",
        says(HEAD + EVENTS.replace(b"\r\ndata", b";name=x\r\ndata")[:-2] + b"x-sum: 1\r\n", b"x-more: 2\r\n\r\n"),
        Outcome.OK,
        chunk_count=2,
    ),
    Misbehaviour("an end in two reads", says(GOOD[:-3], GOOD[-3:]), Outcome.OK, chunk_count=2),
    Misbehaviour(
        "an answer until the connection closes",
        says_and_closes(b"HTTP/1.0 200 OK\n\n" + PLAIN),
        Outcome.OK,
        chunk_count=2,
    ),
    Misbehaviour(
        "the same, ended half-way",
        says_and_closes(b"HTTP/1.1 200 OK\r\n\r\n" + PLAIN.removesuffix(BODY)),
        Outcome.TRUNCATED,
        "without [DONE]",
        2,
    ),
    Misbehaviour("the same, reset", resets(b"HTTP/1.0 200 OK\r\n\r\n" + PLAIN), Outcome.TRUNCATED, chunk_count=2),
    Misbehaviour("a length that fits", says(JSON_HEAD % len(PLAIN) + PLAIN), Outcome.OK, chunk_count=2),
    Misbehaviour(
        "a length that is too short", says(JSON_HEAD % (len(PLAIN) - 5) + PLAIN), Outcome.TRUNCATED, "without [DONE]", 2
    ),
    Misbehaviour(
        "a length that is too long, closed",
        says_and_closes(JSON_HEAD % (len(PLAIN) + 5) + PLAIN),
        Outcome.TRUNCATED,
        "middle of an answer",
        2,
    ),
    Misbehaviour(
        "a length that is too long, kept open",
        says_and_stalls(JSON_HEAD % (len(PLAIN) + 5) + PLAIN),
        Outcome.TIMEOUT,
        "no complete answer",
        2,
    ),
    Misbehaviour("two answers at once", says(GOOD + GOOD), Outcome.OK, chunk_count=2),
    Misbehaviour("two answers with a length at once", says((JSON_HEAD % len(PLAIN) + PLAIN) * 2), Outcome.OK, "", 2),
    Misbehaviour("surplus in the read of the end", says(GOOD + b"surplus"), Outcome.OK, chunk_count=2),
    Misbehaviour(
        "surplus in the read of the end, after others", says(HEAD, EVENTS + b"surplus"), Outcome.OK, chunk_count=2
    ),
    Misbehaviour("surplus in a read across the end", says(GOOD[:-2], b"\r\nsurplus"), Outcome.OK, chunk_count=2),
    Misbehaviour("surplus afterwards", says(GOOD, b"surplus"), Outcome.OK, chunk_count=2),
    # silences and ends
    Misbehaviour("no answer", says_and_stalls(), Outcome.TIMEOUT, "no complete answer"),
    Misbehaviour("half a head and silence", says_and_stalls(HEAD[:40]), Outcome.TIMEOUT, "no complete answer"),
    Misbehaviour("a head and silence", says_and_stalls(HEAD), Outcome.TIMEOUT, "no complete answer"),
    Misbehaviour("silence in a chunk", says_and_stalls(HEAD + ONE_TOKEN + ONE_TOKEN[:50]), Outcome.TIMEOUT, "", 1),
    Misbehaviour("silence before the last byte", says_and_stalls(GOOD[:-1]), Outcome.TIMEOUT, "", 2),
    Misbehaviour("reset in a stream", resets(HEAD + ONE_TOKEN), Outcome.TRUNCATED, chunk_count=1),
    Misbehaviour("a good answer, then the end", says_and_closes(GOOD), Outcome.OK, chunk_count=2),
    # errors of the server's own
    Misbehaviour(
        "too many requests",
        says(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nslow"),
        Outcome.HTTP_ERROR,
        "HTTP 429: slow",
    ),
    Misbehaviour(
        "unavailable",
        says_and_closes(b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\nbusy"),
        Outcome.HTTP_ERROR,
        "HTTP 503: busy",
    ),
    Misbehaviour("no content", says(b"HTTP/1.1 204 No Content\r\n\r\n"), Outcome.HTTP_ERROR, "HTTP 204"),
    Misbehaviour(
        "a redirect",
        says(b"HTTP/1.1 307 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"),
        Outcome.HTTP_ERROR,
        "HTTP 307",
    ),
)
