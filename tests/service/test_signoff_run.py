"""signoff.yml as written, against the local GitHub server: one answer over every leg, and a record that is renewed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.gate_house import House, house
from tests.service.test_workflows_run import WORKFLOWS, Team
from tests.service.workflow_runner import Event

pytestmark = pytest.mark.slow  # every step of every job is a real process


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    """The team's repository."""
    with house(tmp_path / "house") as found:
        yield found


def test_a_release_that_could_not_be_measured_is_no_yes(home: House, tmp_path: Path) -> None:
    """The leg ends before it can measure: the report says so for the whole release, with the exit code of an error.

    The record is kept all the same, and the monthly schedule, which measures nothing, keeps it on.
    """
    team = Team(home, tmp_path)
    asked = Event("workflow_dispatch", {"inputs": {"version": "0.32.0"}}, "maintainer")
    run = team.runner.run(WORKFLOWS / "signoff.yml", asked)
    report = run.job("report")
    assert report.conclusion == "failure", run.said
    assert report.step("keep the state").outcome == "success"
    assert report.step("may it be released?").outputs["verdict"] == "error"
    assert report.step("may it be released?").outputs["exit-code"] == "5"
    assert "May it be released? No answer" in report.summary
    renewed = team.runner.run(WORKFLOWS / "signoff.yml", Event("schedule", {"schedule": "43 3 3 * *"}))
    assert renewed.conclusion == "success", renewed.said
    assert {job.name: job.conclusion for job in renewed.jobs} == {
        "plan": "skipped",
        "leg": "skipped",
        "report": "success",
    }
    assert f"merged redline-state of run {run.run_id} " in renewed.said
    assert "redline-state" in team.runner.artifacts.of_run(renewed.run_id)
