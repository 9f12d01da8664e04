"""`redline export --format mlperf` through the command line, on trials that hold what the stand-ins' scenarios ask."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from flows.workspace import CHECKOUT, CONTENT_VARIABLE
from redline.cli import main
from redline.errors import ExitCode
from redline.interchange.mlperf_run import STATEMENT
from redline.model import Arm, TrialStatus
from tests.checks import loadgen_run
from tests.flows.exported import SYSTEM, export, folder_of, stored, trial_of
from tests.interchange.mlperf_checker import failed, read_detail
from tests.store.trial_examples import make_trial


def test_a_run_is_written_in_the_submission_layout(tmp_path, capsys):
    """All that MLPerf wants of a scenario; each text says what it is and is not, and none names the machine."""
    names = ("llama2-stand-in-offline", "llama2-stand-in-server", "llama2-stand-in-accuracy")
    stored(tmp_path, *(trial_of(tmp_path, name) for name in names))
    assert export(tmp_path) == 0
    root = tmp_path / "out" / "open" / "not-a-submission"
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    logs = {"mlperf_log_summary.txt", "mlperf_log_detail.txt"}
    answers = {*logs, "accuracy.txt", "mlperf_log_accuracy.json"}
    of_scenario = {"README.md", "measurements.json", "user.conf"} | {f"performance/run_1/{name}" for name in logs}
    of_scenario |= {f"accuracy/{name}" for name in answers}
    assert found == {
        *(f"results/{SYSTEM}/llama2-70b-99.9/{s}/{name}" for s in ("Offline", "Server") for name in of_scenario),
        f"systems/{SYSTEM}.json",
        *(f"src/llama2-70b-99.9/{name}" for name in ("README.md", "vllm.lock")),
        "documentation/calibration.md",
    }
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            text = path.read_text()
            assert str(tmp_path) not in text
            assert "rack-7" not in text
            assert STATEMENT in text or path.name == "mlperf_log_accuracy.json", path
    assert "23 files" in capsys.readouterr().out


def test_what_the_checker_fails_is_what_a_stand_in_lacks(tmp_path):
    """Ten minutes, 24,576 items and enough queries; nothing of the folder's form, nothing of the system."""
    names = ("llama2-stand-in-offline", "llama2-stand-in-server", "llama2-stand-in-accuracy")
    stored(tmp_path, *(trial_of(tmp_path, name) for name in names))
    assert export(tmp_path, "--submitter", "Acme") == 0
    short = {"performance_sample_count_check", "min_duration_check"}
    no_fault: dict[str, set[str]] = {"accuracy": {"dataset_check"}, "system": set(), "measurements": set()}
    assert failed(folder_of(tmp_path, "Offline", "open/Acme")) == {"performance": short} | no_fault
    assert failed(folder_of(tmp_path, "Server", "open/Acme")) == {"performance": {*short, "latency_check"}} | no_fault


def test_the_page_says_what_was_shorter_and_what_deviates(tmp_path):
    """Of the Server run: too short, too few, accuracy measured in Offline; of both, the figure with its unit."""
    names = ("llama2-stand-in-server", "llama2-stand-in-accuracy")
    stored(tmp_path, *(trial_of(tmp_path, name) for name in names))
    assert export(tmp_path) == 0
    page = (folder_of(tmp_path, "Server") / "README.md").read_text()
    log = read_detail(folder_of(tmp_path, "Server") / "performance" / "run_1" / "mlperf_log_detail.txt")
    assert f"- Result: {log['result_completed_tokens_per_second']:g} tokens/s, INVALID" in page
    assert "MLPerf demands 600 s" in page
    assert "24 queries; MLPerf demands 24576" in page
    assert "accuracy was measured in Offline, not in Server" in page
    assert "written by Redline in LoadGen's format" in page
    assert "rouge1 in llama2-stand-in-accuracy is 99.5" in page


