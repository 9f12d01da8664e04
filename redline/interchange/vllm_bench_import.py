"""The readings of a result file of `vllm bench serve`, detailed or not. `vllm_bench` states the format.

vLLM keeps no schedule: its `queue_times` say how long a request waited in the client after it was dispatched,
so TTFT and E2E start at the dispatch here, which is as near to the scheduled instant as the file allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

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
from redline.interchange.vllm_bench import DATE_FORMAT, EXPORTED_BY
from redline.model import TrialStatus

TOOL = "vllm-bench"
_WHAT = "a result of vllm bench serve"
_SENT = "from sending, not from the schedule"
_DISPATCHED = "from dispatch; how late the client was against its schedule is not recorded"
_GAPS = "gaps between chunks, not divided by their tokens"
_INTERPOLATED = "interpolated percentile"
_WINDOW_END = "the window ends with the last token, not with the end of the answer"
_WITH_FAILED = "the window includes failed requests"


@dataclass(frozen=True, slots=True)
class _Result:
    """The keys of vLLM's file that are read. Arrays may be missing: without --save-detailed, or an older vLLM."""

    __pydantic_config__ = SHAPE
    completed: Whole
    duration: Real
    total_output_tokens: Whole
    request_throughput: Real
    output_throughput: Real
    date: Text = ""
    model_id: Text | None = None
    num_prompts: Whole | None = None
    request_rate: Real | Text | None = None
    burstiness: float | None = None
    max_concurrency: Whole | None = None
    failed: Whole | None = None
    ttfts: list[Real] | None = None
    itls: list[list[Real]] | None = None
    output_lens: list[Whole] | None = None
    latencies: list[Real] | None = None
    start_times: list[Real] | None = None
    queue_times: list[Real] | None = None
    errors: list[Text] | None = None
    median_ttft_ms: Real | None = None
    p99_ttft_ms: Real | None = None
    median_tpot_ms: Real | None = None
    p99_tpot_ms: Real | None = None
    p99_itl_ms: Real | None = None
    median_e2el_ms: Real | None = None

    @property
    def detailed(self) -> bool:
        """True if it was saved with its per-request arrays."""
        return self.ttfts is not None and self.itls is not None and self.output_lens is not None


_RESULT = TypeAdapter(_Result)


def recognises(raw: object) -> bool:
    """True if this looks like a result of `vllm bench serve`, whole or not."""
    return isinstance(raw, Mapping) and {"completed", "duration", "request_throughput"} <= raw.keys()


def from_vllm_bench(raw: object) -> ImportedRun:
    """The readings of one result, from its per-request arrays as far as it has them, else from its summary.

    Build, runner, scenario, deployment and repeat are taken from the `--metadata` keys of these names. A
    result without a completed request has no readings: vLLM saves zeros then, and ends with success. Nor has a
    repeat that Redline exported and does not count itself.
    Raises ContentError, naming the key, for what is no such result or contradicts itself.
    """
    result = shaped(_RESULT, raw, _WHAT)
    names = {key: value for key, value in raw.items() if isinstance(value, str)} if isinstance(raw, Mapping) else {}
    requests = _completed_requests(result)
    if requests is not None and len(requests) != result.completed:
        raise ContentError(
            f"not {_WHAT}: it contradicts itself",
            expected=f"{result.completed} completed requests, as its key completed says",
            found=f"{len(requests)} in its arrays",
            next_step="import the file as vLLM wrote it",
        )
    exact_start = names.get("exported_by") == EXPORTED_BY
    judged = _judged(names) if exact_start else ""
    found: tuple[ImportedReading, ...] = ()
    if result.completed > 0 and not judged:
        detailed = requests_readings(requests, _definitions(result, exact_start=exact_start)) if requests else ()
        found = merged(detailed, _summary_readings(result))
    return ImportedRun(
        tool=TOOL,
        workload=_workload(result),
        date=names.get("started_at") or _iso_date(result.date),
        readings=found,
        build=names.get("build", ""),
        runner=names.get("runner", ""),
        scenario=names.get("scenario", ""),
        deployment=names.get("deployment", ""),
        repeat=_repeat(names.get("repeat", "")),
        notes=_notes(result, judged),
    )


# --- per request --------------------------------------------------------------------------------------------


def _completed_requests(result: _Result) -> tuple[CompletedRequest, ...] | None:
    """The completed requests, None where no array says which they are. vLLM gives a failed one latency 0."""
    latencies = result.latencies
    if latencies is None:
        if not result.detailed:
            return None
        latencies = [ttft + sum(gaps) for ttft, gaps in zip(result.ttfts or (), result.itls or (), strict=False)]
    count = len(latencies)
    columns = {
        name: _column(name, getattr(result, name), count)
        for name in ("ttfts", "itls", "output_lens", "queue_times", "start_times", "errors")
    }
    return tuple(
        _request(latency, {name: values[position] for name, values in columns.items()})
        for position, latency in enumerate(latencies)
        if latency > 0 and not columns["errors"][position]
    )


