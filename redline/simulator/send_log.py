"""The true send times: what a client's stamps are compared with. Bounded: the oldest requests go first.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of one Linux host share.

JSON, `{"dropped": 0, "requests": [{...}]}`, one object a generation request, in the order of their ends:

    id              the client's x-request-id header, else the request's serial number
    first_byte_ns   the read that held the request's first byte
    received_ns     the read that held its last byte; everything due counts from here
    end_ns, end     when and how it ended: "finished", "aborted" (the client left), "failed: NAME", "open"
    due_ns          when each chunk with tokens was due
    sent_ns         the clock immediately before each of those was handed to send(2); an answer that is not
                    streamed has one entry

Binary, little-endian, for large logs (`redline.simulator.process.read_binary_log` reads it into numpy):

    8 bytes         b"RLSIMLG1"
    3 x int64       requests, chunks, requests dropped
    requests x 152  id (96 bytes, UTF-8, zero-padded, cut there), end (16 bytes, the same), then int64:
                    first_byte_ns, received_ns, end_ns, position of the first chunk, number of chunks
    chunks x int64  due_ns
    chunks x int64  sent_ns
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from collections import deque
from collections.abc import Iterator

MAGIC = b"RLSIMLG1"
HEADER = struct.Struct("<8s3q")
REQUEST = struct.Struct("<96s16s5q")
CHUNKS_PER_REQUEST_MAX = 256
"""On average over the log, at its bound: a bound on memory that single long requests do not reach."""

FINISHED = "finished"
ABORTED = "aborted"
OPEN = "open"


class SendRecord:
    """The times of one request; 16 bytes a chunk."""

    __slots__ = ("due_ns", "end", "end_ns", "first_byte_ns", "received_ns", "request_id", "sent_ns")

    def __init__(self, request_id: str, first_byte_ns: int, received_ns: int) -> None:
        self.request_id = request_id
        self.first_byte_ns = first_byte_ns
        self.received_ns = received_ns
        self.end_ns = 0
        self.end = OPEN
        self.due_ns = array("q")
        self.sent_ns = array("q")


class SendLog:
    """Records of requests, open ones and the last `requests_max` that ended."""

    def __init__(self, requests_max: int) -> None:
        self._requests_max = requests_max
        self._chunks_max = requests_max * CHUNKS_PER_REQUEST_MAX
        self._ended: deque[SendRecord] = deque()
        self._ended_chunks = 0
        self._open: dict[int, SendRecord] = {}
        self._dropped = 0

    def open(self, record: SendRecord) -> None:
        """A request was received."""
        self._open[id(record)] = record

    def end(self, record: SendRecord, end: str, end_ns: int) -> None:
        """It ended. A second end changes nothing."""
        if self._open.pop(id(record), None) is None:
            return
        record.end, record.end_ns = end, end_ns
        self._ended.append(record)
        self._ended_chunks += len(record.due_ns)
        while len(self._ended) > self._requests_max or self._ended_chunks > self._chunks_max:
            self._ended_chunks -= len(self._ended.popleft().due_ns)
            self._dropped += 1

    def reset(self) -> None:
        """Forget what has ended. What is open stays and is logged when it ends."""
        self._ended.clear()
        self._ended_chunks = self._dropped = 0

    def _records(self) -> Iterator[SendRecord]:
        yield from self._ended
        yield from self._open.values()

    def to_json(self) -> bytes:
        """The log as JSON."""
        requests = [
            {
                "id": record.request_id,
                "first_byte_ns": record.first_byte_ns,
                "received_ns": record.received_ns,
                "end_ns": record.end_ns,
                "end": record.end,
                "due_ns": list(record.due_ns),
                "sent_ns": list(record.sent_ns),
            }
            for record in self._records()
        ]
        return json.dumps({"dropped": self._dropped, "requests": requests}, separators=(",", ":")).encode()

    def to_binary(self) -> bytes:
        """The log in the binary form."""
        due_ns, sent_ns, rows = array("q"), array("q"), []
        for record in self._records():
            name, end = record.request_id.encode("utf-8", "replace")[:96], record.end.encode()[:16]
            times = (record.first_byte_ns, record.received_ns, record.end_ns)
            rows.append(REQUEST.pack(name, end, *times, len(due_ns), len(record.due_ns)))
            due_ns.extend(record.due_ns)
            sent_ns.extend(record.sent_ns)
        if sys.byteorder == "big":
            due_ns.byteswap()
            sent_ns.byteswap()
        header = HEADER.pack(MAGIC, len(rows), len(due_ns), self._dropped)
        return b"".join((header, *rows, due_ns.tobytes(), sent_ns.tobytes()))
