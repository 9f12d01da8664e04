"""What a trial says about where its time went and about the machine: one number per trial and measure.

Everything is read over the counted repeats; what a trial does not say is None, never 0 and never NaN.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redline.metrics import schedule_lag_s
from redline.model import Outcome, Repeat, RequestRecord, Trial
from redline.units import seconds

QUEUE = "vllm:request_queue_time_seconds"
PREFILL = "vllm:request_prefill_time_seconds"
DECODE = "vllm:request_decode_time_seconds"
INFERENCE = "vllm:request_inference_time_seconds"
E2E = "vllm:e2e_request_latency_seconds"
"""Source: vLLM. Queue is scheduled - queued, prefill first token - scheduled, decode last - first token,
inference last token - scheduled; E2E is last token - arrival at the server's front end."""
ENGINE_STEPS = "vllm:iteration_tokens_total"
PREEMPTIONS = "vllm:num_preemptions_total"
CACHE_HITS, CACHE_QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"
DRAFT_ACCEPTED, DRAFT_TOKENS = "vllm:spec_decode_num_accepted_tokens_total", "vllm:spec_decode_num_draft_tokens_total"

STAGE_S_MIN = 0.0005
"""Half a millisecond: below it a doubled stage is still nothing, where nothing was tested."""
BESIDE = "evidence beside the build"
"""Said where a measure is the machine's or the client's rather than the server's."""


class Unit(enum.StrEnum):
    """How a measure is written: seconds, a share (changes in points), or a plain number."""

    SECONDS = "s"
    SHARE = "share"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Measure:
    """One number per trial. `floor`: the smallest change worth a line, in `unit`; `note` ends its statements.

    `of_deployment`: every scenario measured on one deployment has the same number.
    """

    label: str
    unit: Unit
    floor: float
    formula: Callable[[Trial], float | None]
    note: str = ""
    of_deployment: bool = False

    def of(self, trial: Trial) -> float | None:
        """The trial's value; None if it is missing or not finite."""
        value = self.formula(trial)
        return value if value is not None and math.isfinite(value) else None


# --- the server's own counters --------------------------------------------------------------------------------


def _total(trial: Trial, name: str) -> float:
    """A counter's growth over the counted repeats; one that did not move is absent, which is 0."""
    return sum(repeat.server_counters.get(name, 0.0) for repeat in trial.counted_repeats)


def _ratio(trial: Trial, above: str, below: str) -> float | None:
    """Growth of one counter over growth of another; None if the latter did not grow or the former shrank."""
    amount, count = _total(trial, above), _total(trial, below)
    return amount / count if 0 < count < math.inf and 0 <= amount < math.inf else None


def per_request_s(histogram: str) -> Callable[[Trial], float | None]:
    """Mean seconds per request in a histogram of the server's; None if the server counted no request."""
    return lambda trial: _ratio(trial, f"{histogram}_sum", f"{histogram}_count")


def front_end_s(trial: Trial) -> float | None:
    """What the server's own E2E holds beside queue, prefill and decode: parsing, tokenizing, streaming."""
    parts = [per_request_s(name)(trial) for name in (E2E, QUEUE, PREFILL, DECODE)]
    known = [part for part in parts if part is not None]
    return known[0] - sum(known[1:]) if len(known) == len(parts) else None


def _running(trial: Trial) -> float | None:
    """Requests running at once, on average: Little's law, running time over the windows' duration."""
    duration_s = sum(seconds(repeat.duration_ns) for repeat in trial.counted_repeats)
    running_s = _total(trial, f"{INFERENCE}_sum")
    return running_s / duration_s if duration_s > 0 and running_s > 0 else None


def _preemptions(trial: Trial) -> float | None:
    """Per window; None for a server that counts nothing at all, or whose counter shrank."""
    windows = [repeat for repeat in trial.counted_repeats if repeat.server_counters]
    count = _total(trial, PREEMPTIONS)
    return count / len(windows) if windows and count >= 0 else None


# --- the client's records -------------------------------------------------------------------------------------


def _answered(trial: Trial) -> Iterator[RequestRecord]:
    return (
        record
        for repeat in trial.counted_repeats
        for record in repeat.records
        if record.outcome is Outcome.OK and record.chunk_ns
    )


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else None


def sent_e2e_s(trial: Trial) -> float | None:
    """Mean seconds from sending a request to its last token, by the client's clock.

    From sending, not from when it was due: where the number in flight is bounded, the wait for a place is
    nobody's stage.
    """
    return _mean([seconds(record.chunk_ns[-1] - record.send_ns) for record in _answered(trial)])


