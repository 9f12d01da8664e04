"""Files in and out: detection, names, one bad file among good ones, and nothing half written."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redline.errors import ContentError, StoreError, UsageError
from redline.interchange.files import ExportFormat, ExportSettings, export, import_files
from redline.interchange.history import read_history, write_history
from redline.interchange.pytorch_hud import HudJob
from redline.interchange.vllm_bench import ServeSettings
from redline.interchange.whole_file import write_whole
from redline.metrics import CATALOGUE
from tests.interchange.repeat_examples import DETAILED, GUIDELLM, SUMMARY, detailed
from tests.store.trial_examples import make_trial

NAMED = {"build": "0.32.0", "runner": "h200"}


def test_real_files_of_every_kind_become_one_history(tmp_path):
    """JSON lines, one result, a report and a history together; each reading once, and all can be written."""
    report = import_files([DETAILED, SUMMARY, GUIDELLM], **NAMED)
    assert report.problems == ()
    assert {row.deployment for row in report.rows} == {
        "vllm-bench-0.32.0",
        "vllm-bench-0.32.0-summary",
        "guidellm-0.8.1",
    }
    assert len({row.scenario for row in report.rows}) == 5
    assert {(row.build, row.runner) for row in report.rows} == {("0.32.0", "h200")}
    path = tmp_path / "history.parquet"
    write_history(path, report.rows)
    assert import_files([path]).rows == report.rows == read_history(path)
    assert any("requests failed" in note for note in report.notes)


def test_a_file_is_a_deployment_and_results_of_one_load_its_repeats(tmp_path):
    """Two results of one load in one file are repeats 0 and 1; another file is another deployment."""
    first, second = tmp_path / "night-1.jsonl", tmp_path / "night-2.json"
    results = [detailed()[0], detailed()[0] | {"date": "20261122-000000"}]
    first.write_text("\n".join(map(json.dumps, results)))
    second.write_text(json.dumps(detailed()[0]))
    report = import_files([first, second], scenario="chat")
    assert {(row.scenario, row.deployment, row.repeat) for row in report.rows} == {
        ("chat", "night-1", 0),
        ("chat", "night-1", 1),
        ("chat", "night-2", 0),
    }


def test_a_scenario_name_does_not_join_different_loads(tmp_path):
    """A file with several loads keeps them apart under the name that was given."""
    report = import_files([DETAILED], scenario="chat", **NAMED)
    assert {row.scenario for row in report.rows} == {
        "chat (tiny rate=40 concurrency=2 prompts=8)",
        "chat (tiny rate=inf prompts=8)",
    }


def test_files_of_one_name_are_deployments_of_their_own(tmp_path):
    """run=0/result.json and run=1/result.json, as a sweep writes them, are told apart by their folders."""
    paths = [tmp_path / folder / "result.json" for folder in ("run=0", "run=1")]
    for path, result in zip(paths, detailed(), strict=True):
        path.parent.mkdir()
        path.write_text(json.dumps(result))
    report = import_files(paths, **NAMED)
    assert {row.deployment for row in report.rows} == {path.as_posix() for path in paths}


def test_what_the_caller_says_goes_before_what_the_file_says():
    """The file's --metadata names a build and a runner; the caller knows better."""
    rows = import_files([DETAILED], build="0.32.1").rows
    assert {(row.build, row.runner) for row in rows} == {("0.32.1", "laptop")}


@pytest.mark.parametrize("missing", ["build", "runner"])
def test_a_build_or_runner_that_nobody_names_is_asked_for(missing):
    """Results of an unknown build, or of an unknown machine, cannot be compared with anything."""
    report = import_files([GUIDELLM], **{name: text for name, text in NAMED.items() if name != missing})
    assert report.rows == ()
    assert report.problems[0].message.startswith(f"which {missing}?")
    assert f"--{missing} NAME" in report.problems[0].message


def test_one_bad_file_stops_no_other(tmp_path):
    """Every bad file is named with what was expected and found, and the good one gives its rows."""
    contents = {
        "text.json": b"Serving Benchmark Result",
        "list.json": b"[1, 2]",
        "other.json": b'{"pi": 3.14}',
        "half.jsonl": DETAILED.read_bytes()[:-40],
        "binary.json": b"\xff\xfe\x00",
        "empty.json": b"",
        "deep.json": b"[" * 100_000,
        "digits.json": b'{"completed": ' + b"9" * 5000 + b"}",
        "old.json": b'{"metadata": {"version": 1}, "benchmarks": []}',
        "none.json": b'{"metadata": {"version": 2}, "benchmarks": []}',
        "wrong.csv": b"a,b\n1,2\n",
        "wrong.parquet": b"PAR1",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in contents]
    report = import_files([*paths, tmp_path / "missing.json", tmp_path, DETAILED], **NAMED)
    assert [problem.path for problem in report.problems] == [*paths, tmp_path / "missing.json", tmp_path]
    assert report.rows == import_files([DETAILED], **NAMED).rows != ()
    messages = {problem.path.name: problem.message for problem in report.problems}
    assert "keys pi" in messages["other.json"]
    assert "line 2" in messages["half.jsonl"]
    assert "metadata.version 1" in messages["old.json"]
    assert "no reading in it" in messages["none.json"]
    assert "vllm bench serve" in messages["text.json"]
    assert "No such file" in messages["missing.json"]


