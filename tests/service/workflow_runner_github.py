"""The local GitHub server as the other side of the workflow runner: runs, jobs and artifacts appear in its API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.github_api import GitHubApi, Identity
from tests.fakes.github_state import now
from tests.service.workflow_runner import Event, Side, WorkflowRun
from tests.service.workflow_runner_artifacts import Artifact
from tests.service.workflow_runner_jobs import JobRun


@dataclass
class GitHubSide(Side):
    """Tokens hold the rights that the job asks for and no others: a job that lacks one is refused, as at GitHub.

    `tokens`: every one that was handed out. `branch`: of the runs, the default one unless a test says otherwise.
    """

    api: GitHubApi
    branch: str = "main"
    tokens: list[str] = field(default_factory=list)
    _jobs: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    _artifacts: dict[int, int] = field(default_factory=dict)

    @property
    def api_url(self) -> str:  # type: ignore[override]
        """The server's address."""
        return self.api.url

    def run_started(self, run: WorkflowRun) -> None:
        """The run appears, and takes the number that it has in the API."""
        with self.api.state.changing:
            raw = self.api.state.run(
                workflow=run.workflow.path.name,
                display_title=run.title,
                event=run.event.name,
                conclusion=None,
                head_branch=self.branch,
            )
            raw["name"] = run.workflow.name
            run.run_id = raw["id"]

    def token(self, run: WorkflowRun, permissions: Mapping[str, str]) -> str:
        """A token for these rights, written as the API writes them."""
        token = f"ghs_{run.run_id}_{len(self.tokens)}_0123456789abcdef"
        granted = {name.replace("-", "_"): level for name, level in permissions.items()}
        self.api.state.tokens[token] = Identity(permissions=granted)
        self.tokens.append(token)
        return token

    def job_started(self, run: WorkflowRun, job: JobRun) -> None:
        """The job appears, without an end."""
        with self.api.state.changing:
            self._jobs[run.run_id, job.name] = self.api.state.job(run.run_id, job.name, None)

    def job_ended(self, run: WorkflowRun, job: JobRun) -> None:
        """Its end."""
        self._jobs[run.run_id, job.name] |= {
            "status": "completed",
            "conclusion": job.conclusion,
            "completed_at": now(),
        }

    def uploaded(self, artifact: Artifact) -> None:
        """It can be listed and downloaded."""
        with self.api.state.changing:
            raw = self.api.state.upload(artifact.run_id, artifact.name, artifact.content)
            self._artifacts[artifact.artifact_id] = raw["id"]

    def deleted(self, artifact: Artifact) -> None:
        """It is gone."""
        with self.api.state.changing:
            del self.api.state.artifacts[self._artifacts.pop(artifact.artifact_id)]

    def run_ended(self, run: WorkflowRun) -> None:
        """Its conclusion; the tokens of its jobs are worth nothing any more."""
        with self.api.state.changing:
            self.api.state.runs[run.run_id] |= {"status": "completed", "conclusion": run.conclusion}
            for token in self.tokens:
                self.api.state.tokens.pop(token, None)

    def completed(self, run: WorkflowRun) -> Event:
        """The event that a workflow with `on: workflow_run` starts with."""
        repository = {"full_name": self.api.state.repository, "default_branch": "main"}
        payload = {
            "action": "completed",
            "workflow_run": dict(self.api.state.runs[run.run_id]),
            "repository": repository,
            "sender": {"login": run.event.actor},
        }
        return Event("workflow_run", payload, run.event.actor)
