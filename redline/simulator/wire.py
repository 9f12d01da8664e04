"""HTTP/1.x as far as a server needs it: requests out of bytes, bytes of answers. Pure: no socket, no clock.

Written here because it stands in the path of every request, 1,000 of them a second beside 32,000 chunks; it is
strict: what is ambiguous (two lengths, a length and chunks, a folded header) is refused.
Source: RFC 9112.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

HEAD_BYTES_MAX = 64 * 1024
HEADER_COUNT_MAX = 100
BODY_BYTES_MAX = 128 * 1024 * 1024
"""Room for image and audio uploads."""

CHUNK_LINE_BYTES_MAX = 1024
TRAILER_BYTES_MAX = 16 * 1024

MARK = "x-redline-simulator: 1"
"""Stands in every answer and cannot be switched off: what the stand-in says never passes for a measurement."""

CONTINUE = f"HTTP/1.1 100 Continue\r\n{MARK}\r\n\r\n".encode()
LAST_CHUNK = b"0\r\n\r\n"

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([!-~]{1,8192}) HTTP/(\d)\.(\d)")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_DIGITS = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class RefusedBytesError(Exception):
    """What came is no request that is served; answer `status` and close."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One whole request. Header names in lower case; a repeated header's values are joined with a comma."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool
    chunked_answers: bool

    def query_value(self, name: str) -> str:
        """The last value of a query parameter, "" without one."""
        return dict(parse_qsl(self.query, keep_blank_values=True, max_num_fields=50)).get(name, "")


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    target: str
    headers: dict[str, str]
    keep_alive: bool
    minor: int
    length: int | None  # None: chunked


