"""The figures of one window by LoadGen's names, in its order and units: whole nanoseconds, rates of six digits. Pure.

A failed request is not among the latencies: LoadGen knows only completions. It is an error in the log instead, and
the run INVALID. An answer of one token has no time per output token: LoadGen logs an error for it, and its own figure
of it is a stray number. Source: `results.cc` of mlcommons/inference, and logs of mlcommons-loadgen 6.0.17.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redline.interchange.mlperf_run import LoggedWindow, LogVerdict
from redline.metrics import percentile
from redline.model import Outcome, RequestRecord
from redline.units import seconds

PERCENTILES = (0.50, 0.90, 0.95, 0.97, 0.99, 0.999)
SUCCESSFUL = " * Run successful."


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a detail log. `value`: anything that JSON can say."""

    key: str
    value: object
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured in one window. Latencies in nanoseconds, ascending; rates a second, None where undefined.

    `over_count`: queries slower than the limit on the whole latency. TTFT and TPOT are empty where they do not count.
    """

    query_count: int
    over_count: int
    scheduled_samples_per_s: float | None
    samples_per_s: float | None
    tokens_per_s: float | None
    inferred_tokens_per_s: float | None
    latency_ns: tuple[int, ...]
    ttft_ns: tuple[int, ...]
    tpot_ns: tuple[int, ...]


def figures_of(window: LoggedWindow) -> Figures:
    """The figures of a window with at least one record.

    Server's rates are over the time until the query issued last was complete, with one sample less than queries;
    Offline's over the whole query. Source: `PerformanceSummary` of LoadGen.
    """
    settings = window.settings
    records = in_order(window)
    answered = [record for record in records if record.outcome is Outcome.OK]
    start_ns = records[0].sched_ns
    latency_ns = [record.chunk_ns[-1] - record.sched_ns for record in answered if record.chunk_ns]
    counted = settings.use_token_latencies and not settings.offline
    limit_ns = 0 if settings.use_token_latencies else settings.latency_ns_max
    ends_ns = [record.done_ns for record in records]
    window_s = seconds((max(ends_ns) if settings.offline else ends_ns[-1]) - start_ns)
    samples = len(answered) if settings.offline else len(answered) - 1
    tokens = sum(record.output_tokens for record in answered)
    inferred = settings.tokens_inferred
    return Figures(
        query_count=1 if settings.offline else len(records),
        over_count=sum(value > limit_ns for value in latency_ns),
        scheduled_samples_per_s=None
        if settings.offline
        else _rate(len(records) - 1, seconds(records[-1].sched_ns - start_ns)),
        samples_per_s=_rate(samples, window_s),
        tokens_per_s=_rate(tokens, window_s) if settings.use_token_latencies else None,
        inferred_tokens_per_s=None if inferred is None else _rate(samples * inferred, window_s),
        latency_ns=tuple(sorted(latency_ns)),
        ttft_ns=tuple(sorted(r.chunk_ns[0] - r.sched_ns for r in answered if r.chunk_ns)) if counted else (),
        tpot_ns=tuple(sorted(_tpot_ns(r) for r in answered if r.chunk_ns and r.output_tokens >= 2)) if counted else (),
    )


def in_order(window: LoggedWindow) -> list[RequestRecord]:
    """The records in the order of issue."""
    return sorted(window.repeat.records, key=lambda record: (record.sched_ns, record.index))


def rounded(value: float) -> float:
    """A rate with the six digits that LoadGen prints."""
    return float(f"{value:.6g}")


def percentile_ns(values: Sequence[int], share: float) -> int:
    """LoadGen's percentile of latencies. Raises ValueError for none."""
    found = percentile(values, share)
    if found is None:
        raise ValueError("no latency has no percentile")
    return int(found)


def _rate(amount: float, duration_s: float) -> float | None:
    return amount / duration_s if duration_s > 0 and amount > 0 else None


def _tpot_ns(record: RequestRecord) -> int:
    return (record.chunk_ns[-1] - record.chunk_ns[0]) // (record.output_tokens - 1)


# --- as entries -----------------------------------------------------------------------------------------------


def error_entries(window: LoggedWindow) -> tuple[Entry, ...]:
    """LoadGen's error for each answer of fewer than two tokens, and one of Redline's own for each failed request."""
    found = []
    for record in in_order(window):
        if record.outcome is not Outcome.OK:
            said = f"Request {record.index} failed: {record.outcome.value} (said by Redline; LoadGen cannot see it)"
            found.append(Entry("error_runtime", said, is_error=True))
        elif window.settings.use_token_latencies and not window.settings.accuracy and record.output_tokens < 2:
            found.append(Entry("error_runtime", "Number of tokens need to be greater than 1", is_error=True))
    return tuple(found)


