"""From stamped bytes to a record: the same answer however the stream was split, and every ending classified."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline.load.exchange import answer_of
from redline.load.timing import DETAIL_CHARS_MAX, RawAnswer, Understood, understand
from redline.metrics import e2e_s, itl_s, tpot_s, ttft_s
from redline.model import AudioPrompt, ChatPrompt, Outcome, Request, TokenCounts, TokenPrompt
from tests.load.vllm_streams import (
    DONE,
    HEAD,
    STREAMS,
    Recorded,
    chat_event,
    chunked,
    completion_event,
    event,
    usage_json,
)

REQUEST = Request(0, TokenPrompt((1, 2, 3)), 3, True, 1_000, "salt")
READ_NS = 1_000


def split_at(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Reads of a stream cut at these places."""
    edges = [0, *sorted(cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def understood(request: Request, reads: list[bytes], *, closed: bool = True, start_ns: int = 0) -> Understood:
    """What reads, READ_NS apart, amount to."""
    stamps = [(READ_NS * (index + 1), True) for index in range(len(reads))]
    raw = RawAnswer(0, 0, 10**6, answer_of(reads, stamps, closed=closed))
    return understand(request, raw, start_ns=start_ns)


def of_events(*events: bytes, request: Request = REQUEST) -> Understood:
    """What a stream of these events, each its own read, amounts to."""
    return understood(request, [HEAD, *(b"%x\r\n%b\r\n" % (len(each), each) for each in events), b"0\r\n\r\n"])


def whole(content: object, request: Request, status: str = "200 OK", kind: str = "application/json") -> Understood:
    """What an answer that was not streamed amounts to."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    return understood(replace(request, stream=False), [head + body])


@pytest.mark.parametrize("recorded", STREAMS, ids=lambda recorded: recorded.name)
@settings(max_examples=50)
@given(data=st.data())
def test_every_split_of_a_stream_gives_the_same_record_but_for_its_stamps(
    recorded: Recorded, data: st.DataObject
) -> None:
    """How the network cut the stream changes no token, no text and no outcome."""
    cuts = data.draw(st.lists(st.integers(0, len(recorded.stream)), max_size=40))
    found = understood(recorded.request, split_at(recorded.stream, cuts))
    record = found.record
    assert (record.outcome, record.detail) == (Outcome.OK, "")
    assert record.chunk_tokens == recorded.chunk_tokens
    assert record.output_text == recorded.text
    assert record.finish_reason == recorded.finish_reason
    assert record.prompt_tokens == 3
    assert found.token_counts is recorded.counts
    assert record.chunk_ns == tuple(sorted(record.chunk_ns))
    assert len(record.chunk_ns) == len(record.chunk_tokens)
    assert found.coalesced_count <= len(record.chunk_ns)


@pytest.mark.parametrize("recorded", STREAMS, ids=lambda recorded: recorded.name)
def test_every_single_cut_gives_the_same_record(recorded: Recorded) -> None:
    """One cut at each place of the stream: none is special."""
    wanted = understood(recorded.request, [recorded.stream]).record
    for cut in range(1, len(recorded.stream)):
        record = understood(recorded.request, [recorded.stream[:cut], recorded.stream[cut:]]).record
        assert replace(record, chunk_ns=wanted.chunk_ns) == wanted
        assert set(record.chunk_ns) <= {READ_NS, 2 * READ_NS}


@pytest.mark.parametrize("recorded", STREAMS, ids=lambda recorded: recorded.name)
def test_a_stream_that_stops_anywhere_is_not_ok(recorded: Recorded) -> None:
    """Whatever is missing before [DONE], the outcome says so; every truncated stream is classified."""
    for length in range(recorded.stream.index(b"[DONE]")):
        outcome = understood(recorded.request, [recorded.stream[:length]]).record.outcome
        assert outcome in (Outcome.TRUNCATED, Outcome.PROTOCOL_ERROR)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10), st.booleans())
def test_garbage_never_raises(garbage: bytes, cuts: list[int], behind_a_head: bool) -> None:
    """Any bytes at all become a classified record."""
    stream = HEAD + chunked(garbage) if behind_a_head else garbage
    record = understood(REQUEST, split_at(stream, [min(cut, len(stream)) for cut in cuts])).record
    assert record.outcome is not Outcome.OK
    assert record.detail


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("choices", "usage", "error", "delta", "text", "token_ids", "completion_tokens", "finish_reason")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=4), st.booleans())
def test_any_json_becomes_a_record(contents: list[object], streamed: bool) -> None:
    """JSON of the wrong shape raises nothing, streamed or not."""
    if streamed:
        found = of_events(*(f"data: {json.dumps(content)}\n\n".encode() for content in contents), DONE)
    else:
        found = whole(contents[0] if contents else None, REQUEST)
    record = found.record
    assert len(record.chunk_ns) == len(record.chunk_tokens)
    assert all(count > 0 for count in record.chunk_tokens)
    assert len(record.detail) <= DETAIL_CHARS_MAX
    record.output_text.encode()


def test_chunk_stamps_count_from_the_start_of_the_window() -> None:
    """The window's zero is taken off each stamp."""
    early = understood(REQUEST, [STREAMS[0].stream]).record
    late = understood(REQUEST, [STREAMS[0].stream], start_ns=400).record
    assert [stamp + 400 for stamp in late.chunk_ns] == list(early.chunk_ns)


def test_latencies_follow_the_glossary() -> None:
    """TTFT and E2E count from the scheduled instant; TPOT and ITL divide by tokens, not by chunks."""
    record = of_events(
        b": 2\n\n",
        completion_event("[5]", "a"),
        *(b": %d\n\n" % number for number in range(4, 7)),
        completion_event("[6,7]", "bc", '"length"'),
        event("text_completion", "", usage_json(3)),
        DONE,
    ).record
    assert record.chunk_ns == (3_000, 7_000)
    assert ttft_s(record) == pytest.approx(2e-6)
    assert e2e_s(record) == pytest.approx(6e-6)
    assert tpot_s(record) == pytest.approx(2e-6)
    assert itl_s(record) == pytest.approx((2e-6, 2e-6))


def test_a_single_chunk_has_no_tpot() -> None:
    """TPOT is undefined, not zero, when everything came at once."""
    record = of_events(completion_event("[5,6,7]", "abc"), event("text_completion", "", usage_json(3)), DONE).record
    assert record.outcome is Outcome.OK
    assert tpot_s(record) is None


def test_chunks_that_share_a_read_are_counted_as_coalesced() -> None:
    """Only the last event of a read has a stamp of its own; the others' are upper bounds."""
    first, second = completion_event("[5]", "a"), completion_event("[6,7]", "bc")
    rest = (event("text_completion", "", usage_json(3)), DONE)
    assert of_events(first, second, *rest).coalesced_count == 0
    assert of_events(first + second, *rest).coalesced_count == 1
    together = understood(REQUEST, [HEAD + chunked(first, second, *rest)])
    assert together.coalesced_count == 2
    assert together.record.chunk_ns == (READ_NS, READ_NS)


@pytest.mark.parametrize(
    ("events", "outcome", "detail"),
    [
        ((completion_event("[5]", "a"), event("", "", usage_json(3)), DONE), Outcome.STREAM_ERROR, "usage says 3"),
        ((completion_event("[5]", "a"), DONE), Outcome.SHORT, "1 of 3 tokens"),
        ((completion_event("[5,6,7]", "abc"),), Outcome.TRUNCATED, "without [DONE]"),
        ((), Outcome.TRUNCATED, "without [DONE]"),
        ((b"data: {not json\n\n", DONE), Outcome.STREAM_ERROR, "not JSON"),
        ((b"data: [1]\n\n", DONE), Outcome.STREAM_ERROR, "not an object"),
        ((b'data: {"error":{"message":"died","code":500}}\n\n', DONE), Outcome.STREAM_ERROR, "died"),
        ((completion_event("[5,6,7]", "abc", '"abort"'), DONE), Outcome.STREAM_ERROR, "finish_reason abort"),
        ((completion_event("[5,6,7]", "abc", '"error"'), DONE), Outcome.STREAM_ERROR, "finish_reason error"),
        ((b"data: " + b"9" * 5_000 + b"\n\n", DONE), Outcome.STREAM_ERROR, "not JSON"),
        ((b"data: " + b"[" * 100_000 + b"\n\n", DONE), Outcome.STREAM_ERROR, "not JSON"),
    ],
)
def test_what_a_stream_says_decides_its_outcome(events: tuple[bytes, ...], outcome: Outcome, detail: str) -> None:
    """Contradictions, errors, aborts and short outputs are told apart, with the reason."""
    record = of_events(*events).record
    assert record.outcome is outcome
    assert detail in record.detail


def test_an_error_after_tokens_keeps_the_tokens() -> None:
    """A stream that dies half-way is a failure, and what came before it is still there to look at."""
    record = of_events(
        completion_event("[5]", "a"), b'data: {"error":{"message":"engine died"}}\n\n', b"data: {]\n\n", DONE
    ).record
    assert (record.outcome, record.chunk_tokens, record.output_text) == (Outcome.STREAM_ERROR, (1,), "a")
    assert "engine died" in record.detail, "the first error is the one that is told"


def test_an_http_error_tells_status_and_body() -> None:
    """What the server wrote is in the detail, cut to its bound."""
    record = whole({"error": {"message": "no such model" + "x" * 1000}}, REQUEST, "404 Not Found").record
    assert record.outcome is Outcome.HTTP_ERROR
    assert record.detail.startswith("HTTP 404: ")
    assert "no such model" in record.detail
    assert len(record.detail) == DETAIL_CHARS_MAX


def test_an_answer_without_a_body_is_truncated() -> None:
    """200 and nothing is no answer."""
    assert whole(b"", REQUEST).record.outcome is Outcome.TRUNCATED


@pytest.mark.parametrize("ids", ["[5,6,7]", "null"])
def test_a_completion_that_is_not_streamed_is_one_chunk(ids: str) -> None:
    """All tokens of a whole answer came with its last byte; usage counts them where ids do not."""
    text = (
        f'{{"object":"text_completion","choices":[{{"index":0,"text":"abc","finish_reason":"length",'
        f'"token_ids":{ids}}}],{usage_json(3)}}}'
    )
    found = whole(text.encode(), REQUEST)
    record = found.record
    assert (record.outcome, record.detail) == (Outcome.OK, "")
    assert (record.chunk_tokens, record.output_text, record.finish_reason) == ((3,), "abc", "length")
    assert record.chunk_ns == (READ_NS,)


def test_a_chat_that_is_not_streamed_is_read() -> None:
    """The message of a whole chat answer is its text."""
    request = Request(0, ChatPrompt((("user", "hi"),)), 3, False, 0, "salt")
    message = {"role": "assistant", "content": "abc"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    content = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    record = whole(content, request).record
    assert (record.outcome, record.output_text, record.prompt_tokens) == (Outcome.OK, "abc", 9)
    assert record.output_tokens == 3


def test_a_transcription_that_is_not_streamed_is_read() -> None:
    """Its text counts as one chunk whose tokens nobody told."""
    request = Request(0, AudioPrompt(b"RIFF"), 0, False, 0, "salt")
    found = whole({"text": " so it goes", "usage": {"type": "duration", "seconds": 3}}, request)
    assert (found.record.outcome, found.record.output_text) == (Outcome.OK, " so it goes")
    assert found.token_counts is TokenCounts.ASSUMED


def test_half_characters_do_not_get_into_a_record() -> None:
    """An emoji that two chunks share is joined; a lone surrogate becomes a replacement, which every store takes."""
    text = chat_event('{"content":"\\ud83d"}'), chat_event('{"content":"\\ude00 \\ud800"}', '"\\udfff"')
    record = of_events(*text, DONE, request=Request(0, ChatPrompt((("user", "hi"),)), 3, False, 0, "salt")).record
    assert record.output_text == "\U0001f600 \ufffd"
    assert record.finish_reason == "\ufffd"


def test_a_failed_exchange_keeps_its_own_reason() -> None:
    """What broke on the wire is told, not what the half answer looks like; its chunks are kept."""
    reads = [STREAMS[0].stream[:500]]
    answer = answer_of(reads, [(READ_NS, True)])
    raw = RawAnswer(0, 0, 9, answer, failure=Outcome.TIMEOUT, detail="too late", replica=2, resent=True)
    record = understand(REQUEST, raw).record
    assert (record.outcome, record.detail, record.replica, record.resent) == (Outcome.TIMEOUT, "too late", 2, True)
    assert record.chunk_tokens == (1,)
