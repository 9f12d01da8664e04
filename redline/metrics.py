"""The metric catalogue: formula, unit and better direction of every metric, in one place.

A metric is computed from one repeat (`Repeat`); a trial's reading is the median of its counted repeats
(the mean below three). Undefined is None, never 0. Definitions follow vLLM's and MLPerf's terms; where
tools disagree docs/glossary.md says which one this is.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redline.model import Outcome, Reading, Repeat, RequestRecord, Trial
from redline.units import NS_PER_S, seconds


class Better(enum.StrEnum):
    """Which direction is good."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: `metric_id` names noun, unit and statistic; `formula` takes one repeat."""

    metric_id: str
    label: str
    unit: str
    better: Better
    definition: str
    formula: Callable[[Repeat], float | None]

    def oriented_log(self, value: float) -> float:
        """ln(value), negated where higher is better, so that + is worse. Raises ValueError if value <= 0."""
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{self.metric_id} must be positive and finite, found {value}")
        return math.log(value) if self.better is Better.LOWER else -math.log(value)


# --- per request --------------------------------------------------------------------------------------------


def ttft_s(record: RequestRecord) -> float | None:
    """Time to first token against the scheduled instant: first chunk with a generated token - t_sched.

    In a closed loop a request is due when its place is free.
    """
    return seconds(record.chunk_ns[0] - record.sched_ns) if record.chunk_ns else None


def ttft_sent_s(record: RequestRecord) -> float | None:
    """Time to first token against the instant of sending, as closed-loop tools report it."""
    return seconds(record.chunk_ns[0] - record.send_ns) if record.chunk_ns else None


def tpot_s(record: RequestRecord) -> float | None:
    """(t_last - t_first) / (N_out - n_first); None when there is nothing to divide.

    Source: vLLM bench and MLPerf for n_first = 1; the general form stays right with several tokens a chunk.
    """
    if len(record.chunk_ns) < 2 or not record.chunk_tokens:
        return None
    token_count = record.output_tokens - record.chunk_tokens[0]
    return seconds(record.chunk_ns[-1] - record.chunk_ns[0]) / token_count if token_count > 0 else None


def e2e_s(record: RequestRecord) -> float | None:
    """Last chunk with a generated token - t_sched."""
    return seconds(record.chunk_ns[-1] - record.sched_ns) if record.chunk_ns else None


def itl_s(record: RequestRecord) -> tuple[float, ...]:
    """Inter-token latencies: each gap between chunks divided by the later chunk's tokens, once per token.

    None at all where the tokens of the chunks are not known: they do not add up to what the server counted.
    """
    if sum(record.chunk_tokens) != record.output_tokens:
        return ()
    gaps: list[float] = []
    for previous_ns, current_ns, tokens in zip(
        record.chunk_ns, record.chunk_ns[1:], record.chunk_tokens[1:], strict=False
    ):
        gaps += [seconds(current_ns - previous_ns) / tokens] * tokens
    return tuple(gaps)


def schedule_lag_s(record: RequestRecord) -> float:
    """t_send - t_sched: how late the client was."""
    return seconds(record.send_ns - record.sched_ns)


# --- per repeat ---------------------------------------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float | None:
    """sorted[int(n * share)], capped at the last: MLPerf LoadGen's percentile. None for no values.

    Source: mlcommons/inference loadgen results.cc, PercentileEntry.
    """
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _completed(repeat: Repeat) -> tuple[RequestRecord, ...]:
    return tuple(record for record in repeat.records if record.outcome is Outcome.OK)


def _of_requests(
    value: Callable[[RequestRecord], float | None], statistic: Callable[[Sequence[float]], float | None]
) -> Callable[[Repeat], float | None]:
    def formula(repeat: Repeat) -> float | None:
        values = [found for record in _completed(repeat) if (found := value(record)) is not None]
        return statistic(values)

    return formula


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _p99(values: Sequence[float]) -> float | None:
    return percentile(values, 0.99)


def _window_ns(repeat: Repeat) -> int:
    """First dispatch to last completion, ramp and tail included (vLLM bench's duration)."""
    completed = _completed(repeat)
    if not completed:
        return 0
    return max(record.done_ns for record in completed) - min(record.sched_ns for record in completed)


