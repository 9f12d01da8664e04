from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redline.errors import ExitCode
from redline.store.database import query
from redline.store.justifications import write_justification
from tests.fakes.github_api import Fault, GitHubApi
from tests.service.nightly_house import Nightly, trials
from tests.store.merge_examples import content_of, make_justification, make_leg

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


@pytest.fixture
def nightly(tmp_path: Path) -> Iterator[Nightly]:
    """With GitHub at hand."""
    with GitHubApi() as api:
        yield Nightly(tmp_path, api)


def test_the_first_night_has_no_state(nightly: Nightly, tmp_path: Path) -> None:
    """Without a state there is no error: it says so, and the legs of this run make the first one."""
    run = nightly.run(conclusion=None)
    nightly.leg(run, "cpu")
    answer = nightly.collect(run, tmp_path / "state")
    assert answer.exit_code is ExitCode.NO_WORSE
    assert "no state yet: this is the first" in answer.lines
    assert trials(tmp_path / "state") == {"cpu-0"}
    assert "first" in nightly.outputs()
    _, rows = query(tmp_path / "state" / "redline.duckdb", "SELECT trial_id FROM trials")
    assert rows == [("cpu-0",)]


def test_the_second_night_goes_on_from_the_first(nightly: Nightly, tmp_path: Path) -> None:
    """The state of the night before is restored with its reasons, and only legs that are not in it are fetched."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    write_justification(tmp_path / "first" / "justifications", make_justification())
    nightly.collect(first, tmp_path / "first")
    second = nightly.run(conclusion=None)
    legs = tmp_path / "downloaded"
    shutil.copytree(nightly.leg(second, "h200"), legs / "leg-h200")
    fetched = len(nightly.api.fetched)
    answer = nightly.collect(second, tmp_path / "second", legs)
    assert len(nightly.api.fetched) == fetched + 1, "the state, and no leg again"
    assert trials(tmp_path / "second") == {"cpu-0", "h200-0"}
    before, after = content_of(tmp_path / "first"), content_of(tmp_path / "second")
    del before["collected.json"]
    assert before.items() <= after.items()
    assert answer.exit_code is ExitCode.NO_WORSE
    assert "the database holds 2 trials, 2 of them new" in answer.lines, "it is made from the trials"
    _, rows = query(tmp_path / "second" / "redline.duckdb", "SELECT reason FROM justifications ORDER BY ALL")
    assert rows == [(make_justification().reason,)]


def test_a_merge_that_died_last_night_is_made_up_for(nightly: Nightly, tmp_path: Path) -> None:
    """Legs of a failed run, whose job that merges never came so far, are taken the night after."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    died = nightly.run(conclusion="failure")
    nightly.leg(died, "h200")
    nightly.leg(died, "mi300x")
    nightly.collect(nightly.run(), tmp_path / "third")
    assert trials(tmp_path / "third") == {"cpu-0", "h200-0", "mi300x-0"}


def test_a_leg_that_came_late_is_taken(nightly: Nightly, tmp_path: Path) -> None:
    """A job of an old run that was started again after its night was collected is not forgotten."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    second = nightly.run()
    nightly.leg(second, "cpu2")
    nightly.collect(second, tmp_path / "second")
    nightly.leg(first, "h200")
    nightly.collect(nightly.run(), tmp_path / "third")
    assert trials(tmp_path / "third") == {"cpu-0", "cpu2-0", "h200-0"}


def test_a_leg_that_cannot_be_had_is_tried_again(nightly: Nightly, tmp_path: Path) -> None:
    """A leg that GitHub does not give tonight, or that is no archive, is named, stops nothing, and is not forgotten."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    artifact = nightly.api.state.upload(first, "leg-bad", b"no archive")
    nightly.leg(first, "h200")
    gone = next(each for each in nightly.api.state.artifacts.values() if each["name"] == "leg-h200")["id"]
    nightly.api.faults.append(Fault("GET", f"actions/artifacts/{gone}/zip", 404))
    answer = nightly.collect(first, tmp_path / "first")
    assert answer.exit_code is ExitCode.NO_WORSE
    assert trials(tmp_path / "first") == {"cpu-0"}
    said = [line for line in answer.lines if line.startswith("not collected: ")]
    assert [line.split()[2] for line in said] == ["leg-bad", "leg-h200"]
    assert artifact["id"] not in json.loads((tmp_path / "first" / "collected.json").read_text())["artifacts"]
    nightly.collect(nightly.run(), tmp_path / "second")
    assert trials(tmp_path / "second") == {"cpu-0", "h200-0"}


