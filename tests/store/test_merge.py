from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redline.errors import StoreBusyError, StoreError
from redline.store.database import ingest
from redline.store.encoding import digest_of
from redline.store.merge import is_of_run, merge_folder, merge_lock, take_run
from redline.store.taking import Fate, Item
from redline.store.trials import read_trial, write_trial
from redline.store.untrusted_file import read_bounded
from tests.store.merge_examples import (
    RUN,
    content_of,
    leg_trial,
    make_leg,
    make_night,
)
from tests.store.trial_examples import make_pin, make_trial

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


def any_report(path: Path, name: str) -> None:
    """Reports are looked into by the flows."""


def merge(folder: Path, state: Path) -> tuple[Item, ...]:
    """Merge, the lock held."""
    with merge_lock(state, wait_s=5):
        return merge_folder(folder, state, any_report)


def fates(items: tuple[Item, ...], kind: str) -> dict[str, Fate]:
    """Name -> fate of everything of a kind."""
    return {item.name: item.fate for item in items if item.kind == kind}


def problem(items: tuple[Item, ...]) -> str:
    """Why the only refused thing was refused."""
    (found,) = [item for item in items if item.fate is Fate.REFUSED]
    return found.problem


# --- what a merge is for --------------------------------------------------------------------------------------


def test_two_legs_become_one_state(tmp_path: Path) -> None:
    """Everything of both legs is in the state and readable there, and the pin that both used is there once."""
    state = tmp_path / "state"
    for runner_class in ("cpu", "h200"):
        found = merge(make_leg(tmp_path / runner_class, runner_class), state)
        assert Fate.REFUSED not in {item.fate for item in found}
    for runner_class in ("cpu", "h200"):
        for number in range(2):
            assert read_trial(state / "trials" / f"{runner_class}-{number}") == leg_trial(runner_class, number)
        assert (state / "nights" / runner_class / f"{RUN}.json").is_file()
        assert (state / "reports" / f"{RUN}-{runner_class}.md").read_text() == "# no worse\n"
    assert len(list((state / "trials" / "pins").iterdir())) == 2
    assert len(list((state / "justifications").iterdir())) == 2


def test_bytes_and_digests_stay(tmp_path: Path) -> None:
    """A trial is copied byte for byte: the database that has it already knows it again."""
    leg = make_leg(tmp_path / "leg")
    merge(leg, tmp_path / "state")
    for path in (leg / "trials" / "cpu-0").iterdir():
        assert (tmp_path / "state" / "trials" / "cpu-0" / path.name).read_bytes() == path.read_bytes()


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    """A leg merged twice, or a state merged that was made from it, is there already, all of it."""
    leg = make_leg(tmp_path / "leg")
    state = tmp_path / "state"
    merge(leg, state)
    before = content_of(state)
    for folder in (leg, shutil.copytree(state, tmp_path / "copy")):
        found = merge(folder, state)
        assert {item.fate for item in found} == {Fate.THERE}
        assert len(found) == 8
    assert content_of(state) == before


def test_what_is_here_is_never_replaced(tmp_path: Path) -> None:
    """The same name with other content is refused by name, the one that is here stays, and the rest is taken."""
    state = tmp_path / "state"
    make_leg(state)
    before = content_of(state)
    leg = make_leg(tmp_path / "leg", trial_count=3)
    shutil.rmtree(leg / "trials" / "cpu-0")
    write_trial(leg / "trials", make_trial("cpu-0", seed=99, run_id=RUN))
    (leg / "nights" / "cpu" / f"{RUN}.json").unlink()
    other = make_night(value=90.0)
    from redline.store.nights import write_night

    write_night(leg / "nights", other)
    (leg / "reports" / f"{RUN}-cpu.md").write_text("# worse\n")
    found = merge(leg, state)
    refused = [item for item in found if item.fate is Fate.REFUSED]
    assert [(item.kind, item.name) for item in refused] == [
        ("trial", "cpu-0"),
        ("night", f"cpu/{RUN}.json"),
        ("report", f"{RUN}-cpu.md"),
    ]
    assert all("other content" in item.problem for item in refused)
    after = content_of(state)
    assert before.items() <= after.items()
    assert read_trial(state / "trials" / "cpu-2") == leg_trial("cpu", 2)


