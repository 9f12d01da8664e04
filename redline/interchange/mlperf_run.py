"""A run in LoadGen's terms: the settings it was made with, and what was judged of it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from redline.model import Repeat, Seeds, require

STATEMENT = "MLPerf-style, not verified by MLCommons"
"""What every text of an export says."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What LoadGen would have been asked to do, and what it would have made of it.

    `items`: the data set's index of each request, in order of issue; `loaded`: those of the loaded samples, in the
    order of loading. `samples_per_query`: of Offline's one query before it is filled up to whole passes.
    `generated_query_count` and `generated_duration_ns`: as in LoadGen's detail log. Limits count in Server only, 0
    where the scenario has none. `tokens_inferred`: tokens a sample that MLPerf takes for granted; None where it counts.
    """

    scenario: Literal["Server", "Offline"]
    accuracy: bool
    seeds: Seeds
    target_rate_per_s: float
    duration_s_min: float
    query_count_min: int
    sample_count: int
    performance_sample_count: int
    samples_per_query: int
    items: tuple[int, ...]
    loaded: tuple[int, ...]
    generated_query_count: int
    generated_duration_ns: int
    use_token_latencies: bool
    equal_issue: bool = True
    ttft_ns_max: int = 0
    tpot_ns_max: int = 0
    latency_ns_max: int = 0
    tokens_inferred: int | None = None

    def __post_init__(self) -> None:
        require(bool(self.items), "items must hold at least one request")
        require(self.sample_count >= 1, "sample_count must be at least 1")

    @property
    def offline(self) -> bool:
        """True if all samples are one query."""
        return self.scenario == "Offline"


@dataclass(frozen=True, slots=True)
class LogVerdict:
    """What the window was judged, in LoadGen's terms, by whoever judged it.

    `perf_constraints_met`: None in Offline, which has no limits. `queries_needed`: how many queries early stopping
    wants, by what was tested (`TTFT`, `TPOT`, `E2E`). `reasons`: the broken rules in words, empty for a valid run.
    """

    valid: bool
    min_duration_met: bool
    min_queries_met: bool
    early_stopping_met: bool
    perf_constraints_met: bool | None = None
    queries_needed: Mapping[str, int] | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoggedWindow:
    """One window to be written as LoadGen's logs. `verdict`: None in accuracy mode, which LoadGen does not judge."""

    trial_id: str
    system_name: str
    repeat: Repeat
    settings: LogSettings
    verdict: LogVerdict | None

    def __post_init__(self) -> None:
        require(
            len(self.repeat.records) == len(self.settings.items),
            f"{len(self.repeat.records)} records of {len(self.settings.items)} requests",
        )
        require(self.settings.accuracy == (self.verdict is None), "a verdict belongs to performance mode")

    @property
    def notice(self) -> str:
        """What the logs say about themselves."""
        source = f"window {self.repeat.index + 1} of its trial {self.trial_id}"
        return f"Written by Redline from {source}, not by LoadGen. {STATEMENT}."
