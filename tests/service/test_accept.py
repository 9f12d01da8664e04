"""accept.yml as written, against the local GitHub: a level is accepted, and the nightly goes on from there."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checks.night_findings import settled_half
from checks.night_series import series_of, whole
from checks.nightly import owed
from redline.model import Finding, Night
from redline.store.nights import read_nights, write_night
from tests.checks.night_records import HASH, THROUGHPUT, nights, suspected
from tests.fakes.github_state import now
from tests.service.gate_house import REPOSITORY, House, house, team_content
from tests.service.workflow_runner import Event, Runner, WorkflowRun
from tests.service.workflow_runner_actions import this_checkout
from tests.service.workflow_runner_files import read_workflow
from tests.service.workflow_runner_github import GitHubSide

WORKFLOWS = Path(__file__).resolve().parents[2] / ".github" / "workflows"
LAST = "2026-11-12"
REASON = 'it pays; "$(touch hacked)" `touch hacked`\n::set-output name=x::y'


class Team:
    """A team whose nights found a regression of runner class cpu that is owed, and which nobody accepted yet."""

    def __init__(self, home: House, folder: Path) -> None:
        self.side = GitHubSide(home.api)
        self.folder = folder
        content = team_content(folder / "content")
        environment = {"REDLINE_CONTENT": str(content)}
        self.runner = Runner(
            this_checkout(), folder / "machines", self.side, repository=REPOSITORY, environment=environment
        )
        run = home.state.run(workflow="nightly.yml", display_title="Nightly", event="schedule", conclusion="success")
        job = home.state.job(run["id"], "report", None)
        state = folder / "state"
        for each in self.before():
            write_night(state / "nights", each)
        home.state.upload(run["id"], "redline-state", state)
        job |= {"status": "completed", "conclusion": "success", "completed_at": now()}

    @staticmethod
    def before() -> tuple[Night, ...]:
        """Twelve nights and a confirmed regression of the last."""
        recorded = nights(12, "cpu")
        found = suspected(recorded, THROUGHPUT, 11, Finding.REGRESSED)
        return (*recorded, settled_half(recorded[-1], found.findings, found.changes))

    def accept(self, **inputs: str) -> WorkflowRun:
        """Somebody starts the workflow."""
        known = {
            "runner": "cpu",
            "scenario": THROUGHPUT[0],
            "metric": THROUGHPUT[1],
            "night": LAST,
            "reason": REASON,
        }
        payload: dict[str, Any] = {"inputs": known | inputs, "repository": {"default_branch": "main"}}
        return self.runner.run(WORKFLOWS / "accept.yml", Event("workflow_dispatch", payload, "grace"))

    def kept(self, run: WorkflowRun) -> tuple[Night, ...]:
        """The nights of the state that a run uploaded."""
        folder = self.folder / f"kept-{run.run_id}"
        with zipfile.ZipFile(io.BytesIO(self.runner.artifacts.of_run(run.run_id)["redline-state"].content)) as archive:
            archive.extractall(folder)
        return read_nights(folder / "nights", "cpu")


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """The team, its machines and its GitHub."""
    with house(tmp_path / "house") as home:
        yield Team(home, tmp_path)


@pytest.mark.slow
def test_an_accepted_level_is_owed_no_more(team: Team, tmp_path: Path) -> None:
    """The state that is uploaded holds it, by whom and why; the next collect starts from that state."""
    assert owed(series_of(whole(team.before()), THROUGHPUT, HASH).changes) > 0
    done = team.accept()
    assert done.conclusion == "success", done.said
    kept = team.kept(done)
    *_, acceptance = kept
    assert owed(series_of(whole(kept), THROUGHPUT, HASH).changes) == 0
    assert "is accepted by grace: it pays" in acceptance.findings[0].text
    assert not list(tmp_path.rglob("hacked"))
    again = team.accept(reason="once more")
    assert again.conclusion == "success", again.said
    assert acceptance in team.kept(again), "found in the state of accept.yml's own run"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"night": "2026-11-11"}, "another one than the one that was looked at"),
        ({"scenario": "--state-dir=/tmp"}, "has read output_tokens_per_s in --state-dir=/tmp"),
    ],
    ids=["night", "scenario"],
)
def test_what_cannot_be_accepted_leaves_no_state(team: Team, inputs: dict[str, str], said: str) -> None:
    """The job fails, with the reason in its log, and the state before stays the newest one."""
    done = team.accept(**inputs)
    assert done.conclusion == "failure"
    assert said in done.job("report").step("accept the level").log
    assert team.runner.artifacts.of_run(done.run_id) == {}


def test_on_another_branch_nothing_is_accepted(team: Team) -> None:
    """No state of it would be believed: the job is skipped, instead of succeeding for nothing."""
    payload = {
        "inputs": dict.fromkeys(("runner", "scenario", "metric", "night", "reason"), "x"),
        "repository": {"default_branch": "trunk"},
    }
    done = team.runner.run(WORKFLOWS / "accept.yml", Event("workflow_dispatch", payload, "grace"))
    assert done.conclusion == "skipped"


def test_it_never_works_beside_the_nightlys_report() -> None:
    """Both start from the last state, and the later one would leave out what the earlier one added."""
    accepting = next(job for job in read_workflow(WORKFLOWS / "accept.yml").jobs if job.key == "report")
    nightly = next(job for job in read_workflow(WORKFLOWS / "nightly.yml").jobs if job.key == "report")
    assert accepting.name == nightly.name == "report"
    assert accepting.concurrency == nightly.concurrency == {"group": "redline-store", "queue": "max"}


def test_builds_are_proposed_and_measured_with_one_python() -> None:
    """A pin is renewed for the Python of the legs that install it, whatever `REDLINE_PYTHON` says."""
    workflows = {name: read_workflow(WORKFLOWS / f"{name}.yml") for name in ("pins", "promote", "accept", "nightly")}
    said = {workflow.environment["PYTHON_VERSION"] for workflow in workflows.values()}
    assert said == {"${{ vars.REDLINE_PYTHON || '3.11' }}"}
    for name in ("pins", "promote", "accept"):
        (job,) = workflows[name].jobs
        versions = [step.options["python-version"] for step in job.steps if "python-version" in step.options]
        assert versions == ["${{ env.PYTHON_VERSION }}"]
        assert [step.run for step in job.steps if step.run.startswith("make")] == [
            'make ".venv/.set-up-run-$PYTHON_VERSION"'
        ]