def test_the_same_trial_in_another_encoding_is_the_same(tmp_path: Path) -> None:
    """A trial that another version of Arrow wrote says the same in other bytes: it is there already."""
    state = tmp_path / "state"
    make_leg(state, trial_count=1)
    leg = shutil.copytree(state, tmp_path / "leg")
    trial = leg / "trials" / "cpu-0"
    table = pq.read_table(trial / "requests.parquet")
    pq.write_table(table, trial / "requests.parquet", compression="gzip")
    edit(trial, lambda manifest: None)
    assert fates(merge(leg, state), "trial") == {"cpu-0": Fate.THERE}


# --- damaged and hostile folders --------------------------------------------------------------------------------


def edit(trial: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a trial's manifest as somebody would who knows how digests are made."""
    manifest = json.loads((trial / "manifest.json").read_text())
    change(manifest)
    manifest["files"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in trial.glob("*.parquet")}
    manifest["digest"] = digest_of(manifest)
    (trial / "manifest.json").write_text(json.dumps(manifest))


def swap(path: Path, make: Callable[[Path], Any]) -> None:
    """Put something else in a file's place."""
    path.unlink()
    make(path)


def fat(path: Path) -> None:
    """A file of one terabyte that takes no disk."""
    with path.open("wb") as file:
        file.truncate(10**12)


def bomb(path: Path) -> None:
    """A small table of very many values."""
    ones = pa.array([1], pa.int64()).take(pa.array([0] * 3_000_000))
    with pq.ParquetWriter(path, pa.schema([("x", pa.int64())])) as writer:
        for _ in range(35):
            writer.write_table(pa.table({"x": ones}))


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "flipped bit": (lambda t: (t / "repeats.parquet").write_bytes(b"PAR1"), "repeats.parquet is damaged"),
    "no manifest": (lambda t: (t / "manifest.json").unlink(), "not taken"),
    "manifest is no object": (lambda t: (t / "manifest.json").write_text("[1]"), "manifest.json"),
    "manifest nested deeply": (lambda t: (t / "manifest.json").write_text("[" * 200_000), "manifest.json"),
    "edited": (
        lambda t: (t / "manifest.json").write_text((t / "manifest.json").read_text().replace("offline", "online")),
        "damaged or edited",
    ),
    "table is a link": (
        lambda t: swap(t / "requests.parquet", lambda path: path.symlink_to("/etc/passwd")),
        "symbolic link",
    ),
    "table is a pipe": (lambda t: swap(t / "requests.parquet", os.mkfifo), "special file"),
    "table is huge": (lambda t: swap(t / "requests.parquet", fat), "1,000,000,000,000 bytes"),
    "another version": (lambda t: edit(t, lambda m: m.update(schema_version=99)), "another version of Redline"),
    "another name": (lambda t: edit(t, lambda m: m.update(trial_id="t2")), "cannot be read"),
    "pin elsewhere": (lambda t: edit(t, lambda m: m["sut"].update(pin_id="../../../etc/x")), "build pin has no id"),
    "pin that is not there": (lambda t: edit(t, lambda m: m["sut"].update(pin_id="0" * 16)), "cannot be read"),
    "null for text": (lambda t: edit(t, lambda m: m.update(detail=None)), "cannot go into the database"),
    "text for a number": (lambda t: edit(t, lambda m: m.update(pair_index="x")), "cannot go into the database"),
}


