from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redline.model import LevelKind, NightChange
from redline.store.database import ingest, query
from redline.store.merge import merge_folder, merge_lock
from redline.store.nights import write_night
from redline.store.taking import Fate
from tests.store.merge_examples import RUN, make_justification, make_leg, make_night

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


def test_justifications_are_in_the_database_once(tmp_path: Path) -> None:
    """They go in with the trials, are there once, and a database that is made anew holds the same."""
    state = make_leg(tmp_path / "state")
    arguments: dict[str, Any] = {"justifications_dir": state / "justifications"}
    assert ingest(state / "trials", state / "a.duckdb", **arguments).justified == 1
    assert ingest(state / "trials", state / "a.duckdb", **arguments).justified == 0
    ingest(state / "trials", state / "b.duckdb", **arguments)
    asked = "SELECT justification_id, number, run_ids, reason, justified_by FROM justifications"
    expected = make_justification("accepted for cpu alone")
    row = (expected.justification_id, 7, [RUN], "accepted for cpu alone", "maintainer")
    assert query(state / "a.duckdb", asked)[1] == query(state / "b.duckdb", asked)[1] == [row]


def test_an_edited_justification_is_named_and_mended_by_a_merge(tmp_path: Path) -> None:
    """A reason that somebody changed on disk is no reason; a merge of the true one puts it right."""
    state = make_leg(tmp_path / "state")
    leg = shutil.copytree(state, tmp_path / "leg")
    (path,) = (state / "justifications").iterdir()
    path.write_text(path.read_text().replace("accepted", "demanded"))
    report = ingest(state / "trials", state / "a.duckdb", justifications_dir=state / "justifications")
    assert [each.path for each in report.damaged] == [path]
    with merge_lock(state, wait_s=5):
        found = merge_folder(leg, state, lambda path, name: None)
    assert [item.fate for item in found if item.kind == "justification"] == [Fate.TAKEN]
    assert ingest(state / "trials", state / "a.duckdb", justifications_dir=state / "justifications").justified == 1


def test_a_machine_that_measures_gives_no_reasons(tmp_path: Path) -> None:
    """Its justifications are refused by name; everything else of it is taken."""
    state = tmp_path / "state"
    with merge_lock(state, wait_s=5):
        found = merge_folder(make_leg(tmp_path / "leg"), state, lambda path, name: None, with_reasons=False)
    (refused,) = [item for item in found if item.fate is not Fate.TAKEN]
    assert (refused.kind, refused.fate) == ("justification", Fate.REFUSED)
    assert "only a person's command does" in refused.problem
    assert not (state / "justifications").exists()


def test_a_machine_that_measures_accepts_no_level(tmp_path: Path) -> None:
    """A night that says that a level is right is refused from a leg, and taken from a state."""
    night = make_night("cpu")
    change = NightChange("offline-short", "0" * 16, "output_tokens_per_s", LevelKind.ACCEPTED, night.run_id, 0.1)
    write_night(tmp_path / "leg" / "nights", replace(night, changes=(change,)))
    for with_reasons, fate in ((False, Fate.REFUSED), (True, Fate.TAKEN)):
        with merge_lock(tmp_path / "state", wait_s=5):
            (found,) = merge_folder(
                tmp_path / "leg", tmp_path / "state", lambda path, name: None, with_reasons=with_reasons
            )
        assert (found.kind, found.fate) == ("night", fate)
        assert ("only a person does" in found.problem) is not with_reasons
