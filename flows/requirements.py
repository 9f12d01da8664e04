"""What a build has to reach whatever any other build does: its accuracy targets and MLPerf's rules."""

from __future__ import annotations

from collections.abc import Sequence

from checks.accuracy_target import target_readings
from checks.mlperf_rules import MlperfResult, has_result, mlperf_result
from flows.plan import Plan
from redline.model import Arm, Repeat, Scenario, TargetReading, Trial, TrialStatus

JUDGED = (Arm.CANDIDATE, Arm.SINGLE)


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


def missed(plan: Plan, trials: Sequence[Trial]) -> tuple[TargetReading, ...]:
    """The figures of the build under test that do not reach their target."""
    return tuple(
        reading
        for scenario in plan.scenarios
        for reading in targets_of(scenario, trials)
        if reading.arm in JUDGED and not reading.ok
    )


def judged_window(scenario: Scenario, trials: Sequence[Trial]) -> tuple[Trial, Repeat, MlperfResult] | None:
    """The middle window of the last valid trial of the build under test, with its result; None if there is none."""
    if not has_result(scenario):
        return None
    valid = [
        trial
        for trial in trials
        if trial.scenario == scenario.name and trial.arm in JUDGED and trial.status is TrialStatus.VALID
    ]
    if not valid or not valid[-1].counted_repeats:
        return None
    results = [(valid[-1], repeat, mlperf_result(scenario, repeat)) for repeat in valid[-1].counted_repeats]
    ranked = sorted(results, key=lambda each: (each[2].value is not None, each[2].value or 0.0))
    return ranked[(len(ranked) - 1) // 2]


def unmet(plan: Plan, trials: Sequence[Trial]) -> tuple[str, ...]:
    """What the build under test does not reach, in words; empty if it reaches everything that is asked of it.

    Accuracy targets, and MLPerf's rules in scenarios of full size: a shortened one can break them by being short.
    """
    words = [reading.sentence for reading in missed(plan, trials)]
    for scenario in plan.scenarios:
        found = judged_window(scenario, trials)
        if found is None or scenario.mlperf is None or scenario.mlperf.shortened:
            continue
        _, _, result = found
        words += [
            f"{scenario.name} is INVALID by MLPerf's rules: {reading.rule}, {reading.reading}, limit {reading.limit}"
            for reading in result.readings
            if not reading.ok
        ]
    return tuple(dict.fromkeys(words))
