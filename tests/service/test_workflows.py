"""The rules that every workflow keeps: no logic, no rights that it does not need, nothing of a stranger's in a command.

Source: issue F's security section, and docs/security.md, which names these tests.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from redline.cli import parser
from redline.github.events import GATE_EVENTS, title_number
from tests.service.workflow_runner_expressions import Strict, Surroundings, as_text, expressions_in, fill, holds
from tests.service.workflow_runner_files import Job, Step, Workflow, read_action, read_workflow

CHECKOUT = Path(__file__).resolve().parents[2]
PATHS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS = {path.stem: read_workflow(path) for path in PATHS}
ACTION = read_action(CHECKOUT / "action.yml")
JOBS = {f"{name}: {job.key}": (workflow, job) for name, workflow in WORKFLOWS.items() for job in workflow.jobs}
STEPS = [(name, step) for name, (_, job) in JOBS.items() for step in job.steps]
STEPS += [("action.yml", step) for step in ACTION.steps]
RUN_STEPS = [(name, step) for name, step in STEPS if step.run]

# Every right that any job has. A job that is not named has `contents: read` alone.
RIGHTS = {
    "gate: decide": {"actions": "read", "checks": "write", "contents": "read", "pull-requests": "write"},
    "publish: publish": {"actions": "read", "checks": "write", "contents": "read", "pull-requests": "write"},
    "nightly: plan": {"actions": "read", "contents": "read"},
    "nightly: report": {"actions": "read", "contents": "read", "issues": "write"},
    "nightly: pages": {"id-token": "write", "pages": "write"},
    "accept: report": {"actions": "read", "contents": "read"},
    "signoff: report": {"actions": "read", "contents": "read"},
    "promote: promote": {"actions": "read", "contents": "write", "pull-requests": "write"},
    "pins: pins": {"contents": "write", "pull-requests": "write"},
}
# What runs code of a stranger, or of a build that nobody here has read.
MEASURES = [name for name in JOBS if name.endswith(": leg")]
USED = {
    *("actions/checkout", "actions/setup-python", "actions/upload-artifact", "actions/download-artifact"),
    *("actions/upload-pages-artifact", "actions/deploy-pages"),
}
# Options and names that `decide` and `legs` checked: the one variable that the shell may split.
SPLIT = "$SELECT"


def ids(values):
    """The names of parametrised steps."""
    return [f"{name}: {step.title}" for name, step in values]


def test_there_are_the_workflows_of_the_service():
    """The rules below have something to look at, and it is all of it."""
    expected = {"accept", "ci", "gate", "method", "nightly", "pins", "promote", "publish", "signoff"}
    assert set(WORKFLOWS) == expected
    assert MEASURES == ["gate: leg", "nightly: leg", "signoff: leg"]


# --- no logic -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "step"), RUN_STEPS, ids=ids(RUN_STEPS))
def test_a_step_is_one_command(name: str, step: Step):
    """It calls `redline`, or `make` to set it up: no pipe, no condition, no second command, no substitution."""
    if (name, step.run) == ("action.yml", "exit 1"):
        assert str(step.condition).endswith("!contains(fromJSON(inputs.pass-on), steps.leg.outputs.verdict)")
        return
    assert re.match(r"(\.venv/bin/redline|\"\$GITHUB_ACTION_PATH/\.venv/bin/redline\"|make) ", step.run)
    assert not set(step.run) & set("|;&<>`\n(){}*?~")
    assert "${{" not in step.run, "an expression is put into the script before the shell reads it"
    quoted = re.sub(r'"[^"]*"', "", step.run)
    assert set(re.findall(r"\$\w+", quoted)) <= {SPLIT}, "an unquoted variable is split, and read as options"


@pytest.mark.parametrize(("name", "step"), RUN_STEPS, ids=ids(RUN_STEPS))
def test_a_command_is_one_that_redline_has(name: str, step: Step):
    """The command line takes every call as written: a renamed option breaks this test, not a night."""
    values = {
        SPLIT: "--scenario offline-short --scenario server-short",
        "$VERSION": "0.33.0",
        "$NUMBER": "7",
        "$DATE": "2026-11-22",
        "$NIGHT": "2026-11-22",
        "$FIRST": "true",
        "$PYTHON_VERSION": "3.11",
    }
    filled = re.sub(r"\$\w+", lambda found: values.get(found.group(0), "x"), step.run)
    words = shlex.split(filled)
    if words[0].endswith("redline"):
        assert parser().parse_args(words[1:]).action is not None
    elif words[0] == "make":
        targets = {".venv/.set-up-run-3.11", ".venv/.set-up-run-0.33.0", "check", "test", "test-long", "run"}
        assert targets & set(words)


@pytest.mark.parametrize(("name", "step"), RUN_STEPS, ids=ids(RUN_STEPS))
def test_a_command_has_what_it_names(name: str, step: Step):
    """Every variable of a command is set for it, and every variable that is set for it is used."""
    workflow, job = JOBS.get(name, (None, None))
    around = {**(workflow.environment if workflow else {}), **(job.environment if job else {})}
    named = set(re.findall(r"\$(\w+)", step.run))
    assert named <= set(step.environment) | set(around) | {"GITHUB_ACTION_PATH"}
    read_by_redline = {"GITHUB_TOKEN", "REDLINE_CONTENT", "REDLINE_STATE", "REDLINE_WHEEL_INDEX"}
    assert set(step.environment) - read_by_redline <= named


# --- nothing of a stranger's --------------------------------------------------------------------------------------

FROM_EVENTS = {
    "github.event.repository.default_branch",
    "github.event.pull_request.number",  # GitHub's own numbers and commits, never a text that somebody wrote
    "github.event.issue.number",
    "github.event.pull_request.head.sha",
    "github.event.issue.pull_request",
    "github.event.workflow_run.event",
    "github.event.workflow_run.conclusion",
    "github.event.workflow_run.display_title",  # the group in which publish waits: a text, compared and no more
    "github.event.action",
    "github.event.schedule",  # one of the lines of the workflow's own file
    "github.event.changes.base",  # in one condition: is there one?
    "github.event.comment.author_association",  # GitHub's word, in a condition
    "github.event.comment.user.id",  # a number
    "github.event.comment.body",  # in one condition: does it begin with /redline?
}


@pytest.mark.parametrize("path", [*PATHS, CHECKOUT / "action.yml"], ids=lambda path: path.name)
def test_what_an_event_brings_is_chosen(path: Path):
    """Titles, branch names and bodies are in no expression, but for one comparison."""
    text = path.read_text()
    used = set(re.findall(r"github\.event\.[\w.]+", re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)))
    assert used <= FROM_EVENTS
    assert not re.search(r"github\.(head_ref|ref_name)\b", text)
    assert text.count("github.event.comment.body") == (1 if path.stem == "gate" else 0)


@pytest.mark.parametrize("name", JOBS)
def test_a_comment_or_title_reaches_no_variable(name: str):
    """What somebody wrote is not in any environment either: `redline` reads it from the payload's file."""
    workflow, job = JOBS[name]
    layers = [workflow.environment, job.environment, *(step.environment for step in job.steps)]
    found = [each for layer in layers for value in layer.values() for each in expressions_in(str(value))]
    assert not [each for each in found if "github.event" in each]