def result_entries(window: LoggedWindow, figures: Figures, verdict: LogVerdict) -> tuple[Entry, ...]:
    """Every `result_` and `early_stopping_` entry, in LoadGen's order.

    Left out: result_token_throughput and result_token_throughput_with_loadgen_overhead, which in Server say nothing
    (mlcommons/inference issue 1662).
    """
    offline = window.settings.offline
    met = (
        [] if verdict.perf_constraints_met is None else [("result_perf_constraints_met", verdict.perf_constraints_met)]
    )
    found: list[tuple[str, object]] = [
        ("result_validity", "VALID" if verdict.valid else "INVALID"),
        *met,
        ("result_min_duration_met", verdict.min_duration_met),
        ("result_min_queries_met", verdict.min_queries_met),
        ("early_stopping_met", verdict.early_stopping_met),
    ]
    if not verdict.valid:
        found.append(("result_invalid_reason", "; ".join(verdict.reasons)))
    found += [(f"{key}_result", " ".join(lines)) for key, lines in stopping_words(window, verdict).items()]
    found.append(("result_query_count", figures.query_count))
    if not offline:
        found.append(("result_overlatency_query_count", figures.over_count))
        found += _rates(("result_scheduled_samples_per_sec", figures.scheduled_samples_per_s))
    key = "result_samples_per_second" if offline else "result_completed_samples_per_sec"
    found += _rates((key, figures.samples_per_s))
    found += _spread("result_{}_latency_ns", figures.latency_ns)
    found += _spread("result_first_token_{}_latency_ns", figures.ttft_ns)
    found += _tpot(figures.tpot_ns)
    found += _rates(
        ("result_tokens_per_second" if offline else "result_completed_tokens_per_second", figures.tokens_per_s),
        (
            "result_inferred_tokens_per_second" if offline else "result_inferred_completed_tokens_per_second",
            figures.inferred_tokens_per_s,
        ),
    )
    return tuple(Entry(key, value) for key, value in found)


def stopping_words(window: LoggedWindow, verdict: LogVerdict) -> dict[str, tuple[str, ...]]:
    """What LoadGen says of early stopping, line by line, by the beginning of the entry's key.

    Of TTFT it says nothing unless TPOT holds.
    """
    count = len(window.repeat.records)
    needed = verdict.queries_needed or {}
    said = {label: _stopping(count, wanted) for label, wanted in needed.items()}
    if not window.settings.use_token_latencies:
        return {"early_stopping": said.get("E2E", ())}
    tpot = said.get("TPOT", ())
    ttft = said.get("TTFT", ()) if tpot in ((SUCCESSFUL,), ()) else ()
    return {"early_stopping_ttft": ttft, "early_stopping_tpot": tpot}


def _stopping(count: int, needed: int) -> tuple[str, ...]:
    if count >= needed:
        return (SUCCESSFUL,)
    return (
        " * Run unsuccessful.",
        f" * Processed {count} queries.",
        f" * Would need to run at least {needed - count} more queries,",
        " with the run being successful if every additional",
        " query were under latency.",
    )


def _rates(*rates: tuple[str, float | None]) -> list[tuple[str, object]]:
    return [(key, rounded(value)) for key, value in rates if value is not None]


def _spread(name: str, values: Sequence[int]) -> list[tuple[str, object]]:
    if not values:
        return []
    ends: list[tuple[str, object]] = [
        (name.format("min"), values[0]),
        (name.format("max"), values[-1]),
        (name.format("mean"), sum(values) // len(values)),
    ]
    shares = [(name.format(f"{share * 100:.2f}_percentile"), percentile_ns(values, share)) for share in PERCENTILES]
    return [*ends, *shares]


def _tpot(values: Sequence[int]) -> list[tuple[str, object]]:
    if not values:
        return []
    name = "result_time_per_output_token_{:.2f}_percentile_ns"
    shares: list[tuple[str, object]] = [
        (name.format(share * 100), percentile_ns(values, share)) for share in PERCENTILES
    ]
    ends = {"min": values[0], "max": values[-1], "mean": sum(values) // len(values)}
    return [*shares, *((f"result_time_to_output_token_{key}", value) for key, value in ends.items())]