@pytest.mark.parametrize(("harm", "words"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_harmful_trial_is_named_and_the_rest_taken(tmp_path: Path, harm: Callable[[Path], Any], words: str) -> None:
    """Whatever is wrong with one trial, it is refused by name, nothing of it is kept, and the other one is taken."""
    leg = make_leg(tmp_path / "leg")
    harm(leg / "trials" / "cpu-0")
    state = tmp_path / "state"
    found = merge(leg, state)
    assert fates(found, "trial") == {"cpu-0": Fate.REFUSED, "cpu-1": Fate.TAKEN}
    assert words in problem(found)
    assert str(tmp_path / "state" / "trials" / ".writing") not in problem(found)
    assert sorted(path.name for path in (state / "trials").iterdir()) == ["cpu-1", "pins"]
    assert ingest(state / "trials", state / "redline.duckdb").damaged == ()


@pytest.mark.slow
def test_a_table_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    """A small file whose footer states more values than a trial can have is refused before it is unpacked."""
    leg = make_leg(tmp_path / "leg", trial_count=1)
    swap(leg / "trials" / "cpu-0" / "requests.parquet", bomb)
    edit(leg / "trials" / "cpu-0", lambda manifest: None)
    assert (leg / "trials" / "cpu-0" / "requests.parquet").stat().st_size < 1_000_000
    assert "105,000,000 values" in problem(merge(leg, tmp_path / "state"))


def test_numbers_that_overflow_a_view_are_refused(tmp_path: Path) -> None:
    """A trial that would make every later question about latencies fail does not get in."""
    leg = tmp_path / "leg"
    trial = make_trial("t1")
    write_trial(leg / "trials", trial)
    table = pq.read_table(leg / "trials" / "t1" / "requests.parquet")
    smallest = pa.array([-(2**63)] * len(table), pa.int64())
    position = table.schema.get_field_index("sched_ns")
    table = table.set_column(position, table.schema.field("sched_ns"), smallest)
    pq.write_table(table, leg / "trials" / "t1" / "requests.parquet")
    edit(leg / "trials" / "t1", lambda manifest: None)
    assert "Overflow" in problem(merge(leg, tmp_path / "state"))


def test_a_pin_whose_name_lies_is_refused_with_its_trials(tmp_path: Path) -> None:
    """A pin is the identity of its content: another content under its name is no pin, and its trials have none."""
    leg = make_leg(tmp_path / "leg", trial_count=1)
    (pin,) = (leg / "trials" / "pins").iterdir()
    pin.write_text(pin.read_text().replace("0.30.0", "0.66.0"))
    found = merge(leg, tmp_path / "state")
    assert fates(found, "pin") == {pin.name: Fate.REFUSED}
    assert fates(found, "trial") == {"cpu-0": Fate.REFUSED}
    assert not list((tmp_path / "state" / "trials").glob("*"))


def test_a_pin_that_is_here_serves_a_leg_that_lost_it(tmp_path: Path) -> None:
    """A pin damaged on the way matters only if it is not here; a damaged one here is mended by a good one."""
    state = tmp_path / "state"
    write_trial(state / "trials", make_trial("before", pin=make_pin("0.30.0")))
    leg = make_leg(tmp_path / "leg", trial_count=1)
    (pin,) = (leg / "trials" / "pins").iterdir()
    good = pin.read_bytes()
    pin.unlink()
    assert fates(merge(leg, state), "trial") == {"cpu-0": Fate.TAKEN}
    pin.write_bytes(good)
    (state / "trials" / "pins" / pin.name).write_text("{}")
    assert fates(merge(leg, state), "pin") == {pin.name: Fate.TAKEN}
    assert read_trial(state / "trials" / "before").sut.pin == make_pin("0.30.0")


def test_foreign_things_are_named_and_left(tmp_path: Path) -> None:
    """Links, programs and folders that no leg has are named; nothing of them is in the state, nothing is followed."""
    leg = make_leg(tmp_path / "leg", trial_count=1)
    outside = tmp_path / "outside"
    outside.mkdir()
    write_trial(outside, make_trial("stolen"))
    (leg / "trials" / "linked").symlink_to(outside / "stolen")
    (leg / "trials" / "cpu-0" / "run.sh").write_text("exit 1")
    (leg / "trials" / "notes.txt").write_text("hello")
    (leg / "trials" / "a b").mkdir()
    (leg / "redline").mkdir()
    (leg / "reports" / "index.html").write_text("<script>")
    (leg / "reports" / f"{RUN}-bad.json").write_text("not JSON")
    os.mkfifo(leg / "nights" / "cpu" / "pipe.json")
    (leg / "nights" / "elsewhere").symlink_to(outside)
    (leg / "justifications" / "0123456789abcdef.json").write_text(json.dumps({"schema": 1}))
    state = tmp_path / "state"
    found = merge(leg, state)
    refused = {item.name for item in found if item.fate is Fate.REFUSED}
    assert refused == {
        "linked",
        "cpu-0/run.sh",
        "notes.txt",
        "a b",
        "redline",
        "index.html",
        f"{RUN}-bad.json",
        "cpu/pipe.json",
        "elsewhere",
        "0123456789abcdef.json",
    }
    clean = tmp_path / "clean"
    merge(make_leg(tmp_path / "other" / "leg", trial_count=1), clean)
    assert content_of(state) == content_of(clean)


def test_a_folder_that_is_a_link_inside_a_leg_is_refused(tmp_path: Path) -> None:
    """`trials`, `nights`, `reports` and `justifications` themselves may not lead elsewhere."""
    leg = tmp_path / "leg"
    leg.mkdir()
    for name in ("trials", "nights", "reports", "justifications"):
        (leg / name).symlink_to(make_leg(tmp_path / "elsewhere") / name if name == "trials" else tmp_path)
    found = merge(leg, tmp_path / "state")
    assert {item.name for item in found if item.fate is Fate.REFUSED} >= {"trials", "nights", "reports"}
    assert content_of(tmp_path / "state") == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"runner_class": "h200"}, "runner class"),
        ({"run_id": "another"}, "run_id"),
        ({"schema": 2}, "schema"),
        ({"readings": [{"scenario": "s", "scenario_hash": "h", "metric": "m", "value": float("nan")}]}, "finite"),
    ],
)
def test_a_night_is_what_its_place_says(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """A night of another class, run or version, or with readings that are no numbers, is refused."""
    leg = make_leg(tmp_path / "leg")
    path = leg / "nights" / "cpu" / f"{RUN}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert words in problem(merge(leg, tmp_path / "state"))
    assert not list((tmp_path / "state").glob("nights/*/*"))


def test_a_disk_that_refuses_loses_nothing(tmp_path: Path) -> None:
    """What could not be copied is named, and a later merge takes it."""
    leg = make_leg(tmp_path / "leg")
    state = tmp_path / "state"
    state.mkdir()
    (state / "nights").write_text("a file is in the way")
    assert fates(merge(leg, state), "night") == {f"cpu/{RUN}.json": Fate.REFUSED}
    (state / "nights").unlink()
    assert fates(merge(leg, state), "night") == {f"cpu/{RUN}.json": Fate.TAKEN}


def test_only_files_are_read_and_only_so_much(tmp_path: Path) -> None:
    """A bounded read refuses what is larger than its bound, and gives what is as large."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    assert read_bounded(path, 10) == b"x" * 10
    with pytest.raises(StoreError, match="10 bytes"):
        read_bounded(path, 9)


# --- one run out of a state --------------------------------------------------------------------------------------


def test_take_run_takes_one_run_and_what_it_started(tmp_path: Path) -> None:
    """A leg's folder holds the run's trials, its gates', their pins, its nights and its report, and nothing else."""
    state = make_leg(tmp_path / "state")
    write_trial(state / "trials", make_trial("gate", run_id=f"{RUN}-gate1", pin=make_pin("0.31.0")))
    write_trial(state / "trials", make_trial("other", run_id="20261120T021700-ffff", pin=make_pin("9.9.9")))
    for name in (RUN, "20261120T021700-ffff"):
        (state / "reports" / f"{name}.md").write_text("# no worse\n")
    found = take_run(state, tmp_path / "leg", RUN, any_report)
    assert {item.fate for item in found} == {Fate.TAKEN}
    assert set(content_of(tmp_path / "leg")) == {
        path
        for path in content_of(state)
        if path.startswith(("trials/cpu-", "trials/gate/", "nights/")) or path == f"reports/{RUN}.md"
    } | {f"trials/pins/{make_pin(version).pin_id}.json" for version in ("0.30.0", "0.31.0")}
    assert content_of(tmp_path / "leg").items() <= content_of(state).items()


def test_a_run_is_not_its_neighbour() -> None:
    """Only the run itself and names that go on with a dash belong to it."""
    assert is_of_run(RUN, RUN)
    assert is_of_run(f"{RUN}-gate1", RUN)
    assert not is_of_run(f"{RUN}3", RUN)
    assert not is_of_run("", RUN)


# --- one at a time ------------------------------------------------------------------------------------------------


def test_a_second_merge_waits_and_then_says_who_holds_it(tmp_path: Path) -> None:
    """Within its bound a merge waits; then it names the process that holds the state, and has taken nothing."""
    with merge_lock(tmp_path, wait_s=1):
        begin_s = time.monotonic()
        with pytest.raises(StoreBusyError) as caught, merge_lock(tmp_path, wait_s=0.5):
            pass
        assert time.monotonic() - begin_s >= 0.5
    assert f"process {os.getpid()}" in caught.value.found
    with merge_lock(tmp_path, wait_s=0):
        pass


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Nothing is written through a link that somebody put where the lock belongs."""
    (tmp_path / ".merge.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(StoreError, match="cannot be merged into"), merge_lock(tmp_path):
        pass
    assert not (tmp_path / "victim").exists()