@pytest.mark.parametrize("name", JOBS)
def test_nothing_is_cached_and_nobody_else_is_checked_out(name: str):
    """No cache that a stranger's job could have filled; the checkout is the event's own commit, without credentials.

    A job of `pull_request_target` may write the default branch's caches: the only defence is to read none.
    """
    _, job = JOBS[name]
    for step in job.steps:
        action = step.uses.partition("@")[0]
        assert not step.uses or action in USED
        if action == "actions/checkout":
            assert step.options == {"persist-credentials": False}
        if action == "actions/setup-python":
            assert set(step.options) == {"python-version"}


def test_no_secret_is_used():
    """A token is all there is, and only steps that ask GitHub for something have it."""
    for name, step in STEPS:
        assert "secrets." not in str(step)
        if "github.token" in str(step):
            assert step.environment["GITHUB_TOKEN"] == "${{ github.token }}"
            assert re.search(r"redline github (decide|publish|collect|answer|issues|promote|pins)\b", step.run), name


# --- rights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", JOBS)
def test_a_job_has_the_rights_that_are_listed(name: str):
    """None by default, and no more than the table above: a new right is a change of this test, which is reviewed."""
    workflow, job = JOBS[name]
    assert workflow.permissions == {}
    assert job.permissions == RIGHTS.get(name, {"contents": "read"})


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_every_right_says_what_it_is_for(path: Path):
    """Beside each right stands why."""
    granted = re.findall(r"^ +[a-z-]+: (?:read|write)\b.*$", path.read_text(), re.MULTILINE)
    assert granted
    assert [line for line in granted if "#" not in line] == []


