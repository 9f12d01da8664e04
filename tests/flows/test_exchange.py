"""`redline export` and `redline import` through the command line, on trials in a store of their own."""

from __future__ import annotations

import json

import pytest

from redline.cli import main
from redline.interchange.history import read_history
from redline.metrics import reading_of
from redline.store.trials import write_trial
from tests.store.trial_examples import make_trial


@pytest.fixture
def state(tmp_path):
    """A state directory with two runs of one trial each."""
    for number in (1, 2):
        write_trial(
            tmp_path / "trials",
            make_trial(f"trial-{number}", seed=number, scenario="server-short", run_id=f"run-{number}"),
        )
    return tmp_path


def test_an_exported_run_is_imported_with_the_readings_that_it_had(state, capsys):
    """Out as vllm bench would have saved it, in as a history: TTFT of each repeat is the same."""
    assert (
        main(["export", "run-2", "--format", "vllm-bench", "--output", str(state / "out"), "--state-dir", str(state)])
        == 0
    )
    files = sorted((state / "out").iterdir())
    assert len(files) == 3
    saved = json.loads(files[0].read_text())
    assert saved["request_rate"] == 12.0  # of scenarios/server-short.toml
    history = state / "history.csv"
    arguments = ["import", *map(str, files), "--output", str(history), "--build", "b", "--runner", "r"]
    assert main(arguments) == 0
    rows = read_history(history)
    medians = sorted(row.reading for row in rows if row.metric == "ttft_s_median")
    trial = make_trial("trial-2", seed=2, scenario="server-short", run_id="run-2")
    assert medians[1] == pytest.approx(reading_of(trial, "ttft_s_median").value)
    assert f"wrote {history}" in capsys.readouterr().out


def test_latest_is_the_latest_run(state):
    """As with `redline baseline accept latest`."""
    assert (
        main(["export", "latest", "--format", "parquet", "--output", str(state / "out"), "--state-dir", str(state)])
        == 0
    )
    assert (state / "out" / "requests.parquet").is_file()


def test_a_run_that_there_is_not_is_named(state, capsys):
    """Exit code 2, with the runs that there are."""
    assert main(["export", "run-9", "--format", "parquet", "--output", str(state), "--state-dir", str(state)]) == 2
    assert "run-1, run-2" in capsys.readouterr().err


def test_bad_files_are_named_and_good_ones_kept(state, capsys):
    """One damaged file stops no other; nothing good at all is an error."""
    bad = state / "bad.json"
    bad.write_text('{"metrics": 1}')
    main(["export", "run-1", "--format", "vllm-bench", "--output", str(state / "out"), "--state-dir", str(state)])
    good = next((state / "out").iterdir())
    named = ["--output", str(state / "history.parquet"), "--build", "b", "--runner", "r"]
    assert main(["import", str(bad), str(good), *named]) == 2
    assert "left out" in capsys.readouterr().out
    kept = read_history(state / "history.parquet")
    assert kept
    assert main(["import", str(bad), *named]) == 2
    assert main(["import", str(good), *named]) == 2  # it would replace a history that is there
    assert "exists" in capsys.readouterr().err
    assert read_history(state / "history.parquet") == kept
