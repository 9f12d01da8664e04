"""The stand-in's log of what truly happened: when each request was received and each chunk sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.load.workload import Nanoseconds

_HEAD_FIELDS = 5
_HEAD_BYTES = _HEAD_FIELDS * 8
_KEY_BYTES = 64


@dataclass(frozen=True, slots=True)
class Served:
    """One request as the server saw it; times are CLOCK_MONOTONIC. `done_ns` is 0 if its answer was cut off."""

    key: str
    received_ns: int
    done_ns: int
    sent_ns: Nanoseconds


@dataclass(frozen=True, slots=True)
class ServerLog:
    """Every generation request in the order of its arrival."""

    served: tuple[Served, ...]

    def rows(self) -> dict[str, Served]:
        """By key: the client's x-request-id or the prompt's `rid`, and by the answer's `id` as the tool read it."""
        named = {row.key: row for row in self.served if row.key}
        answered = {answer_id(position): row for position, row in enumerate(self.served)}
        return answered | {f"cmpl-{key}": row for key, row in named.items()} | named


def answer_id(position: int) -> str:
    """The `id` that the C stand-in gives the answer to its request number `position`; the simulator's has the key."""
    return f"cmpl-{position:032x}"


def read_binary(path: Path) -> ServerLog:
    """The log as `sse_server.c` dumps it; its first lines describe the form."""
    return ServerLog(tuple(_entries(path.read_bytes())))


def _entries(content: bytes) -> Iterator[Served]:
    position = 0
    while position < len(content):
        head = np.frombuffer(content, np.uint64, _HEAD_FIELDS, position)
        received_ns, done_ns, _port, _exchange, chunk_count = (int(value) for value in head)
        position += _HEAD_BYTES
        key = content[position : position + _KEY_BYTES].split(b"\0", 1)[0].decode("utf-8", errors="replace")
        position += _KEY_BYTES
        sent_ns = np.frombuffer(content, np.int64, chunk_count, position)
        position += 2 * 8 * chunk_count  # sent, then due, which nothing here needs
        yield Served(key, received_ns, done_ns, sent_ns)


def from_simulator(requests: npt.NDArray[Any], sent_ns: Nanoseconds) -> ServerLog:
    """The same from the arrays of `redline.simulator.process.BinaryLog`, which are in the order of the ends."""
    served = [
        Served(
            key=row["id"].decode("utf-8", errors="replace"),
            received_ns=int(row["received_ns"]),
            done_ns=int(row["end_ns"]) if row["end"] == b"finished" else 0,
            sent_ns=sent_ns[row["chunk_first"] : row["chunk_first"] + row["chunk_count"]],
        )
        for row in requests
    ]
    return ServerLog(tuple(sorted(served, key=lambda row: row.received_ns)))
