"""One request on its way and what came back: bytes with stamps, nothing understood yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from redline.load.http1 import MalformedError, ResponseHead, ResponseReader
from redline.load.stamps import Ancillary, ClockOffset, best_stamp_ns
from redline.model import Outcome

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""The largest answer that is taken unless a plan says otherwise: a server may not fill the client's memory."""

now_ns = time.monotonic_ns


class Exchange:
    """A request's bytes, its due time, and every read of its answer. Times are CLOCK_MONOTONIC, nanoseconds.

    `reads`, `user_ns` and `ancillary` grow together, one entry per read. `failure` is None while all is well.
    Slots and plain appends: this is the object that the hot path touches.
    """

    __slots__ = (
        "ancillary",
        "answer_bytes_max",
        "done_ns",
        "due_ns",
        "failure",
        "failure_detail",
        "in_flight",
        "index",
        "method",
        "on_end",
        "payload",
        "payload_left",
        "reads",
        "received_bytes",
        "replica",
        "resent",
        "send_ns",
        "sent",
        "user_ns",
    )

    def __init__(
        self,
        index: int,
        payload: bytes,
        due_ns: int,
        on_end: Callable[[Exchange], None],
        *,
        replica: int = 0,
        method: str = "POST",
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        self.index = index
        self.payload = payload
        self.payload_left = 0
        self.due_ns = due_ns
        self.on_end = on_end
        self.replica = replica
        self.method = method
        self.answer_bytes_max = answer_bytes_max
        self.reads: list[bytes] = []
        self.user_ns: list[int] = []
        self.ancillary: list[Ancillary] = []
        self.received_bytes = 0
        self.send_ns = 0
        self.sent = False
        self.done_ns = 0
        self.resent = False
        self.in_flight = False
        self.failure: Outcome | None = None
        self.failure_detail = ""

    def let_go(self) -> None:
        """Forget what was read; it was understood, or is kept elsewhere."""
        self.reads, self.user_ns, self.ancillary = _NO_READS, _NO_STAMPS, _NO_ANCILLARY


# Shared, and never appended to: of a long run's ended exchanges only their times stay.
_NO_READS: list[bytes] = []
_NO_STAMPS: list[int] = []
_NO_ANCILLARY: list[Ancillary] = []


class Answer:
    """What one exchange amounts to: head, stamped body, and what is known about its stamps.

    `body` holds (stamp in nanoseconds of CLOCK_MONOTONIC, bytes) per read that completed body bytes;
    `kernel_count` of all `read_count` reads carry the kernel's stamp. `problem` is set if it is no HTTP.
    """

    __slots__ = ("body", "complete", "head", "kernel_count", "problem", "read_count")

    def __init__(
        self,
        head: ResponseHead | None,
        body: tuple[tuple[int, bytes], ...],
        *,
        complete: bool,
        kernel_count: int,
        read_count: int,
        problem: str,
    ) -> None:
        self.head = head
        self.body = body
        self.complete = complete
        self.kernel_count = kernel_count
        self.read_count = read_count
        self.problem = problem

    @property
    def content(self) -> bytes:
        """The whole body."""
        return b"".join(piece for _, piece in self.body)


def answer_of(
    reads: Sequence[bytes], stamps: Sequence[tuple[int, bool]], *, method: str = "POST", closed: bool = False
) -> Answer:
    """The answer in the reads of one exchange, each with (stamp, whether it is the kernel's). Never raises.

    `closed`: the server closed the connection after the last read.
    """
    reader = ResponseReader(method)
    body: list[tuple[int, bytes]] = []
    problem = ""
    try:
        for data, (stamp_ns, _) in zip(reads, stamps, strict=True):
            piece = reader.feed(data)
            if piece:
                body.append((stamp_ns, piece))
    except MalformedError as error:
        problem = str(error)
    if closed and not problem:
        reader.end()
    return Answer(
        reader.head,
        tuple(body),
        complete=reader.complete and not problem,
        kernel_count=sum(from_kernel for _, from_kernel in stamps),
        read_count=len(reads),
        problem=problem,
    )


def stamps_of(exchange: Exchange, offset: ClockOffset) -> Iterator[tuple[int, bool]]:
    """(stamp, whether it is the kernel's) of every read, ascending."""
    latest_ns = 0
    for user_ns, ancillary in zip(exchange.user_ns, exchange.ancillary, strict=True):
        stamp_ns, from_kernel = best_stamp_ns(ancillary, user_ns, exchange.send_ns, offset)
        latest_ns = max(latest_ns, stamp_ns)
        yield latest_ns, from_kernel