@pytest.fixture
def h100(content, monkeypatch):
    """A runner class of 8 x H100 PCIe, in content of the test's own."""
    shutil.copytree(CHECKOUT / "datasets", content / "datasets")
    text = (content / "runners" / "cpu-stand-ins.toml").read_text()
    board = 'platform = "cuda"\naccelerator = "H100 PCIe"\naccelerator_count = 8'
    text = re.sub(r"^platform = .*$", board, text, flags=re.MULTILINE).replace(
        "arms_resident_max = 2", "arms_resident_max = 1"
    )
    (content / "runners" / "h100.toml").write_text(text)
    monkeypatch.setenv(CONTENT_VARIABLE, str(content))


@pytest.mark.slow
def test_a_run_of_full_size_passes_every_check(tmp_path, h100):
    """24,576 items for ten minutes, answers as good as the reference: the closed division's checks find nothing."""
    figures = {"rouge1": 44.5, "rouge2": 22.1, "rougeL": 28.7, "rougeLsum": 40.0, "tokens_per_sample": 294.0}
    cuda = {"runner": "h100", "tokens": 300}
    stored(
        tmp_path,
        trial_of(tmp_path, "llama2-70b-offline", **cuda),
        trial_of(tmp_path, "llama2-70b-server", **cuda),
        trial_of(tmp_path, "llama2-70b-accuracy", **cuda, figures=figures),
    )
    assert export(tmp_path, "--division", "closed", "--submitter", "Acme") == 0
    folders = list((tmp_path / "out" / "closed" / "Acme" / "results").glob("*/*/*"))
    assert {folder.name for folder in folders} == {"Offline", "Server"}
    for folder in folders:
        assert failed(folder) == {"performance": set(), "accuracy": set(), "system": set(), "measurements": set()}
        assert "could not be seen" in (folder / "README.md").read_text()  # the data set is not prepared here
    source = (tmp_path / "out" / "closed" / "Acme" / "src" / "llama2-70b-99.9" / "README.md").read_text()
    assert "- spread: 2 servers of 4 x H100 PCIe each" in source
    assert "--dtype float16" in source


def test_without_an_accuracy_run_there_is_no_accuracy(tmp_path):
    """No folder and no figure, a sentence instead."""
    stored(tmp_path, trial_of(tmp_path, "llama2-stand-in-offline"))
    assert export(tmp_path) == 0
    folder = folder_of(tmp_path, "Offline")
    assert not (folder / "accuracy").exists()
    assert failed(folder)["accuracy"] == {"crash"}
    page = (folder / "README.md").read_text()
    assert "- Accuracy: not measured in what was exported" in page
    assert "- no accuracy run: MLPerf wants one in every scenario" in page


def test_loadgens_own_logs_are_copied_as_they_are(tmp_path):
    """Byte by byte, where the official LoadGen drove the window; the page says whose they are."""
    trial = trial_of(tmp_path, "llama2-stand-in-offline")
    stored(tmp_path, trial)
    for repeat in trial.repeats:
        official = tmp_path / "logs" / trial.run_id / "loadgen" / trial.trial_id / f"{repeat.index:02d}"
        loadgen_run.run({"scenario": "Offline", "min_query_count": 24}, official)
    assert export(tmp_path) == 0
    folder = folder_of(tmp_path, "Offline")
    copied = (folder / "performance" / "run_1" / "mlperf_log_detail.txt").read_bytes()
    assert copied in [path.read_bytes() for path in (tmp_path / "logs").rglob("mlperf_log_detail.txt")]
    assert "the official LoadGen's own, copied as they are" in (folder / "README.md").read_text()
    for path in (tmp_path / "logs").rglob("mlperf_log_detail.txt"):
        path.write_text(path.read_text()[:500])
    (tmp_path / "out").rename(tmp_path / "before")
    assert export(tmp_path) == ExitCode.INFRASTRUCTURE
    assert not (tmp_path / "out").exists()


# --- which trial ----------------------------------------------------------------------------------------------


def test_a_run_without_mlperfs_scenarios_is_refused(tmp_path, capsys):
    """With the scenarios that it has, and nothing is written."""
    stored(tmp_path, make_trial(scenario="server-short", run_id="run-1", runner_class="cpu"))
    assert export(tmp_path) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "server-short (single)" in said
    assert "follows no rules of MLPerf" in said
    assert not (tmp_path / "out").exists()


