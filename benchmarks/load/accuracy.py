"""What the client says against what the server did. Pure arithmetic; the definitions are in benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.load.report import ClientReport
from benchmarks.load.server_log import Served, ServerLog
from benchmarks.load.workload import Cell, Floats

ACHIEVED_SHARE_MIN = 0.99
NS_PER_MS = 1e6
NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of `count` differences in milliseconds (linear interpolation between order statistics)."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    count: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What one cell showed. A spread is None where the tool does not expose what it would be computed from.

    held: no request failed or went missing, and the arrivals came at 99 % of the asked rate or faster.
    achieved_share: time the schedule was to take over the time the arrivals took.
    slip: true arrival minus due time. ttft_error: reported minus true (first chunk sent minus request received).
    stamp_error: a chunk's stamp minus its true send time. gap_error: |reported minus true gap| between two chunks.
    chunk_mismatch_count: requests whose chunks the client counted differently; they have no stamp or gap error.
    """

    held: bool
    achieved_share: float
    request_count: int
    answered_count: int
    failed_count: int
    chunk_mismatch_count: int
    slip: Spread | None
    ttft_error: Spread | None
    stamp_error: Spread | None
    gap_error: Spread | None
    due_is_absolute: bool


def spread(values_ns: Floats) -> Spread | None:
    """The spread of the finite values, in milliseconds; None if there is none."""
    finite = values_ns[np.isfinite(values_ns)] / NS_PER_MS
    if not len(finite):
        return None
    p50_ms, p99_ms = np.percentile(finite, [50, 99])
    return Spread(float(p50_ms), float(p99_ms), float(finite.max()), len(finite))


def compare(cell: Cell, report: ClientReport, log: ServerLog) -> Figures:
    """The cell's figures. Requests that the server never saw count as missing, its view of probes does not count."""
    rows = log.rows()
    positions = [position for position, key in enumerate(report.keys) if key in rows]
    served = [rows[report.keys[position]] for position in positions]
    answered_count = sum(1 for row in served if row.done_ns)
    slip_ns = slips_ns(report, positions, served)
    share = achieved_share(cell, report, positions, served)
    complete = answered_count == cell.request_count and report.failed_count == 0
    stamps_ns, gaps_ns, mismatch_count = chunk_errors_ns(report, positions, served)
    return Figures(
        held=complete and share >= share_min(cell, report),
        achieved_share=share,
        request_count=cell.request_count,
        answered_count=answered_count,
        failed_count=max(report.failed_count, cell.request_count - answered_count),
        chunk_mismatch_count=mismatch_count,
        slip=None if slip_ns is None else spread(slip_ns),
        ttft_error=spread(ttft_errors_ns(report, positions, served)),
        stamp_error=spread(stamps_ns),
        gap_error=spread(gaps_ns),
        due_is_absolute=report.due_is_absolute,
    )


def slips_ns(report: ClientReport, positions: Sequence[int], served: Sequence[Served]) -> Floats | None:
    """Arrival minus due time of each request; None where no schedule is known.

    Where the start of the schedule is unknown, it is put where the most punctual request has slip 0: a lower
    bound, in the tool's favour.
    """
    if report.due_ns is None or not positions:
        return None
    received_ns = np.array([row.received_ns for row in served], dtype=np.int64)
    slip_ns = (received_ns - report.due_ns[positions]).astype(np.float64)
    return slip_ns if report.due_is_absolute else slip_ns - slip_ns.min()


def achieved_share(cell: Cell, report: ClientReport, positions: Sequence[int], served: Sequence[Served]) -> float:
    """The schedule's length over that of the arrivals; below 1 is slower than asked. 0 with fewer than two arrivals."""
    if len(served) < 2:
        return 0.0
    received_ns = [row.received_ns for row in served]
    took_ns = max(received_ns) - min(received_ns)
    if report.due_ns is None:
        asked_ns = (len(served) - 1) / cell.rate_per_s * NS_PER_S
    else:
        due_ns = report.due_ns[positions]
        asked_ns = float(due_ns.max() - due_ns.min())
    return asked_ns / took_ns if took_ns else 0.0


def share_min(cell: Cell, report: ClientReport) -> float:
    """What counts as held: 99 %, less three standard errors of a Poisson count where the schedule is unknown."""
    if report.due_ns is not None:
        return ACHIEVED_SHARE_MIN
    return float(ACHIEVED_SHARE_MIN - 3.0 / np.sqrt(cell.request_count))


def ttft_errors_ns(report: ClientReport, positions: Sequence[int], served: Sequence[Served]) -> Floats:
    """Reported TTFT minus the time from the request's last byte to the first chunk's send; NaN where undefined."""
    true_ns = [float(row.sent_ns[0] - row.received_ns) if len(row.sent_ns) else np.nan for row in served]
    return report.ttft_ns[list(positions)] - np.array(true_ns, dtype=np.float64)


def chunk_errors_ns(
    report: ClientReport, positions: Sequence[int], served: Sequence[Served]
) -> tuple[Floats, Floats, int]:
    """(stamp errors, absolute gap errors, requests with another number of chunks than the server sent)."""
    stamps: list[Floats] = []
    gaps: list[Floats] = []
    mismatched: set[int] = set()
    reported_gaps = report.reported_gaps_ns
    for position, row in zip(positions, served, strict=True):
        if report.chunk_ns is not None:
            if len(report.chunk_ns[position]) == len(row.sent_ns):
                stamps.append((report.chunk_ns[position] - row.sent_ns).astype(np.float64))
            else:
                mismatched.add(position)
        if reported_gaps is not None:
            true_ns = np.diff(row.sent_ns).astype(np.float64)
            if len(reported_gaps[position]) == len(true_ns):
                gaps.append(np.abs(reported_gaps[position] - true_ns))
            else:
                mismatched.add(position)
    return _joined(stamps), _joined(gaps), len(mismatched)


def _joined(arrays: Sequence[Floats]) -> Floats:
    return np.concatenate(arrays) if arrays else np.array([], dtype=np.float64)