def test_a_file_given_twice_counts_once(tmp_path):
    """A copy under another name is found by its content, and a repeated reading by what it is of."""
    copy, respaced = tmp_path / "copy.jsonl", tmp_path / f"{DETAILED.stem}.json"
    shutil.copy(DETAILED, copy)
    report = import_files([DETAILED, copy], **NAMED)
    assert report.rows == import_files([DETAILED], **NAMED).rows
    assert "the same file twice" in report.problems[0].message
    history = tmp_path / "history.csv"
    write_history(history, report.rows)
    respaced.write_text(json.dumps(detailed()[0], indent=2))
    again = import_files([history, respaced], **NAMED)
    assert again.rows == report.rows
    assert f"says the same as {history}" in again.problems[0].message


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["completed", "duration", "request_throughput", "metadata", "benchmarks", "version", "ttfts"]
                ),
                inner,
            )
        ),
    )
)
def test_no_json_raises(tmp_path, document):
    """Whatever is in a file is rows or a problem with a message."""
    path = tmp_path / "any.json"
    path.write_text(json.dumps(document))
    report = import_files([path], **NAMED)
    assert report.rows or report.problems[0].message


# --- export -------------------------------------------------------------------------------------------------


def test_vllm_bench_files_come_back_as_the_trials_readings(tmp_path):
    """Written, read and compared with the trial: one file per counted repeat, TTFT and E2E to the nanosecond."""
    trial = make_trial()
    settings_of_it = ExportSettings({"offline-short": ServeSettings("tiny", max_concurrency=8)})
    paths = export([trial], ExportFormat.VLLM_BENCH, tmp_path / "out", settings_of_it)
    assert [path.name for path in paths] == ["t1-repeat1.json", "t1-repeat2.json", "t1-repeat3.json"]
    assert json.loads(paths[0].read_text())["max_concurrency"] == 8
    rows = import_files(paths).rows
    found = {(row.metric, row.repeat): row.reading for row in rows}
    for metric in ("ttft_s_median", "ttft_s_p99", "e2e_s_median"):
        for repeat in trial.counted_repeats:
            assert found[metric, repeat.index] == pytest.approx(CATALOGUE[metric].formula(repeat), abs=1e-9)
    assert {(row.deployment, row.scenario, row.runner) for row in rows} == {("t1", "offline-short", "cpu")}


def test_the_other_formats_are_one_or_two_files(tmp_path):
    """Their names are fixed, so that a workflow can name them; without a job the HUD's time is the last trial's."""
    trials = [make_trial("t1"), make_trial("t2", started_at="2026-11-21T11:00:00+01:00")]
    hud = export(trials, ExportFormat.PYTORCH_HUD, tmp_path)
    lists = export(trials, ExportFormat.GITHUB_ACTION_BENCHMARK, tmp_path)
    table = export(trials, ExportFormat.PARQUET, tmp_path)
    names = {path.name for path in (*hud, *lists, *table)}
    assert names == {item.name for item in tmp_path.iterdir()}
    assert names == {
        "pytorch-hud.json",
        "custom-smaller-is-better.json",
        "custom-bigger-is-better.json",
        "requests.parquet",
    }
    assert json.loads(hud[0].read_text())[0]["timestamp"] == 1795255200
    assert pq.read_table(table[0]).num_rows == 2 * 4 * 6
    job = ExportSettings(job=HudJob(5))
    assert json.loads(export(trials, ExportFormat.PYTORCH_HUD, tmp_path, job)[0].read_text())[0]["timestamp"] == 5


def test_nothing_to_export_is_said(tmp_path):
    """No trial, and a trial whose repeats were all dropped."""
    with pytest.raises(UsageError, match="no trial"):
        export([], ExportFormat.PARQUET, tmp_path)
    with pytest.raises(UsageError, match="no repeat"):
        export([make_trial(repeat_count=1)], ExportFormat.VLLM_BENCH, tmp_path)


def test_a_trial_id_cannot_lead_out_of_the_folder(tmp_path):
    """A name that is a path is refused before anything is written."""
    with pytest.raises(UsageError, match="cannot be a file's name"):
        export([make_trial("../t1")], ExportFormat.VLLM_BENCH, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    """A refused write leaves the older file and no temporary one; a good one replaces it."""
    path = tmp_path / "a.json"
    write_whole(path, b"first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="could not be written"):
        write_whole(tmp_path / "file" / "b.json", b"x")
    assert {item.name for item in tmp_path.iterdir()} == {"a.json", "file"}


def test_a_trial_whose_start_is_no_date_has_no_hud_time(tmp_path):
    """The rows need a time; without a job it is the trial's."""
    with pytest.raises(ContentError, match="started_at is no date"):
        export([make_trial(started_at="now")], ExportFormat.PYTORCH_HUD, tmp_path)
