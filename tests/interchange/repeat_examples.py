"""Records, repeats and trials for the interchange tests, and the real files of other tools."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from redline.model import Outcome, Repeat, RequestRecord, Trial
from tests.store.trial_examples import make_trial

DATA = Path(__file__).parent / "data"
DETAILED = DATA / "vllm-bench-0.32.0.jsonl"
SUMMARY = DATA / "vllm-bench-0.32.0-summary.json"
GUIDELLM = DATA / "guidellm-0.8.1.json"
MS = 1_000_000


def detailed() -> list[dict[str, Any]]:
    """The results in the real detailed file of vLLM bench."""
    return [json.loads(line) for line in DETAILED.read_text().splitlines()]


def record(
    index: int,
    sched_ms: int,
    chunks_ms: tuple[int, ...],
    *,
    lag_ms: int = 0,
    tokens: tuple[int, ...] = (),
    outcome: Outcome = Outcome.OK,
    detail: str = "",
) -> RequestRecord:
    """A record with one token a chunk, or `tokens`; it ends one millisecond after its last chunk."""
    counts = tokens or (1,) * len(chunks_ms)
    send_ms = sched_ms + lag_ms
    return RequestRecord(
        index=index,
        outcome=outcome,
        sched_ns=sched_ms * MS,
        send_ns=send_ms * MS,
        done_ns=((chunks_ms[-1] if chunks_ms else send_ms) + 1) * MS,
        chunk_ns=tuple(at * MS for at in chunks_ms),
        chunk_tokens=counts,
        prompt_tokens=4,
        output_tokens=sum(counts),
        output_text="ab",
        finish_reason="length",
        detail=detail,
    )


def repeat_of(*records: RequestRecord, **changes: Any) -> Repeat:
    """A counted repeat of these records."""
    return dataclasses.replace(make_trial().repeats[1], records=records, **changes)


def trial_of(*repeats: Repeat, **changes: Any) -> Trial:
    """A valid trial of these repeats."""
    return make_trial(**{"repeats": repeats} | changes)


@st.composite
def records(draw: st.DrawFn, *, tokens_per_chunk_max: int = 1, outcomes: tuple[Outcome, ...] = tuple(Outcome)):
    """Any record whose times are in order: of any outcome, without chunks, with one, with many."""
    sched_ns = draw(st.integers(0, 10**11))
    send_ns = sched_ns + draw(st.integers(0, 10**10))
    gaps = draw(st.lists(st.integers(1, 10**10), max_size=5))
    chunk_ns = tuple(send_ns + sum(gaps[: position + 1]) for position in range(len(gaps)))
    counts = tuple(draw(st.integers(1, tokens_per_chunk_max)) for _ in chunk_ns)
    return RequestRecord(
        index=draw(st.integers(0, 10**6)),
        outcome=draw(st.sampled_from(outcomes)),
        sched_ns=sched_ns,
        send_ns=send_ns,
        done_ns=(chunk_ns[-1] if chunk_ns else send_ns) + draw(st.integers(1, 10**9)),
        chunk_ns=chunk_ns,
        chunk_tokens=counts,
        prompt_tokens=draw(st.integers(0, 10**6)),
        output_tokens=sum(counts),
        output_text=draw(st.text(st.characters(exclude_categories=()), max_size=5)),
        finish_reason="length",
        detail=draw(st.text(st.characters(exclude_categories=()), max_size=5)),
    )
