"""The readings of a GuideLLM report, version 2 (`benchmarks.json`).

GuideLLM's "inter-token latency" of a request is Redline's TPOT, and its "time per output token" includes TTFT
and is not imported. It keeps no time per chunk, so there is no ITL. Its times are of the wall clock.
Source: GuideLLM 0.8.1, guidellm/benchmark/schemas and guidellm/schemas/base/request_stats.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import TypeAdapter

from redline.errors import ContentError
from redline.interchange.history import Source
from redline.interchange.raw_shape import SHAPE, Real, Text, Whole, shaped
from redline.interchange.readings import (
    FIRST_CHUNK,
    CompletedRequest,
    ImportedReading,
    ImportedRun,
    merged,
    readings,
    requests_readings,
)

TOOL = "guidellm"
VERSION = 2
SCHEDULED_STRATEGIES = frozenset({"constant", "poisson", "trace"})
"""Strategies whose `targeted_start` is a schedule; the others aim at "as soon as possible"."""

_WHAT = "a GuideLLM report"
_SENT = "from sending: this strategy has no schedule"
_SENT_SUMMARY = "from sending, not from the schedule"
_TOKENS = "over tokens, not over requests"
_RATE = "GuideLLM's mean rate over its measured window"
_WHOLE_ANSWER = "to the end of the answer, not to the last token"
_PERCENTILE = "GuideLLM's percentile"


# --- what is read of it -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Timings:
    """Wall clock seconds; None is unknown. `token_iterations`: how many chunks carried tokens."""

    __pydantic_config__ = SHAPE
    targeted_start: Real | None = None
    request_start: Real | None = None
    first_token_iteration: Real | None = None
    last_token_iteration: Real | None = None
    request_end: Real | None = None
    token_iterations: Whole = 0


@dataclass(frozen=True, slots=True)
class _Info:
    __pydantic_config__ = SHAPE
    timings: _Timings


@dataclass(frozen=True, slots=True)
class _Request:
    __pydantic_config__ = SHAPE
    info: _Info
    output_tokens: Whole | None = None


@dataclass(frozen=True, slots=True)
class _Requests:
    """Every request of the run, those of the warm-up and cool-down among them."""

    __pydantic_config__ = SHAPE
    successful: list[_Request] | None = None


@dataclass(frozen=True, slots=True)
class _Percentiles:
    __pydantic_config__ = SHAPE
    p99: Real


@dataclass(frozen=True, slots=True)
class _Distribution:
    __pydantic_config__ = SHAPE
    mean: Real
    median: Real
    percentiles: _Percentiles


@dataclass(frozen=True, slots=True)
class _ByStatus:
    __pydantic_config__ = SHAPE
    successful: _Distribution | None = None


@dataclass(frozen=True, slots=True)
class _Totals:
    """How many requests of each status fall into the measured window."""

    __pydantic_config__ = SHAPE
    successful: Whole
    errored: Whole = 0
    incomplete: Whole = 0


@dataclass(frozen=True, slots=True)
class _Metrics:
    __pydantic_config__ = SHAPE
    request_totals: _Totals
    requests_per_second: _ByStatus
    output_tokens_per_second: _ByStatus
    request_latency: _ByStatus
    time_to_first_token_ms: _ByStatus
    inter_token_latency_ms: _ByStatus


@dataclass(frozen=True, slots=True)
class _Strategy:
    __pydantic_config__ = SHAPE
    type_: Text
    rate: Real | None = None
    streams: Whole | None = None
    max_concurrency: Whole | None = None


@dataclass(frozen=True, slots=True)
class _Config:
    __pydantic_config__ = SHAPE
    strategy: _Strategy
    backend: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Benchmark:
    __pydantic_config__ = SHAPE
    config: _Config
    metrics: _Metrics
    start_time: Real
    end_time: Real
    requests: _Requests | None = None
    warmup_duration: Real = 0.0
    cooldown_duration: Real = 0.0


@dataclass(frozen=True, slots=True)
class _Report:
    __pydantic_config__ = SHAPE
    benchmarks: list[_Benchmark]


_REPORT = TypeAdapter(_Report)


# --- import -------------------------------------------------------------------------------------------------


def recognises(raw: object) -> bool:
    """True if this looks like a GuideLLM report of any version."""
    return isinstance(raw, Mapping) and isinstance(raw.get("benchmarks"), list) and "metadata" in raw


def from_guidellm(raw: object) -> tuple[ImportedRun, ...]:
    """One run per benchmark of a report, in its order; benchmarks of one load are repeats of it, from 0.

    Readings are computed from the requests if the report holds all of the measured window, else taken from
    its summaries. Raises ContentError, naming the key, for another version and for what is no report.
    """
    _require_version(raw)
    report = shaped(_REPORT, raw, _WHAT)
    counts: dict[str, int] = {}
    runs = []
    for benchmark in report.benchmarks:
        workload = _workload(benchmark.config)
        repeat = counts.get(workload, 0)
        counts[workload] = repeat + 1
        runs.append(_run(benchmark, workload, repeat))
    return tuple(runs)


def _require_version(raw: object) -> None:
    metadata = raw.get("metadata") if isinstance(raw, Mapping) else None
    version = metadata.get("version") if isinstance(metadata, Mapping) else None
    if version != VERSION or isinstance(version, bool):
        raise ContentError(
            "a GuideLLM report of another version",
            expected=f"metadata.version {VERSION}",
            found="no version" if version is None else f"metadata.version {version!r}",
            next_step="run the benchmark with a GuideLLM that writes version 2, such as 0.8.1",
        )


def _run(benchmark: _Benchmark, workload: str, repeat: int) -> ImportedRun:
    totals = benchmark.metrics.request_totals
    requests = _measured(benchmark)
    notes = []
    if requests is None:
        notes.append("the report does not hold every request of its measured window: its summaries were taken")
    if lost := totals.errored + totals.incomplete:
        notes.append(f"{lost} of {lost + totals.successful} requests failed or were cut off")
    if totals.successful == 0:
        notes.append("no successful request")
    found: tuple[ImportedReading, ...] = ()
    if totals.successful > 0:
        strategy = benchmark.config.strategy.type_
        completed = [_completed(request, strategy) for request in requests or ()]
        detailed = requests_readings(completed, _definitions(requests or (), strategy))
        found = merged(detailed, _summary_readings(benchmark.metrics))
    return ImportedRun(
        tool=TOOL,
        workload=workload,
        date=_iso_date(benchmark.start_time),
        readings=found,
        repeat=repeat,
        notes=tuple(notes),
    )


def _measured(benchmark: _Benchmark) -> tuple[_Request, ...] | None:
    """The successful requests that touch the measured window; None if the report does not hold them all.

    Source: guidellm/benchmark/schemas/accumulator.py, get_within_range, not closed.
    """
    requests = (benchmark.requests.successful if benchmark.requests else None) or ()
    found = tuple(
        request
        for request in requests
        if (end := request.info.timings.request_end) is not None
        and end >= benchmark.start_time
        and (request.info.timings.request_start or end) <= benchmark.end_time
    )
    return found if len(found) == benchmark.metrics.request_totals.successful else None


def _completed(request: _Request, strategy: str) -> CompletedRequest:
    """One request by Redline's definitions: TTFT and E2E from the schedule where the strategy has one."""
    timings = request.info.timings
    first, last = timings.first_token_iteration, timings.last_token_iteration
    due = timings.targeted_start if strategy in SCHEDULED_STRATEGIES else None
    start = due if due is not None else timings.request_start
    tokens = request.output_tokens or 0
    streamed = first is not None and last is not None and timings.token_iterations > 1
    return CompletedRequest(
        ttft_s=None if first is None or start is None else first - start,
        tpot_s=(last - first) / (tokens - 1) if streamed and first is not None and last and tokens > 1 else None,
        e2e_s=None if last is None or start is None else last - start,
        gaps_s=None,
        output_tokens=tokens,
        start_s=start,
        end_s=timings.request_end,
    )


