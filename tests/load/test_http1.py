"""Where a response ends: the same head, body and end however the network cut it, and bounded work for any bytes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline.load.http1 import (
    CHUNK_LINE_BYTES_MAX,
    HEAD_BYTES_MAX,
    MalformedError,
    ResponseReader,
    parse_head,
    request_bytes,
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A response and what it says; `until_close` if only the end of the connection ends it."""

    name: str
    method: str
    stream: bytes
    status: int
    body: bytes
    keeps: bool
    until_close: bool = False
    surplus: bytes = b""


CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
RESPONSES = (
    Recorded(
        "chunked",
        "POST",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
        200,
        b"abc0123456789abcdef",
        keeps=True,
    ),
    Recorded(
        "chunk-extensions-and-trailers",
        "POST",
        b"HTTP/1.1 200 OK\r\n"
        + CHUNKED
        + b'3;name=value;q="a;b"\r\nabc\r\n'
        + b"0A \t;x\r\n0123456789\r\n000;last\r\nx-digest: 1\r\nx-more: 2\r\n\r\n",
        200,
        b"abc0123456789",
        keeps=True,
    ),
    Recorded(
        "chunks-that-look-like-ends",
        "POST",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"7\r\n0\r\n\r\n\r\n\r\n2\r\n\r\n\r\n0\r\n\r\n",
        200,
        b"0\r\n\r\n\r\n\r\n",
        keeps=True,
    ),
    Recorded(
        "length",
        "POST",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
        404,
        b"hello",
        keeps=True,
    ),
    Recorded("length-zero", "POST", b"HTTP/1.1 200 \r\ncontent-length:0\r\n\r\n", 200, b"", keeps=True),
    Recorded(
        "length-said-twice",
        "POST",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
        keeps=True,
    ),
    Recorded(
        "until-close",
        "POST",
        b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\ndata: a\n\n\r\n\r\nrest",
        200,
        b"data: a\n\n\r\n\r\nrest",
        keeps=True,
        until_close=True,
    ),
    Recorded("http-1.0", "POST", b"HTTP/1.0 200 OK\nserver: x\n\nrest", 200, b"rest", keeps=False, until_close=True),
    Recorded(
        "http-1.0-kept",
        "POST",
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\ncontent-length: 1\r\n\r\nx",
        200,
        b"x",
        keeps=True,
    ),
    Recorded(
        "closed-by-header",
        "POST",
        b"HTTP/1.1 200 OK\r\nCONNECTION: foo, Close\r\ncontent-length: 1\r\n\r\nx",
        200,
        b"x",
        keeps=False,
    ),
    Recorded(
        "continue-and-early-hints-first",
        "POST",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        200,
        b"ok",
        keeps=True,
    ),
    Recorded("no-content", "POST", b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n", 204, b"", keeps=True),
    Recorded("not-modified", "GET", b"HTTP/1.1 304 X\r\ncontent-length: 99\r\n\r\n", 304, b"", keeps=True),
    Recorded("head", "HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", 200, b"", keeps=True),
    Recorded(
        "two-at-once",
        "POST",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb",
        200,
        b"a",
        keeps=True,
        surplus=b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb",
    ),
)


def read(recorded: Recorded, pieces: list[bytes]) -> ResponseReader:
    """A reader that was fed these pieces, checked against what the response says."""
    reader = ResponseReader(recorded.method)
    body = b"".join(reader.feed(piece) for piece in pieces)
    assert reader.complete is not recorded.until_close
    assert reader.end(), "the end of the connection ends it, or it had ended"
    assert reader.head is not None
    assert (reader.head.status, reader.head.keeps_connection) == (recorded.status, recorded.keeps)
    assert body == recorded.body
    assert reader.surplus == recorded.surplus
    return reader


@pytest.mark.parametrize("recorded", RESPONSES, ids=lambda recorded: recorded.name)
@settings(max_examples=40)
@given(data=st.data())
def test_every_split_gives_the_same_response(recorded: Recorded, data: st.DataObject) -> None:
    """Head, body, end and surplus do not depend on how the network cut the stream."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(recorded.stream)), max_size=30)))
    edges = [0, *cuts, len(recorded.stream)]
    read(recorded, [recorded.stream[start:end] for start, end in pairwise(edges)])


@pytest.mark.parametrize("recorded", RESPONSES, ids=lambda recorded: recorded.name)
def test_byte_by_byte_gives_the_same_response(recorded: Recorded) -> None:
    """One byte a read is only the finest cut."""
    whole = read(recorded, [recorded.stream])
    single = read(recorded, [bytes([byte]) for byte in recorded.stream])
    assert single.head == whole.head


@pytest.mark.parametrize("recorded", RESPONSES, ids=lambda recorded: recorded.name)
def test_no_beginning_of_a_response_is_complete(recorded: Recorded) -> None:
    """A response is complete at its last byte and not before."""
    end = len(recorded.stream) - len(recorded.surplus)
    for length in range(end):
        reader = ResponseReader(recorded.method)
        reader.feed(recorded.stream[:length])
        assert not reader.complete


def feed_all(reader: ResponseReader, pieces: Iterable[bytes]) -> None:
    """Feed piece by piece, all of it or until it is refused."""
    for piece in pieces:
        reader.feed(piece)


def single_bytes(stream: bytes) -> Iterable[bytes]:
    """The stream in pieces of one byte."""
    return (bytes([byte]) for byte in stream)


FRAGMENTS = (
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\r\n", b"HTTP/2 200\r\n", b"transfer-encoding: chunked\r\n", b"\r\n",
    b"content-length: 3\r\n", b"content-length: -1\r\n", b"content-length: 3, 4\r\n", b"5\r\n", b"0\r\n", b"abc",
    b"\n", b"\r", b" ", b":", b"ffffffffffffffffffff\r\n", b"0x5\r\n", b"+3\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
    b"\x00", b"\xff", b"\r\n\r\n", b"x: y\r\n", b" folded\r\n", b"transfer-encoding: gzip\r\n",
)  # fmt: skip


@given(
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=20)), max_size=25),
    st.integers(1, 50),
    st.sampled_from(("POST", "HEAD")),
)
def test_garbage_raises_nothing_but_malformed(fragments: list[bytes], step: int, method: str) -> None:
    """Any bytes are read or refused as malformed, and never give more body than was fed."""
    stream = b"".join(fragments)
    reader = ResponseReader(method)
    body = b""
    with suppress(MalformedError):
        for start in range(0, len(stream), step):
            body += reader.feed(stream[start : start + step])
    reader.end()
    assert len(body) + len(reader.surplus) <= len(stream)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12), st.data())
def test_a_split_changes_neither_body_nor_refusal(fragments: list[bytes], data: st.DataObject) -> None:
    """What is malformed in one piece is malformed in many, and the other way round."""

    def outcome(pieces: list[bytes]) -> tuple[bool, bytes, bool]:
        reader = ResponseReader()
        body = b""
        try:
            for piece in pieces:
                body += reader.feed(piece)
        except MalformedError:
            return True, b"", False
        return False, body, reader.complete

    stream = b"".join(fragments)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    assert outcome([stream]) == outcome([stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])])


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1\t200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nname : space before the colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: onto nothing\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"-1\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"0x10\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"5 5\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"5\n\r\nabcde\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"ffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"3\r\nabcd\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"3\r\nabc0\r\n",
    ],
)
def test_what_is_no_http_is_refused(stream: bytes) -> None:
    """Each is refused with what was found, and with the same words byte by byte."""
    with pytest.raises(MalformedError) as at_once:
        ResponseReader().feed(stream)
    with pytest.raises(MalformedError) as in_bytes:
        feed_all(ResponseReader(), single_bytes(stream))
    assert str(at_once.value)
    assert str(in_bytes.value).split(":")[0].split("'")[0] == str(at_once.value).split(":")[0].split("'")[0]


def test_a_chunked_answer_wins_over_a_length() -> None:
    """RFC 9112, section 6.3: transfer-encoding overrides content-length."""
    reader = ResponseReader()
    assert reader.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n" + CHUNKED + b"2\r\nok\r\n0\r\n\r\n") == b"ok"
    assert reader.complete


def test_headers_are_found_whatever_their_case_and_joined_if_there_are_several() -> None:
    """Names have no case, duplicates are one list, and a folded line belongs to the one before it."""
    head = parse_head(
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:2\r\nx-long: one\r\n two\r\n\tthree: four\r\nEMPTY:\r\nset: a: b"
    )
    assert head.header(b"x-a") == b"1, 2"
    assert head.header(b"x-long") == b"one two three: four"
    assert head.header(b"empty") == b""
    assert head.header(b"set") == b"a: b"
    assert head.header(b"absent") is None


def test_an_endless_head_ends_after_its_bound() -> None:
    """200 kB of header, one byte at a time: refused just after the bound, each byte looked at once."""
    reader = ResponseReader()
    stream = b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000
    feed_all(reader, single_bytes(stream[:HEAD_BYTES_MAX]))
    assert len(reader._rest) == HEAD_BYTES_MAX, "what is kept is what was fed, once"
    with pytest.raises(MalformedError, match="head"):
        reader.feed(b"a")


def test_a_head_of_just_the_bound_is_taken_however_it_comes() -> None:
    """The bound holds for the head, not for what was read with it."""
    start = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx: "
    head = start + b"a" * (HEAD_BYTES_MAX - len(start))
    stream = head + b"\r\n\r\nabc"
    reader = ResponseReader()
    assert reader.feed(stream) == b"abc"
    reader = ResponseReader()
    assert reader.feed(head[:-1]) + reader.feed(head[-1:]) + reader.feed(b"\r\n\r\nabc") == b"abc"
    longer = stream.replace(b"x: ", b"x: a")
    with pytest.raises(MalformedError):
        ResponseReader().feed(longer)


def test_an_endless_chunk_line_and_an_endless_trailer_are_refused() -> None:
    """Neither an extension nor a trailer section, of one line or many, may go on for ever."""
    head = b"HTTP/1.1 200 OK\r\n" + CHUNKED
    for ending, message in (
        (b"5;" + b"x" * 200_000, "chunk size line"),
        (b"0\r\n" + b"x" * 200_000, "trailer"),
        (b"0\r\n" + b"a: b\r\n" * 30_000, "trailer"),
    ):
        for step in (1, 1_000, 300_000):
            reader = ResponseReader()
            reader.feed(head)
            pieces = iter([ending[start : start + step] for start in range(0, len(ending), step)])
            with pytest.raises(MalformedError, match=message):
                feed_all(reader, pieces)
            unread = sum(len(piece) for piece in pieces)
            assert len(ending) - unread <= CHUNK_LINE_BYTES_MAX + 10 + step


def test_200_kb_in_reads_of_one_byte_are_taken_without_piling_up() -> None:
    """A chunked body byte by byte: what waits to be understood never grows beyond one line."""
    body = b"x" * 20_000
    stream = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [body] * 10) + b"0\r\n\r\n"
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\n" + CHUNKED)
    taken = kept = 0
    for byte in stream:
        taken += len(reader.feed(bytes([byte])))
        kept = max(kept, len(reader._rest))
    assert reader.complete
    assert taken == 200_000
    assert kept < 8


def test_many_small_chunks_in_one_read_are_all_taken() -> None:
    """The depth of the call stack does not grow with the number of chunks."""
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\n" + CHUNKED)
    assert reader.feed(b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n") == b"x" * 50_000
    assert reader.complete


def test_a_request_is_what_httpx_would_send() -> None:
    """Request line, the headers httpx set and the body, for JSON and for a form."""
    request = httpx.Request("POST", "http://[::1]:8000/v1/a%20b?x=%C3%A9", headers={"x-a": "1"}, json={"a": "é"})
    head, body = request_bytes(request).split(b"\r\n\r\n", 1)
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/a%20b?x=%C3%A9 HTTP/1.1"
    assert {b"Host: [::1]:8000", b"Content-Type: application/json", b"x-a: 1"} <= set(lines[1:])
    assert b"Content-Length: %d" % len(body) in lines
    assert body == '{"a":"é"}'.encode()
    streamed = httpx.Request("POST", "http://a/", files={"file": b"x"})
    with pytest.raises(httpx.RequestNotRead):
        request_bytes(streamed)
    streamed.read()
    assert request_bytes(streamed).endswith(b"--\r\n")