@pytest.mark.parametrize("name", MEASURES)
def test_who_runs_the_code_under_test_has_no_token(name: str):
    """No token in any variable, nothing but reading this repository, and no output that later jobs take for checked."""
    workflow, job = JOBS[name]
    assert job.permissions == {"contents": "read"}
    assert job.outputs == {}
    assert "token" not in f"{workflow.environment}{job.environment}{job.steps}".lower()


# --- what makes it hold together ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", JOBS)
def test_every_job_is_bounded(name: str):
    """Every job has a bound; a measurement's is shorter, so that what was measured is still packed."""
    _, job = JOBS[name]
    assert job.timeout_min is not None
    for step in job.steps:
        assert (step.timeout_min is not None) == (name in MEASURES and step.name == "measure")
        assert step.timeout_min is None or step.timeout_min <= job.timeout_min - 30


@pytest.mark.parametrize("name", MEASURES)
def test_a_leg_is_packed_whatever_became_of_it(name: str):
    """Packing and uploading run after a failure too; one leg's failure ends no other; names are those that are read."""
    _, job = JOBS[name]
    measure, pack, upload = job.steps[-3:]
    assert (measure.name, pack.name) == ("measure", "pack")
    assert (pack.condition, upload.condition) == ("always()", "always()")
    assert "--run-file run-id" in measure.run and "--run-file run-id" in pack.run
    assert "--output leg" in pack.run and upload.options["path"] == "leg"
    assert upload.options["name"] == "leg-${{ matrix.leg.runner }}"
    assert upload.options["overwrite"] is True, "a name is taken once: a leg that is started again could not upload"
    assert job.name == ("${{ matrix.leg.job }}" if name.startswith("gate") else "leg ${{ matrix.leg.runner }}")
    assert job.fail_fast is False


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_is_downloaded_was_uploaded_by_a_job_before(name: str):
    """By its name or number: a pattern with one match is unpacked without its folder."""
    workflow = WORKFLOWS[name]
    jobs = {job.key: job for job in workflow.jobs}
    for job in workflow.jobs:
        for step in job.steps:
            if step.uses.startswith("actions/download-artifact@"):
                before = {each for key in reachable(job, jobs) for each in uploaded(jobs[key])}
                if "artifact-ids" in step.options:
                    continue  # as the next test has it
                assert set(step.options) == {"name", "path"}
                assert step.options["name"] in before


def test_the_nights_before_are_those_that_the_plan_handed_over():
    """By number, and never by an empty one, which would be every artifact: other legs' builds may upload any name."""
    jobs = {job.key: job for job in WORKFLOWS["nightly"].jobs}
    (handed,) = [step for step in jobs["plan"].steps if step.uses.startswith("actions/upload-artifact@")]
    (taken,) = [step for step in jobs["leg"].steps if step.uses.startswith("actions/download-artifact@")]
    assert taken.options == {"artifact-ids": "${{ needs.plan.outputs.history }}", "path": "history"}
    assert taken.condition == "needs.plan.outputs.history != ''"
    assert jobs["plan"].outputs["history"] == f"${{{{ steps.{handed.key}.outputs.artifact-id }}}}"
    assert not any(
        step.uses.startswith("actions/download-artifact@") for name in ("plan", "report") for step in jobs[name].steps
    )


