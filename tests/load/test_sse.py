"""Server-sent events from stamped pieces: the same events however the stream was cut, stamps of the right read."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.load.sse import SseEvent, sse_events

LINES = (
    b"", b"", b"", b"data: one", b"data:two", b"data:  three ", b"data", b"data:", b": comment", b":", b"event: x",
    b"id: 7", b"retry: 3", b"datax: no", b" data: no", b"data : no", "data: ü\u2028\u0085\f\v\x1c".encode(),
    b"data: \xff\xfe", b'data: {"a": "b: c"}', b"data: [DONE]",
)  # fmt: skip
ENDS = (b"\n", b"\r\n", b"\r")


def slow_events(stream: bytes) -> list[tuple[int, str]]:
    """The standard read off word by word: (offset just behind the event's empty line, data) of each event."""
    events: list[tuple[int, str]] = []
    data: list[str] = []
    for found in re.finditer(rb"([^\r\n]*)(\r\n|\r|\n)", stream):
        line = found[1].decode("utf-8", errors="replace")
        name, _, value = line.partition(":")
        if not line:
            if data:
                events.append((found.end(1) + 1, "\n".join(data)))
            data = []
        elif name == "data":
            data.append(value.removeprefix(" "))
    return events


def reads_of(stream: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    """Reads of a stream cut at these places; the stamp of a read is the offset of its end."""
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [(end, stream[start:end]) for start, end in pairwise(edges)]


@given(
    st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(ENDS)), max_size=20),
    st.lists(st.integers(0, 300), max_size=30),
    st.sampled_from((b"", b"data: unfinished", b"\r")),
)
def test_every_split_gives_the_events_that_the_standard_says(
    lines: list[tuple[bytes, bytes]], cuts: list[int], rest: bytes
) -> None:
    """Fields, comments, line ends mixed freely: data, the read that completed it, and whether later ones shared it."""
    stream = b"".join(line + end for line, end in lines) + rest
    reads = reads_of(stream, cuts)
    stamps = [next(stamp for stamp, _ in reads if stamp >= end) for end, _ in slow_events(stream)]
    wanted = [
        SseEvent(stamp, data, position + 1 == len(stamps) or stamps[position + 1] != stamp)
        for position, (stamp, (_, data)) in enumerate(zip(stamps, slow_events(stream), strict=True))
    ]
    assert list(sse_events(reads)) == wanted


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_any_bytes_give_the_same_events_however_they_are_cut(stream: bytes, cuts: list[int]) -> None:
    """Nothing raises, and the network decides nothing."""
    whole = [event.data for event in sse_events([(1, stream)])]
    assert [event.data for event in sse_events(reads_of(stream, cuts))] == whole
    assert whole == [data for _, data in slow_events(stream)]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\f", "\v", "\x1c", "\x1d", "\x1e"])
def test_only_cr_and_lf_end_a_line(character: str) -> None:
    """Python's str.splitlines knows more line ends than the standard; none of them splits an event."""
    stream = f"data: a{character}b\n\n".encode()
    assert [event.data for event in sse_events([(1, stream)])] == [f"a{character}b"]


def test_a_character_that_two_reads_share_is_whole() -> None:
    """UTF-8 is decoded by line, not by read."""
    stream = "data: \U0001f600\n\n".encode()
    for cut in range(len(stream)):
        assert [event.data for event in sse_events(reads_of(stream, [cut]))] == ["\U0001f600"]


def test_only_the_last_event_of_a_read_has_its_own_stamp() -> None:
    """The events that a read completes are told apart; one that it only began belongs to the next."""
    reads = [(1, b"data: a\n\nda"), (2, b"ta: b\n\n: x\n\ndata: c\n\nid: 1\n\n"), (3, b"data: d"), (4, b"\n\n")]
    assert [(event.stamp_ns, event.data, event.last_of_read) for event in sse_events(reads)] == [
        (1, "a", True),
        (2, "b", False),
        (2, "c", True),
        (4, "d", True),
    ]


def test_a_line_in_a_hundred_thousand_reads_is_joined_once() -> None:
    """What waits is kept in pieces: one long event byte by byte is one event."""
    reads = [(stamp, b"x") for stamp in range(100_000)]
    events = list(sse_events([(0, b"data:"), *reads, (100_000, b"\n"), (100_001, b"\n")]))
    assert [(event.stamp_ns, len(event.data)) for event in events] == [(100_001, 100_000)]
