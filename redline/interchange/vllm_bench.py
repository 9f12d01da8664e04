"""A repeat as the result file of `vllm bench serve --save-result --save-detailed`.

Source of the format: vLLM 0.32.0, vllm/benchmarks/serve.py and lib/endpoint_request_func.py. Arrays are in
seconds, summaries in milliseconds; standard deviations have ddof 0; percentiles are numpy's, interpolated.
vLLM's TTFT and E2E start when the request is sent, its "ITL" is the gap between chunks (Redline's ICL), and
its throughput window ends with the last request, failed ones included. `vllm_bench_import` reads them.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from redline.errors import ContentError
from redline.metrics import ttft_sent_s
from redline.model import Outcome, Repeat, RequestRecord, Trial
from redline.units import NS_PER_S, seconds

EXPORTED_BY = "redline"
_MS_PER_S = 1000
DATE_FORMAT = "%Y%m%d-%H%M%S"


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What vLLM's result file says of the load and a trial does not.

    `request_rate_per_s` infinite: requests were not paced; `max_concurrency` None: not bounded; `burstiness`
    1 is Poisson; `backend` is vLLM's word for the interface: `openai` for completions, `openai-chat`.
    """

    model_id: str = "unknown"
    tokenizer_id: str = ""
    backend: str = "openai"
    request_rate_per_s: float = math.inf
    burstiness: float = 1.0
    max_concurrency: int | None = None


def to_vllm_bench(trial: Trial, repeat: Repeat, settings: ServeSettings | None = None) -> dict[str, Any]:
    """One repeat as the object vLLM would have saved, with the keys of `--metadata` naming where it comes from.

    A request counts as completed if Redline says so: one that ended early or short is a failed one here, with
    its outcome as its error. Raises ContentError if `repeat.started_at` is no date.
    """
    settings = settings or ServeSettings()
    completed = [record for record in repeat.records if record.outcome is Outcome.OK]
    unpaced = math.isinf(settings.request_rate_per_s)
    return {
        "date": _started_at(repeat).strftime(DATE_FORMAT),
        "endpoint_type": settings.backend,
        "backend": settings.backend,
        "label": None,
        "model_id": settings.model_id,
        "tokenizer_id": settings.tokenizer_id or settings.model_id,
        "num_prompts": len(repeat.records),
        **_metadata(trial, repeat),
        "request_rate": "inf" if unpaced else settings.request_rate_per_s,
        "burstiness": settings.burstiness,
        "max_concurrency": settings.max_concurrency,
        **_totals(repeat, completed),
        **_arrays(repeat.records),
        **_peaks(completed),
        "rtfx": 0.0,
        **_speculation(repeat.server_counters),
        **_latency_summaries(completed, settings),
    }


def _started_at(repeat: Repeat) -> datetime:
    try:
        return datetime.fromisoformat(repeat.started_at)
    except ValueError:
        raise ContentError(
            f"repeat {repeat.index}: started_at is no date", expected="ISO 8601", found=repr(repeat.started_at)
        ) from None


def _metadata(trial: Trial, repeat: Repeat) -> dict[str, str]:
    return {
        "exported_by": EXPORTED_BY,
        "build": trial.sut.label,
        "wheel_sha256": trial.sut.pin.wheel_sha256 or "",
        "scenario": trial.scenario,
        "scenario_hash": trial.scenario_hash,
        "runner": trial.runner_class,
        "run": trial.run_id,
        "arm": trial.arm.value,
        "deployment": trial.trial_id,
        "status": trial.status.value,
        "repeat": str(repeat.index),
        "drop_reason": repeat.drop_reason,
        "started_at": repeat.started_at,
    }


def _totals(repeat: Repeat, completed: Sequence[RequestRecord]) -> dict[str, Any]:
    """Counts and throughputs over first due instant to last end, failed requests included, as vLLM has it."""
    records = repeat.records
    duration_ns = max((one.done_ns for one in records), default=0) - min((one.sched_ns for one in records), default=0)
    duration_s = seconds(duration_ns)
    prompt_tokens = sum(record.prompt_tokens for record in completed)
    output_tokens = sum(record.output_tokens for record in completed)

    def per_second(amount: int) -> float:
        return amount / duration_s if duration_s > 0 else 0.0

    return {
        "duration": duration_s,
        "completed": len(completed),
        "failed": len(records) - len(completed),
        "total_input_tokens": prompt_tokens,
        "total_output_tokens": output_tokens,
        "request_throughput": per_second(len(completed)),
        "request_goodput": None,
        "output_throughput": per_second(output_tokens),
        "total_token_throughput": per_second(prompt_tokens + output_tokens),
    }