def test_an_expired_leg_is_named(nightly: Nightly, tmp_path: Path) -> None:
    """What GitHub keeps no longer is said, with its run, and is no error."""
    run = nightly.run()
    folder = make_leg(tmp_path / "leg", "cpu", trial_count=1)
    nightly.api.state.upload(run, "leg-cpu", folder, expired=True)
    answer = nightly.collect(run, tmp_path / "state")
    assert any(line.startswith(f"expired before it was collected: leg-cpu of run {run} ") for line in answer.lines)
    assert answer.exit_code is ExitCode.NO_WORSE


@pytest.mark.parametrize(
    "changes",
    [
        {"event": "pull_request"},
        {"event": "pull_request_target"},
        {"event": "issue_comment"},
        {"event": "workflow_run"},
        {"head_branch": "feature"},
        {"workflow": "gate.yml"},
    ],
    ids=str,
)
def test_runs_that_others_can_start_are_never_touched(
    nightly: Nightly, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Of other events, branches and workflows nothing is fetched: neither legs nor a state."""
    stranger = nightly.run(**changes)
    folder = nightly.leg(stranger, "evil")
    nightly.api.state.upload(stranger, "redline-state", folder)
    answer = nightly.collect(nightly.run(), tmp_path / "state")
    assert trials(tmp_path / "state") == set()
    assert nightly.api.fetched == []
    assert "no state yet: this is the first" in answer.lines


def test_a_state_that_shrank_does_not_hide_the_one_before(nightly: Nightly, tmp_path: Path) -> None:
    """A leg's machine that uploads an empty `redline-state` of its own cannot make the history disappear."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    forged = tmp_path / "forged"
    (forged / "trials").mkdir(parents=True)
    (forged / "collected.json").write_text('{"artifacts": []}')
    nightly.api.state.upload(nightly.run(), "redline-state", forged)
    nightly.collect(nightly.run(), tmp_path / "third")
    assert trials(tmp_path / "third") == {"cpu-0"}


def test_a_state_that_cannot_be_taken_whole_fails_the_step(nightly: Nightly, tmp_path: Path) -> None:
    """Nothing smaller may be uploaded in its place: exit code 5, and the way out is said."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    upload = nightly.folder / "uploads" / str(first)
    (upload / "trials" / "cpu-0" / "requests.parquet").write_bytes(b"PAR1")
    nightly.leg(first, "h200")
    nightly.reported(nightly.run(), upload)
    for each in list(nightly.api.state.artifacts.values()):
        each["expired"] = each["expired"] or (each["name"] == "redline-state" and each["workflow_run"]["id"] == first)
    answer = nightly.collect(nightly.run(), tmp_path / "third")
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert any("delete artifact" in line for line in answer.lines)
    assert trials(tmp_path / "third") == {"h200-0"}


def test_a_state_directory_that_is_not_empty_is_merged_into(nightly: Nightly, tmp_path: Path) -> None:
    """On a machine that keeps its state, what is there stays."""
    state = make_leg(tmp_path / "state", "kept", trial_count=1)
    (state / "leg.json").unlink()
    run = nightly.run()
    nightly.leg(run, "cpu")
    nightly.collect(run, state)
    assert trials(state) == {"kept-0", "cpu-0"}
    assert not (state / ".collecting").exists()


def test_a_run_whose_legs_all_died_is_no_error(nightly: Nightly, tmp_path: Path) -> None:
    """No folder of legs at all: it is said, and the state goes on as it was."""
    first = nightly.run()
    nightly.leg(first, "cpu")
    nightly.collect(first, tmp_path / "first")
    answer = nightly.collect(nightly.run(), tmp_path / "second", tmp_path / "nothing")
    assert "no leg of this run: none of its jobs came so far as to upload one" in answer.lines
    assert trials(tmp_path / "second") == {"cpu-0"}