def test_an_invalid_trial_is_evidence_of_nothing(tmp_path, capsys):
    """It is left out, and named with its reason on the first page too."""
    good = trial_of(tmp_path, "llama2-stand-in-offline")
    bad = trial_of(tmp_path, "llama2-stand-in-server", status=TrialStatus.INVALID, detail="schedule lag")
    stored(tmp_path, good, bad)
    assert export(tmp_path) == 0
    said = "trial trial-llama2-stand-in-server of llama2-stand-in-server is invalid: schedule lag"
    assert f"left out: {said}" in capsys.readouterr().out
    assert said in (tmp_path / "out" / "README.md").read_text()
    assert not folder_of(tmp_path, "Server").exists()


def test_a_scenario_that_has_changed_since_is_left_out(tmp_path, capsys):
    """Its rules and limits now are not those of what was measured."""
    stored(tmp_path, trial_of(tmp_path, "llama2-stand-in-offline", scenario_hash="0" * 16))
    assert export(tmp_path) == ExitCode.USAGE
    assert "the scenario has changed since it was measured" in capsys.readouterr().err


def test_the_arm_is_the_candidate_unless_another_is_named(tmp_path):
    """A gate's folder is that of the build under test; --arm baseline is the other side's."""
    both = {
        arm: trial_of(tmp_path, "llama2-stand-in-offline", trial_id=f"trial-{arm.value}", arm=arm, tokens=tokens)
        for arm, tokens in ((Arm.BASELINE, 4), (Arm.CANDIDATE, 5))
    }
    stored(tmp_path, *both.values())
    for arm, more in ((Arm.CANDIDATE, ()), (Arm.BASELINE, ("--arm", "baseline"))):
        assert export(tmp_path, *more) == 0
        assert f"of trial {both[arm].trial_id}" in (folder_of(tmp_path, "Offline") / "README.md").read_text()
        (tmp_path / "out").rename(tmp_path / arm.value)


def test_of_two_trials_for_one_folder_the_last_stands_there(tmp_path, capsys):
    """The other one is named, not dropped in silence."""
    stored(tmp_path, *(trial_of(tmp_path, "llama2-stand-in-offline", trial_id=f"trial-{number}") for number in (1, 2)))
    assert export(tmp_path) == 0
    said = "left out: trial trial-1 of llama2-stand-in-offline: another one of this run stands in its folder"
    assert said in capsys.readouterr().out
    assert "of trial trial-2" in (folder_of(tmp_path, "Offline") / "README.md").read_text()


# --- options --------------------------------------------------------------------------------------------------


def test_fields_of_the_system_can_be_given(tmp_path):
    """What Redline cannot capture comes from a file, and is named as typed."""
    stored(tmp_path, trial_of(tmp_path, "llama2-stand-in-offline"))
    given = tmp_path / "system.json"
    given.write_text('{"cooling": "air"}')
    assert export(tmp_path, "--system", str(given)) == 0
    told = json.loads((tmp_path / "out/open/not-a-submission/systems" / f"{SYSTEM}.json").read_text())
    assert told["cooling"] == "air"
    assert "cooling" in told["hw_notes"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--submitter", "Red Hat"), "--submitter cannot be a folder's name"),
        (("--system", "nowhere.json"), "nowhere.json"),
        (("--arm", "probe"), "no trial of that arm"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, capsys, more, said):
    """Exit code 2, and no folder."""
    stored(tmp_path, trial_of(tmp_path, "llama2-stand-in-offline"))
    assert export(tmp_path, *more) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    """Two exports never mix."""
    stored(tmp_path, trial_of(tmp_path, "llama2-stand-in-offline"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert export(tmp_path) == ExitCode.USAGE
    assert "mine.txt" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_the_options_belong_to_this_format(tmp_path, capsys):
    """Another format has no submitter: said, not ignored."""
    asked = ["export", "latest", "--format", "parquet", "--output", str(tmp_path), "--submitter", "Acme"]
    assert main([*asked, "--state-dir", str(tmp_path)]) == ExitCode.USAGE
    assert "--submitter is for --format mlperf" in capsys.readouterr().err
