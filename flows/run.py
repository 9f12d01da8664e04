"""Flow `run`: one build, measured once, against the accepted baselines."""

from __future__ import annotations

from prefect import flow

from flows import answer, steps
from flows.request import Judged, RunRequest, Session


@flow(name="run", validate_parameters=False, persist_result=False)
def run_flow(request: RunRequest, session: Session) -> Judged:
    """Spec -> pin -> deployment -> trials -> store -> verdict."""
    steps.measure_once(request.wanted, session)
    judged = answer.against_baselines(session)
    steps.ingest_trials(session.plan.workspace, session.narrator)
    return judged
