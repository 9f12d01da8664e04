"""Does a plan fit this machine? Known before the run, from the plan alone.

A client that swaps, or that runs out of descriptors half-way, measures itself.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from redline.errors import LoadError

REQUEST_OBJECT_BYTES = 2_000
"""What an exchange and its finished record take beside payload and chunks (measured: tests/load/test_bounds.py)."""

CHUNK_BYTES = 900
"""A chunk of a completion with token ids, about 350 bytes, as bytes, stamps and list entries (measured likewise)."""

RECORD_CHUNK_BYTES = 120
"""Stamp and token count of a chunk in a finished record, there and as JSON on its way."""

MEMORY_ANSWERS_BYTES_MAX = 512 << 20
"""More than this is spooled to disk while the run goes on."""

MEMORY_SHARE_MAX = 0.5
DESCRIPTORS_KEPT = 64
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a plan takes, in bytes and descriptors, counted before it runs."""

    payload_bytes: int
    answer_bytes: int
    record_bytes: int
    descriptors: int
    in_flight_bytes: int

    @property
    def spooled(self) -> bool:
        """True if the answers go to disk while the run goes on."""
        return self.answer_bytes > MEMORY_ANSWERS_BYTES_MAX

    @property
    def memory_bytes(self) -> int:
        """The most that is held in memory: only answers that have ended can be spooled."""
        answers = min(self.answer_bytes, max(MEMORY_ANSWERS_BYTES_MAX, self.in_flight_bytes))
        return self.payload_bytes + answers + self.record_bytes

    @property
    def disk_bytes(self) -> int:
        """What the spool takes."""
        return self.answer_bytes if self.spooled else 0


def needs_of(payload_bytes: int, request_count: int, output_tokens: int, in_flight_max: int | None) -> Needs:
    """What a plan takes: `payload_bytes` of requests, `output_tokens` asked for in all, one chunk a token."""
    return Needs(
        payload_bytes=payload_bytes,
        answer_bytes=output_tokens * CHUNK_BYTES,
        record_bytes=request_count * REQUEST_OBJECT_BYTES + output_tokens * RECORD_CHUNK_BYTES,
        descriptors=min(request_count, in_flight_max or request_count) + DESCRIPTORS_KEPT,
        # An open loop's number in flight is the server's doing and is not known beforehand.
        in_flight_bytes=output_tokens * CHUNK_BYTES // max(request_count, 1) * min(request_count, in_flight_max or 0),
    )


def memory_available_bytes() -> int | None:
    """MemAvailable of this machine; None where the kernel does not say. Source: proc_meminfo(5)."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def require_fit(
    needs: Needs, *, memory_bytes: int | None, disk_bytes: int, descriptor_limit: int, in_flight_max: int | None
) -> None:
    """Refuse a plan that does not fit. Raises LoadError with what it takes, what there is, and what to change.

    An open loop may turn out to need fewer descriptors than it has requests, so there only a closed or bounded
    one is refused; running out is then counted as a failure of this client.
    """
    if memory_bytes is not None and needs.memory_bytes > memory_bytes * MEMORY_SHARE_MAX:
        raise LoadError(
            "this window does not fit in the memory of the load client",
            expected=f"at most {_mib(int(memory_bytes * MEMORY_SHARE_MAX))} (half of what is available)",
            found=f"{_mib(needs.memory_bytes)} for requests, answers and records",
            next_step="use fewer requests, shorter outputs or a machine with more memory",
        )
    if needs.disk_bytes > disk_bytes:
        raise LoadError(
            "the answers of this window do not fit on the disk",
            expected=f"{_mib(needs.disk_bytes)} free for temporary files",
            found=f"{_mib(disk_bytes)} free",
            next_step="use fewer requests, or set TMPDIR to a larger disk",
        )
    if in_flight_max is not None and needs.descriptors > descriptor_limit:
        raise LoadError(
            "this window needs more open connections than the system allows",
            expected=f"{needs.descriptors} descriptors for {needs.descriptors - DESCRIPTORS_KEPT} requests in flight",
            found=f"a limit of {descriptor_limit} (ulimit -Hn)",
            next_step="lower in_flight_max, or let an administrator raise the limit",
        )


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"
