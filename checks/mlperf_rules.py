"""MLPerf's rules over one window: VALID or not, its result, in which ways it is shorter than MLPerf demands. Pure.

VALID is what LoadGen would say for the settings that the run had: it does not know that a run of ten seconds is too
short, which only MLCommons' submission checker refuses. Here that stands apart, as `shorter`. A variant that says it
is shortened has its own number of requests as its minimum, and no minimum duration. Two things are stricter than in
LoadGen: a request that failed makes a run INVALID (LoadGen sees only completions), and so does an answer of fewer
than two tokens where tokens are measured (LoadGen logs an error, and the checker refuses the log).

Latencies count from the scheduled instant. A failed request is over every limit.
Source: `results.cc`, `loadgen.cc` and `mlperf.conf` of mlcommons/inference, and the constants of its submission
checker. tests/checks runs the official LoadGen beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from checks.early_stopping import estimate_index, passes, queries_needed
from checks.mlperf_demands import (
    DURATION_S_DEMANDED,
    INFERRED_TOKENS,
    ScenarioName,
    family,
    queries_demanded,
    samples_demanded,
    scenario_name,
)
from checks.validity import is_valid
from redline.metrics import e2e_s, percentile, ttft_s
from redline.model import (
    Concurrency,
    DatasetItems,
    MlperfRules,
    Outcome,
    Repeat,
    RequestRecord,
    Scenario,
    ValidityReading,
)
from redline.units import format_value, seconds

SERVER_SHARE = 0.99
SINGLE_STREAM_SHARE = 0.90
SCHEDULED_RATE_ROUNDS = frozenset({"v4.0"})
"""Rounds whose Server result in samples/s was the scheduled rate, not the completed one. Source: the checker."""


@dataclass(frozen=True, slots=True)
class MlperfResult:
    """What MLPerf's rules say of one window.

    `value` in `unit`: tokens/s, samples/s or queries/s; in SingleStream the p90 latency in s. None if undefined.
    `shorter`: in which ways less was run than MLPerf demands, in words; empty for a run of full size.
    """

    benchmark: str
    round: str
    scenario: ScenarioName
    valid: bool
    value: float | None
    unit: str
    readings: tuple[ValidityReading, ...]
    shorter: tuple[str, ...]


def has_result(scenario: Scenario) -> bool:
    """True if `mlperf_result` can be asked: rules, answers that are not scored, arrivals that MLPerf knows."""
    known = not isinstance(scenario.arrivals, Concurrency)
    return scenario.mlperf is not None and known and not scenario.measures_accuracy


def mlperf_result(scenario: Scenario, repeat: Repeat) -> MlperfResult:
    """The result of one window under the scenario's MLPerf rules.

    Raises ValueError if it has none: no rules, scored answers, or arrivals that MLPerf does not know.
    """
    if scenario.mlperf is None:
        raise ValueError(f"scenario {scenario.name} names no MLPerf rules")
    if scenario.measures_accuracy:
        raise ValueError(f"scenario {scenario.name} scores its answers: LoadGen reports no speed of such a run")
    name = scenario_name(scenario)
    window = _Window(scenario, scenario.mlperf, name, repeat)
    readings = window.readings()
    value, unit = window.result()
    return MlperfResult(
        benchmark=scenario.mlperf.benchmark,
        round=scenario.mlperf.round,
        scenario=name,
        valid=is_valid(readings),
        value=value,
        unit=unit,
        readings=readings,
        shorter=_shorter(scenario, scenario.mlperf, window),
    )


# --- one window -----------------------------------------------------------------------------------------------


def mlperf_tpot_s(record: RequestRecord) -> float | None:
    """(last - first chunk) / (tokens - 1); 0 for an answer of one token, None for one without any.

    Source: MLPerf's TPOT. Redline's own divides by the tokens after the first chunk, which may hold several.
    """
    if not record.chunk_ns:
        return None
    return seconds(record.chunk_ns[-1] - record.chunk_ns[0]) / max(record.output_tokens - 1, 1)


class _Window:
    """One window's records in the order of issue, and what LoadGen would make of them."""

    def __init__(self, scenario: Scenario, rules: MlperfRules, name: ScenarioName, repeat: Repeat) -> None:
        self.rules = rules
        self.name = name
        self.duration_s_min = 0.0 if rules.shortened else rules.duration_s_min
        own_min = scenario.request_count if rules.shortened else rules.query_count_min
        self.query_count_min = min(rules.query_count_min, own_min)
        self.records = sorted(repeat.records, key=lambda record: (record.sched_ns, record.index))
        self.answered = [record for record in self.records if record.outcome is Outcome.OK]
        self.start_ns = self.records[0].sched_ns if self.records else 0
        self.open_loop = name in ("Server", "Interactive")

    @property
    def duration_s(self) -> float:
        """What LoadGen holds against its minimum: Offline's only query; else until the last query was due or sent.

        Source: `PerformanceSummary::MinDurationMet`.
        """
        if not self.records:
            return 0.0
        if self.name == "Offline":
            return seconds(max(record.done_ns for record in self.records) - self.start_ns)
        last = self.records[-1]
        return seconds((last.sched_ns if self.open_loop else last.send_ns) - self.start_ns)

    @property
    def counts_tokens(self) -> bool:
        """True if LoadGen is told the tokens of each answer (`use_token_latencies`)."""
        return self.rules.unit == "tokens/s" and family(self.rules.benchmark) not in INFERRED_TOKENS

    def readings(self) -> tuple[ValidityReading, ...]:
        """Every rule of the scenario, kept or broken."""
        found = [self._all_answered()]
        if self.counts_tokens:
            found.append(self._tokens_told())
        found += [self._long_enough(), self._many_enough()]
        if self.open_loop:
            found += self._within_limits()
        if self.name == "SingleStream":
            needed = queries_needed(1, SINGLE_STREAM_SHARE)
            found.append(self._early_stopping("p90", len(self.records) >= needed, f"at least {needed} queries"))
        return tuple(found)

    def _all_answered(self) -> ValidityReading:
        failed = len(self.records) - len(self.answered)
        return ValidityReading(
            "no request failed",
            f"{failed} of {len(self.records)} failed",
            "none (LoadGen cannot see it)",
            failed == 0 and bool(self.records),
        )

    def _tokens_told(self) -> ValidityReading:
        short = sum(record.output_tokens < 2 for record in self.answered)
        return ValidityReading(
            "answers of at least two tokens",
            f"{short} shorter",
            "none (LoadGen logs an error for each)",
            short == 0,
        )

    def _long_enough(self) -> ValidityReading:
        what = {"Offline": "the query took", "SingleStream": "last query sent after"}.get(
            self.name, "last query due after"
        )
        return ValidityReading(
            "minimum duration",
            f"{what} {self.duration_s:.1f} s",
            f"at least {self.duration_s_min:g} s" if self.duration_s_min else "none set",
            bool(self.records) and self.duration_s >= self.duration_s_min,
        )

    def _many_enough(self) -> ValidityReading:
        counted = "samples in the query" if self.name == "Offline" else "queries"
        return ValidityReading(
            "minimum queries",
            f"{len(self.records)} {counted}",
            f"at least {self.query_count_min}",
            len(self.records) >= self.query_count_min,
        )

    def _within_limits(self) -> list[ValidityReading]:
        limits: list[tuple[str, float | None, Callable[[RequestRecord], float | None]]] = [
            ("TTFT", self.rules.ttft_s_p99_max, ttft_s),
            ("TPOT", self.rules.tpot_s_p99_max, mlperf_tpot_s),
            ("E2E", self.rules.e2e_s_p99_max, e2e_s),
        ]
        found = []
        for label, limit_s, formula in limits:
            if limit_s is not None:
                found += self._within(label, limit_s, formula)
        if not found:
            found.append(ValidityReading("latency limit", "the scenario has none", "at least one", ok=False))
        return found

    def _within(
        self, label: str, limit_s: float, formula: Callable[[RequestRecord], float | None]
    ) -> list[ValidityReading]:
        """The p99 and early stopping of one latency. Source: `PerfConstraintsMet` and `EarlyStopping` of LoadGen."""
        values = [_or_never(formula(record) if record.outcome is Outcome.OK else None) for record in self.records]
        found = percentile(values, SERVER_SHARE)
        over = sum(value > limit_s for value in values)
        needed = queries_needed(over, SERVER_SHARE)
        return [
            ValidityReading(
                f"{label} p99",
                "no query" if found is None else _latency(found),
                f"at most {_latency(limit_s)}",
                found is not None and found <= limit_s,
            ),
            self._early_stopping(
                label, passes(len(values), over, SERVER_SHARE), f"at least {needed} with {over} over the limit"
            ),
        ]

    def _early_stopping(self, label: str, ok: bool, limit: str) -> ValidityReading:
        return ValidityReading(f"early stopping, {label}", f"{len(self.records)} queries", limit, ok)

    def result(self) -> tuple[float | None, str]:
        """(value, unit) as MLPerf reports it; a value of None is undefined."""
        if self.name == "SingleStream":
            return self._latency_p90_s(), "s"
        return self._rate_per_s(), self.rules.unit

    def _rate_per_s(self) -> float | None:
        """Offline: all over the whole query. Server: all over the time until the query issued last was complete.

        Not until the last completion: a slow query before the last one is not waited for. In samples/s the last
        query is not counted, as the open end of its interval.
        Source: `results.cc` of LoadGen, `final_query_all_samples_done_time`.
        """
        if not self.answered:
            return None
        samples = len(self.answered) - 1 if self.open_loop else len(self.answered)
        tokens_inferred = INFERRED_TOKENS.get(family(self.rules.benchmark))
        amount: float = samples
        if self.rules.unit == "tokens/s":
            told = sum(record.output_tokens for record in self.answered)
            amount = told if tokens_inferred is None else samples * tokens_inferred
        window_s = seconds(self._end_ns() - self.start_ns)
        return amount / window_s if window_s > 0 and amount > 0 else None

    def _end_ns(self) -> int:
        """The end of the time that the result is divided by."""
        if not self.open_loop:
            return max(record.done_ns for record in self.records)
        last = self.records[-1]
        scheduled = self.rules.round in SCHEDULED_RATE_ROUNDS and self.rules.unit != "tokens/s"
        return last.sched_ns if scheduled else last.done_ns

    def _latency_p90_s(self) -> float | None:
        """The early stopping estimate; where tokens are counted, the plain percentile, as the checker reads it."""
        latencies = sorted(found for record in self.answered if (found := e2e_s(record)) is not None)
        if self.counts_tokens:
            return percentile(latencies, SINGLE_STREAM_SHARE)
        index = estimate_index(len(latencies), SINGLE_STREAM_SHARE)
        return None if index is None else latencies[index]


