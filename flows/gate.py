"""Flow `gate`: is the candidate worse than the baseline? Interleaved pairs, stopped as soon as it is known."""

from __future__ import annotations

from prefect import flow

from flows import answer, judge, steps
from flows.pairs import measure_pairs
from flows.plan import INSTALL_EXPECTED_S
from flows.request import GateRequest, Judged, Session
from redline.model import Arm


@flow(name="gate", validate_parameters=False, persist_result=False)
def gate_flow(request: GateRequest, session: Session) -> Judged:
    """Specs -> pins -> pairs of deployments -> trials -> store -> verdict."""
    plan, narrator, seen = session.plan, session.narrator, session.seen
    accuracy = [group for group in plan.groups if group.measures_accuracy]
    speed = [group for group in plan.groups if not group.measures_accuracy]
    pair_s = sum(plan.expected_s(group, 2) for group in speed)
    accuracy_s = sum(plan.expected_s(group, 2) for group in accuracy)
    state = judge.start(plan)
    narrator.plan(INSTALL_EXPECTED_S + accuracy_s + pair_s * state.pair_limit)
    wanted = (request.baseline, request.candidate)
    seen.baseline, seen.candidate = (steps.resolve(each, plan, narrator) for each in wanted)
    arms = (
        steps.arm_setup(Arm.BASELINE, seen.baseline, plan.workspace, narrator),
        steps.arm_setup(Arm.CANDIDATE, seen.candidate, plan.workspace, narrator),
    )
    for group in accuracy:
        steps.measure_round(plan.round_of(group, arms, 0, seen.add), narrator)
    if speed and answer.answers_are_worse(session) and not session.options.complete:
        narrator.say("the answers are worse: the verdict is known, speed is not measured (--complete measures it)")
        speed = []
    state = measure_pairs(plan, speed, arms, state, narrator, seen.add)
    judged = answer.of_pairs(session, state, speed_measured=bool(speed))
    steps.ingest_trials(plan.workspace, narrator)
    return judged
