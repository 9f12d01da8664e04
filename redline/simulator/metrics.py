"""The counters that vLLM's /metrics offers, kept from what was really served, and their Prometheus text.

Source: vLLM 0.32 `v1/metrics/loggers.py` for names, labels and buckets. The gap histogram has the one bucket
+Inf: its sum and count are what is of use, and a lookup per chunk would cost more than the chunk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redline.units import seconds

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")


def _bounds(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())


FIRST_TOKEN_BUCKETS_S = _bounds(".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560")
REQUEST_BUCKETS_S = _bounds(".3 .5 .8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680")
PER_TOKEN_BUCKETS_S = _bounds(".01 .025 .05 .075 .1 .15 .2 .3 .4 .5 .75 1 2.5 5 7.5 10 20 40 80")


@dataclass(frozen=True, slots=True)
class Served:
    """The times of one answered request, nanoseconds of CLOCK_MONOTONIC, and its tokens and chunks."""

    received_ns: int
    scheduled_ns: int
    first_ns: int
    last_ns: int
    prompt_tokens: int
    output_tokens: int
    chunk_count: int
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is under way now."""

    running: int
    waiting: int
    open_output_tokens: int


class Histogram:
    """A Prometheus histogram: counts by upper bound, sum and count."""

    def __init__(self, bounds: Sequence[float] = ()) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.count = 0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value
        self.count += 1

    def observe_sum(self, total: float, count: int) -> None:
        """Count `count` values that add up to `total`; only without bounds."""
        self._counts[-1] += count
        self.sum += total
        self.count += count

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """(Suffix, further label, value) of every line, buckets cumulative."""
        running = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            running += count
            yield "_bucket", f'le="{bound}"', running
        yield "_count", "", self.count
        yield "_sum", "", self.sum


class ServerMetrics:
    """Everything that is counted, from the start of the process."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.media_queries = 0
        self.finished = dict.fromkeys(FINISH_REASONS, 0)
        self._first_token = Histogram(FIRST_TOKEN_BUCKETS_S)
        self._gap = Histogram()
        self._per_token = Histogram(PER_TOKEN_BUCKETS_S)
        self._phases = {
            name: Histogram(REQUEST_BUCKETS_S)
            for name in ("e2e_request_latency", "request_queue_time", "request_prefill_time", "request_decode_time",
                         "request_inference_time")
        }  # fmt: skip

    def scheduled(self, prompt_tokens: int, hit_tokens: int, media_count: int) -> None:
        """A request got its place: its prompt was looked up."""
        self.prefix_queries += prompt_tokens
        self.prefix_hits += hit_tokens
        self.media_queries += media_count

    def served(self, request: Served) -> None:
        """A request was answered to its end."""
        self.output_tokens += request.output_tokens
        self.finished[request.finish_reason] += 1
        decode_s = seconds(request.last_ns - request.first_ns)
        self._first_token.observe(seconds(request.first_ns - request.received_ns))
        self._gap.observe_sum(decode_s, request.chunk_count - 1)
        if request.output_tokens > 1:
            self._per_token.observe(decode_s / (request.output_tokens - 1))
        phases = self._phases
        phases["e2e_request_latency"].observe(seconds(request.last_ns - request.received_ns))
        phases["request_queue_time"].observe(seconds(request.scheduled_ns - request.received_ns))
        phases["request_prefill_time"].observe(seconds(request.first_ns - request.scheduled_ns))
        phases["request_decode_time"].observe(decode_s)
        phases["request_inference_time"].observe(seconds(request.last_ns - request.scheduled_ns))

    def ended(self, finish_reason: str, output_tokens: int) -> None:
        """A request ended before its end ("abort" or "error") after so many tokens."""
        self.output_tokens += output_tokens
        self.finished[finish_reason] += 1

    def text(self, model: str, gauges: Gauges) -> str:
        """The Prometheus text of GET /metrics."""
        name = model.replace("\\", "\\\\").replace('"', '\\"')
        labels = f'engine="0",model_name="{name}"'
        lines: list[str] = []
        for metric, kind, help_text, samples in self._families(gauges):
            lines += (f"# HELP vllm:{metric} {help_text}", f"# TYPE vllm:{metric} {kind}")
            for suffix, label, value in samples:
                joined = f"{labels},{label}" if label else labels
                lines.append(f"vllm:{metric}{suffix}{{{joined}}} {value!r}")
        return "\n".join(lines) + "\n"

    def _families(self, gauges: Gauges) -> Iterator[tuple[str, str, str, list[tuple[str, str, float]]]]:
        """(Name, type, help, samples) of every metric."""
        yield "num_requests_running", "gauge", "Requests with a place.", [("", "", gauges.running)]
        yield "num_requests_waiting", "gauge", "Requests without one.", [("", "", gauges.waiting)]
        counters = (
            ("prompt_tokens", "Prompt tokens processed.", self.prompt_tokens),
            ("generation_tokens", "Tokens generated.", self.output_tokens + gauges.open_output_tokens),
            ("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", self.prefix_queries),
            ("prefix_cache_hits", "Prompt tokens found there.", self.prefix_hits),
            ("mm_cache_queries", "Images and sounds looked up.", self.media_queries),
            ("mm_cache_hits", "Images and sounds found.", 0),
            ("num_preemptions", "Requests that lost their place.", 0),
        )
        for metric, help_text, value in counters:
            yield f"{metric}_total", "counter", help_text, [("", "", value)]
        finished = [("", f'finished_reason="{reason}"', float(count)) for reason, count in self.finished.items()]
        yield "request_success_total", "counter", "Requests that ended, by reason.", finished
        yield "kv_cache_usage_perc", "gauge", "KV cache in use.", [("", "", 0.0)]
        histograms = {
            "time_to_first_token_seconds": self._first_token,
            "inter_token_latency_seconds": self._gap,
            "request_time_per_output_token_seconds": self._per_token,
        } | {f"{name}_seconds": histogram for name, histogram in self._phases.items()}
        for metric, histogram in histograms.items():
            yield metric, "histogram", "Seconds.", list(histogram.samples())
