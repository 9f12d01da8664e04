"""The lists that github-action-benchmark reads: one for `customSmallerIsBetter`, one for `customBiggerIsBetter`.

Its charts join entries by `name` over commits, so a name holds no build; what was measured is in `extra`.
Source: benchmark-action/github-action-benchmark, README: name, unit, value, optional range and extra.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from redline.errors import UsageError
from redline.interchange.trial_groups import TrialGroup, groups_of
from redline.metrics import CATALOGUE, Better, Metric, reading_of
from redline.model import Trial


def to_github_action_benchmark(trials: Iterable[Trial]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(smaller is better, bigger is better): the median of the trials' readings per scenario and metric.

    `value` is in `unit`, the metric's base unit; `range` is the standard deviation between deployments
    (ddof 1), left out for a single one. Raises UsageError if no trial is valid, or if two systems or machines
    were measured in one scenario: their entries would have one name.
    """
    groups = groups_of(trials)
    _require_one_each(groups)
    smaller: list[dict[str, Any]] = []
    bigger: list[dict[str, Any]] = []
    for group in groups:
        for metric in CATALOGUE.values():
            if (entry := _entry(group, metric)) is not None:
                (smaller if metric.better is Better.LOWER else bigger).append(entry)
    return smaller, bigger


def _require_one_each(groups: Iterable[TrialGroup]) -> None:
    seen: dict[tuple[str, str], TrialGroup] = {}
    for group in groups:
        other = seen.setdefault((group.scenario, group.runner_class), group)
        if other is not group:
            raise UsageError(
                f"{group.scenario} on {group.runner_class} was measured more than once",
                expected="one system, one scenario hash and one machine",
                found=" and ".join(f"{one.sut.label} ({one.trials[0].trial_id})" for one in (other, group)),
                next_step="export one arm of the comparison",
            )


def _entry(group: TrialGroup, metric: Metric) -> dict[str, Any] | None:
    """The entry of one metric, None if no trial defines it."""
    found = [reading.value for trial in group.trials if (reading := reading_of(trial, metric.metric_id)) is not None]
    if not found:
        return None
    entry: dict[str, Any] = {
        "name": f"{group.scenario} / {metric.label} / {group.runner_class}",
        "unit": metric.unit,
        "value": statistics.median(found),
    }
    if len(found) > 1:
        entry["range"] = f"± {statistics.stdev(found):.3g}"
    pin = group.sut.pin
    repeat_count = sum(len(trial.counted_repeats) for trial in group.trials)
    entry["extra"] = "\n".join(
        (
            f"build: {group.sut.label}",
            f"wheel sha256: {pin.wheel_sha256 or 'unknown'}",
            f"deployments: {len(found)}, repeats: {repeat_count}",
            f"definition: {metric.definition}",
        )
    )
    return entry