def _per_second(amount: Callable[[RequestRecord], int]) -> Callable[[Repeat], float | None]:
    def formula(repeat: Repeat) -> float | None:
        window_ns = _window_ns(repeat)
        total = sum(amount(record) for record in _completed(repeat))
        return total * NS_PER_S / window_ns if window_ns > 0 and total > 0 else None

    return formula


def _itl_p99(repeat: Repeat) -> float | None:
    return _p99([gap for record in _completed(repeat) for gap in itl_s(record)])


def _mean_score(repeat: Repeat) -> float | None:
    """Mean over what was scored; a failed request is a wrong answer, a program that was not run is none."""
    if not repeat.records or all(record.score is None for record in repeat.records):
        return None
    counted = [record for record in repeat.records if record.score is not None or record.outcome is not Outcome.OK]
    return sum(record.score or 0.0 for record in counted) / len(counted)


def _exact_match(repeat: Repeat) -> float | None:
    """The mean score where every answer is right or wrong; None where some are partly right."""
    in_part = any(record.score not in (None, 0.0, 1.0) for record in repeat.records)
    return None if in_part else _mean_score(repeat)


_ALL = (
    Metric(
        "output_tokens_per_s",
        "Output throughput",
        "tok/s",
        Better.HIGHER,
        "generated tokens / (last completion - first dispatch)",
        _per_second(lambda record: record.output_tokens),
    ),
    Metric(
        "requests_per_s",
        "Request throughput",
        "req/s",
        Better.HIGHER,
        "completed requests / (last completion - first dispatch)",
        _per_second(lambda _: 1),
    ),
    Metric(
        "ttft_s_median",
        "TTFT median",
        "s",
        Better.LOWER,
        "first chunk with a generated token - scheduled instant",
        _of_requests(ttft_s, _median),
    ),
    Metric(
        "ttft_s_p99",
        "TTFT p99",
        "s",
        Better.LOWER,
        "sorted[int(0.99 n)] of TTFT",
        _of_requests(ttft_s, _p99),
    ),
    Metric(
        "tpot_s_median",
        "TPOT median",
        "s",
        Better.LOWER,
        "(last - first chunk) / tokens after the first chunk",
        _of_requests(tpot_s, _median),
    ),
    Metric(
        "tpot_s_p99",
        "TPOT p99",
        "s",
        Better.LOWER,
        "sorted[int(0.99 n)] of TPOT",
        _of_requests(tpot_s, _p99),
    ),
    Metric(
        "itl_s_p99",
        "ITL p99",
        "s",
        Better.LOWER,
        "sorted[int(0.99 n)] of gaps between tokens, pooled over requests",
        _itl_p99,
    ),
    Metric(
        "e2e_s_median",
        "E2E median",
        "s",
        Better.LOWER,
        "last chunk with a generated token - scheduled instant",
        _of_requests(e2e_s, _median),
    ),
    Metric(
        "e2e_s_p99",
        "E2E p99",
        "s",
        Better.LOWER,
        "sorted[int(0.99 n)] of E2E",
        _of_requests(e2e_s, _p99),
    ),
    Metric(
        "item_score",
        "Item score",
        "1",
        Better.HIGHER,
        "mean over items of what the data set's scorer gives an answer; a failed request scores 0",
        _mean_score,
    ),
    Metric(
        "exact_match",
        "Exact match",
        "1",
        Better.HIGHER,
        "share of items answered exactly, where scores are 0 or 1; a failed request is a wrong answer",
        _exact_match,
    ),
)

CATALOGUE: dict[str, Metric] = {metric.metric_id: metric for metric in _ALL}


def reading_of(trial: Trial, metric_id: str) -> Reading | None:
    """A trial's reading of a metric: the median of its counted repeats, the mean below three.

    None if no counted repeat defines it. Raises KeyError for an unknown metric.
    """
    formula = CATALOGUE[metric_id].formula
    values = [found for repeat in trial.counted_repeats if (found := formula(repeat)) is not None]
    if not values:
        return None
    value = statistics.median(values) if len(values) >= 3 else statistics.fmean(values)
    return Reading(metric_id, value, trial.trial_id)
