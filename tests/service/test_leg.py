from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.merge import merge, read_leg
from flows.report_file import write_report
from flows.service.leg import LegRequest, pack
from redline.errors import ExitCode, UsageError
from redline.github.environment import Environment, read_environment
from redline.store.justifications import write_justification
from redline.store.nights import write_night
from redline.store.trials import list_trials, write_trial
from reports.data import ReportData, ReportKind
from tests.reports.situations import SITUATIONS, regressed
from tests.store.merge_examples import RUN, content_of, make_justification, make_night
from tests.store.trial_examples import make_trial

HEAD, BASE = "c0ffee1234" * 4, "b81c" * 10


class Job:
    """One job on a self-hosted runner: its state directory, its files for GitHub, and the folder that it packs."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.run_file = folder / "run-id"
        self.output = folder / "leg"
        self.summary_path = folder / "summary"
        self.output_path = folder / "outputs"

    def measured(self, report: ReportData | None = None, *, exit_code: int = 0) -> None:
        """A gate ran: two trials, and its report unless it was killed before."""
        self.run_file.write_text(f"{RUN}\n")
        for number in range(2):
            write_trial(self.state / "trials", make_trial(f"{number}", seed=number, run_id=RUN))
        write_trial(self.state / "trials", make_trial("other", run_id="20261101T000000-0000"))
        if report is not None:
            path = self.state / "reports" / f"{RUN}.md"
            write_report(path.with_suffix(".data.json"), replace(report, run_id=RUN))
            path.write_text("# the report\n")
            path.with_suffix(".json").write_text(json.dumps({"finding": "x", "exit_code": exit_code}))

    def pack(self, **changes: Any) -> tuple[str, ...]:
        """The lines of the step; it must not fail."""
        request = LegRequest("gate", "cpu", self.run_file, self.output, number=7, head_sha=HEAD, base_sha=BASE)
        answer = pack(self.environment(), self.state, replace(request, **changes))
        assert answer.exit_code is ExitCode.NO_WORSE
        return answer.lines

    def environment(self) -> Environment:
        """What GitHub's runner says."""
        return read_environment(
            {
                "GITHUB_REPOSITORY": "example/fork",
                "GITHUB_EVENT_NAME": "pull_request_target",
                "GITHUB_RUN_ID": "11",
                "GITHUB_OUTPUT": str(self.output_path),
                "GITHUB_STEP_SUMMARY": str(self.summary_path),
            }
        )

    @property
    def outputs(self) -> dict[str, str]:
        """What the step handed on."""
        lines = iter(self.output_path.read_text().splitlines())
        found = {}
        for line in lines:
            name, _, word = line.partition("<<")
            value = []
            while (each := next(lines)) != word:
                value.append(each)
            found[name] = "\n".join(value)
        return found


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job that has measured nothing yet."""
    return Job(tmp_path)


def test_a_measured_gate_is_packed_and_told(job: Job) -> None:
    """The folder holds the run's trials and report and says it is whole; summary, outputs and annotations are made."""
    job.measured(regressed(), exit_code=1)
    write_justification(job.state / "justifications", make_justification())
    write_justification(job.state / "justifications", make_justification(number=8))
    lines = job.pack()
    record = read_leg(job.output)
    assert (record.run_id, record.problem, record.number, record.head_sha) == (RUN, "", 7, HEAD)
    assert record.url == "https://github.com/example/fork/actions/runs/11"
    assert [path.name for path in list_trials(job.output / "trials")] == ["0", "1"]
    assert {path.name for path in (job.output / "reports").iterdir()} == {
        f"{RUN}.md",
        f"{RUN}.json",
        f"{RUN}.data.json",
    }
    assert [path.stem for path in (job.output / "justifications").iterdir()] == [make_justification().justification_id]
    assert job.outputs == {
        "verdict": "regressed",
        "exit-code": "1",
        "report": str(job.output / "reports" / f"{RUN}.md"),
        "json": str(job.output / "reports" / f"{RUN}.json"),
        "run-id": RUN,
    }
    assert "output throughput" in job.summary_path.read_text()
    assert lines[0] == f"packed 2 trials of run {RUN} in {job.output}"
    assert any(line.startswith("::error ") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_can_be_packed_and_merged(job: Job, tmp_path: Path, situation: str) -> None:
    """Whatever a report says, the leg is packed and a merge takes all of it."""
    report = SITUATIONS[situation]()
    job.measured(report)
    job.pack(kind=report.kind.value, runner=report.runner_class)
    assert read_leg(job.output).problem == ""
    answer = merge(tmp_path / "merged", (job.output,))
    assert answer.exit_code is ExitCode.NO_WORSE, answer.lines
    merged = {name for name in content_of(tmp_path / "merged") if not name.endswith("redline.duckdb")}
    assert merged == set(content_of(job.output)) - {"leg.json"}


def test_a_nightly_takes_its_nights_and_gates_along(job: Job) -> None:
    """Both halves of the night's record and the trials of the gates inside it belong to its leg."""
    job.measured(replace(regressed(), kind=ReportKind.NIGHTLY))
    write_trial(job.state / "trials", make_trial("g", run_id=f"{RUN}-gate1"))
    for run_id in (RUN, f"{RUN}-settled", "20261120T021700-ffff"):
        write_night(job.state / "nights", make_night(run_id=run_id))
    job.pack(kind="nightly", number=0, head_sha="", base_sha="")
    assert {path.stem for path in (job.output / "nights" / "cpu").iterdir()} == {RUN, f"{RUN}-settled"}
    assert [path.name for path in list_trials(job.output / "trials")] == ["0", "1", "g"]


# --- legs that died -----------------------------------------------------------------------------------------------


def test_a_run_that_was_killed_is_packed_as_far_as_it_came(job: Job) -> None:
    """Trials without a report: they are packed, the record and the summary say why there is no verdict."""
    job.measured()
    job.pack()
    record = read_leg(job.output)
    assert record.run_id == RUN
    assert record.problem == "it ended before it could report: the job's log says how far it came"
    assert len(list_trials(job.output / "trials")) == 2
    assert (job.outputs["verdict"], job.outputs["exit-code"], job.outputs["report"]) == ("error", "5", "")
    assert "ended before it could report" in job.summary_path.read_text()


def test_a_kill_between_the_report_and_its_verdict_loses_neither(job: Job) -> None:
    """The exit code is then what the verdict stands for."""
    job.measured(regressed(), exit_code=1)
    (job.state / "reports" / f"{RUN}.json").unlink()
    job.pack()
    assert (job.outputs["verdict"], job.outputs["exit-code"], job.outputs["json"]) == ("regressed", "1", "")


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_a_run_that_never_started(job: Job, text: str | None) -> None:
    """Without a run id nothing was measured: the leg is there all the same, and says so."""
    if text is not None:
        job.run_file.write_text(text)
    job.pack()
    record = read_leg(job.output)
    assert (record.run_id, record.problem) == ("", "nothing was started: see the job's log")
    assert [path.name for path in job.output.iterdir()] == ["leg.json"]


@pytest.mark.parametrize("text", ["../../etc", "a b", "x" * 200, "run*", "run\nrun"])
def test_a_run_file_that_somebody_else_wrote(job: Job, text: str) -> None:
    """What is no run id names no files: nothing is looked for, nothing is packed."""
    job.measured(regressed())
    job.run_file.write_text(text)
    job.pack()
    assert read_leg(job.output).problem.startswith("its run file holds no run id: ")
    assert [path.name for path in job.output.iterdir()] == ["leg.json"]


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (replace(regressed(), runner_class="h200"), "another runner class"),
        (replace(regressed(), kind=ReportKind.NIGHTLY), "another kind"),
    ],
)
def test_a_report_of_something_else_is_no_answer(job: Job, report: ReportData, words: str) -> None:
    """A report of another class or kind never becomes this leg's verdict."""
    job.measured(report)
    job.pack()
    assert words in read_leg(job.output).problem
    assert job.outputs["verdict"] == "error"