def _or_never(latency_s: float | None) -> float:
    return math.inf if latency_s is None else latency_s


def _latency(latency_s: float) -> str:
    return format_value(latency_s, "s") if math.isfinite(latency_s) else "never: too many failed"


# --- what MLPerf would demand beyond the run's own settings ----------------------------------------------------


def _shorter(scenario: Scenario, rules: MlperfRules, window: _Window) -> tuple[str, ...]:
    found = [rules.shortened] if rules.shortened else []
    if window.duration_s < DURATION_S_DEMANDED:
        found.append(f"lasted {window.duration_s:.1f} s; MLPerf demands {DURATION_S_DEMANDED:.0f} s")
    elif rules.duration_s_min < DURATION_S_DEMANDED:
        found.append(f"asked for {rules.duration_s_min:g} s only; MLPerf demands {DURATION_S_DEMANDED:.0f} s")
    queries = queries_demanded(rules, window.name)
    if len(window.records) < queries:
        counted = "samples" if window.name == "Offline" else "queries"
        found.append(f"{len(window.records)} {counted}; MLPerf demands {queries}")
    samples = samples_demanded(rules)
    if not isinstance(scenario.workload, DatasetItems):
        found.append(f"made-up prompts; MLPerf demands its data set of {samples} items")
    elif (items := min(scenario.workload.item_count, rules.sample_count)) < samples:
        found.append(f"{items} items of the data set; MLPerf demands all {samples}")
    return tuple(found)
