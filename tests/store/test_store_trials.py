"""Trial directories: exact, whole or absent, and honest about damage."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redline.errors import StoreError
from redline.model import RequestRecord, TelemetrySample, Trial
from redline.store.encoding import digest_of
from redline.store.trials import list_trials, read_trial, write_trial
from tests.store.trial_examples import HOSTILE_TEXTS, any_text, floats, make_pin, make_trial, trials

ROOT = Path(__file__).parents[2]
FILES = ("manifest.json", "requests.parquet", "repeats.parquet", "server_counters.parquet", "telemetry.parquet")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(trial=trials())
def test_round_trip(trial: Trial) -> None:
    """Whatever a trial says, down to text that is not Unicode, is read back exactly, spec of the pin included."""
    with tempfile.TemporaryDirectory() as directory:
        path = write_trial(Path(directory), trial)
        assert read_trial(path) == trial
        assert write_trial(Path(directory), trial) == path


@settings(max_examples=30, deadline=None)
@given(figures=st.dictionaries(any_text, floats, max_size=4))
def test_figures_survive(figures: dict[str, float]) -> None:
    """What a scorer says of all answers is read back by its own names, to the last bit."""
    with tempfile.TemporaryDirectory() as directory:
        path = write_trial(Path(directory), make_trial(figures=figures))
        assert read_trial(path) == make_trial(figures=figures)


def test_trials_written_before_there_were_figures_still_read(tmp_path: Path) -> None:
    """Their manifest has the same version and no such key: they are trials without figures, not damaged ones."""
    path = write_trial(tmp_path, make_trial())
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["figures"]
    (path / "manifest.json").write_text(json.dumps(manifest | {"digest": digest_of(manifest)}))
    assert read_trial(path) == make_trial()
    assert read_trial(path).figures == {}


def without_telemetry(trial: Trial) -> Trial:
    """The trial as it would have been measured before there was telemetry."""
    return dataclasses.replace(
        trial, repeats=tuple(dataclasses.replace(repeat, telemetry=()) for repeat in trial.repeats)
    )


def test_trials_written_before_there_was_telemetry_still_read(tmp_path: Path) -> None:
    """Their manifest names no such file and no replicas: they are trials without, not damaged ones."""
    path = write_trial(tmp_path, make_trial())
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["replicas"]
    del manifest["files"]["telemetry.parquet"]
    (path / "manifest.json").write_text(json.dumps(manifest | {"digest": digest_of(manifest)}))
    older = dataclasses.replace(without_telemetry(make_trial()), replicas=())
    assert read_trial(path) == older, "a file that the manifest does not name is not the trial's"
    (path / "telemetry.parquet").unlink()
    assert read_trial(path) == older
    assert write_trial(tmp_path, older) == path, "and it says the same as one that is written today"


@pytest.mark.parametrize("name", ["requests.parquet", "repeats.parquet", "server_counters.parquet"])
def test_only_telemetry_may_be_missing(tmp_path: Path, name: str) -> None:
    """A manifest that does not name one of the tables that every trial had is damaged."""
    path = write_trial(tmp_path, make_trial())
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"][name]
    (path / "manifest.json").write_text(json.dumps(manifest | {"digest": digest_of(manifest)}))
    with pytest.raises(StoreError, match=name):
        read_trial(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_telemetry_is_finite(tmp_path: Path, value: float) -> None:
    """What is no number says nothing of a machine: it is refused by name, and nothing is written."""
    trial = make_trial()
    repeat = dataclasses.replace(trial.repeats[0], telemetry=(TelemetrySample(1, "GPU-1", "power_w", value),))
    with pytest.raises(StoreError, match="cannot be stored") as caught:
        write_trial(tmp_path, dataclasses.replace(trial, repeats=(repeat,)))
    assert "power_w of GPU-1 in repeat 0" in caught.value.found
    assert list_trials(tmp_path) == ()


def test_nan_survives_and_is_equal_content(tmp_path: Path) -> None:
    """A counter of NaN or infinity is kept, and writing the same trial again is still the same content."""
    trial = make_trial()
    repeat = dataclasses.replace(trial.repeats[0], server_counters={"nan": float("nan"), "inf": float("inf")})
    trial = dataclasses.replace(trial, repeats=(repeat,))
    path = write_trial(tmp_path, trial)
    write_trial(tmp_path, trial)
    counters = read_trial(path).repeats[0].server_counters
    assert counters["nan"] != counters["nan"]
    assert counters["inf"] == float("inf")


def test_same_id_other_content_is_refused(tmp_path: Path) -> None:
    """A stored trial never changes: another content under its id is an error and leaves the first in place."""
    first = make_trial(seed=1)
    path = write_trial(tmp_path, first)
    with pytest.raises(StoreError, match="already holds a different trial") as caught:
        write_trial(tmp_path, make_trial(seed=2))
    assert caught.value.next_step
    assert read_trial(path) == first


def test_pin_is_stored_once(tmp_path: Path) -> None:
    """Ten trials of one build share one pin file, though they asked for it by different names."""
    for number in range(10):
        write_trial(tmp_path, make_trial(f"t{number}", pin=make_pin(spec=f"asked {number}")))
    write_trial(tmp_path, make_trial("other", pin=make_pin("0.31.0")))
    assert len(list((tmp_path / "pins").iterdir())) == 2
    assert [read_trial(path).sut.pin.spec for path in list_trials(tmp_path)][1:4] == ["asked 0", "asked 1", "asked 2"]


@pytest.mark.parametrize("trial_id", ["../evil", "", ".hidden", "a/b", "pins", "x" * 129, "nul\x00", "a\n"])
def test_ids_that_are_no_directory_names_are_refused(tmp_path: Path, trial_id: str) -> None:
    """A trial id cannot leave the directory, hide in it or take the place of the pins."""
    with pytest.raises(StoreError):
        write_trial(tmp_path / "trials", make_trial(trial_id))
    assert not list(tmp_path.rglob("*.parquet"))


def test_repeated_indices_are_refused(tmp_path: Path) -> None:
    """Two requests of a repeat under one index could not be told apart later, so they are not stored."""
    trial = make_trial()
    record: RequestRecord = trial.repeats[0].records[0]
    repeat = dataclasses.replace(trial.repeats[0], records=(record, record))
    with pytest.raises(StoreError, match="cannot be stored"):
        write_trial(tmp_path, dataclasses.replace(trial, repeats=(repeat,)))


@pytest.mark.parametrize("name", FILES)
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    """A file cut short, changed in one bit or missing is a StoreError naming the file and the next step."""
    path = write_trial(tmp_path, make_trial())
    content = (path / name).read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (content[: len(content) // 2], b"", bytes(flipped), None):
        (path / name).unlink(missing_ok=True)
        if damaged is not None:
            (path / name).write_bytes(damaged)
        with pytest.raises(StoreError, match=name) as caught:
            read_trial(path)
        assert caught.value.next_step
    (path / name).write_bytes(content)
    assert read_trial(path) == make_trial()


def test_damaged_pin_is_named_and_healed(tmp_path: Path) -> None:
    """A damaged pin makes its trials unreadable by name, until a writer of the same build puts it right."""
    path = write_trial(tmp_path, make_trial())
    pin = next((tmp_path / "pins").iterdir())
    pin.write_text(pin.read_text().replace("0.32.0", "0.33.0"))
    with pytest.raises(StoreError, match=pin.name):
        read_trial(path)
    write_trial(tmp_path, make_trial("t2"))
    assert read_trial(path) == make_trial()


def test_newer_schema_is_not_called_damage(tmp_path: Path) -> None:
    """A trial of a later Redline is refused as that, so that nobody throws it away as damaged."""
    path = write_trial(tmp_path, make_trial())
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    with pytest.raises(StoreError, match="another version"):
        read_trial(path)


def test_moved_directory_reads(tmp_path: Path) -> None:
    """The trials directory is whole in itself: copied elsewhere it reads the same."""
    write_trial(tmp_path / "a", make_trial(text=HOSTILE_TEXTS[0]))
    shutil.copytree(tmp_path / "a", tmp_path / "b [x]* 'y'")
    (found,) = list_trials(tmp_path / "b [x]* 'y'")
    assert read_trial(found) == make_trial(text=HOSTILE_TEXTS[0])


def test_missing_directory_lists_nothing(tmp_path: Path) -> None:
    """Before the first trial there is no directory, and that is no error."""
    assert list_trials(tmp_path / "none") == ()


def test_unwritable_target_is_a_store_error(tmp_path: Path) -> None:
    """A file where the trials directory should be ends in a StoreError, not in a stack trace."""
    (tmp_path / "trials").write_text("")
    with pytest.raises(StoreError, match="could not be written"):
        write_trial(tmp_path / "trials", make_trial())


WRITER = """
import sys
from pathlib import Path
from redline.store.trials import write_trial
from tests.store.trial_examples import make_trial
directory, prefix = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
for number in range(1000):
    write_trial(directory, make_trial(f"{prefix}-{number}", seed=number, request_count=20))
    print(number, flush=True)