def _definitions(requests: Sequence[_Request], strategy: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if strategy not in SCHEDULED_STRATEGIES:
        found |= dict.fromkeys(("ttft_s_median", "ttft_s_p99", "e2e_s_median"), _SENT)
    if any(request.info.timings.token_iterations != request.output_tokens for request in requests):
        found |= dict.fromkeys(("tpot_s_median", "tpot_s_p99"), FIRST_CHUNK)
    return found


def _summary_readings(metrics: _Metrics) -> tuple[ImportedReading, ...]:
    """The readings of GuideLLM's own statistics over successful requests, each with how it differs."""
    ttft, itl = metrics.time_to_first_token_ms.successful, metrics.inter_token_latency_ms.successful
    latency = metrics.request_latency.successful
    tokens, requests = metrics.output_tokens_per_second.successful, metrics.requests_per_second.successful
    values = {
        "output_tokens_per_s": (tokens.mean if tokens else None, _RATE),
        "requests_per_s": (requests.mean if requests else None, _RATE),
        "ttft_s_median": (ttft.median / 1000 if ttft else None, _SENT_SUMMARY),
        "ttft_s_p99": (ttft.percentiles.p99 / 1000 if ttft else None, f"{_SENT_SUMMARY}; {_PERCENTILE}"),
        "tpot_s_median": (itl.median / 1000 if itl else None, f"{FIRST_CHUNK}; {_TOKENS}"),
        "tpot_s_p99": (itl.percentiles.p99 / 1000 if itl else None, f"{FIRST_CHUNK}; {_TOKENS}; {_PERCENTILE}"),
        "e2e_s_median": (latency.median if latency else None, f"{_SENT_SUMMARY}; {_WHOLE_ANSWER}"),
    }
    definitions = {metric: definition for metric, (_, definition) in values.items()}
    return readings({metric: value for metric, (value, _) in values.items()}, Source.SUMMARY, definitions)


def _workload(config: _Config) -> str:
    """The load in GuideLLM's words, so that the steps of a sweep do not fall into one scenario."""
    model = config.backend.get("model")
    parts = [model] if isinstance(model, str) and model else []
    parts.append(config.strategy.type_)
    for word, value in (
        ("rate", config.strategy.rate),
        ("streams", config.strategy.streams),
        ("concurrency", config.strategy.max_concurrency),
    ):
        parts += [] if value is None else [f"{word}={value:g}"]
    return " ".join(parts)


def _iso_date(unix_s: float) -> str:
    try:
        return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        raise ContentError(f"not {_WHAT}: start_time", expected="seconds since 1970", found=repr(unix_s)) from None
