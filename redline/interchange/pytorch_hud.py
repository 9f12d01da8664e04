"""Rows of the PyTorch HUD's benchmark database, version 3, one per metric, every repeat's value kept.

Source: pytorch/test-infra, clickhouse_db_schema/oss_ci_benchmark_v3/schema.sql. Every `extra_info` there maps
texts to texts; `benchmark_values` is a list so that repeats need not be averaged away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redline.interchange.trial_groups import TrialGroup, groups_of
from redline.metrics import CATALOGUE, Metric
from redline.model import RunnerFingerprint, Trial

BENCHMARK = "Redline"


@dataclass(frozen=True, slots=True)
class HudJob:
    """The CI job that the rows belong to, and the model names, which a trial does not hold.

    `timestamp_s`: seconds since 1970 (UTC); `repo`, `head_branch`, `head_sha`: the change that was measured;
    `models`: scenario -> the model it serves, a missing one is the replaced model or "unknown".
    """

    timestamp_s: int
    repo: str = "vllm-project/vllm"
    head_branch: str = ""
    head_sha: str = ""
    workflow_id: int = 0
    run_attempt: int = 1
    job_id: int = 0
    models: Mapping[str, str] = field(default_factory=dict)


def to_pytorch_hud(trials: Iterable[Trial], job: HudJob) -> list[dict[str, Any]]:
    """One row per system, scenario, runner and defined metric, in the order of the trials; only valid trials.

    `benchmark_values` holds every counted repeat of every trial; the row's `extra_info` says how many belong to
    which trial. Raises UsageError if no trial is valid.
    """
    return [
        _row(group, metric, values, counts, job)
        for group in groups_of(trials)
        for metric in CATALOGUE.values()
        for values, counts in [_values(group.trials, metric)]
        if values
    ]


def _values(trials: Sequence[Trial], metric: Metric) -> tuple[list[float], dict[str, int]]:
    """(every counted repeat's value, trial id -> how many of them it gave), undefined ones left out."""
    by_trial = {
        trial.trial_id: [value for repeat in trial.counted_repeats if (value := metric.formula(repeat)) is not None]
        for trial in trials
    }
    return [value for values in by_trial.values() for value in values], {
        trial_id: len(values) for trial_id, values in by_trial.items()
    }


def _row(
    group: TrialGroup, metric: Metric, values: Sequence[float], counts: Mapping[str, int], job: HudJob
) -> dict[str, Any]:
    return {
        "timestamp": job.timestamp_s,
        "schema_version": "v3",
        "name": BENCHMARK,
        "repo": job.repo,
        "head_branch": job.head_branch,
        "head_sha": job.head_sha,
        "workflow_id": job.workflow_id,
        "run_attempt": job.run_attempt,
        "job_id": job.job_id,
        "servicelab_experiment_id": 0,
        "servicelab_trial_id": 0,
        "runners": [_runner(group.runner_class, group.trials[0].fingerprint)],
        "benchmark": {
            "name": BENCHMARK,
            "mode": "inference",
            "dtype": "",
            "extra_info": {
                "args": " ".join(group.sut.extra_args),
                "scenario": group.scenario,
                "scenario_hash": group.scenario_hash,
            },
        },
        "model": _model(group, job.models),
        "inputs": {},
        "dependencies": {"vllm": _dependency(group)},
        "metric": {
            "name": metric.metric_id,
            "benchmark_values": list(values),
            "target_value": 0.0,
            "extra_info": {
                "unit": metric.unit,
                "better": metric.better.value,
                "definition": metric.definition,
                "values_per_trial": " ".join(f"{trial_id}:{count}" for trial_id, count in counts.items()),
            },
        },
    }


def _model(group: TrialGroup, models: Mapping[str, str]) -> dict[str, Any]:
    replaced = group.sut.models
    name = models.get(group.scenario) or (replaced[0][1] if len(replaced) == 1 else "unknown")
    return {"name": name, "type": "llm", "backend": "vllm", "origins": [], "extra_info": {}}


def _dependency(group: TrialGroup) -> dict[str, Any]:
    """The build: the commit is empty, because neither vLLM's wheels nor its servers tell it."""
    pin = group.sut.pin
    return {
        "repo": "vllm-project/vllm",
        "branch": "",
        "sha": "",
        "version": pin.version,
        "extra_info": {
            "distribution": pin.distribution,
            "kind": pin.kind.value,
            "pin_id": pin.pin_id,
            "platform": pin.platform,
            "python_version": pin.python_version,
            "wheel_sha256": pin.wheel_sha256 or "",
        },
    }


def _runner(name: str, fingerprint: RunnerFingerprint) -> dict[str, Any]:
    """The machine by its fingerprint; what it does not say is 0 or empty, and all of it is in `extra_info`."""
    facts = fingerprint.facts
    return {
        "name": facts.get("host", ""),
        "type": name,
        "cpu_info": facts.get("cpu_model", facts.get("machine", "")),
        "cpu_count": _whole(facts.get("cpu_count", "")),
        "mem_info": "",
        "avail_mem_in_gb": _whole(facts.get("memory_gib", "")),
        "gpu_info": facts.get("gpu_model", ""),
        "gpu_count": _whole(facts.get("gpu_count", "")),
        "gpu_mem_info": "",
        "avail_gpu_mem_in_gb": _whole(facts.get("gpu_memory_gib", "")),
        "extra_info": {"fingerprint_id": fingerprint.fingerprint_id, **facts},
    }


def _whole(text: str) -> int:
    """The number in a fact, 0 if there is none: the database's columns are unsigned."""
    return int(text) if text.isascii() and text.isdecimal() else 0
