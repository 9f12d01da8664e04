"""The first generated token of an answer is seen in the read that brings it, and nothing else is taken for it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline.load.exchange import Exchange, answer_of
from redline.load.first_token import FirstToken, FirstTokenReads
from redline.load.timing import RawAnswer, understand
from redline.model import Request, TokenPrompt
from tests.load.vllm_streams import HEAD, STREAMS, Recorded, chat_event, chunked, completion_event

REQUEST = Request(0, TokenPrompt((1, 2)), 4, True, 0, "salt")


def read_of_first_token(request: Request, reads: list[bytes]) -> int | None:
    """The number of the read in which FirstToken saw it."""
    watch = FirstToken(request)
    return next((number for number, piece in enumerate(reads) if watch.feed(piece)), None)


def read_in_record(request: Request, reads: list[bytes]) -> int | None:
    """The number of the read that the record's first chunk is stamped with: stamps are the numbers of reads."""
    answer = answer_of(reads, [(number, False) for number in range(len(reads))], closed=True)
    chunks = understand(request, RawAnswer(0, 0, 0, answer)).record.chunk_ns
    return chunks[0] if chunks else None


@pytest.mark.parametrize("recorded", STREAMS, ids=lambda recorded: recorded.name)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_it_is_seen_in_the_read_that_the_record_stamps(recorded: Recorded, data: st.DataObject) -> None:
    """However a stream of vLLM is cut into reads, the first token is seen where the record has its first chunk."""
    cuts = sorted(data.draw(st.lists(st.integers(1, len(recorded.stream) - 1), max_size=8, unique=True)))
    places = [0, *cuts, len(recorded.stream)]
    reads = [recorded.stream[start:end] for start, end in itertools.pairwise(places)]
    expected = read_in_record(recorded.request, reads)
    assert expected is not None
    assert read_of_first_token(recorded.request, reads) == expected


def test_byte_by_byte_it_is_the_byte_that_completes_the_event() -> None:
    """Not a byte earlier: an event counts when its empty line is there."""
    stream = HEAD + chunked(b": hello\n\n", completion_event("[]", ""), completion_event("[7]", " a"))
    reads = [stream[place : place + 1] for place in range(len(stream))]
    seen = read_of_first_token(REQUEST, reads)
    assert seen is not None
    assert stream[: seen + 1].endswith(b"\n\n")
    assert stream[: seen + 1].count(b"data:") == 2


@pytest.mark.parametrize(
    "stream",
    [
        HEAD + chunked(chat_event('{"role":"assistant","content":""}')),
        HEAD + chunked(b": keep-alive\n\n", b": keep-alive\n\n"),
        HEAD + chunked(completion_event("[]", "")),
        HEAD + chunked(b'data: {"error": {"message": "out of memory"}}\n\n'),
        HEAD.replace(b"200 OK", b"500 Oh") + chunked(completion_event("[7]", " a")),
        b"not HTTP at all\r\n\r\n",
    ],
    ids=["role alone", "comments", "empty chunk", "error", "HTTP 500", "no HTTP"],
)
def test_what_holds_no_generated_token_is_none(stream: bytes) -> None:
    """A role, a comment, an empty chunk, an error or another status is no first token, and nothing is raised."""
    assert read_of_first_token(REQUEST, [stream[:40], stream[40:], b"more"]) is None


def test_an_answer_that_is_not_streamed_has_no_first_token_on_the_way() -> None:
    """Its tokens all come with its last byte, which is the end and not the first token."""
    body = b'{"choices": [{"text": " a", "token_ids": [7], "finish_reason": "stop"}]}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert read_of_first_token(replace(REQUEST, stream=False), [head + body]) is None


def test_an_exchange_calls_back_once_and_keeps_every_read() -> None:
    """The call comes within the read that brings the token; later reads are a plain list's business."""
    pieces = [HEAD, chunked(completion_event("[7]", " a"))[:-5], chunked(completion_event("[8]", " b"))]
    heard: list[int] = []
    exchange = Exchange(0, b"", 0, lambda _: None)
    exchange.reads = FirstTokenReads(REQUEST, exchange, lambda: heard.append(len(exchange.reads)))
    for piece in pieces:
        exchange.reads.append(piece)
    assert heard == [2]
    assert exchange.reads == pieces
    assert type(exchange.reads) is list