def test_a_damaged_report_is_a_problem_and_its_trials_are_packed(job: Job) -> None:
    """A report's data that cannot be read is left out by name."""
    job.measured(regressed())
    (job.state / "reports" / f"{RUN}.data.json").write_text("{")
    lines = job.pack()
    assert "cannot be read as a report" in read_leg(job.output).problem
    assert len(list_trials(job.output / "trials")) == 2
    assert any(line.startswith(f"left out: report {RUN}.data.json") for line in lines)


def test_no_line_is_a_command_that_a_stranger_wrote(job: Job) -> None:
    """The build that is measured may write the run file: what stands there commands no runner."""
    job.run_file.write_text("::set-output name=x::y\n##[add-path]/tmp\n")
    lines = job.pack()
    assert not any("##[" in line for line in lines)
    assert not any(line.lstrip().startswith("::set-output") for line in lines)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_folder_in_use_is_refused(job: Job) -> None:
    """A leg never mixes with what lies in its folder; a second packing is refused too."""
    job.measured(regressed())
    job.pack()
    before = content_of(job.output)
    with pytest.raises(UsageError, match="is in use"):
        job.pack()
    assert content_of(job.output) == before


def test_a_folder_that_is_a_link_is_refused(job: Job, tmp_path: Path) -> None:
    """Nothing is written where a link leads."""
    (tmp_path / "elsewhere").mkdir()
    job.output.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is in use"):
        job.pack()


@pytest.mark.parametrize("changes", [{"head_sha": "main"}, {"number": -1}, {"kind": "release"}])
def test_a_leg_that_cannot_be_described_is_refused(job: Job, changes: dict[str, Any]) -> None:
    """A matrix that says nonsense is a usage error, and leaves no folder that looks like a leg."""
    with pytest.raises(UsageError, match="cannot be described"):
        job.pack(**changes)
    assert not (job.output / "leg.json").exists()
