"""Which artifacts called `redline-state` are believed, and what happens where there was one and none is left."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.service.collect import collect
from flows.service.kept_states import KEEPING, LEG_JOB, STATE, WRITER
from redline.errors import ExitCode, RedlineError
from tests.fakes.github_api import Fault, GitHubApi
from tests.service.nightly_house import Nightly, trials
from tests.service.workflow_runner_files import read_workflow
from tests.store.merge_examples import make_leg

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


WORKFLOWS = Path(__file__).resolve().parents[2] / ".github" / "workflows"


@pytest.fixture
def nightly(tmp_path: Path) -> Iterator[Nightly]:
    """With GitHub at hand."""
    with GitHubApi() as api:
        yield Nightly(tmp_path, api)


# --- what is no state, though it is called so -------------------------------------------------------------------


def forged(nightly: Nightly, folder: Path, run_id: int) -> dict[str, Any]:
    """A larger `redline-state` than any, of a leg, that says that everything is in it already."""
    make_leg(folder, "evil", trial_count=1)
    (folder / "reports" / "pad.md").write_bytes(os.urandom(500_000))
    known = list(nightly.api.state.artifacts)
    (folder / "collected.json").write_text(json.dumps({"artifacts": known}))
    return nightly.api.state.upload(run_id, "redline-state", folder)


def test_a_state_that_a_leg_uploaded_is_not_believed(nightly: Nightly, tmp_path: Path) -> None:
    """Neither tonight nor later: its trials are not taken, its list of what was collected is not, the real one is."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    second = nightly.run(conclusion=None)
    leg = nightly.api.state.job(second, "leg h200")
    nightly.leg(second, "h200")
    made = forged(nightly, tmp_path / "forged", second)
    made["created_at"] = leg["started_at"] = leg["completed_at"] = "2026-11-22T03:00:00Z"
    answer = nightly.collect(second, tmp_path / "second")
    assert answer.exit_code is ExitCode.NO_WORSE
    assert trials(tmp_path / "second") == {"cpu-0", "h200-0"}
    nightly.collect(nightly.run(), tmp_path / "third")
    assert trials(tmp_path / "third") == {"cpu-0", "h200-0"}


@pytest.mark.parametrize(
    "job",
    [
        {"name": "pages"},
        {"conclusion": "skipped"},
        {"conclusion": None, "completed_at": None},
        {"started_at": "2099-01-01T00:00:00Z", "completed_at": "2099-01-01T00:01:00Z"},
        {"completed_at": "2026-01-01T00:00:00Z"},
        {"started_at": "soon"},
    ],
    ids=str,
)
def test_a_state_from_outside_of_the_job_that_keeps_it_is_not_believed(
    nightly: Nightly, tmp_path: Path, job: dict[str, Any]
) -> None:
    """Of another job's time, before it, after it, while it still works, or where there was none."""
    run = nightly.run()
    nightly.api.state.job(run, "report").update(job)
    forged(nightly, tmp_path / "forged", run)
    nightly.collect(nightly.run(), tmp_path / "state")
    assert trials(tmp_path / "state") == set()
    assert "restored" not in nightly.outputs()


def test_a_state_that_appeared_while_a_leg_ran_is_not_believed(nightly: Nightly, tmp_path: Path) -> None:
    """The leg could have put another in its place."""
    run = nightly.run()
    nightly.api.state.job(run, "leg cpu", None)
    nightly.reported(run, make_leg(tmp_path / "forged", "evil", trial_count=1))
    nightly.collect(nightly.run(), tmp_path / "state")
    assert trials(tmp_path / "state") == set()


def test_a_report_that_is_started_again_goes_on_from_the_night_before(nightly: Nightly, tmp_path: Path) -> None:
    """The state of this run's first report counts, and the newest of an earlier run is merged all the same."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    second = nightly.run(conclusion=None)
    nightly.reported(second, make_leg(tmp_path / "lost", "h200", trial_count=1))
    nightly.collect(second, tmp_path / "second")
    assert trials(tmp_path / "second") == {"cpu-0", "h200-0"}


def test_an_acceptance_is_a_state_of_the_nightly(nightly: Nightly, tmp_path: Path) -> None:
    """accept.yml writes the same record."""
    nightly.reported(nightly.run(workflow="accept.yml", event="workflow_dispatch"), make_leg(tmp_path / "l", "cpu"))
    nightly.collect(nightly.run(), tmp_path / "state")
    assert trials(tmp_path / "state") == {"cpu-0", "cpu-1"}


def test_a_leg_gives_no_reasons(nightly: Nightly, tmp_path: Path) -> None:
    """A build that is measured cannot accept a pull request; its trials are taken, and it is not asked again."""
    run = nightly.run(conclusion=None)
    leg = nightly.api.state.upload(run, "leg-cpu", make_leg(tmp_path / "leg", "cpu", trial_count=1))
    shutil.copytree(make_leg(tmp_path / "leg2", "h200", trial_count=1), tmp_path / "legs" / "leg-h200")
    answer = nightly.collect(run, tmp_path / "state", tmp_path / "legs")
    assert answer.exit_code is ExitCode.NO_WORSE
    assert trials(tmp_path / "state") == {"cpu-0", "h200-0"}
    assert not (tmp_path / "state" / "justifications").exists()
    said = [line for line in answer.lines if line.startswith("  refused: justification ")]
    assert len(said) == 2 and all("only a person's command does" in line for line in said)
    assert leg["id"] in json.loads((tmp_path / "state" / "collected.json").read_text())["artifacts"]


# --- a record that was lost -------------------------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "expired"])
def test_a_lost_state_is_no_first_night(nightly: Nightly, tmp_path: Path, deleted: bool) -> None:
    """There was one and it is gone: exit code 5 with what to do, until somebody says to begin anew."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    for each in nightly.states():
        if deleted:
            del nightly.api.state.artifacts[each["id"]]
        each["expired"] = True
    answer = nightly.collect(nightly.run(), tmp_path / "second")
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert answer.lines[0].startswith(f"no state is left, and there was one: run {first} ")
    assert "--first" in answer.lines[1]
    again = nightly.collect(nightly.run(), tmp_path / "third", first=True)
    assert again.exit_code is ExitCode.NO_WORSE
    assert trials(tmp_path / "third") == {"cpu-0"}, "the leg is still there"


