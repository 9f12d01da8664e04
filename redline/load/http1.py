"""HTTP/1.1 on bytes: a request as the bytes that are sent, and where a response ends. Pure.

Source: RFC 9112 (message format, chunked transfer coding, sections 6 and 7) and RFC 9110, section 15.2 (1xx).
"""

from __future__ import annotations

import enum
import functools
import re
from dataclasses import dataclass, field

import httpx

HEAD_BYTES_MAX = 32 * 1024
CHUNK_LINE_BYTES_MAX = 4 * 1024
"""The longest chunk size line, extensions included, and the longest trailer section."""

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/(\d)\.(\d) (\d{3})(?: [^\r\n]*)?")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_LENGTH = re.compile(rb"(\d{1,15})(?:, \1)*")  # the same length said twice is one (RFC 9110, section 8.6)


class MalformedError(ValueError):
    """What came is no HTTP/1.x response. The message says what was found."""


def request_bytes(request: httpx.Request) -> bytes:
    """An httpx request, its body read, as it goes over the wire: request line, headers as given, body.

    httpx has set host and content-length. Raises httpx.RequestNotRead if the body is a stream not yet read.
    """
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%s: %s" % header for header in request.headers.raw]
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.content


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers of one response; `version` is (1, 0) or (1, 1)."""

    version: tuple[int, int]
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    keeps_connection: bool = field(init=False, compare=False)
    """True if the server leaves the connection open after this response."""
    coding: bytes = field(init=False, compare=False)
    length: bytes | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        connection = (self.header(b"connection") or b"").lower()
        keeps = b"close" not in connection and (self.version >= (1, 1) or b"keep-alive" in connection)
        object.__setattr__(self, "keeps_connection", keeps)
        object.__setattr__(self, "coding", (self.header(b"transfer-encoding") or b"").lower())
        object.__setattr__(self, "length", self.header(b"content-length"))

    def header(self, name: bytes) -> bytes | None:
        """All values of a header, lower-case name, joined by commas; None if it is absent."""
        values = [value for key, value in self.headers if key.lower() == name]
        return b", ".join(values) if values else None


@functools.lru_cache(maxsize=128)  # a server's heads differ in their date, once a second
def parse_head(head: bytes) -> ResponseHead:
    """The head of a response, without its final empty line. Raises MalformedError."""
    first, *rest = head.split(b"\n")
    status_line = first.rstrip(b"\r")
    found = _STATUS_LINE.fullmatch(status_line)
    if found is None or found[1] != b"1":
        raise MalformedError(f"no HTTP/1.x status line: {status_line[:80]!r}")
    headers: list[tuple[bytes, bytes]] = []
    for line in rest:
        if headers and line[:1] in (b" ", b"\t"):  # folded: the line before goes on (RFC 9112, section 5.2)
            name, value = headers[-1]
            headers[-1] = (name, value + b" " + line.strip(b" \t\r"))
            continue
        name, colon, value = line.rstrip(b"\r").partition(b":")
        if not colon or not name or name != name.strip():
            raise MalformedError(f"no header: {line[:80]!r}")
        headers.append((name, value.strip(b" \t")))
    return ResponseHead((1, int(found[2])), int(found[3]), tuple(headers))


class State(enum.Enum):
    """Where in a response the reader stands."""

    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNK_LINE = enum.auto()
    CHUNK = enum.auto()
    CHUNK_END = enum.auto()
    TRAILER = enum.auto()
    UNTIL_CLOSE = enum.auto()
    COMPLETE = enum.auto()


_SIZES = {b"%x" % size: size for size in range(1, 4096)}
"""Size lines as servers write them, of the chunks that events come in: looked up, not parsed."""


def _whole_chunks(buffer: bytes, position: int, body: list[bytes]) -> int:
    """Take the whole, plainly written chunks from `position` on: the position after them.

    What is left to the reader's states, one by one, is everything else: long or odd size lines, the last chunk,
    chunks that go on in the next read. Nearly every chunk of a stream is taken here, ten times faster.
    """
    while True:
        line_end = buffer.find(b"\r\n", position, position + 8)
        size = _SIZES.get(buffer[position:line_end]) if line_end > 0 else None
        if size is None:
            return position
        start = line_end + 2
        end = start + size
        if buffer[end : end + 2] != b"\r\n":
            return position
        body.append(buffer[start:end])
        position = end + 2


class ResponseReader:
    """One response, fed read by read; each byte is looked at once, however the stream was split.

    `surplus` holds bytes after the end, which no request asked for.
    """

    __slots__ = ("_left", "_method", "_rest", "_searched", "head", "state", "surplus")

    def __init__(self, method: str = "POST") -> None:
        self.state = State.HEAD
        self.head: ResponseHead | None = None
        self.surplus = b""
        self._method = method
        self._rest = b""
        self._searched = 0
        self._left = 0

    @property
    def complete(self) -> bool:
        """True once the whole response was fed."""
        return self.state is State.COMPLETE

    def feed(self, data: bytes) -> bytes:
        """The body bytes that `data` completed, transfer coding removed. Raises MalformedError, also for excess."""
        buffer = self._rest + data if self._rest else data
        self._rest = b""
        body: list[bytes] = []
        position = 0
        while True:
            if self.state is State.CHUNK_LINE:
                position = _whole_chunks(buffer, position, body)
            if self.state is State.COMPLETE:
                self.surplus += buffer[position:]
                break
            used = self._step(buffer, position, body)
            if used is None:
                self._rest = buffer[position:]
                break
            position = used
        return body[0] if len(body) == 1 else b"".join(body)

    def end(self) -> bool:
        """The server closed the connection: True if that is where the response ends."""
        if self.state is State.UNTIL_CLOSE:
            self.state = State.COMPLETE
        return self.complete

    def _step(self, buffer: bytes, position: int, body: list[bytes]) -> int | None:
        """Move one state on from `position`: the position after it, or None if more bytes are needed."""
        match self.state:
            case State.HEAD:
                return self._read_head(buffer, position)
            case State.CHUNK_LINE:
                return self._read_chunk_line(buffer, position)
            case State.CHUNK_END:
                return self._read_chunk_end(buffer, position)
            case State.TRAILER:
                return self._read_trailer(buffer, position)
            case State.UNTIL_CLOSE:
                if position == len(buffer):
                    return None
                body.append(buffer[position:])
                return len(buffer)
            case _:  # LENGTH, CHUNK
                if position == len(buffer):
                    return None
                piece = buffer[position : position + self._left]
                body.append(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self.state = State.CHUNK_END if self.state is State.CHUNK else State.COMPLETE
                return position + len(piece)

    def _read_head(self, buffer: bytes, position: int) -> int | None:
        found = _HEAD_END.search(buffer, position + self._searched)
        if found is None or found.start() - position > HEAD_BYTES_MAX:
            if len(buffer) - position > HEAD_BYTES_MAX:
                raise MalformedError(f"a response head of more than {HEAD_BYTES_MAX} bytes")
            self._searched = max(len(buffer) - position - 3, 0)  # an end may have begun in the last three bytes
            return None
        self._searched = 0
        head = parse_head(buffer[position : found.start()])
        if 100 <= head.status < 200:
            if head.status == 101:
                raise MalformedError("the server switches protocols, which nobody asked for")
            return found.end()  # an interim response; the real one follows
        self.head = head
        self._choose_framing(head)
        return found.end()

    def _choose_framing(self, head: ResponseHead) -> None:
        coding, length = head.coding, head.length
        if self._method == "HEAD" or head.status in (204, 304):
            self.state = State.COMPLETE
        elif coding:
            if coding != b"chunked":
                raise MalformedError(f"transfer-encoding {coding[:40]!r}, expected chunked")
            self.state = State.CHUNK_LINE
        elif length is None:
            self.state = State.UNTIL_CLOSE
        else:
            found = _LENGTH.fullmatch(length)
            if found is None:
                raise MalformedError(f"content-length {length[:40]!r}, expected one number")
            self._left = int(found[1])
            self.state = State.LENGTH if self._left else State.COMPLETE

    def _read_chunk_line(self, buffer: bytes, position: int) -> int | None:
        end = buffer.find(b"\r\n", position)
        if end == -1 or end - position > CHUNK_LINE_BYTES_MAX:
            if len(buffer) - position > CHUNK_LINE_BYTES_MAX:
                raise MalformedError(f"a chunk size line of more than {CHUNK_LINE_BYTES_MAX} bytes")
            return None
        found = _CHUNK_SIZE.fullmatch(buffer[position:end])
        if found is None:
            raise MalformedError(f"no chunk size: {buffer[position : min(end, position + 40)]!r}")
        self._left = int(found[1], 16)
        self.state = State.CHUNK if self._left else State.TRAILER
        return end + 2

    def _read_chunk_end(self, buffer: bytes, position: int) -> int | None:
        end = buffer[position : position + 2]
        if not b"\r\n".startswith(end):
            raise MalformedError(f"{end!r} after a chunk, expected the end of its line")
        if len(end) < 2:
            return None
        self.state = State.CHUNK_LINE
        return position + 2

    def _read_trailer(self, buffer: bytes, position: int) -> int | None:
        end = buffer.find(b"\r\n", position)
        if end == -1 or end - position > CHUNK_LINE_BYTES_MAX:
            if len(buffer) - position > CHUNK_LINE_BYTES_MAX:
                raise MalformedError(f"a trailer of more than {CHUNK_LINE_BYTES_MAX} bytes")
            return None
        if end == position:
            self.state = State.COMPLETE
        self._left += end + 2 - position  # no chunk is under way: what the trailer's lines add up to
        if self._left > CHUNK_LINE_BYTES_MAX:
            raise MalformedError(f"a trailer of more than {CHUNK_LINE_BYTES_MAX} bytes")
        return end + 2
