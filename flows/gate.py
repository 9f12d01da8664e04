"""Flow `gate`: is the candidate worse than the baseline? Interleaved pairs, stopped as soon as it is known."""

from __future__ import annotations

from prefect import flow

from flows import answer, judge, steps
from flows.measure import ArmSetup
from flows.request import GateRequest, Judged, Session

INVALID_PAIRS_MAX = 2
"""A pair that a busy machine spoilt is measured again, at most this many times in one gate. A pair in which an arm
failed requests is never measured again: that would be choosing the results."""


@flow(name="gate", validate_parameters=False, persist_result=False)
def gate_flow(request: GateRequest, session: Session) -> Judged:
    """Specs -> pins -> pairs of deployments -> trials -> store -> verdict."""
    plan, narrator, seen = session.plan, session.narrator, session.seen
    accuracy = [group for group in plan.groups if group.measures_accuracy]
    speed = [group for group in plan.groups if not group.measures_accuracy]
    pair_s = sum(plan.expected_s(group, 2) for group in speed)
    accuracy_s = sum(plan.expected_s(group, 2) for group in accuracy)
    state = judge.start(plan)
    narrator.plan(steps.INSTALL_EXPECTED_S + accuracy_s + pair_s * state.pair_limit)
    wanted = (request.baseline, request.candidate)
    seen.baseline, seen.candidate = (steps.resolve(each, plan.workspace, narrator) for each in wanted)
    suts = (seen.baseline, seen.candidate)
    builds = [steps.install(sut.pin, plan.workspace, narrator) for sut in suts]
    arms = tuple(ArmSetup(each.arm, sut, build) for each, sut, build in zip(wanted, suts, builds, strict=True))
    for group in accuracy:
        steps.measure_round(plan.round_of(group, arms, 0, seen.add), narrator)
    if speed and answer.answers_are_worse(session) and not session.options.complete:
        narrator.say("the answers are worse: the verdict is known, speed is not measured (--complete measures it)")
        speed = []
    for pair_index in range(state.pair_limit + INVALID_PAIRS_MAX if speed else 0):
        narrator.plan(pair_s * (state.pair_limit - state.pair_count))
        for group in speed:
            steps.measure_round(plan.round_of(group, arms, pair_index, seen.add), narrator)
        state = judge.speed(plan, seen.trials, state)
        narrator.say(f"after {state.pair_count} of at most {state.pair_limit} pairs: {state.summary}")
        if state.finished or state.broken or state.invalid_pair_count > INVALID_PAIRS_MAX:
            break
    judged = answer.of_pairs(session, state, speed_measured=bool(speed))
    steps.ingest_trials(plan.workspace, narrator)
    return judged