def test_a_night_that_found_something_kept_a_state_too(nightly: Nightly, tmp_path: Path) -> None:
    """Its job fails, which is the verdict, after the step that uploads; the artifact is gone without a trace."""
    run = nightly.run(conclusion="failure")
    job = nightly.api.state.job(run, "report", "failure")
    job["steps"] = [{"name": "set up", "conclusion": "success"}, {"name": KEEPING, "conclusion": "success"}]
    answer = collect(nightly.environment(nightly.run()), tmp_path / "state", "nightly.yml", None)
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert answer.lines[0].startswith(f"no state is left, and there was one: run {run} ")


@pytest.mark.parametrize("name", ["nightly", "signoff", "accept"])
def test_the_workflows_keep_a_state_under_the_names_that_are_looked_for(name: str) -> None:
    """The job, the step and the artifact."""
    workflow = read_workflow(WORKFLOWS / f"{name}.yml")
    (job,) = [each for each in workflow.jobs if each.key == WRITER]
    (step,) = [each for each in job.steps if each.name == KEEPING]
    assert (job.name, step.options["name"]) == (WRITER, STATE)
    assert all(each.name.startswith(LEG_JOB) for each in workflow.jobs if each.key == "leg")


def test_a_machine_that_keeps_its_state_needs_none_of_github(nightly: Nightly, tmp_path: Path) -> None:
    """What is here is the record."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "state")
    nightly.api.state.artifacts.clear()
    assert nightly.collect(nightly.run(), tmp_path / "state").exit_code is ExitCode.NO_WORSE


def test_a_state_that_was_cut_fails_the_step(nightly: Nightly, tmp_path: Path) -> None:
    """It says how much it held when it was written."""
    state = make_leg(tmp_path / "state", "cpu", trial_count=1)
    (state / "leg.json").unlink()
    (state / "collected.json").write_text('{"artifacts": [], "trials": 3, "nights": 1}')
    nightly.reported(nightly.run(), state)
    answer = nightly.collect(nightly.run(), tmp_path / "second")
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert "  it was cut: it says that it holds 3 trials and 1 nights, and holds 1 trials and 1 nights" in answer.lines


def test_the_last_state_is_found_however_many_runs_came_since(nightly: Nightly, tmp_path: Path) -> None:
    """It is looked for by its name."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    for _ in range(70):
        nightly.run(conclusion="failure")
    nightly.collect(nightly.run(), tmp_path / "second")
    assert trials(tmp_path / "second") == {"cpu-0"}


def test_a_collect_that_fails_leaves_a_state_directory(nightly: Nightly, tmp_path: Path) -> None:
    """An error, so that `report` keeps nothing smaller; the plan can hand it over, and the night is measured."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    nightly.api.faults.append(Fault("GET", r"actions/artifacts/\d+/zip", 404, times=2))
    with pytest.raises(RedlineError):
        nightly.collect(nightly.run(), tmp_path / "history")
    visible = [path.name for path in (tmp_path / "history").iterdir() if not path.name.startswith(".")]
    assert "collected.json" in visible
    assert json.loads((tmp_path / "history" / "collected.json").read_text()) == {"artifacts": []}


def test_a_state_that_grows_too_large_is_told_in_time(nightly: Nightly, tmp_path: Path) -> None:
    """From half of what is fetched at all; it is taken as ever."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    second = nightly.run()
    assert not any("before it takes all" in line for line in nightly.collect(second, tmp_path / "second").lines)
    nightly.states()[-1]["size_in_bytes"] = 2_000_000_001
    answer = nightly.collect(nightly.run(), tmp_path / "third")
    assert any(
        "takes 2,000,000,001 of 4,000,000,000 bytes of an archive: before it takes all" in line for line in answer.lines
    )
    assert answer.exit_code is ExitCode.NO_WORSE
    assert trials(tmp_path / "third") == {"cpu-0"}


def test_legs_get_the_files_alone(nightly: Nightly, tmp_path: Path) -> None:
    """Their machines make a database of what they take."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    environment = nightly.environment(nightly.run())
    answer = collect(environment, tmp_path / "history", "nightly.yml", None, with_database=False)
    assert answer.exit_code is ExitCode.NO_WORSE
    assert trials(tmp_path / "history") == {"cpu-0"}
    assert not (tmp_path / "history" / "redline.duckdb").exists()
