"""A repository with a nightly on the local GitHub server: its runs, their artifacts, and the job that collects."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from flows.request import Answer
from flows.service.collect import collect
from redline.errors import ExitCode, RedlineError
from redline.github.environment import Environment, read_environment
from redline.store.trials import list_trials
from tests.fakes.github_api import TOKEN, GitHubApi
from tests.fakes.github_state import now
from tests.store.merge_examples import make_leg


class Nightly:
    """A repository with a nightly: its runs, their artifacts, and the job that collects."""

    def __init__(self, folder: Path, api: GitHubApi) -> None:
        self.folder = folder
        self.api = api
        self.numbers = iter(range(1000))

    def run(self, **changes: Any) -> int:
        """A night's run."""
        known = {"workflow": "nightly.yml", "display_title": "Nightly", "event": "schedule", "conclusion": "success"}
        return int(self.api.state.run(**known | changes)["id"])

    def leg(self, run_id: int, runner_class: str, name: str = "") -> Path:
        """A leg that a run uploaded; its folder here."""
        folder = make_leg(self.folder / "legs" / str(next(self.numbers)), runner_class, trial_count=1)
        shutil.rmtree(folder / "justifications")  # no leg of a nightly has any
        self.api.state.upload(run_id, name or f"leg-{runner_class}", folder)
        return folder

    def collect(self, run_id: int, state: Path, legs: Path | None = None, *, first: bool = False) -> Answer:
        """What the collecting job of a run does: collect, and upload the state if the step did not fail."""
        job = self.api.state.job(run_id, "report", None)
        try:
            answer = collect(self.environment(run_id), state, "nightly.yml", legs, first=first)
            self.keep(run_id, state, answer)
            job["conclusion"] = "success" if answer.exit_code is ExitCode.NO_WORSE else "failure"
        except RedlineError:
            job["conclusion"] = "failure"
            raise
        finally:
            job |= {"status": "completed", "completed_at": now()}
        return answer

    def keep(self, run_id: int, state: Path, answer: Answer) -> None:
        """Upload the state if the step did not fail."""
        if answer.exit_code is ExitCode.NO_WORSE:
            visible = shutil.copytree(
                state, self.folder / "uploads" / str(run_id), ignore=lambda _, names: hidden(names)
            )
            self.api.state.upload(run_id, "redline-state", visible)

    def reported(self, run_id: int, folder: Path) -> dict[str, Any]:
        """A state that the job `report` of a run uploaded."""
        job = self.api.state.job(run_id, "report", None)
        uploaded = self.api.state.upload(run_id, "redline-state", folder)
        job |= {"status": "completed", "conclusion": "success", "completed_at": now()}
        return uploaded

    def states(self) -> list[dict[str, Any]]:
        """The artifacts of that name."""
        return [each for each in self.api.state.artifacts.values() if each["name"] == "redline-state"]

    def environment(self, run_id: int) -> Environment:
        """The job's."""
        return read_environment(
            {
                "GITHUB_REPOSITORY": self.api.state.repository,
                "GITHUB_EVENT_NAME": "schedule",
                "GITHUB_API_URL": self.api.url,
                "GITHUB_RUN_ID": str(run_id),
                "GITHUB_TOKEN": TOKEN,
                "GITHUB_OUTPUT": str(self.folder / "outputs"),
            }
        )

    def outputs(self) -> str:
        """Everything that steps handed on."""
        return (self.folder / "outputs").read_text()


def hidden(names: list[str]) -> list[str]:
    """What upload-artifact leaves out."""
    return [name for name in names if name.startswith(".")]


def trials(state: Path) -> set[str]:
    """The names of the trials in a state."""
    return {path.name for path in list_trials(state / "trials")}
