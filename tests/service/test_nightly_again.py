"""nightly.yml with something left out: the report on its own schedule, no plan, no runner class, no nights before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fakes.github_api import Fault
from tests.service.gate_house import House, house
from tests.service.test_workflows_run import SERVICE, WORKFLOWS, Team
from tests.service.workflow_runner import Event

pytestmark = pytest.mark.slow  # every step of every job is a real process
MEASURE, REPORT = "17 2 * * *", "47 14 * * *"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    """The repository on the local server."""
    with house(tmp_path / "house") as found:
        yield found


def is_of_today(page: str, began: datetime) -> bool:
    """True if the page is about the day of an instant between `began` and now: midnight may lie there."""
    return any(f"# Redline nightly of {at.date()}" in page for at in (began, datetime.now(UTC)))


def test_the_report_has_a_schedule_of_its_own(home, tmp_path):
    """A leg that waits for its machine holds nobody up: the page of the day says what is missing, the state is kept."""
    team = Team(home, tmp_path, variables={"REDLINE_PAGES": "true"})
    began = datetime.now(UTC)
    found = team.runner.run(WORKFLOWS / "nightly.yml", Event("schedule", {"schedule": REPORT}))
    assert [job.conclusion for job in found.jobs] == ["skipped", "skipped", "failure", "success"], found.said
    report = found.job("report")
    assert is_of_today(report.summary, began)
    assert "the job did not run or died" in report.summary
    assert {"redline-state", "github-pages"} == set(team.runner.artifacts.of_run(found.run_id))
    assert report.concurrency["group"] == "redline-store"


def test_a_plan_that_died_and_a_night_nobody_waits_for(home, tmp_path):
    """No date was said: the page and the issues are of today. Without a nightly, nothing runs and nothing is red."""
    team = Team(home, tmp_path, deaths={("plan", "set up"): 0.0})
    began = datetime.now(UTC)
    found = team.runner.run(WORKFLOWS / "nightly.yml", Event("schedule", {"schedule": MEASURE}))
    report = found.job("report")
    assert [job.conclusion for job in found.jobs][:2] == ["failure", "skipped"]
    assert is_of_today(report.summary, began)
    assert report.step("one issue per cause").outcome == "success", found.said
    assert [each["title"] for each in home.state.issues.values() if "pull_request" not in each] == [
        "Redline: cpu: no finished night on record"
    ]
    content = Path(team.runner.environment["REDLINE_CONTENT"]) / "service.toml"
    content.write_text("".join(line for line in SERVICE.splitlines(keepends=True) if "nightly" not in line))
    team.runner.deaths = {}
    found = team.runner.run(WORKFLOWS / "nightly.yml", Event("schedule", {"schedule": MEASURE}))
    assert [job.conclusion for job in found.jobs] == ["success", "skipped", "skipped", "skipped"], found.said


def test_a_night_goes_on_without_the_nights_before(home, tmp_path):
    """The history could not be handed over: the leg is started all the same."""
    team = Team(home, tmp_path, deaths={("leg cpu", "measure"): 0.0})
    home.api.faults.append(Fault("GET", "actions/workflows/nightly.yml/runs", status=403, times=1))
    found = team.runner.run(WORKFLOWS / "nightly.yml", Event("schedule", {"schedule": MEASURE}))
    assert found.job("plan").step("the nights before").outcome == "failure", found.said
    leg = found.job("leg cpu")
    assert [step.title for step in leg.steps][-1] == "measure", found.said
    assert leg.concurrency == {"group": "nightly-cpu", "queue": "max"}
    assert found.job("report").step("keep the state").outcome == "success", found.said