"""


@pytest.mark.slow
def test_killed_writers_leave_whole_trials_or_nothing(tmp_path: Path) -> None:
    """Writers killed at random moments never leave a half trial in sight, and lose none they had finished."""
    finished: list[str] = []
    for attempt in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), f"w{attempt}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        said = writer.stdout.readline() if attempt % 2 else ""  # however slow the disk is, some finish a trial
        time.sleep(0.02 + 0.0217 * attempt)
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.read()
        writer.wait(timeout=30)
        finished += [f"w{attempt}-{line}" for line in said.split()]
    paths = list_trials(tmp_path)
    assert {path.name for path in paths} >= set(finished)
    assert len(finished) >= 4
    for path in paths:
        trial = read_trial(path)
        assert trial == make_trial(trial.trial_id, seed=int(trial.trial_id.split("-")[1]), request_count=20)
    write_trial(tmp_path, make_trial("last"))
    assert not list(tmp_path.glob(".*")), "what killed writers left must be swept by the next one"


def test_sweep_spares_the_living_and_other_hosts(tmp_path: Path) -> None:
    """Only leftovers whose owner on this host is gone are removed; a reused process id does not protect them."""
    child = subprocess.run(
        [sys.executable, "-c", WRITER.replace("1000", "0"), str(tmp_path), "x"], cwd=ROOT, check=True
    )
    assert child.returncode == 0
    from redline.store.trials import _owner_prefix, _process_start

    mine = tmp_path / f"{_owner_prefix()}{os.getpid()}-{_process_start(os.getpid())}-aa"
    reused = tmp_path / f"{_owner_prefix()}{os.getpid()}-1-aa"
    elsewhere = tmp_path / ".writing-otherhost-1-999999999-1-aa"
    for path in (mine, reused, elsewhere):
        path.mkdir()
    write_trial(tmp_path, make_trial())
    assert mine.exists()
    assert not reused.exists()
    assert elsewhere.exists()
    assert [path.name for path in list_trials(tmp_path)] == ["t1"]


@pytest.mark.slow
def test_two_writers_of_one_trial(tmp_path: Path) -> None:
    """Two processes that write the same trials at the same time both succeed, and each trial stands once."""
    script = WRITER.replace("1000", "25")
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), "same"], cwd=ROOT, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [writer.wait(timeout=300) for writer in writers] == [0, 0]
    assert len(list_trials(tmp_path)) == 25
    assert not list(tmp_path.glob(".*"))
