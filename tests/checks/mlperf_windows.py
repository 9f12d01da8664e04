"""Scenarios with MLPerf rules and windows of records for the tests: made by hand, or out of LoadGen's trace."""

from __future__ import annotations

from typing import Any

from redline.model import (
    Arrivals,
    ClientReport,
    DatasetItems,
    Limits,
    MlperfRules,
    Offline,
    Outcome,
    Repeat,
    RequestRecord,
    Scenario,
    Server,
    SingleStream,
    StampSource,
    TokenCounts,
    Workload,
)

MS = 1_000_000
CLIENT = ClientReport(0.0, StampSource.KERNEL, TokenCounts.IDS, 0, 0, 0, 0, 0, tls=False, simulated=False)
ARRIVALS: dict[str, Arrivals] = {
    "Offline": Offline(8),
    "Server": Server(10.0, "loadgen"),
    "SingleStream": SingleStream(),
}
RULES: dict[str, Any] = {
    "benchmark": "llama2-70b-99.9",
    "round": "v6.0",
    "sample_count": 24_576,
    "query_count_min": 3,
    "unit": "tokens/s",
    "duration_s_min": 0.0,
}


def scenario(arrivals: str, workload: Workload | None = None, **rules: Any) -> Scenario:
    """A scenario under MLPerf's rules; `rules` replaces fields of them."""
    return Scenario(
        name="made-up",
        description="",
        recipe="r",
        arrivals=ARRIVALS[arrivals],
        workload=workload or DatasetItems("open-orca-llama2", 24_576, 1024),
        request_count=3,
        repeat_count=1,
        discard_count=0,
        seed=0,
        limits=Limits(1.0, 1.0, 600.0),
        metrics=("output_tokens_per_s",),
        mlperf=MlperfRules(**(RULES | rules)),
    )


def record(
    index: int, sched_ns: int, chunk_ns: tuple[int, ...], tokens: int, outcome: Outcome = Outcome.OK, **changes: Any
) -> RequestRecord:
    """A request whose last chunk ends it; `tokens` in all, one in each chunk but the last."""
    counts = (*[1] * (len(chunk_ns) - 1), tokens - len(chunk_ns) + 1) if chunk_ns else ()
    given = {"send_ns": sched_ns, "done_ns": chunk_ns[-1] if chunk_ns else sched_ns} | changes
    return RequestRecord(
        index=index,
        outcome=outcome,
        sched_ns=sched_ns,
        chunk_ns=chunk_ns,
        chunk_tokens=counts,
        prompt_tokens=4,
        output_tokens=tokens,
        output_text="",
        finish_reason="stop",
        **given,
    )


def window(*records: RequestRecord) -> Repeat:
    """One window of these records."""
    return Repeat(0, "2026-01-01T00:00:00+00:00", 0, records, {}, None, 0.0, CLIENT)


def steady(count: int, *, gap_ms: int = 10, first_ms: int = 5, last_ms: int = 25, tokens: int = 5) -> Repeat:
    """`count` requests due every `gap_ms`, each with its first and last token as late as this."""
    due = [number * gap_ms * MS for number in range(count)]
    return window(
        *(record(number, at, (at + first_ms * MS, at + last_ms * MS), tokens) for number, at in enumerate(due))
    )


def from_trace(rows: list[dict[str, int]], token_counts: list[int]) -> Repeat:
    """The window that LoadGen's trace tells of (`loadgen_run.traced`), tokens by turns."""
    return window(
        *(
            record(
                number,
                row["sched"],
                (row["first"], row["done"]) if row["first"] else (row["done"],),
                token_counts[number % len(token_counts)],
                send_ns=row["send"],
            )
            for number, row in enumerate(rows)
        )
    )
