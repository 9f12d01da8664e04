"""What MLPerf's official LoadGen is asked to do, and what it will issue when. Pure.

The names are Redline's; `redline.load.loadgen_program` says them in LoadGen's own. A plan made of `planned_issue` is
what the native driver follows, and what the official LoadGen must issue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from redline.load import loadgen
from redline.mlperf import seeds_of
from redline.model import DatasetItems, Offline, Scenario, Seeds, Server, require
from redline.units import NS_PER_S, nanoseconds

LoadgenScenario: TypeAlias = Literal["Server", "Offline"]
LoadgenMode: TypeAlias = Literal["performance", "accuracy"]

NS_PER_MS = 1_000_000
_SEED_END = 2**64


@dataclass(frozen=True, slots=True)
class LoadgenSettings:
    """One run of LoadGen.

    `target_rate_per_s`: Server's arrival rate, or what Offline is sized by. `query_count_min`: for Offline, of
    samples. `sample_count` is the data set's size, `performance_sample_count` how many of them performance mode
    uses. `use_token_latencies`: TTFT and TPOT are judged (`ttft_ns_max`, `tpot_ns_max`), else the whole latency
    (`latency_ns_max`); limits count in Server only. `trace`: LoadGen writes mlperf_log_trace.json too, about 2 kB
    a query, with every instant it knows.

    Left out: accuracy mode in several sets, which has a schedule for each set. The whole data set is loaded at once.
    """

    scenario: LoadgenScenario
    mode: LoadgenMode
    seeds: Seeds
    target_rate_per_s: float
    duration_s_min: float
    query_count_min: int
    sample_count: int
    performance_sample_count: int
    equal_issue: bool = True
    use_token_latencies: bool = True
    ttft_ns_max: int = 0
    tpot_ns_max: int = 0
    latency_ns_max: int = 0
    trace: bool = False

    def __post_init__(self) -> None:
        require(self.scenario in ("Server", "Offline"), "scenario must be Server or Offline")
        require(self.mode in ("performance", "accuracy"), "mode must be performance or accuracy")
        for name in ("qsl", "sample_index", "schedule"):
            require(0 <= getattr(self.seeds, name) < _SEED_END, f"seeds.{name} must be in [0, 2**64)")
        require(0 < self.target_rate_per_s <= 100_000, "target_rate_per_s must be in (0, 100000]")
        require(0 <= self.duration_s_min <= 86_400, "duration_s_min must be in [0, 86400] seconds")
        require(
            nanoseconds(self.duration_s_min) % NS_PER_MS == 0, "duration_s_min must be whole milliseconds, as LoadGen's"
        )
        require(1 <= self.query_count_min <= 100_000_000, "query_count_min must be in [1, 100000000]")
        require(1 <= self.sample_count <= 100_000_000, "sample_count must be in [1, 100000000]")
        require(self.performance_sample_count >= 1, "performance_sample_count must be at least 1")
        require(
            self.mode == "performance" or self.performance_sample_count >= self.sample_count,
            "performance_sample_count must be at least sample_count in accuracy mode: one set, one schedule",
        )
        for name in ("ttft_ns_max", "tpot_ns_max", "latency_ns_max"):
            require(getattr(self, name) >= 0, f"{name} must not be negative")
        if self.scenario == "Server" and self.mode == "performance":
            needed = ("ttft_ns_max", "tpot_ns_max") if self.use_token_latencies else ("latency_ns_max",)
            for name in needed:
                require(getattr(self, name) > 0, f"{name} must be positive: Server is judged by it")

    @property
    def loaded_count(self) -> int:
        """How many samples are loaded: at most all there are."""
        return min(self.performance_sample_count, self.sample_count)


# --- what it issues -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlannedIssue:
    """What LoadGen issues, in order.

    items: index into the data set of each sample, shape (count,).
    offsets_ns: when each is due, nanoseconds after LoadGen's start, ascending, shape (count,); all 0 in Offline.
    query_count, query_duration_ns: `generated_query_count` and `generated_query_duration` of LoadGen's detail log.
    """

    items: tuple[int, ...]
    offsets_ns: tuple[int, ...]
    query_count: int
    query_duration_ns: int


def planned_issue(settings: LoadgenSettings) -> PlannedIssue:
    """What LoadGen will issue with these settings, bit for bit. Source: see `redline.load.loadgen`."""
    loaded = loadgen.loaded_samples(settings.loaded_count, settings.seeds.qsl)
    if settings.scenario == "Offline":
        items = _offline_items(settings, loaded)
        # ScheduleDistribution of loadgen.cc: the gap after the one query, cut to whole nanoseconds.
        period_ns = int(1.0 / settings.target_rate_per_s * NS_PER_S)
        return PlannedIssue(items, (0,) * len(items), 1, period_ns)
    items = _server_items(settings, loaded)
    count, seed = len(items) + 1, settings.seeds.schedule
    *offsets_ns, end_ns = loadgen.server_offsets_ns(count, settings.target_rate_per_s, seed)
    return PlannedIssue(items, tuple(offsets_ns), len(items), end_ns)


def _server_items(settings: LoadgenSettings, loaded: tuple[int, ...]) -> tuple[int, ...]:
    seeds = settings.seeds
    if settings.mode == "accuracy":
        return loadgen.accuracy_order(loaded, seeds.sample_index, equal_issue=settings.equal_issue)
    count = loadgen.server_query_count(
        settings.target_rate_per_s,
        settings.duration_s_min,
        settings.query_count_min,
        seeds.schedule,
        pass_size=len(loaded) if settings.equal_issue else None,
    )
    selection: loadgen.Selection = "equal-issue" if settings.equal_issue else "with-replacement"
    return loadgen.sample_order(loaded, count, seeds.sample_index, selection, min_query_count=settings.query_count_min)


def _offline_items(settings: LoadgenSettings, loaded: tuple[int, ...]) -> tuple[int, ...]:
    accuracy = settings.mode == "accuracy"
    count = len(loaded)
    if not accuracy:
        count = loadgen.offline_sample_count(
            settings.target_rate_per_s,
            settings.duration_s_min,
            settings.query_count_min,
            pass_size=len(loaded) if settings.equal_issue else None,
        )
    return loadgen.offline_order(
        loaded, count, settings.seeds.sample_index, equal_issue=settings.equal_issue, accuracy=accuracy
    )


# --- a scenario's settings ----------------------------------------------------------------------------------


def settings_of(scenario: Scenario) -> LoadgenSettings:
    """The settings with which LoadGen issues just the scenario's requests, in equal-issue mode.

    Where the order of the items is not LoadGen's, or there are none, each request counts as a sample of its own.
    Limits are those of the scenario's MLPerf rules; without them a request has the whole window.
    Raises ValueError for a scenario that LoadGen cannot issue: a closed loop, another arrival process than its own,
    a number of requests that is not a multiple of the data set.
    """
    workload, rules, count = scenario.workload, scenario.mlperf, scenario.request_count
    ordered = isinstance(workload, DatasetItems) and workload.order == "loadgen"
    samples = workload.item_count if ordered and isinstance(workload, DatasetItems) else count
    require(count % samples == 0, f"request_count is {count}: not a multiple of the data set's {samples} items")
    window_s = scenario.limits.window_s_max
    ttft_s, tpot_s, e2e_s = (None, None, None)
    if rules is not None:
        ttft_s, tpot_s, e2e_s = rules.ttft_s_p99_max, rules.tpot_s_p99_max, rules.e2e_s_p99_max
    rate_per_s, duration_s, count_min = _sizing(scenario, samples)
    by_token = rules is None or rules.unit == "tokens/s"
    return LoadgenSettings(
        scenario="Offline" if isinstance(scenario.arrivals, Offline) else "Server",
        mode="accuracy" if scenario.accuracy is not None else "performance",
        seeds=seeds_of(scenario),
        target_rate_per_s=rate_per_s,
        duration_s_min=duration_s,
        query_count_min=count_min,
        sample_count=samples,
        performance_sample_count=samples,
        use_token_latencies=by_token,
        ttft_ns_max=nanoseconds(ttft_s or window_s),
        tpot_ns_max=nanoseconds(tpot_s or window_s),
        latency_ns_max=0 if by_token else nanoseconds(e2e_s or window_s),  # 0, as in mlperf.conf: not looked at
    )


def _sizing(scenario: Scenario, samples: int) -> tuple[float, float, int]:
    """(rate per second, shortest duration in seconds, least number of queries) that make just its requests.

    The rules' own values where they do; otherwise the duration is fitted, so that LoadGen ends with the last request.
    """
    count, rules = scenario.request_count, scenario.mlperf
    # A shortened variant ends with its last request, whatever the full run's duration is.
    duration_s = rules.duration_s_min if rules is not None and not rules.shortened else 0.0
    if isinstance(scenario.arrivals, Offline):
        # Sized by the rate, LoadGen must not come to more: its run is then too short by its own judgement, not longer.
        rate_per_s = count / (loadgen.OFFLINE_SLACK * duration_s) if duration_s else 1.0
        fits = loadgen.offline_sample_count(rate_per_s, duration_s, count, samples) == count
        return (rate_per_s, duration_s, count) if fits else (1.0, 0.0, count)
    require(
        isinstance(scenario.arrivals, Server) and scenario.arrivals.process == "loadgen",
        'arrivals must be offline, or server with process = "loadgen"',
    )
    assert isinstance(scenario.arrivals, Server)
    rate_per_s, seed = scenario.arrivals.rate_per_s, seeds_of(scenario).schedule
    count_min = min(rules.query_count_min, count) if rules is not None else count
    if loadgen.server_query_count(rate_per_s, duration_s, count_min, seed, samples) != count:
        last_ns = loadgen.server_offsets_ns(count, rate_per_s, seed)[-1]
        duration_s = last_ns // NS_PER_MS / 1000
    return rate_per_s, duration_s, count_min
