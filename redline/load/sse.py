"""Server-sent events from stamped pieces of a stream. Pure. Source: WHATWG HTML, section 9.2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: the stamp of the read that completed it, and its data lines joined by newlines.

    `last_of_read` is False if the same read completed later events too: the stamp is then an upper bound.
    """

    stamp_ns: int
    data: str
    last_of_read: bool


def sse_events(reads: Iterable[tuple[int, bytes]]) -> Iterator[SseEvent]:
    """The events in order, however the stream was split into reads.

    Comments and other fields are skipped. An event that the stream did not finish is not yielded. Lines end
    with LF, CRLF or CR, mixed freely.
    """
    pending: list[bytes] = []  # the unfinished line, in pieces: joined once, however many reads it took
    data: list[str] = []
    skip_newline = False
    for stamp_ns, piece in reads:
        start = 0
        if skip_newline and piece:
            start = int(piece[:1] == b"\n")  # the LF of a CRLF that two reads share
            skip_newline = False
        completed: list[str] = []
        for line, ended in _lines(piece[start:]):
            if not ended:
                if line:
                    pending.append(line)
                continue
            whole = b"".join([*pending, line]) if pending else line
            pending.clear()
            if not whole:
                if data:
                    completed.append("\n".join(data))
                    data = []
            elif whole.startswith(b"data:"):
                data.append(whole[5:].decode("utf-8", errors="replace").removeprefix(" "))
            elif whole == b"data":
                data.append("")
        if piece:
            skip_newline = piece.endswith(b"\r")
        for position, text in enumerate(completed):
            yield SseEvent(stamp_ns, text, position == len(completed) - 1)


def _lines(piece: bytes) -> Iterator[tuple[bytes, bool]]:
    """(line, whether its end is here), the unfinished rest last.

    bytes.splitlines splits at LF, CR and CRLF and nothing else, which is just what the standard says.
    """
    for line in piece.splitlines(keepends=True):
        stripped = line.rstrip(b"\r\n")
        yield stripped, len(stripped) != len(line)
