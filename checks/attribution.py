"""Where a change shows: which stage of the server moved, and what differs between the arms. Never a claimed cause."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from redline.model import SystemUnderTest, Trial
from redline.units import format_percent, format_value

STAGES = {
    "queue": "vllm:request_queue_time_seconds",
    "prefill": "vllm:request_prefill_time_seconds",
    "decode": "vllm:request_decode_time_seconds",
}
"""Source: vLLM; queue is scheduled - queued, prefill first token - scheduled, decode last - first token."""

CHANGE_SHARE_MIN = 0.05
STAGE_S_MIN = 0.0005
"""Half a millisecond: below it a doubled stage is still nothing."""
PACKAGES_NAMED_MAX = 8


def stage_s(trials: Sequence[Trial], histogram: str) -> float | None:
    """Mean seconds a request spent in one stage, by the server's own clock, over the counted repeats.

    None if the server counted no request.
    """
    total_s = count = 0.0
    for trial in trials:
        for repeat in trial.counted_repeats:
            total_s += repeat.server_counters.get(f"{histogram}_sum", 0.0)
            count += repeat.server_counters.get(f"{histogram}_count", 0.0)
    return total_s / count if count > 0 else None


def stage_statements(baseline: Sequence[Trial], candidate: Sequence[Trial]) -> tuple[str, ...]:
    """One statement per stage and scenario that moved, the largest change in seconds first."""
    found: list[tuple[float, str]] = []
    for scenario in dict.fromkeys(trial.scenario for trial in candidate):
        arms = [[trial for trial in trials if trial.scenario == scenario] for trials in (baseline, candidate)]
        for stage, histogram in STAGES.items():
            before_s, after_s = (stage_s(arm, histogram) for arm in arms)
            if before_s is None or after_s is None:
                continue
            change_s = after_s - before_s
            share = change_s / before_s if before_s > 0 else math.inf
            if abs(share) >= CHANGE_SHARE_MIN and max(before_s, after_s) >= STAGE_S_MIN:
                found.append((abs(change_s), _stage_statement(scenario, stage, before_s, after_s)))
    return tuple(statement for _, statement in sorted(found, key=lambda each: -each[0]))


def _stage_statement(scenario: str, stage: str, before_s: float, after_s: float) -> str:
    change = f"{after_s / before_s:.0f} times" if after_s > 10 * before_s > 0 else ""
    if not change:
        change = format_percent(after_s / before_s - 1) if before_s > 0 else "from nothing"
    return (
        f"{scenario}: {stage} time per request, by the server's own clock, went from "
        f"{format_value(before_s, 's')} to {format_value(after_s, 's')} ({change})"
    )


def difference_statements(baseline: SystemUnderTest, candidate: SystemUnderTest) -> tuple[str, ...]:
    """What differs between the arms: build, server arguments, models, packages; says so if nothing does."""
    found = []
    if baseline.pin.label != candidate.pin.label:
        found.append(f"the build differs: {baseline.pin.label} against {candidate.pin.label}")
    if baseline.pin.wheel_sha256 != candidate.pin.wheel_sha256 and baseline.pin.label == candidate.pin.label:
        found.append("the wheels differ although their versions do not")
    if baseline.extra_args != candidate.extra_args:
        found.append(
            f"the server arguments differ: {_words(baseline.extra_args)} against {_words(candidate.extra_args)}"
        )
    if baseline.models != candidate.models:
        names = sorted({name for name, _ in (*baseline.models, *candidate.models)})
        found.append(f"the model served for {', '.join(names)} differs")
    packages = _changed_packages(_versions(baseline.pin.lock), _versions(candidate.pin.lock))
    if packages:
        named = ", ".join(packages[:PACKAGES_NAMED_MAX])
        more = len(packages) - PACKAGES_NAMED_MAX
        found.append(f"packages installed beside vLLM differ: {named}" + (f" and {more} more" if more > 0 else ""))
    if not found:
        found.append("nothing that Redline knows of differs between the arms: an A/A comparison")
    return tuple(found)


def _words(arguments: Sequence[str]) -> str:
    return " ".join(arguments) or "none"


def _versions(lock: str) -> dict[str, str]:
    """Package -> version of a pip requirements lock."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", lock, flags=re.MULTILINE))


def _changed_packages(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