def _column(name: str, values: Sequence[Any] | None, count: int) -> Sequence[Any]:
    """The array, or as many Nones. Raises ContentError if it is not as long as the others."""
    if values is None:
        return [None] * count
    if len(values) != count:
        raise ContentError(
            f"not {_WHAT}: {name}",
            expected=f"{count} entries, as the other arrays have",
            found=f"{len(values)} entries",
        )
    return values


def _request(latency_s: float, row: Mapping[str, Any]) -> CompletedRequest:
    """One completed request. A TTFT of 0 is what vLLM saves where nothing was streamed: undefined."""
    queue_s = row["queue_times"] or 0.0
    ttft_s, gaps_s, tokens, start_s = row["ttfts"], row["itls"], row["output_lens"], row["start_times"]
    return CompletedRequest(
        ttft_s=ttft_s + queue_s if ttft_s else None,
        tpot_s=(latency_s - ttft_s) / (tokens - 1) if ttft_s and gaps_s and tokens and tokens > 1 else None,
        e2e_s=latency_s + queue_s,
        gaps_s=None if gaps_s is None else tuple(gaps_s),
        output_tokens=tokens or 0,
        start_s=None if start_s is None else start_s - queue_s,
        end_s=None if start_s is None else start_s + latency_s,
    )


def _definitions(result: _Result, *, exact_start: bool) -> dict[str, str]:
    """How readings of the arrays differ from the catalogue's, where the file does not allow to convert them."""
    found = dict.fromkeys(("output_tokens_per_s", "requests_per_s"), _WINDOW_END)
    if not exact_start:
        start = _SENT if result.queue_times is None else _DISPATCHED
        found |= dict.fromkeys(("ttft_s_median", "ttft_s_p99", "e2e_s_median"), start)
    lengths = zip(result.itls or (), result.output_lens or (), strict=False)
    if any(gaps and len(gaps) + 1 != tokens for gaps, tokens in lengths):
        found |= dict.fromkeys(("tpot_s_median", "tpot_s_p99"), FIRST_CHUNK)
        found["itl_s_p99"] = _GAPS
    return found


# --- summary ------------------------------------------------------------------------------------------------


def _summary_readings(result: _Result) -> tuple[ImportedReading, ...]:
    """The readings of vLLM's own statistics, each with how it differs."""
    window = _WITH_FAILED if result.failed else ""
    values = {
        "output_tokens_per_s": (result.output_throughput, window),
        "requests_per_s": (result.request_throughput, window),
        "ttft_s_median": (_from_ms(result.median_ttft_ms), _SENT),
        "ttft_s_p99": (_from_ms(result.p99_ttft_ms), f"{_SENT}; {_INTERPOLATED}"),
        "tpot_s_median": (_from_ms(result.median_tpot_ms), FIRST_CHUNK),
        "tpot_s_p99": (_from_ms(result.p99_tpot_ms), f"{FIRST_CHUNK}; {_INTERPOLATED}"),
        "itl_s_p99": (_from_ms(result.p99_itl_ms), f"{_GAPS}; {_INTERPOLATED}"),
        "e2e_s_median": (_from_ms(result.median_e2el_ms), _SENT),
    }
    definitions = {metric: definition for metric, (_, definition) in values.items()}
    return readings({metric: value for metric, (value, _) in values.items()}, Source.SUMMARY, definitions)


def _from_ms(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1000


# --- names --------------------------------------------------------------------------------------------------


def _workload(result: _Result) -> str:
    """The load in vLLM's words, so that runs of different loads do not fall into one scenario."""
    parts = [result.model_id or "unknown"]
    for word, value in (
        ("rate", result.request_rate),
        ("burstiness", None if result.burstiness == 1 else result.burstiness),
        ("concurrency", result.max_concurrency),
        ("prompts", result.num_prompts),
    ):
        parts += [] if value is None else [f"{word}={value:g}" if isinstance(value, float) else f"{word}={value}"]
    return " ".join(parts)


def _iso_date(date: str) -> str:
    """vLLM's local time without a zone as ISO 8601, or the text itself, which the history will refuse."""
    try:
        return datetime.strptime(date, DATE_FORMAT).isoformat()  # noqa: DTZ007 - vLLM writes no zone
    except ValueError:
        return date


def _repeat(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= len("1000000") else None


def _judged(names: Mapping[str, str]) -> str:
    """Why Redline itself does not count the repeat that it exported; empty if it does."""
    if reason := names.get("drop_reason"):
        return f"Redline dropped this repeat: {reason}"
    status = names.get("status", TrialStatus.VALID)
    return "" if status == TrialStatus.VALID else f"Redline's trial is {status}"


def _notes(result: _Result, judged: str) -> tuple[str, ...]:
    failed = result.failed or 0
    notes = [judged] if judged else []
    notes += [f"{failed} of {failed + result.completed} requests failed"] if failed else []
    if result.completed == 0:
        notes.append("no completed request: vLLM saves zeros then and ends with success")
    return tuple(notes)
