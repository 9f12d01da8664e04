"""Interleaved pairs of fresh deployments, measured and judged until the evidence is enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flows import judge, steps
from flows.bench import ArmSetup
from flows.judge import SpeedState
from flows.plan import Group, Plan
from flows.progress import Narrator
from redline.model import Trial

INVALID_PAIRS_MAX = 2
"""A pair that a busy machine spoilt is measured again, at most this many times in one comparison. A pair in which an
arm failed requests is never measured again: that would be choosing the results."""


def measure_pairs(
    plan: Plan,
    groups: Sequence[Group],
    arms: tuple[ArmSetup, ArmSetup],
    state: SpeedState,
    narrator: Narrator,
    on_trial: Callable[[Trial], None],
) -> SpeedState:
    """The state after as many pairs as the plan's policy needs; `arms` are baseline and candidate.

    `groups`: those of the plan that measure speed. Every trial is written and given to `on_trial` at once.
    Raises as `flows.measure.measure_round`.
    """
    pair_s = sum(plan.expected_s(group, 2) for group in groups)
    trials: list[Trial] = []

    def note(trial: Trial) -> None:
        trials.append(trial)
        on_trial(trial)

    for pair_index in range(state.pair_limit + INVALID_PAIRS_MAX if groups else 0):
        narrator.plan(pair_s * (state.pair_limit - state.pair_count))
        for group in groups:
            steps.measure_round(plan.round_of(group, arms, pair_index, note), narrator)
        state = judge.speed(plan, trials, state)
        narrator.say(f"after {state.pair_count} of at most {state.pair_limit} pairs: {state.summary}")
        if state.finished or state.broken or state.invalid_pair_count > INVALID_PAIRS_MAX:
            break
    return state
