"""Stamps that our own client programs write and the suite reads: one file, four arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.load.report import ClientReport, from_stamps


@dataclass(frozen=True, slots=True)
class Stamps:
    """Everything on CLOCK_MONOTONIC, by the request's index; `failed` are the indices of those that failed."""

    due_ns: list[int]
    send_ns: list[int]
    chunk_ns: list[list[int]]
    failed: set[int]

    @classmethod
    def empty(cls, count: int) -> Stamps:
        """Room for `count` requests."""
        return cls([0] * count, [0] * count, [[] for _ in range(count)], set())


def write_stamps(path: Path, stamps: Stamps, key_pattern: str) -> None:
    """Write them; `key_pattern` makes the request's key from its `{index}`."""
    np.savez(
        path,
        keys=np.array([key_pattern.format(index=index) for index in range(len(stamps.due_ns))]),
        due_ns=np.array(stamps.due_ns, dtype=np.int64),
        send_ns=np.array(stamps.send_ns, dtype=np.int64),
        counts=np.array([len(row) for row in stamps.chunk_ns], dtype=np.int64),
        chunk_ns=np.array([stamp for row in stamps.chunk_ns for stamp in row], dtype=np.int64),
        failed=np.array(sorted(stamps.failed), dtype=np.int64),
    )


def read_stamps(path: Path) -> ClientReport:
    """The report that the file amounts to; requests that failed are counted and left out."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in ("keys", "due_ns", "send_ns", "counts", "chunk_ns", "failed")}
    ends = np.cumsum(arrays["counts"])
    rows = np.split(arrays["chunk_ns"], ends[:-1])
    failed = set(arrays["failed"].tolist())
    kept = [index for index in range(len(rows)) if index not in failed]
    return from_stamps(
        keys=[str(arrays["keys"][index]) for index in kept],
        due_ns=arrays["due_ns"][kept],
        send_ns=arrays["send_ns"][kept],
        chunk_ns=[rows[index] for index in kept],
        failed_count=len(failed),
    )