class RequestParser:
    """Requests out of the bytes of one connection, whole ones only, however the bytes are cut.

    `feed` takes bytes, `take` gives the next whole request or None. Both may be called at any time; after a
    RefusedBytesError the connection is of no further use. At most one request's bytes beyond the limits are
    held; bounding what a client pipelines is up to the caller (`buffered_bytes`).
    """

    __slots__ = ("_body", "_buffer", "_chunk_left", "_continue_due", "_head", "_trailer_bytes")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._body = bytearray()
        self._chunk_left = -1  # -1: a size line is next; -2: the trailer
        self._trailer_bytes = 0
        self._continue_due = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes held that belong to no request that was taken."""
        return len(self._buffer) + len(self._body)

    @property
    def begun(self) -> bool:
        """True if part of a request is held."""
        return bool(self._buffer) or self._head is not None

    def feed(self, data: bytes) -> None:
        """More bytes of the connection, in order."""
        self._buffer += data

    def continue_due(self) -> bool:
        """True once if the client waits for `100 Continue` before it sends its body."""
        due, self._continue_due = self._continue_due, False
        return due

    def take(self) -> HttpRequest | None:
        """The next whole request, None if more bytes are needed. Raises RefusedBytesError."""
        if self._head is None:
            self._head = self._take_head()
            if self._head is None:
                return None
        head = self._head
        if head.length is None:
            if not self._take_chunks():
                return None
            body = bytes(self._body)
        else:
            if len(self._buffer) < head.length:
                return None
            body = bytes(self._buffer[: head.length])
            del self._buffer[: head.length]
        self._head, self._body, self._chunk_left, self._continue_due = None, bytearray(), -1, False
        path, _, query = head.target.partition("?")
        return HttpRequest(head.method, path, query, head.headers, body, head.keep_alive, head.minor >= 1)

    def _take_head(self) -> _Head | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112 2.2: empty lines before a request line are ignored
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if end < 0:
            if len(buffer) >= HEAD_BYTES_MAX:
                raise RefusedBytesError(431, f"the request head is longer than {HEAD_BYTES_MAX} bytes")
            first_line_end = buffer.find(b"\n")
            if first_line_end >= 0 and _REQUEST_LINE.fullmatch(bytes(buffer[: max(0, first_line_end - 1)])) is None:
                raise RefusedBytesError(400, "not an HTTP request")
            return None
        head = _parse_head(bytes(buffer[:end]))
        del buffer[: end + 4]
        self._continue_due = head.headers.get("expect", "").lower() == "100-continue" and head.minor >= 1
        return head

    def _take_chunks(self) -> bool:
        """Move chunks from the buffer to the body; True when the last one and its trailer are in."""
        buffer, body = self._buffer, self._body
        position = 0
        try:
            while True:
                if self._chunk_left == -2:
                    position, ended = self._skip_trailer(position)
                    return ended
                if self._chunk_left == -1:
                    line_end = buffer.find(b"\r\n", position, position + CHUNK_LINE_BYTES_MAX)
                    if line_end < 0:
                        if len(buffer) - position >= CHUNK_LINE_BYTES_MAX:
                            raise RefusedBytesError(400, "a chunk's size line is too long")
                        return False
                    self._chunk_left = self._chunk_size(bytes(buffer[position:line_end]))
                    position = line_end + 2
                    continue
                if len(buffer) - position < self._chunk_left + 2:
                    return False
                end = position + self._chunk_left
                if buffer[end : end + 2] != b"\r\n":
                    raise RefusedBytesError(400, "a chunk does not end where its size says")
                body += buffer[position:end]
                position, self._chunk_left = end + 2, -1
        finally:
            del buffer[:position]

    def _chunk_size(self, line: bytes) -> int:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise RefusedBytesError(400, "a chunk has no size")
        size = int(match[1], 16)
        if size + len(self._body) > BODY_BYTES_MAX:
            raise RefusedBytesError(413, f"the body is longer than {BODY_BYTES_MAX} bytes")
        if size == 0:
            self._trailer_bytes = 0
            return -2
        return size

    def _skip_trailer(self, position: int) -> tuple[int, bool]:
        """(Where the buffer was read to, whether the trailer has ended)."""
        buffer = self._buffer
        while True:
            line_end = buffer.find(b"\r\n", position)
            pending = len(buffer) - position if line_end < 0 else line_end + 2 - position
            if self._trailer_bytes + pending > TRAILER_BYTES_MAX:
                raise RefusedBytesError(431, f"the trailer is longer than {TRAILER_BYTES_MAX} bytes")
            if line_end < 0:
                return position, False
            if line_end == position:
                return position + 2, True
            self._trailer_bytes += pending
            position = line_end + 2


def _parse_head(head: bytes) -> _Head:
    """Raises RefusedBytesError."""
    line, _, rest = head.partition(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise RefusedBytesError(400, "not an HTTP request")
    if match[3] != b"1":
        raise RefusedBytesError(505, "only HTTP/1.0 and HTTP/1.1 are served")
    headers = _parse_headers(rest) if rest else {}
    minor = int(match[4])
    if minor >= 1 and "host" not in headers:
        raise RefusedBytesError(400, "a request needs a host header")
    connection = {option.strip() for option in headers.get("connection", "").lower().split(",")}
    keep_alive = minor >= 1 and "close" not in connection
    target = match[2].decode("ascii")
    if not target.startswith("/") and "://" in target:
        rest_of_target = target.partition("://")[2]
        target = "/" + rest_of_target.partition("/")[2]
    return _Head(match[1].decode("ascii"), target, headers, keep_alive, minor, _body_length(headers, minor))


def _parse_headers(text: bytes) -> dict[str, str]:
    lines = text.decode("latin-1").split("\r\n")
    if len(lines) > HEADER_COUNT_MAX:
        raise RefusedBytesError(431, f"more than {HEADER_COUNT_MAX} headers")
    if b"\0" in text or text.count(b"\n") != len(lines) - 1 or text.count(b"\r") != len(lines) - 1:
        raise RefusedBytesError(400, "a header holds a control character")
    headers: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise RefusedBytesError(400, "a header line is malformed")
        name, value = match[1].lower(), match[2]
        if name in headers:
            if name == "content-length" and headers[name] != value:
                raise RefusedBytesError(400, "two lengths of one body")
            if name != "content-length":
                value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _body_length(headers: Mapping[str, str], minor: int) -> int | None:
    """Bytes of the body, None if it comes in chunks."""
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or minor < 1:
            raise RefusedBytesError(400, "a length and chunks, or chunks in HTTP/1.0")
        if coding.lower() != "chunked":
            raise RefusedBytesError(501, "the only transfer coding served is chunked")
        return None
    if length is None:
        return 0
    if _DIGITS.fullmatch(length) is None:
        raise RefusedBytesError(400, "the length of the body is no number")
    if int(length) > BODY_BYTES_MAX:
        raise RefusedBytesError(413, f"the body is longer than {BODY_BYTES_MAX} bytes")
    return int(length)


# --- answers --------------------------------------------------------------------------------------------------


def answer(
    status: int, body: bytes = b"", *, content_type: str = "application/json", keep_alive: bool = True, extra: str = ""
) -> bytes:
    """A whole answer. `extra` is further header lines, each ended by CRLF."""
    connection = "" if keep_alive else "connection: close\r\n"
    kind = f"content-type: {content_type}\r\n" if body else ""
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nserver: redline-simulate\r\n{MARK}\r\n"
        f"content-length: {len(body)}\r\n{kind}{connection}{extra}\r\n"
    )
    return head.encode("latin-1") + body


def json_answer(status: int, content: object, *, keep_alive: bool = True, extra: str = "") -> bytes:
    """A whole answer of compact JSON, as Starlette writes it."""
    body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "backslashreplace")
    return answer(status, body, keep_alive=keep_alive, extra=extra)


def stream_head(*, chunked: bool, keep_alive: bool) -> bytes:
    """The head of an event stream; not chunked (HTTP/1.0) it ends with the connection."""
    coding = "transfer-encoding: chunked\r\n" if chunked else ""
    connection = "" if keep_alive and chunked else "connection: close\r\n"
    return (
        f"HTTP/1.1 200 OK\r\nserver: redline-simulate\r\n{MARK}\r\n"
        f"content-type: text/event-stream; charset=utf-8\r\n{coding}{connection}\r\n"
    ).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One HTTP chunk. Never empty: an empty chunk ends a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
