"""Merges that are killed, and merges that meet: real processes, real signals, real files."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from redline.store.database import ingest
from redline.store.trials import list_trials
from tests.store.merge_examples import content_of, leg_trial, make_leg
from tests.store.trial_examples import dump

ROOT = Path(__file__).parents[2]

# Imports once, then a child for each number on standard input: it merges, and the kernel kills it at its n-th step that
# touches the disk, as Python's own audit counts them. 0: never. It answers with the child's status and its steps.
KILLED = """
import os, signal, sys
from pathlib import Path
from redline.store.merge import merge_folder, merge_lock
from redline.store.database import ingest

STEPS = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate"}
legs, states = [Path(each) for each in sys.argv[1].split(":")], Path(sys.argv[2])
for line in sys.stdin:
    last = int(line)
    count = 0

    def step(event, arguments):
        global count
        if event in STEPS:
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        sys.addaudithook(step)
        state = states / str(last)
        with merge_lock(state, wait_s=5):
            for leg in legs:
                merge_folder(leg, state, lambda path, name: None)
        ingest(state / "trials", state / "redline.duckdb", justifications_dir=state / "justifications")
        (states / "steps").write_text(str(count))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

MERGE = """
import sys
from pathlib import Path
from redline.store.merge import merge_folder, merge_lock
state = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
with merge_lock(state, wait_s=60):
    for leg in sys.argv[2:]:
        found = merge_folder(Path(leg), state, lambda path, name: None)
        print(*(f"{item.kind}/{item.name}/{item.fate.name}\\n" for item in found), sep="", flush=True)
"""

WRITE = """
import sys
from pathlib import Path
from redline.store.trials import write_trial
from tests.store.merge_examples import leg_trial
print("ready", flush=True)
sys.stdin.readline()
for number in range(10):
    write_trial(Path(sys.argv[1]), leg_trial(sys.argv[2], number % 5))
    print(number, flush=True)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that runs the script."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def go(*processes: subprocess.Popen[str]) -> list[str]:
    """What they say, all let go at once when each is ready."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return said


@pytest.mark.slow
def test_a_merge_that_is_killed_anywhere_and_run_again_loses_nothing(tmp_path: Path) -> None:
    """Killed at any step that touches the disk, no half thing is in sight, and the next merge ends with the same."""
    legs = [make_leg(tmp_path / name, name, trial_count=2) for name in ("cpu", "h200")]
    states = tmp_path / "states"
    states.mkdir()
    with start(KILLED, ":".join(map(str, legs)), str(states)) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def merge(last: int) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{last}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        assert merge(0) == 0
        expected, rows = content_of(states / "0"), dump(states / "0" / "redline.duckdb")
        steps = int((states / "steps").read_text())
        assert steps > 100
        for last in range(1, steps + 1, steps // 10):
            state = states / str(last)
            assert merge(last) == -signal.SIGKILL
            interrupted = content_of(state) if state.exists() else {}
            assert interrupted.items() <= expected.items(), f"a half thing after step {last}"
            (states / "0").rename(states / "kept")
            state.rename(states / "0") if state.exists() else (states / "0").mkdir()
            assert merge(0) == 0
            assert content_of(states / "0") == expected
            assert dump(states / "0" / "redline.duckdb") == rows
            assert not list((states / "0" / "trials").glob(".writing-*")), "left behind by the killed one"
            (states / "0").rename(state)
            (states / "kept").rename(states / "0")
        process.stdin.close()


@pytest.mark.slow
def test_two_merges_at_once_both_end_well(tmp_path: Path) -> None:
    """Of two merges of the same legs, each thing is taken by one and found by the other, and nothing is doubled."""
    legs = [str(make_leg(tmp_path / name, name)) for name in ("cpu", "h200")]
    state = tmp_path / "state"
    said = go(start(MERGE, str(state), *legs), start(MERGE, str(state), *reversed(legs)))
    fates: dict[str, list[str]] = {}
    for line in "".join(said).split():
        thing, _, fate = line.rpartition("/")
        fates.setdefault(thing, []).append(fate)
    assert len(fates) == 14
    # A pin that both legs have is met four times, everything else twice; one of them took it.
    assert {(each.count("TAKEN"), each.count("REFUSED")) for each in fates.values()} == {(1, 0)}
    assert {each.count("THERE") for each in fates.values()} == {1, 3}
    assert len(list_trials(state / "trials")) == 4
    report = ingest(state / "trials", state / "redline.duckdb", justifications_dir=state / "justifications")
    assert (report.added, report.damaged, report.justified) == (4, (), 2)


@pytest.mark.slow
def test_a_shared_folder_has_many_writers_and_one_merge(tmp_path: Path) -> None:
    """Two processes write trials into one folder while a third merges legs into it: everything is there once."""
    state = tmp_path / "state"
    (state / "trials").mkdir(parents=True)
    leg = make_leg(tmp_path / "leg", "mi300x", trial_count=5)
    go(
        start(WRITE, str(state / "trials"), "cpu"),
        start(WRITE, str(state / "trials"), "h200"),
        start(MERGE, str(state), str(leg)),
    )
    expected = {f"{name}-{number}" for name in ("cpu", "h200", "mi300x") for number in range(5)}
    assert {path.name for path in list_trials(state / "trials")} == expected
    assert not list((state / "trials").glob(".writing-*"))
    assert ingest(state / "trials", state / "redline.duckdb").added == 15
    pins = {leg_trial("cpu", number).sut.pin.pin_id for number in range(5)}
    assert {path.stem for path in (state / "trials" / "pins").iterdir()} == pins