def reachable(job: Job, jobs: dict[str, Job]) -> set[str]:
    """The keys of every job that has ended before this one starts."""
    return set(job.needs) | {key for needed in job.needs for key in reachable(jobs[needed], jobs)}


def uploaded(job: Job) -> set[str]:
    """The names of a job's artifacts."""
    return {str(step.options["name"]) for step in job.steps if step.uses.startswith("actions/upload-artifact@")}


@pytest.mark.parametrize("name", ["gate", "nightly", "signoff", "publish", "promote", "pins"])
def test_nothing_that_was_asked_for_is_cancelled(name: str):
    """Who waits stays in line (`queue: max`): GitHub would drop the one before it, and cancel a measurement."""
    workflow = WORKFLOWS[name]
    groups = [workflow.concurrency, *(job.concurrency for job in workflow.jobs)]
    assert any(groups)
    assert all(group["queue"] == "max" and "cancel-in-progress" not in group for group in groups if group)


def test_one_pull_request_is_answered_by_one_job_at_a_time():
    """`decide` and `publish` wait in one group, the title of the gate's run: two at once could comment twice."""
    gate, publish = WORKFLOWS["gate"], WORKFLOWS["publish"]
    decide = next(job for job in gate.jobs if job.key == "decide")
    assert decide.concurrency["group"] == gate.run_name
    assert publish.jobs[0].concurrency["group"] == "${{ github.event.workflow_run.display_title }}"
    assert publish.triggers["workflow_run"]["workflows"] == [gate.name]


@pytest.mark.parametrize("association", ["OWNER", "MEMBER", "COLLABORATOR", "CONTRIBUTOR", "FIRST_TIMER", "NONE", None])
def test_a_strangers_comments_do_not_fill_the_line_that_the_verdict_waits_in(association: str | None):
    """GitHub keeps a hundred waiting: a stranger's commands wait, and are published, in a line of that stranger's own.

    A member whose membership is private is shown as no member, so nobody's command may be left out for that.
    """
    gate, publish = WORKFLOWS["gate"], WORKFLOWS["publish"]
    comment = {"author_association": association, "user": {"id": 4711.0}, "body": "/redline run"}
    event = {"issue": {"number": 7.0, "pull_request": {}}, "comment": comment}
    title = titled(gate, "issue_comment", event)
    own = association in {"OWNER", "MEMBER", "COLLABORATOR"}
    assert title == ("Gate of pull request 7" if own else "Gate of pull request 7, asked by 4711")
    assert title_number(title) == 7, "publish still knows which pull request it is"
    around = Surroundings({"github": Strict(event={"workflow_run": {"display_title": title}})}, "success")
    assert fill(publish.jobs[0].concurrency["group"], around) == title
    decide = next(job for job in gate.jobs if job.key == "decide")
    assert holds(decide.condition, Surroundings({"github": Strict(event=event, event_name="issue_comment")}, "success"))


def test_whoever_labels_pushes_or_starts_it_by_hand_waits_in_the_verdicts_line():
    """The title has the number alone."""
    gate = WORKFLOWS["gate"]
    assert titled(gate, "pull_request_target", {"pull_request": {"number": 7.0}}) == "Gate of pull request 7"
    assert titled(gate, "workflow_dispatch", {}, number="7") == "Gate of pull request 7"


