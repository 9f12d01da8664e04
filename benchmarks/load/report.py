"""What a client says it measured, whichever client it is: the one form that every driver translates into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.load.workload import Floats, Nanoseconds


@dataclass(frozen=True, slots=True)
class ClientReport:
    """One row per request that the client says succeeded; arrays have shape (request_count,).

    keys: by which the stand-in's log knows the request (`ServerLog.rows`).
    due_ns: when it was due, None where the tool does not say. On CLOCK_MONOTONIC if `due_is_absolute`,
        otherwise after an unknown start, which is then fitted in the tool's favour.
    ttft_ns: as reported, counted from the send; NaN where undefined.
    chunk_ns: stamps of its chunks on CLOCK_MONOTONIC, one array per request, or None.
    gaps_ns: reported gaps between chunks, one array per request, or None.
    failed_count: requests that the client itself calls failed.
    """

    keys: tuple[str, ...]
    due_ns: Nanoseconds | None
    due_is_absolute: bool
    ttft_ns: Floats
    chunk_ns: tuple[Nanoseconds, ...] | None = None
    gaps_ns: tuple[Floats, ...] | None = None
    failed_count: int = 0
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def reported_gaps_ns(self) -> tuple[Floats, ...] | None:
        """The gaps between chunks: as reported, else as the stamps say."""
        if self.gaps_ns is not None or self.chunk_ns is None:
            return self.gaps_ns
        return tuple(np.diff(stamps).astype(np.float64) for stamps in self.chunk_ns)


def from_stamps(
    keys: Sequence[str],
    due_ns: Nanoseconds,
    send_ns: Nanoseconds,
    chunk_ns: Sequence[Nanoseconds],
    failed_count: int,
) -> ClientReport:
    """The report of a client that stamps everything on CLOCK_MONOTONIC: its own schedule, sends and chunks."""
    ttft_ns = np.array(
        [stamps[0] - sent if len(stamps) else np.nan for stamps, sent in zip(chunk_ns, send_ns, strict=True)],
        dtype=np.float64,
    )
    return ClientReport(
        keys=tuple(keys),
        due_ns=due_ns,
        due_is_absolute=True,
        ttft_ns=ttft_ns,
        chunk_ns=tuple(chunk_ns),
        failed_count=failed_count,
    )
