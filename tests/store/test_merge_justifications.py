from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from redline.store.database import ingest, query
from redline.store.merge import merge_folder, merge_lock
from redline.store.taking import Fate
from tests.store.merge_examples import RUN, make_justification, make_leg

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
