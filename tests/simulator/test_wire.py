"""The request parser: every split of the bytes, both kinds of bodies, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.simulator.wire import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    HttpRequest,
    RefusedBytesError,
    RequestParser,
    answer,
    json_answer,
    stream_head,
)

bodies = st.binary(max_size=200)


def chunked(pieces: list[bytes], trailer: bytes = b"") -> bytes:
    """A body in chunks, empty pieces left out."""
    framed = b"".join(b"%x;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return framed + b"0\r\n" + trailer + b"\r\n"


@st.composite
def requests(draw) -> tuple[bytes, str, bytes]:
    """(Bytes of a request, its path, its body)."""
    path = "/" + draw(st.text("abc/", max_size=8))
    head = f"POST {path}?a=1 HTTP/1.1\r\nHost: x\r\nX-Request-Id: r 1\r\n"
    if draw(st.booleans()):
        body = draw(bodies)
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, path, body
    pieces = draw(st.lists(bodies, max_size=4))
    trailer = draw(st.sampled_from((b"", b"x-sum: 1\r\n")))
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunked(pieces, trailer), path, b"".join(pieces)


def fed(parser: RequestParser, pieces: list[bytes]) -> list[HttpRequest]:
    """What the parser takes when it is fed piece by piece."""
    taken = []
    for piece in pieces:
        parser.feed(piece)
        while (request := parser.take()) is not None:
            taken.append(request)
    return taken


@given(sent=st.lists(requests(), min_size=1, max_size=3), cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_requests_are_the_same_however_they_are_cut(sent, cuts):
    """Any split of the bytes of any pipelined requests gives those requests, and nothing is left."""
    data = b"".join(entry[0] for entry in sent)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parser = RequestParser()
    taken = fed(parser, [data[first:last] for first, last in itertools.pairwise(edges)])
    assert [(request.path, request.body) for request in taken] == [(path, body) for _, path, body in sent]
    assert all(request.headers["x-request-id"] == "r 1" and request.query_value("a") == "1" for request in taken)
    assert parser.buffered_bytes == 0
    assert not parser.begun


@given(request=requests())
def test_byte_by_byte_is_the_same_too(request):
    """The request is taken with its last byte and not before."""
    data, path, body = request
    parser = RequestParser()
    assert fed(parser, [data[index : index + 1] for index in range(len(data) - 1)]) == []
    [taken] = fed(parser, [data[-1:]])
    assert (taken.path, taken.body) == (path, body)


@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_garbage_is_refused_or_waited_for(data, cut):
    """Arbitrary bytes never end in anything but requests, patience or a refusal."""
    try:
        taken, status = fed(RequestParser(), [data[:cut], data[cut:]]), 0
    except RefusedBytesError as error:
        taken, status = [], error.status
    assert status in {0, 400, 413, 431, 501, 505}
    assert all(request.method and request.path for request in taken)


HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n", 400),
        (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\ny: z\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\0\r\n\r\n", 400),
        (HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (HEAD + b"content-length: +1\r\n\r\n", 400),
        (HEAD + b"content-length: -1\r\n\r\n", 400),
        (HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (HEAD + b"content-length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1), 413),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % (BODY_BYTES_MAX + 1), 413),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nabc\r\n", 400),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1" * 2000, 400),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 5000, 431),
        (HEAD + b"a: b\r\n" * 101 + b"\r\n", 431),
        (b"GET /" + b"a" * HEAD_BYTES_MAX, 431),
    ],
)
def test_what_is_ambiguous_or_too_long_is_refused(data, status):
    """Each has its status, and no request comes of it."""
    parser = RequestParser()
    parser.feed(data)
    with pytest.raises(RefusedBytesError) as caught:
        parser.take()
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("head", "keep_alive", "chunked_answers"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", True, True),
        (b"GET / HTTP/1.1\r\nhost: x\r\nConnection: Close\r\n\r\n", False, True),
        (b"GET / HTTP/1.0\r\n\r\n", False, False),
        (b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", False, False),
        (b"\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n", True, True),
    ],
)
def test_the_connection_goes_on_as_http_says(head, keep_alive, chunked_answers):
    """HTTP/1.1 keeps it unless told otherwise; HTTP/1.0 is always answered with the end, and knows no chunks."""
    [request] = fed(RequestParser(), [head])
    assert (request.keep_alive, request.chunked_answers) == (keep_alive, chunked_answers)


def test_an_absolute_target_is_a_path():
    """A proxy's form of the request line means the same."""
    [request] = fed(RequestParser(), [b"GET http://x:1/health?a=2 HTTP/1.1\r\nhost: x\r\n\r\n"])
    assert (request.path, request.query) == ("/health", "a=2")


def test_continue_is_due_once():
    """A client that waits for 100 Continue is told so once, and only while its body is missing."""
    parser = RequestParser()
    parser.feed(HEAD + b"content-length: 2\r\nexpect: 100-continue\r\n\r\n")
    assert parser.take() is None
    assert parser.continue_due()
    assert not parser.continue_due()
    [request] = fed(parser, [b"ok"])
    assert request.body == b"ok"


def test_every_answer_carries_the_mark():
    """No form of answer is without it."""
    for data in (answer(200), answer(404, b"x", keep_alive=False), json_answer(500, {"a": "\ud800"})):
        assert b"\r\nx-redline-simulator: 1\r\n" in data
    for is_chunked in (True, False):
        assert b"\r\nx-redline-simulator: 1\r\n" in stream_head(chunked=is_chunked, keep_alive=True)
