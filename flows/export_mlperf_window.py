"""One stored window in LoadGen's terms: its settings, what it was judged, and LoadGen's own logs where it drove."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from checks.early_stopping import queries_needed
from checks.mlperf_demands import INFERRED_TOKENS, family
from checks.mlperf_rules import SERVER_SHARE, MlperfResult, mlperf_tpot_s
from flows.workspace import Workspace
from redline.errors import UsageError
from redline.interchange.mlperf_logs import accuracy_log, detail_log, summary_log
from redline.interchange.mlperf_run import LoggedWindow, LogSettings, LogVerdict
from redline.load import loadgen
from redline.load.loadgen_logs import ACCURACY, DETAIL, SUMMARY, read_logs
from redline.load.loadgen_settings import planned_issue, settings_of
from redline.markdown import one_line
from redline.metrics import e2e_s, ttft_s
from redline.model import MlperfRules, Outcome, Repeat, Scenario, SystemUnderTest, Trial

OFFICIAL = "the official LoadGen's own, copied as they are"
WRITTEN = "written by Redline in LoadGen's format from the stored trial, not by LoadGen"


@dataclass(frozen=True, slots=True)
class WindowLogs:
    """The three logs of one window and whose they are (OFFICIAL or WRITTEN). `accuracy`: the whole of it."""

    summary: bytes
    detail: bytes
    accuracy: bytes
    said_by: str


def log_settings(scenario: Scenario) -> LogSettings:
    """What LoadGen would have been asked to do. Raises UsageError for a scenario that LoadGen cannot issue."""
    try:
        asked = settings_of(scenario)
    except ValueError as error:
        raise UsageError(
            f"scenario {scenario.name} is none that LoadGen issues",
            expected='arrivals offline, or server with process = "loadgen"',
            found=str(error),
        ) from error
    planned = planned_issue(asked)
    inferred = INFERRED_TOKENS.get(family(scenario.mlperf.benchmark)) if scenario.mlperf is not None else None
    per_query = 1
    if asked.scenario == "Offline":
        per_query = loadgen.offline_sample_count(
            asked.target_rate_per_s, asked.duration_s_min, asked.query_count_min, pass_size=None
        )
    return LogSettings(
        scenario=asked.scenario,
        accuracy=asked.mode == "accuracy",
        seeds=asked.seeds,
        target_rate_per_s=asked.target_rate_per_s,
        duration_s_min=asked.duration_s_min,
        query_count_min=asked.query_count_min,
        sample_count=asked.sample_count,
        performance_sample_count=asked.performance_sample_count,
        samples_per_query=per_query,
        items=planned.items,
        loaded=loadgen.loaded_samples(asked.loaded_count, asked.seeds.qsl),
        generated_query_count=planned.query_count,
        generated_duration_ns=planned.query_duration_ns,
        use_token_latencies=asked.use_token_latencies and inferred is None,
        equal_issue=asked.equal_issue,
        ttft_ns_max=asked.ttft_ns_max,
        tpot_ns_max=asked.tpot_ns_max,
        latency_ns_max=asked.latency_ns_max,
        tokens_inferred=inferred,
    )


def verdict_of(result: MlperfResult, rules: MlperfRules, repeat: Repeat) -> LogVerdict:
    """The judgement of a window in LoadGen's terms; the judge is `checks.mlperf_rules`."""
    kept = {reading.rule: reading.ok for reading in result.readings}
    limits = {
        "TTFT": (rules.ttft_s_p99_max, ttft_s),
        "TPOT": (rules.tpot_s_p99_max, mlperf_tpot_s),
        "E2E": (rules.e2e_s_p99_max, e2e_s),
    }
    needed = {}
    for label, (limit_s, formula) in limits.items():
        if limit_s is None or result.scenario == "Offline":
            continue
        found = [formula(record) if record.outcome is Outcome.OK else None for record in repeat.records]
        over = sum(value is None or value > limit_s for value in found)
        needed[label] = queries_needed(over, SERVER_SHARE)
    met = [ok for rule, ok in kept.items() if rule.endswith(" p99")]
    return LogVerdict(
        valid=result.valid,
        min_duration_met=kept["minimum duration"],
        min_queries_met=kept["minimum queries"],
        early_stopping_met=all(ok for rule, ok in kept.items() if rule.startswith("early stopping")),
        perf_constraints_met=None if result.scenario == "Offline" else bool(met) and all(met),
        queries_needed=needed,
        reasons=tuple(
            f"{reading.rule}: {reading.reading}, limit {reading.limit}" for reading in result.readings if not reading.ok
        ),
    )


def logs_of(
    workspace: Workspace, trial: Trial, repeat: Repeat, settings: LogSettings, verdict: LogVerdict | None
) -> WindowLogs:
    """The logs of a window: LoadGen's own where it drove, else written from the trial.

    Raises LoadError if LoadGen's own are damaged.
    """
    official = _official_dir(workspace, trial) / f"{repeat.index:02d}"
    if official.is_dir():
        return _official(official)
    system = f"{one_line(label_of(trial.sut))}, driven by Redline"
    window = LoggedWindow(trial.trial_id, system, repeat, settings, verdict)
    answers = accuracy_log(window) if settings.accuracy else "[\n]\n"
    return WindowLogs(summary_log(window).encode(), detail_log(window).encode(), answers.encode(), WRITTEN)


def driven_officially(workspace: Workspace, trial: Trial) -> bool:
    """True if MLPerf's own LoadGen drove a trial."""
    return _official_dir(workspace, trial).is_dir()


def label_of(sut: SystemUnderTest) -> str:
    """A system's label in which replaced models have their folder's name only: where it lay is nobody's business."""
    return replace(sut, models=tuple((recipe, without_folder(model)) for recipe, model in sut.models)).label


def without_folder(path: str) -> str:
    """The last part of a path that only means something on one machine; anything else as it is."""
    return Path(path).name if path.startswith(("/", "~")) else path


def _official_dir(workspace: Workspace, trial: Trial) -> Path:
    return workspace.log_dir(trial.run_id) / "loadgen" / trial.trial_id


def _official(folder: Path) -> WindowLogs:
    read_logs(folder)  # damaged ones are refused before they are handed on
    summary, detail, accuracy = ((folder / name).read_bytes() for name in (SUMMARY, DETAIL, ACCURACY))
    return WindowLogs(summary, detail, accuracy, OFFICIAL)
