"""Parsing of stamped bytes: the same answer however the stream was split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.load.timing import RawAnswer, record_of, sse_events
from redline.metrics import e2e_s, itl_s, tpot_s, ttft_s
from redline.model import Outcome, Request
from tests.fakes.scripted_server import event, usage

REQUEST = Request(0, (1, 2, 3), 3, True, 1_000, "salt")
STREAM = event([5], "a") + event([6, 7], "bc", "length") + usage(3, 3) + b"data: [DONE]\n\n"


def split_at(stream: bytes, cuts: list[int]) -> tuple[tuple[int, bytes], ...]:
    """Reads of a stream cut at these places, a microsecond apart."""
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    return tuple((1_000 * (index + 1), piece) for index, piece in enumerate(pieces))


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_every_split_of_a_stream_gives_the_same_record_but_for_its_stamps(cuts: list[int]) -> None:
    """How the network cut the stream changes no token, no text and no outcome."""
    record = record_of(REQUEST, RawAnswer(0, 0, 10**6, 200, split_at(STREAM, cuts)))
    assert record.outcome is Outcome.OK
    assert record.chunk_tokens == (1, 2)
    assert record.output_text == "abc"
    assert record.finish_reason == "length"
    assert (record.prompt_tokens, record.output_tokens) == (3, 3)
    assert record.chunk_ns == tuple(sorted(record.chunk_ns))


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_garbage_never_raises(garbage: bytes, cuts: list[int]) -> None:
    """Any bytes at all become a classified record."""
    cuts = [min(cut, len(garbage)) for cut in cuts]
    record = record_of(REQUEST, RawAnswer(0, 0, 5, 200, split_at(garbage, cuts)))
    assert record.outcome is not Outcome.OK


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@given(cuts=st.lists(st.integers(0, 60), max_size=10))
def test_all_three_line_ends_are_read(line_end: bytes, cuts: list[int]) -> None:
    """LF, CRLF and CR end a line, also when the network splits a CRLF."""
    stream = b": note|data: one|data: two||data:three||x".replace(b"|", line_end)
    cuts = [min(cut, len(stream)) for cut in cuts]
    assert [data for _, data in sse_events(split_at(stream, cuts))] == ["one\ntwo", "three"]


def test_latencies_follow_the_glossary() -> None:
    """TTFT and E2E count from the scheduled instant; TPOT and ITL divide by tokens, not by chunks."""
    reads = ((3_000, event([5], "a")), (7_000, event([6, 7], "bc")), (8_000, usage(3, 3) + b"data: [DONE]\n\n"))
    record = record_of(REQUEST, RawAnswer(0, 1_500, 8_000, 200, reads))
    assert ttft_s(record) == pytest.approx(2e-6)
    assert e2e_s(record) == pytest.approx(6e-6)
    assert tpot_s(record) == pytest.approx(2e-6)
    assert itl_s(record) == pytest.approx((2e-6, 2e-6))


def test_a_single_chunk_has_no_tpot() -> None:
    """TPOT is undefined, not zero, when everything came at once."""
    reads = ((3_000, event([5, 6, 7], "abc") + usage(3, 3) + b"data: [DONE]\n\n"),)
    assert tpot_s(record_of(REQUEST, RawAnswer(0, 0, 3_000, 200, reads))) is None


def test_a_server_that_contradicts_itself_is_a_stream_error() -> None:
    """Usage that disagrees with the chunks' tokens is no valid answer."""
    reads = ((1, event([5], "a") + usage(3, 3) + b"data: [DONE]\n\n"),)
    record = record_of(REQUEST, RawAnswer(0, 0, 3_000, 200, reads))
    assert record.outcome is Outcome.STREAM_ERROR
    assert "usage says 3" in record.detail