def _arrays(records: Sequence[RequestRecord]) -> dict[str, list[Any]]:
    """One entry per request, failed ones too: these have length and latency 0, no text, and an error."""
    ok = [record.outcome is Outcome.OK for record in records]
    return {
        "input_lens": [record.prompt_tokens for record in records],
        "output_lens": [record.output_tokens if good else 0 for record, good in zip(records, ok, strict=True)],
        "ttfts": [ttft_sent_s(record) or 0.0 for record in records],
        "itls": [_gaps_s(record) for record in records],
        "latencies": [_latency_s(record) if good else 0.0 for record, good in zip(records, ok, strict=True)],
        "start_times": [seconds(record.send_ns) for record in records],
        "queue_times": [seconds(record.send_ns - record.sched_ns) for record in records],
        "generated_texts": [record.output_text if good else "" for record, good in zip(records, ok, strict=True)],
        "errors": ["" if good else _error(record) for record, good in zip(records, ok, strict=True)],
    }


def _gaps_s(record: RequestRecord) -> list[float]:
    """The raw gaps between chunks, whatever number of tokens they carry: what vLLM calls ITL."""
    return [seconds(later - earlier) for earlier, later in itertools.pairwise(record.chunk_ns)]


def _latency_s(record: RequestRecord) -> float:
    """From sending to the last chunk; to the end of the answer where nothing was streamed."""
    return seconds((record.chunk_ns[-1] if record.chunk_ns else record.done_ns) - record.send_ns)


def _error(record: RequestRecord) -> str:
    return f"{record.outcome.value}: {record.detail}" if record.detail else record.outcome.value


def _peaks(completed: Sequence[RequestRecord]) -> dict[str, float | int]:
    """The most chunks, and the most open requests, in one second since the first was sent. vLLM counts chunks."""
    if not completed:
        return {"max_output_tokens_per_s": 0.0, "max_concurrent_requests": 0}
    start_ns = min(record.send_ns for record in completed)
    chunks: Counter[int] = Counter()
    changes: Counter[int] = Counter()
    for record in completed:
        chunks.update((at_ns - start_ns) // NS_PER_S for at_ns in record.chunk_ns or (record.send_ns,))
        last_ns = record.chunk_ns[-1] if record.chunk_ns else record.done_ns
        changes[(record.send_ns - start_ns) // NS_PER_S] += 1
        changes[(last_ns - start_ns) // NS_PER_S + 1] -= 1
    opened = itertools.accumulate(changes[second] for second in sorted(changes))
    return {"max_output_tokens_per_s": float(max(chunks.values())), "max_concurrent_requests": max(opened)}


def _speculation(counters: Mapping[str, float]) -> dict[str, Any]:
    """vLLM's own arithmetic on its counters; the rates per position are not kept by Redline."""
    drafts, tokens, accepted = (
        counters.get(f"vllm:spec_decode_num_{name}_total", 0.0)
        for name in ("drafts", "draft_tokens", "accepted_tokens")
    )
    if tokens <= 0:
        return {}
    return {
        "spec_decode_acceptance_rate": accepted / tokens * 100,
        "spec_decode_acceptance_length": 1 + accepted / drafts if drafts > 0 else 0.0,
        "spec_decode_num_drafts": int(drafts),
        "spec_decode_draft_tokens": int(tokens),
        "spec_decode_accepted_tokens": int(accepted),
        "spec_decode_per_position_acceptance_rates": [],
    }


def _latency_summaries(completed: Sequence[RequestRecord], settings: ServeSettings) -> dict[str, float]:
    """Mean, median, standard deviation and p99 in ms of completed requests; 0 where there is nothing, as vLLM."""
    ttfts_s = [ttft_sent_s(record) or 0.0 for record in completed]
    latencies_s = [_latency_s(record) for record in completed]
    queues_s = [seconds(record.send_ns - record.sched_ns) for record in completed]
    tpots_s = [
        (latency_s - ttft_s) / (record.output_tokens - 1)
        for record, latency_s, ttft_s in zip(completed, latencies_s, ttfts_s, strict=True)
        if record.output_tokens > 1
    ]
    gaps_s = [gap for record in completed for gap in _gaps_s(record)]
    values = {"ttft": ttfts_s, "tpot": tpots_s, "itl": gaps_s, "e2el": latencies_s}
    if settings.max_concurrency is not None:
        values["client_queue_time"] = queues_s
        if math.isfinite(settings.request_rate_per_s):
            values["e2el_including_client_queue"] = [sum(both) for both in zip(latencies_s, queues_s, strict=True)]
    return {key: value for name, one in values.items() for key, value in _statistics_ms(name, one).items()}


def _statistics_ms(name: str, values_s: Sequence[float]) -> dict[str, float]:
    array = np.asarray(values_s or (0.0,))
    return {
        f"mean_{name}_ms": float(np.mean(array)) * _MS_PER_S,
        f"median_{name}_ms": float(np.median(array)) * _MS_PER_S,
        f"std_{name}_ms": float(np.std(array)) * _MS_PER_S,
        f"p99_{name}_ms": float(np.percentile(array, 99)) * _MS_PER_S,
    }
