"""The runner of workflows: what it says about the workflows is worth what these tests show about it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.service.workflow_runner import Event, Runner, WorkflowRun
from tests.service.workflow_runner_actions import Source
from tests.service.workflow_runner_expressions import ExpressionError, Strict, Surroundings, evaluate, fill, holds
from tests.service.workflow_runner_files import WorkflowError, read_workflow
from tests.service.workflow_runner_steps import StepFileError, annotations_of, assignments

AROUND = Surroundings(
    {
        "github": Strict(event={"issue": {"number": 7.0, "pull_request": {}}, "title": "$(curl x)"}, event_name="PUSH"),
        "needs": Strict(decide=Strict(outputs=Strict(run="true", legs='[{"runner": "cpu"}]'))),
    }
)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("github.event.pull_request.number || github.event.issue.number", 7.0),
        ("github.event_name == 'push' && 'yes' || 'no'", "yes"),
        ("github.event.nothing.at.all == ''", True),
        ("github.event.issue.pull_request && true", True),
        ("!(1 == 2) && 'it''s' != 'its'", True),
        ("fromJSON(needs.decide.outputs.legs)[0].runner", "cpu"),
        ("contains(fromJSON('[\"no worse\"]'), 'worse')", False),
        ("startsWith('/REDLINE run', '/redline')", True),
        ("format('--scenario {0}', join(fromJSON('[\"a\", \"b\"]'), ' --scenario '))", "--scenario a --scenario b"),
        ("'0' == 0 && null == '' && false == 0 && 'a' != 0", True),
    ],
)
def test_expressions_are_githubs(expression, value):
    """Loose equality, operands as values, names without regard to case, missing parts of an event as null."""
    assert evaluate(expression, AROUND) == value


@pytest.mark.parametrize(
    "expression",
    [
        "secrets.TOKEN",
        "needs.decide.outputs.leg",
        "needs.other.result",
        "hashFiles('x')",
        "1 +",
        "github.event ||",
        "a b",
    ],
)
def test_what_is_not_known_is_an_error(expression):
    """A misspelt output, an unknown context, function or sign is never an empty text."""
    with pytest.raises(ExpressionError):
        evaluate(expression, AROUND)


def test_a_filled_text_is_not_filled_again():
    """What an event brings is a value: an expression in it stays text, as at GitHub."""
    around = Surroundings({"github": {"event": {"title": "${{ secrets.X }} }}"}}})
    assert fill("a ${{ github.event.title }} ${{ '}}' }}", around) == "a ${{ secrets.X }} }} }}"


@pytest.mark.parametrize(
    ("condition", "status", "runs"),
    [
        (None, "success", True),
        (None, "failure", False),
        ("true", "failure", False),
        ("always() && true", "failure", True),
        ("failure()", "failure", True),
        ("'always()' == 'x' || true", "failure", False),
        (False, "success", False),
    ],
)
def test_conditions_ask_for_success_unless_they_say_otherwise(condition, status, runs):
    """Without one of the functions that ask how things stand, nothing before may have failed."""
    assert holds(condition, Surroundings({}, status)) is runs


def test_files_of_outputs_are_read_as_github_reads_them():
    """Lines, blocks that hold what looks like an output, and a refusal of a block without its end."""
    assert assignments("a=b=c\nlegs<<WORD\nrun=true\nWORDS\nWORD\n") == {"a": "b=c", "legs": "run=true\nWORDS"}
    for text in ("legs<<WORD\nrun=true\n", "nonsense\n", "=x\n"):
        with pytest.raises(StepFileError):
            assignments(text)


def test_annotations_are_those_that_github_shows():
    """Ten of each level; the rest of a log is no annotation."""
    log = "\n".join(f"::error title=a,file=b::{number}%0Ax" for number in range(12)) + "\n::notice::n\nsaid ::error::no"
    shown = annotations_of(log)
    assert len(shown) == 11
    assert shown[0] == ("error", "0\nx")
    assert shown[-1] == ("notice", "n")


# --- whole workflows ----------------------------------------------------------------------------------------------

UPLOAD = f"actions/upload-artifact@{'a' * 40}"
DOWNLOAD = f"actions/download-artifact@{'a' * 40}"
HEAD = """\
name: W
on:
  push:
permissions: {}
defaults: {run: {shell: bash}}
env: {LAYER: workflow, ONE: "${{ github.repository }}"}
jobs:
"""


def run(tmp_path: Path, jobs: str, **more) -> WorkflowRun:
    """Run a workflow of these jobs for a push, in an empty repository."""
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "w.yml"
    indented = "".join(f"  {line}\n" if line else "\n" for line in dedent(jobs).splitlines())
    path.write_text(HEAD + indented)
    runner = Runner(Source(tmp_path, ()), tmp_path / "machines", **more)
    return runner.run(path, Event("push", {"ref": "refs/heads/main"}))


def test_outputs_matrix_and_conditions_go_from_job_to_job(tmp_path):
    """A matrix from an output, one machine a row, environment in three layers, a job that runs though one failed."""
    ended = run(
        tmp_path,
        """
        plan:
          runs-on: x
          outputs: {rows: "${{ steps.p.outputs.rows }}"}
          steps:
            - {id: p, run: 'echo "rows=[{\\"n\\": \\"a\\"}, {\\"n\\": \\"b\\"}]" >> "$GITHUB_OUTPUT"'}
        leg:
          name: leg ${{ matrix.row.n }}
          needs: plan
          strategy: {fail-fast: false, matrix: {row: "${{ fromJSON(needs.plan.outputs.rows) }}"}}
          runs-on: x
          env: {LAYER: "job over ${{ env.LAYER }}"}
          steps:
            - {name: say, env: {N: "${{ matrix.row.n }}"}, run: 'echo "$N $LAYER $ONE"; echo "V=1" >> "$GITHUB_ENV"'}
            - {name: fail, run: 'test "$V$N" = 1a', env: {N: "${{ matrix.row.n }}"}}
            - {name: never, run: 'echo ran'}
            - {name: after, if: always(), run: 'echo "# page" >> "$GITHUB_STEP_SUMMARY"'}
        report: {needs: [plan, leg], if: always(), runs-on: x, steps: [{run: 'echo ${{ needs.leg.result }}'}]}
        next: {needs: report, if: failure(), runs-on: x, steps: [{run: 'true'}]}
        """,
    )
    legs = {name: ended.job(name) for name in ("leg a", "leg b")}
    assert legs["leg a"].step("say").log == "a job over workflow team/redline\n"
    assert [legs[name].conclusion for name in legs] == ["success", "failure"]
    assert legs["leg b"].step("never").outcome == "skipped"
    assert legs["leg b"].summary == "# page\n"
    assert ended.job("report").steps[0].log == "failure\n"
    assert ended.job("next").conclusion == "skipped", "report did not fail"
    assert ended.conclusion == "failure"


def test_a_pipe_that_breaks_fails_the_step(tmp_path):
    """`shell: bash` runs with pipefail, as GitHub documents it."""
    ended = run(tmp_path, "a: {runs-on: x, steps: [{run: 'false | true'}, {run: 'echo no'}]}")
    assert [step.outcome for step in ended.jobs[0].steps] == ["failure", "skipped"]


NUMBER = "${{ steps.up.outputs.artifact-id }}"


def test_artifacts_are_kept_by_name_and_a_lone_match_comes_without_its_folder(tmp_path):
    """A name is taken once; hidden files stay behind; one match of a pattern is unpacked flat, two are not."""
    jobs = f"""
        a:
          runs-on: x
          steps:
            - {{run: 'mkdir leg; echo 1 > leg/trial; echo 2 > leg/.lock'}}
            - {{id: up, uses: {UPLOAD}, with: {{name: leg-a, path: leg, if-no-files-found: error}}}}
            - {{name: again, continue-on-error: true, uses: {UPLOAD}, with: {{name: leg-a, path: leg}}}}
            - {{name: by number, uses: {DOWNLOAD}, with: {{artifact-ids: '{NUMBER}', path: n}}}}
            - {{uses: {UPLOAD}, with: {{name: leg-a, path: leg, overwrite: true}}}}
            - {{name: gone, continue-on-error: true, uses: {DOWNLOAD}, with: {{artifact-ids: '{NUMBER}'}}}}
            - {{uses: {DOWNLOAD}, with: {{pattern: leg-*, path: lone}}}}
            - {{uses: {UPLOAD}, with: {{name: leg-b, path: leg}}}}
            - {{uses: {DOWNLOAD}, with: {{pattern: leg-*, path: two}}}}
            - {{name: seen, run: 'ls -A n; ls -A lone; ls -A two; ls -A two/leg-a'}}
            - {{name: nothing, uses: {UPLOAD}, with: {{name: c, path: nowhere, if-no-files-found: error}}}}
        b:
          needs: a
          if: always()
          runs-on: x
          steps: [{{run: 'ls -A'}}, {{uses: {DOWNLOAD}, with: {{name: leg-c}}}}]
        """
    ended = run(tmp_path, jobs)
    first, second = ended.jobs
    assert first.step("gone").outcome == "failure", "what was put in its place has another number"
    assert first.step("seen").log.split() == ["trial", "trial", "leg-a", "leg-b", "trial"]
    assert (first.step("again").outcome, first.step("again").conclusion) == ("failure", "success")
    assert first.step("nothing").outcome == "failure"
    assert second.steps[0].log == "", "a machine starts with nothing"
    assert "no artifact 'leg-c'" in second.steps[1].log


def test_a_machine_that_dies_runs_no_further_step(tmp_path):
    """Not even those with `always()`: what was not handed over by then is lost, and other machines go on."""
    ended = run(
        tmp_path,
        """
        a: {runs-on: x, steps: [{run: 'true'}, {name: measure, run: 'sleep 60'}, {if: always(), run: 'echo no'}]}
        b: {runs-on: x, steps: [{run: 'true'}]}
        """,
        deaths={("a", "measure"): 0.2},
    )
    assert ended.jobs[0].died
    assert [step.outcome for step in ended.jobs[0].steps] == ["success", "failure"]
    assert [job.conclusion for job in ended.jobs] == ["failure", "success"]


def test_a_step_that_never_ends_is_ended(tmp_path):
    """A bound is kept, with everything that the step has started, and the steps after it run."""
    ended = run(
        tmp_path,
        """
        a:
          runs-on: x
          steps: [{run: 'sleep 600 & sleep 600', timeout-minutes: 0.005}, {if: always(), run: 'echo on'}]
        """,
    )
    assert [step.outcome for step in ended.jobs[0].steps] == ["failure", "success"]


@pytest.mark.parametrize(
    "jobs",
    [
        "a: {runs-on: x, steps: [{uses: somebody/action@v1}]}",
        "a: {runs-on: x, steps: [{uses: actions/checkout@v7}]}",
        "a: {runs-on: x, container: y, steps: []}",
        "a: {runs-on: x, steps: [{run: 'true', uses: ./}]}",
        "a: {needs: b, runs-on: x, steps: []}\nb: {needs: a, runs-on: x, steps: []}",
        "a: {runs-on: x, strategy: {matrix: {n: []}}, steps: []}",
        "a: {runs-on: x, steps: [{run: 'true', retries: 3}]}",
        "a: {runs-on: x, steps: []}\na: {runs-on: x, steps: []}",
    ],
)
def test_a_workflow_that_is_not_understood_is_refused(tmp_path, jobs):
    """Actions, keys and forms that the runner does not know are errors, never left out."""
    with pytest.raises(WorkflowError):
        run(tmp_path, jobs)


@pytest.mark.parametrize("options", ["{}", "{persist-credentials: false, ref: x}", "{persist-credentials: true}"])
def test_a_strangers_checkout_is_refused(tmp_path, options):
    """The stand-in of checkout takes no other commit and keeps no credentials."""
    checkout = f"actions/checkout@{'a' * 40}"
    ended = run(tmp_path, f"a: {{runs-on: x, steps: [{{uses: {checkout}, with: {options}}}]}}")
    assert ended.conclusion == "failure"


def test_only_its_own_events_start_a_workflow(tmp_path):
    """Type, schedule and inputs count, as GitHub checks them before anything runs."""
    (tmp_path / "w.yml").write_text(
        "name: W\non:\n  issue_comment: {types: [created]}\n  schedule: [{cron: 1 2 * * *}]\n"
        "  workflow_dispatch: {inputs: {n: {required: true, type: string}, c: {options: [x, y], default: x}}}\n"
        "run-name: W ${{ inputs.n }} ${{ inputs.c }}\n"
        "jobs: {a: {runs-on: x, steps: [{run: 'true'}]}}\n"
    )
    runner = Runner(Source(tmp_path, ()), tmp_path / "machines")
    assert runner.run(tmp_path / "w.yml", Event("workflow_dispatch", {"inputs": {"n": "7"}})).title == "W 7 x"
    for name, payload in (
        ("push", {}),
        ("issue_comment", {"action": "edited"}),
        ("schedule", {"schedule": "0 0 * * *"}),
        ("workflow_dispatch", {"inputs": {}}),
        ("workflow_dispatch", {"inputs": {"n": "7", "c": "z"}}),
        ("workflow_dispatch", {"inputs": {"n": "7", "m": "8"}}),
    ):
        with pytest.raises(WorkflowError):
            runner.run(tmp_path / "w.yml", Event(name, payload))


def test_yaml_is_read_as_github_reads_it(tmp_path):
    """`on` is a word, `yes` a text, and only `true` and `false` are truth values."""
    (tmp_path / "w.yml").write_text("name: yes\non: push\nenv: {A: off, B: true}\njobs: {}\n")
    workflow = read_workflow(tmp_path / "w.yml")
    assert workflow.name == "yes"
    assert workflow.triggers == {"push": {}}
    assert workflow.environment == {"A": "off", "B": True}