@pytest.mark.parametrize(
    ("action", "changes", "starts"),
    [("labeled", None, True), ("edited", {"base": {"ref": {"from": "main"}}}, True), ("edited", {"title": {}}, False)],
)
def test_of_what_is_edited_only_a_new_base_is_worth_a_machine(action: str, changes: object, starts: bool):
    """Titles and descriptions are edited all day."""
    decide = next(job for job in WORKFLOWS["gate"].jobs if job.key == "decide")
    event = {"action": action, "pull_request": {"number": 7.0}, **({"changes": changes} if changes else {})}
    around = Surroundings({"github": Strict(event=event, event_name="pull_request_target")}, "success")
    assert holds(decide.condition, around) is starts


def titled(gate: Workflow, name: str, event: dict[str, object], **inputs: str) -> str:
    """The title of a run that this event starts."""
    contexts = {"github": Strict(event=event, event_name=name), "inputs": Strict({"number": "", **inputs})}
    return as_text(fill(gate.run_name, Surroundings(contexts, "success")))


@pytest.mark.parametrize("event", ["pull_request", "pull_request_review", "push", "workflow_run", "merge_group"])
def test_only_runs_of_the_default_branchs_file_get_a_place_in_a_line(event: str):
    """The title of another run is a stranger's text, and would choose the line that its job waits in."""
    job = WORKFLOWS["publish"].jobs[0]

    def starts(name: str, conclusion: str) -> bool:
        run = {"workflow_run": {"event": name, "conclusion": conclusion, "display_title": "nightly"}}
        return holds(job.condition, Surroundings({"github": Strict(event=run)}, "success"))

    assert not starts(event, "success")
    assert [starts(name, "success") for name in GATE_EVENTS] == [True] * 3
    assert not starts("issue_comment", "skipped")


def test_the_gate_starts_only_where_its_file_is_the_default_branchs():
    """No event whose workflow file a pull request brings along."""
    gate: Workflow = WORKFLOWS["gate"]
    assert gate.triggers["pull_request_target"] == {"types": ["labeled", "synchronize", "opened", "reopened", "edited"]}
    assert gate.triggers["issue_comment"] == {"types": ["created"]}
    assert set(gate.triggers) == {"pull_request_target", "issue_comment", "workflow_dispatch"}


def test_schedules_avoid_the_full_hour():
    """GitHub drops schedules when everybody else's start."""
    crons = [each["cron"] for workflow in WORKFLOWS.values() for each in workflow.triggers.get("schedule", ())]
    assert len(crons) == 5
    assert all(int(cron.split()[0]) % 15 for cron in crons)


def test_only_a_whole_state_is_kept():
    """The state is uploaded right after the merge and only if it succeeded: a part would hide what there was before."""
    for name in ("nightly: report", "signoff: report"):
        _, job = JOBS[name]
        collect, keep = job.steps[3:5]
        assert " collect " in collect.run and collect.continue_on_error is False
        assert keep.options["name"] == "redline-state" and keep.condition is None


def test_linters_find_nothing():
    """actionlint and zizmor, as strict as it can be, over the workflows, the action and its example."""
    venv = CHECKOUT / ".venv" / "bin"
    example = CHECKOUT / "docs" / "examples" / "action" / "performance.yml"
    for command in (
        [venv / "actionlint", *PATHS, example],
        [venv / "zizmor", "--offline", "--quiet", "--no-progress", "--persona", "pedantic", ".github", "action.yml"],
    ):
        ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_linters_are_silenced_only_about_two_events():
    """Two comments tell zizmor to be quiet, with their reason; both are about the events that security.md explains."""
    told = [line for path in PATHS for line in path.read_text().splitlines() if "zizmor:" in line]
    assert len(told) == 2
    assert all(re.fullmatch(r"on: # zizmor: ignore\[dangerous-triggers\] \w.{20,}", line) for line in told)


def test_the_threat_model_names_tests_that_there_are():
    """Each counter-measure of docs/security.md is shown by a test; a renamed one breaks this, not a reader's trust."""
    text = (CHECKOUT / "docs" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) >= 20
    for path, test in named:
        assert f"def {test}(" in (CHECKOUT / path).read_text(), f"{path}::{test}"
