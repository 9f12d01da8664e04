"""Flow `run`: one build, measured once, against the accepted baselines."""

from __future__ import annotations

from prefect import flow

from flows import answer, steps
from flows.measure import ArmSetup
from flows.request import Judged, RunRequest, Session
from redline.model import Arm


@flow(name="run", validate_parameters=False, persist_result=False)
def run_flow(request: RunRequest, session: Session) -> Judged:
    """Spec -> pin -> deployment -> trials -> store -> verdict."""
    plan, narrator = session.plan, session.narrator
    narrator.plan(steps.INSTALL_EXPECTED_S + sum(plan.expected_s(group, 1) for group in plan.groups))
    sut = steps.resolve(request.wanted, plan.workspace, narrator)
    build = steps.install(sut.pin, plan.workspace, narrator)
    session.seen.candidate = sut
    for group in plan.groups:
        round_ = plan.round_of(group, (ArmSetup(Arm.SINGLE, sut, build),), 0, session.seen.add)
        steps.measure_round(round_, narrator)
    judged = answer.against_baselines(session)
    steps.ingest_trials(plan.workspace, narrator)
    return judged