def client_and_network_s(trial: Trial) -> float | None:
    """Mean seconds that the client saw and the server did not; None unless both counted the same requests."""
    seen_s, served_s = sent_e2e_s(trial), per_request_s(E2E)(trial)
    same = sum(1 for _ in _answered(trial)) == _total(trial, f"{E2E}_count")
    return seen_s - served_s if seen_s is not None and served_s is not None and same else None


def _lateness_s(trial: Trial) -> float | None:
    return _mean([schedule_lag_s(record) for record in _answered(trial)])


def _client_cpu_s(trial: Trial) -> float | None:
    """CPU seconds of the load client per request that the server counted."""
    count = _total(trial, f"{E2E}_count")
    return sum(repeat.client.cpu_s for repeat in trial.counted_repeats) / count if 0 < count < math.inf else None


# --- the machine ----------------------------------------------------------------------------------------------


def _mean_over_windows(value: Callable[[Repeat], float | None]) -> Callable[[Trial], float | None]:
    return lambda trial: _mean([found for each in trial.counted_repeats if (found := value(each)) is not None])


# --- what is compared -----------------------------------------------------------------------------------------

_CLOCK = "time per request, by the server's own clock,"

STAGES = (
    Measure(f"queue {_CLOCK}", Unit.SECONDS, STAGE_S_MIN, per_request_s(QUEUE)),
    Measure(f"prefill {_CLOCK}", Unit.SECONDS, STAGE_S_MIN, per_request_s(PREFILL)),
    Measure(f"decode {_CLOCK}", Unit.SECONDS, STAGE_S_MIN, per_request_s(DECODE)),
    Measure(f"front-end {_CLOCK}", Unit.SECONDS, STAGE_S_MIN, front_end_s),
)
CLIENT = Measure(
    "client and network time per request (the client's E2E from sending less the server's own)",
    Unit.SECONDS,
    STAGE_S_MIN,
    client_and_network_s,
    BESIDE,
)
"""With the stages it adds up to the client's E2E from sending."""

TELEMETRY = (
    Measure(
        "time between due and sent (client lateness, or the wait for a place in flight)",
        Unit.SECONDS,
        STAGE_S_MIN,
        _lateness_s,
    ),
    Measure("load client's CPU time per request", Unit.SECONDS, 0.0001, _client_cpu_s, BESIDE),
    Measure(
        "CPU share of other processes",
        Unit.SHARE,
        0.005,
        _mean_over_windows(lambda repeat: repeat.foreign_cpu_share),
        BESIDE,
    ),
    Measure("CPU share stolen", Unit.SHARE, 0.005, _mean_over_windows(lambda repeat: repeat.steal_share), BESIDE),
    Measure("time to start the server", Unit.SECONDS, 0.5, lambda trial: trial.start_s, of_deployment=True),
    Measure("preemptions per window", Unit.NUMBER, 0.5, _preemptions),
    Measure("prefix-cache hit share", Unit.SHARE, 0.005, lambda trial: _ratio(trial, CACHE_HITS, CACHE_QUERIES)),
    Measure(
        "tokens per engine step",
        Unit.NUMBER,
        0.0,
        lambda trial: _ratio(trial, f"{ENGINE_STEPS}_sum", f"{ENGINE_STEPS}_count"),
    ),
    Measure("requests running at once (mean)", Unit.NUMBER, 0.1, _running),
    Measure(
        "share of draft tokens accepted", Unit.SHARE, 0.005, lambda trial: _ratio(trial, DRAFT_ACCEPTED, DRAFT_TOKENS)
    ),
)


def written(value: float, unit: Unit) -> str:
    """A value as people write it: `12.3 ms`, `1.24 %`, `15.9`."""
    match unit:
        case Unit.SECONDS:
            sign = "-" if value < 0 else ""
            return sign + (f"{abs(value):.2f} s" if abs(value) >= 1 else f"{abs(value) * 1e3:.3g} ms")
        case Unit.SHARE:
            return f"{value * 100:.2f} %"
        case Unit.NUMBER:
            return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def written_change(value: float, unit: Unit) -> str:
    """A change with its sign: `+12.3 ms`, `-0.31 points`, `+4.2`."""
    sign = "-" if value < 0 else "+"
    return f"{sign}{abs(value) * 100:.2f} points" if unit is Unit.SHARE else sign + written(abs(value), unit)
