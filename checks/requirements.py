"""What a build has to reach whatever any other build does: its accuracy targets and MLPerf's rules. Pure.

`release`: a release is judged (a sign-off), not a change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from checks.accuracy_target import target_readings
from checks.mlperf_rules import MlperfResult, has_result, mlperf_result
from redline.model import Arm, Repeat, Scenario, TargetReading, Trial, TrialStatus

JUDGED = (Arm.CANDIDATE, Arm.SINGLE)
LIMIT_RULE = " p99"
"""How the rules about latency end."""

EARLY_STOPPING = "early stopping, "
SIZE_RULES = ("minimum ", EARLY_STOPPING)
"""How the rules about how much was run begin."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """In words: what the build does not reach (`unmet`), what nobody can tell (`unknown`), and what is only `told`."""

    unmet: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def targets_of(scenario: Scenario, trials: Sequence[Trial]) -> tuple[TargetReading, ...]:
    """Every figure of every valid trial of a scenario with an accuracy target, in order; none without a target.

    Where programs among the answers were not run, what covers only the others is no figure of all answers.
    """
    if scenario.accuracy is None:
        return ()
    return tuple(
        reading
        for trial in trials
        if trial.scenario == scenario.name and trial.status is TrialStatus.VALID
        for reading in target_readings(scenario.name, scenario.accuracy, _of_all_answers(trial), trial.arm)
    )


def _of_all_answers(trial: Trial) -> dict[str, float]:
    left_out = {"exact_match"} if trial.figures.get("not_run", 0.0) > 0 else set()
    return {figure: value for figure, value in trial.figures.items() if figure not in left_out}


def missed(scenarios: Sequence[Scenario], trials: Sequence[Trial]) -> tuple[TargetReading, ...]:
    """The figures of the build under test that are known and do not reach their target."""
    return tuple(each for each in _judged(scenarios, trials) if not each.ok and each.value is not None)


def targets_decide(scenarios: Sequence[Scenario], trials: Sequence[Trial], *, release: bool) -> bool:
    """A release must reach its targets; in a gate, a missed one counts only if the baseline is known to reach all."""
    readings = [each for scenario in scenarios for each in targets_of(scenario, trials)]
    known = [each.ok for each in readings if each.arm is Arm.BASELINE]
    has_baseline = any(trial.arm is Arm.BASELINE for trial in trials)
    return release or not has_baseline or (bool(known) and all(known))


def required(scenarios: Sequence[Scenario], trials: Sequence[Trial], *, release: bool) -> Requirements:
    """What is asked of the build under test, whatever any other build does.

    Accuracy targets where they decide (`targets_decide`); in a sign-off also MLPerf's rules of scenarios of full size:
    latency limits are the build's, while a run that was too short or had too few queries says nothing of it. A rule
    counts as broken if most trials break it. A figure that is known of the baseline and not of the build is unknown in
    a gate too. What does not decide is told.
    """
    decides = targets_decide(scenarios, trials, release=release)
    words = [each.sentence for each in missed(scenarios, trials)]
    unknown = [
        f"{each.figure} in {each.scenario} cannot be told: it is not reported"
        + (f", {count:.0f} programs among the answers were not run (--run-code)" if count else "")
        for each in _judged(scenarios, trials)
        if each.value is None
        for count in [_not_run(each, trials)]
    ]
    limits, sizes = _broken_rules(scenarios, trials)
    if release:
        return Requirements(_once(words + limits), _once(unknown + sizes))
    if decides and any(trial.arm is Arm.BASELINE for trial in trials):
        return Requirements(_once(words), _once(unknown), _once(limits + sizes))
    if decides:
        return Requirements(_once(words), (), _once(unknown + limits + sizes))
    return Requirements((), (), _once(words + unknown + limits + sizes))


def judged_window(scenario: Scenario, trials: Sequence[Trial]) -> tuple[Trial, Repeat, MlperfResult] | None:
    """The middle window of the last valid trial of the build under test, with its result; None if there is none."""
    found = _judged_windows(scenario, trials)
    return found[-1] if found else None


def _judged_windows(scenario: Scenario, trials: Sequence[Trial]) -> list[tuple[Trial, Repeat, MlperfResult]]:
    """Of each valid trial of the build under test the middle window by its value, with its result."""
    if not has_result(scenario):
        return []
    found = []
    for trial in trials:
        of_it = (trial.scenario, trial.status) == (scenario.name, TrialStatus.VALID) and trial.arm in JUDGED
        if not of_it or not trial.counted_repeats:
            continue
        results = [(trial, repeat, mlperf_result(scenario, repeat)) for repeat in trial.counted_repeats]
        ranked = sorted(results, key=lambda each: (each[2].value is not None, each[2].value or 0.0))
        found.append(ranked[(len(ranked) - 1) // 2])
    return found


def _broken_rules(scenarios: Sequence[Scenario], trials: Sequence[Trial]) -> tuple[list[str], list[str]]:
    """(latency limits, other rules) that most trials of full-size scenarios break, in words."""
    limits: list[str] = []
    others: list[str] = []
    for scenario in scenarios:
        windows = _judged_windows(scenario, trials)
        if not windows or scenario.mlperf is None or scenario.mlperf.shortened:
            continue
        broken = [reading for _, _, result in windows for reading in result.readings if not reading.ok]
        counts = Counter(reading.rule for reading in broken)
        rules = [rule for rule, count in counts.items() if 2 * count > len(windows)]
        for rule in rules:
            latency = rule.removeprefix(EARLY_STOPPING)
            if rule != latency and f"{latency}{LIMIT_RULE}" in rules:
                continue  # it says no more than the limit does
            last = next(reading for reading in reversed(broken) if reading.rule == rule)
            words = f"{scenario.name} is INVALID by MLPerf's rules: {rule}, {last.reading}, limit {last.limit}"
            if rule.endswith(LIMIT_RULE):
                limits.append(words)
            elif rule.startswith(SIZE_RULES):
                others.append(f"{words}; the run was too small to tell: raise its rate or its request_count")
            else:
                others.append(words)
    return limits, others


def _judged(scenarios: Sequence[Scenario], trials: Sequence[Trial]) -> list[TargetReading]:
    readings = [each for scenario in scenarios for each in targets_of(scenario, trials)]
    return [each for each in readings if each.arm in JUDGED]


def _not_run(reading: TargetReading, trials: Sequence[Trial]) -> float:
    return max((each.figures.get("not_run", 0.0) for each in trials if each.scenario == reading.scenario), default=0.0)


def _once(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))
