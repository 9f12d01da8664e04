"""A state of our own is taken by a rename: the same record as by a merge, and never one that is not whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from redline.store.adopting import adopt_trials
from redline.store.database import ingest, query
from redline.store.encoding import digest_of
from redline.store.merge import merge_folder, merge_lock
from redline.store.taking import Fate
from tests.store.merge_examples import RUN, content_of, make_leg

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory as a night keeps it: two classes' trials, and the database."""
    folder = tmp_path_factory.mktemp("made")
    for runner_class in ("cpu", "h200"):
        taken(make_leg(folder / runner_class, runner_class), folder / "state")
    ingest(folder / "state" / "trials", folder / "state" / "redline.duckdb")
    return folder / "state"


@pytest.fixture
def kept(made: Path, tmp_path: Path) -> Path:
    """One of one's own."""
    return shutil.copytree(made, tmp_path / "kept")


def taken(folder: Path, state: Path) -> None:
    """Merge all of a folder."""
    with merge_lock(state, wait_s=5):
        merge_folder(folder, state, lambda path, name: None)


def adopted(folder: Path, state: Path) -> dict[str, Fate]:
    """Name -> fate of what was adopted into a state directory."""
    state.mkdir(exist_ok=True)
    return {f"{item.kind} {item.name}": item.fate for item in adopt_trials(folder, state)}


def test_adopted_is_as_merged(kept: Path, tmp_path: Path) -> None:
    """What is not adopted is merged as ever, and the database is made from the trials, whatever came beside them."""
    taken(shutil.copytree(kept, tmp_path / "copy"), tmp_path / "merged")
    with duckdb.connect(str(kept / "redline.duckdb")) as connection:
        connection.execute("UPDATE readings SET value = 1e9")
    found = adopted(kept, tmp_path / "adopted")
    assert set(found.values()) == {Fate.TAKEN}
    assert sorted(name for name in found if name.startswith("trial")) == [
        "trial cpu-0",
        "trial cpu-1",
        "trial h200-0",
        "trial h200-1",
    ]
    assert sum(name.startswith("pin") for name in found) == 2
    taken(kept, tmp_path / "adopted")
    assert content_of(tmp_path / "adopted") == content_of(tmp_path / "merged")
    database = tmp_path / "adopted" / "redline.duckdb"
    report = ingest(tmp_path / "adopted" / "trials", database)
    assert (report.added, report.skipped, report.damaged) == (4, 0, ())
    assert query(database, "SELECT count(*) FROM readings WHERE value = 1e9")[1] == [(0,)]


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a table": lambda trials: (trials / "cpu-1" / "requests.parquet").write_bytes(b"PAR1"),
    "no table": lambda trials: (trials / "cpu-1" / "repeats.parquet").unlink(),
    "a manifest": lambda trials: edited(trials / "cpu-1" / "manifest.json", lambda it: it.update(status="invalid")),
    "another name": lambda trials: (trials / "cpu-1").rename(trials / "cpu-9"),
    "a file more": lambda trials: (trials / "cpu-1" / "note.txt").write_text("x"),
    "a file beside": lambda trials: (trials / "note.txt").write_text("x"),
    "no pin": lambda trials: next((trials / "pins").iterdir()).unlink(),
    "no pins": lambda trials: shutil.rmtree(trials / "pins"),
    "a pin": lambda trials: next((trials / "pins").iterdir()).write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_state_that_is_not_whole_is_merged(damage: str, kept: Path, tmp_path: Path) -> None:
    """Nothing of it is moved: the merge takes what is whole and names the rest."""
    DAMAGE[damage](kept / "trials")
    before = content_of(kept)
    assert adopted(kept, tmp_path / "state") == {}
    assert content_of(kept) == before
    assert not (tmp_path / "state" / "redline.duckdb").exists()


def test_a_record_that_is_here_is_added_to(kept: Path, tmp_path: Path) -> None:
    """Only an empty state directory is given another one's trials."""
    state = tmp_path / "state"
    taken(make_leg(tmp_path / "mine", "mine"), state)
    before = content_of(state)
    assert adopted(kept, state) == {}
    assert content_of(state) == before


def test_one_class_is_taken_alone(kept: Path, tmp_path: Path) -> None:
    """Its trials, their pins and its nights, and everybody's reasons: what its machine judges the next night by."""
    state = tmp_path / "state"
    with merge_lock(state, wait_s=5):
        items = merge_folder(kept, state, lambda path, name: None, runner_class="h200")
    by_fate = {
        fate: sorted(f"{item.kind} {item.name}" for item in items if item.fate is fate and item.kind != "pin")
        for fate in (Fate.TAKEN, Fate.LEFT, Fate.REFUSED)
    }
    assert [name for name in by_fate[Fate.TAKEN] if "justification" not in name] == [
        f"night h200/{RUN}.json",
        "trial h200-0",
        "trial h200-1",
    ]
    assert [name for name in by_fate[Fate.LEFT] if not name.startswith("report")] == [
        f"night cpu/{RUN}.json",
        "trial cpu-0",
        "trial cpu-1",
    ]
    assert sum(name.startswith("report") for name in by_fate[Fate.LEFT]) == 4
    assert sum(name.startswith("justification") for name in by_fate[Fate.TAKEN]) == 2
    assert by_fate[Fate.REFUSED] == []
    assert not (state / "reports").exists()


def test_a_trial_that_does_not_say_whose_it_is_is_refused_by_name(kept: Path, tmp_path: Path) -> None:
    """Nothing is left out unsaid."""
    (kept / "trials" / "cpu-1" / "manifest.json").write_text("{}")
    with merge_lock(tmp_path / "state", wait_s=5):
        items = merge_folder(kept, tmp_path / "state", lambda path, name: None, runner_class="h200")
    assert [item.name for item in items if item.fate is Fate.REFUSED] == ["cpu-1"]


@pytest.mark.parametrize("pin_id", ["../../../elsewhere", "x" * 300, ""])
def test_a_trial_whose_pin_has_no_id_costs_no_other(pin_id: str, kept: Path, tmp_path: Path) -> None:
    """It is refused by name, whatever it states, and the rest is taken."""
    manifest = kept / "trials" / "cpu-1" / "manifest.json"
    edited(manifest, lambda it: it["sut"].update(pin_id=pin_id))
    edited(manifest, lambda it: it.update(digest=digest_of(it)))
    with merge_lock(tmp_path / "state", wait_s=5):
        items = merge_folder(kept, tmp_path / "state", lambda path, name: None, runner_class="cpu")
    assert [item.name for item in items if item.fate is Fate.REFUSED] == ["cpu-1"]
    assert [item.name for item in items if (item.kind, item.fate) == ("trial", Fate.TAKEN)] == ["cpu-0"]
