"""What other tools' results come down to: completed requests, readings of them, and one run with its names."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from redline.interchange.history import HistoryRow, Source
from redline.metrics import percentile

FIRST_CHUNK = "takes the first chunk to hold one token"
"""The definition of a TPOT whose file does not say how many tokens came first."""


@dataclass(frozen=True, slots=True)
class CompletedRequest:
    """The latencies of one completed request, by Redline's definitions as far as the tool's file allows.

    Seconds. None is undefined. `gaps_s`: the gaps between its chunks, None where the tool keeps none.
    `start_s` and `end_s`: when it was due and when it ended, on one clock for all requests of a run.
    """

    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float | None
    gaps_s: tuple[float, ...] | None
    output_tokens: int
    start_s: float | None
    end_s: float | None


@dataclass(frozen=True, slots=True)
class ImportedReading:
    """One metric of one imported run in base units; `definition` says how it differs from the catalogue's."""

    metric: str
    value: float
    source: Source
    definition: str = ""


@dataclass(frozen=True, slots=True)
class ImportedRun:
    """One measured window of another tool. What the file does not say is empty, and the importer must be told.

    `workload`: the load in the tool's own words, the scenario's name unless a better one is given; `date`:
    ISO 8601; `notes`: what a reader should know of it, one sentence each.
    """

    tool: str
    workload: str
    date: str
    readings: tuple[ImportedReading, ...]
    build: str = ""
    runner: str = ""
    scenario: str = ""
    deployment: str = ""
    repeat: int | None = None
    notes: tuple[str, ...] = field(default=())


def requests_readings(
    requests: Sequence[CompletedRequest], definitions: Mapping[str, str]
) -> tuple[ImportedReading, ...]:
    """The readings of completed requests, by the catalogue's formulas; what is undefined or 0 is left out.

    `definitions`: metric id -> how it differs. Source: redline.metrics, which a test holds this against.
    """
    ttfts_s = _defined(requests, lambda request: request.ttft_s)
    tpots_s = _defined(requests, lambda request: request.tpot_s)
    e2es_s = _defined(requests, lambda request: request.e2e_s)
    gaps_s = [gap for request in requests for gap in request.gaps_s or ()]
    window_s = _window_s(requests)
    values = {
        "output_tokens_per_s": _per_second(sum(request.output_tokens for request in requests), window_s),
        "requests_per_s": _per_second(len(requests), window_s),
        "ttft_s_median": _median(ttfts_s),
        "ttft_s_p99": percentile(ttfts_s, 0.99),
        "tpot_s_median": _median(tpots_s),
        "tpot_s_p99": percentile(tpots_s, 0.99),
        "itl_s_p99": percentile(gaps_s, 0.99),
        "e2e_s_median": _median(e2es_s),
    }
    return readings(values, Source.REQUESTS, definitions)


def readings(
    values: Mapping[str, float | None], source: Source, definitions: Mapping[str, str]
) -> tuple[ImportedReading, ...]:
    """Readings of the metrics with a finite value above 0: other tools write 0 for what is undefined."""
    return tuple(
        ImportedReading(metric, value, source, definitions.get(metric, ""))
        for metric, value in values.items()
        if value is not None and math.isfinite(value) and value > 0
    )


def merged(preferred: Sequence[ImportedReading], other: Iterable[ImportedReading]) -> tuple[ImportedReading, ...]:
    """`preferred`, and of `other` the metrics that it lacks."""
    known = {reading.metric for reading in preferred}
    return (*preferred, *(reading for reading in other if reading.metric not in known))


def history_rows(
    run: ImportedRun, *, build: str, runner: str, scenario: str, deployment: str, repeat: int
) -> tuple[HistoryRow, ...]:
    """The run's readings as rows of a history. Raises CellError if one is impossible."""
    return tuple(
        HistoryRow(
            build=build,
            date=run.date,
            runner=runner,
            scenario=scenario,
            metric=reading.metric,
            reading=reading.value,
            deployment=deployment,
            repeat=repeat,
            source=reading.source,
            definition=reading.definition,
        )
        for reading in run.readings
    )


def _defined(requests: Iterable[CompletedRequest], value: Callable[[CompletedRequest], float | None]) -> list[float]:
    return [found for request in requests if (found := value(request)) is not None]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _window_s(requests: Sequence[CompletedRequest]) -> float | None:
    """First due instant to last end of completed requests; None if a request has no instants."""
    starts_s, ends_s = _defined(requests, lambda one: one.start_s), _defined(requests, lambda one: one.end_s)
    if not requests or len(starts_s) < len(requests) or len(ends_s) < len(requests):
        return None
    return max(ends_s) - min(starts_s)


def _per_second(amount: int, window_s: float | None) -> float | None:
    return amount / window_s if window_s is not None and window_s > 0 and amount > 0 else None
