"""Runs this repository's workflows here: the files as written, `run:` lines in a real bash, events from a payload.

Jobs run one after another, each on a fresh machine (a folder), with everything installed already. What a workflow uses
and this runner does not know is an error, never left out. What it leaves to GitHub: labels of machines, approvals of
environments, waiting in concurrency groups and permissions of tokens; those are evaluated and kept for tests to read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.service.workflow_runner_actions import Machine, Source
from tests.service.workflow_runner_artifacts import Artifact, Artifacts
from tests.service.workflow_runner_expressions import Strict, Surroundings, as_text, fill, holds
from tests.service.workflow_runner_files import Job, Workflow, WorkflowError, read_workflow
from tests.service.workflow_runner_jobs import JobRun, Stage, run_steps

OUTPUT_BYTES_MAX = 1_000_000
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: GitHub's name of the event, its payload, who did it."""

    name: str
    payload: Mapping[str, Any]
    actor: str = "octocat"


@dataclass(slots=True)
class WorkflowRun:
    """A run and what became of it. `title`: what the API calls display_title."""

    run_id: int
    workflow: Workflow
    event: Event
    title: str
    jobs: list[JobRun] = field(default_factory=list)

    @property
    def conclusion(self) -> str:
        """As the API states it."""
        ends = {job.conclusion for job in self.jobs}
        return next((each for each in ("cancelled", "failure", "success") if each in ends), "skipped")

    def job(self, name: str) -> JobRun:
        """The job of that name. Raises KeyError."""
        return {job.name: job for job in self.jobs}[name]

    @property
    def said(self) -> str:
        """Every line and summary of every step: what anybody can read."""
        return "\n".join(f"{step.log}\n{step.summary}" for job in self.jobs for step in job.steps)


class Side:
    """GitHub's side of a run: told of everything as it happens. This one listens to nothing; others serve an API."""

    api_url = "http://127.0.0.1:9"

    def run_started(self, run: WorkflowRun) -> None:
        """A run begins; its number may be changed here."""

    def token(self, run: WorkflowRun, permissions: Mapping[str, str]) -> str:
        """The token of a job with these rights."""
        return "ghs_0123456789abcdefghijklmnopqrstuvwxyz"

    def job_started(self, run: WorkflowRun, job: JobRun) -> None:
        """A job begins, or is known never to."""

    def job_ended(self, run: WorkflowRun, job: JobRun) -> None:
        """A job has ended, or will never begin."""

    def uploaded(self, artifact: Artifact) -> None:
        """A job handed over an artifact."""

    def deleted(self, artifact: Artifact) -> None:
        """A job takes an artifact's name for another one."""

    def run_ended(self, run: WorkflowRun) -> None:
        """All jobs have ended."""


@dataclass(slots=True)
class Runner:
    """A repository with its workflows.

    `source`: its files; `redline`: Redline's, where that is another repository, which uses it by the name `action`.
    `folder`: empty, for machines. `environment`: what every machine has set (`REDLINE_STATE`); `variables`: the
    repository's own (`vars`). `deaths`: (job, step) -> seconds into that step after which its machine dies, at its
    end at the latest. `side`: who is told of it all.
    """

    source: Source
    folder: Path
    side: Side = field(default_factory=Side)
    repository: str = "team/redline"
    sha: str = "d" * 40
    environment: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    artifacts: Artifacts = field(init=False)
    deaths: Mapping[tuple[str, str], float] = field(default_factory=dict)
    step_timeout_s: float = 900.0
    redline: Source | None = None
    action: str = ""
    runs: list[WorkflowRun] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.artifacts = Artifacts(self.side.uploaded, self.side.deleted)

    def run(self, path: Path, event: Event) -> WorkflowRun:
        """Run the workflow of a file for an event. Raises WorkflowError if the event does not start it."""
        workflow = read_workflow(path)
        if not starts(workflow, event):
            raise WorkflowError(f"{path.name} does not start for {event.name} {event.payload.get('action', '')}")
        run = WorkflowRun(len(self.runs) + 1, workflow, event, "")
        run.title = as_text(fill(workflow.run_name or workflow.name, self._around(run, {}, ())))
        self.runs.append(run)
        self.side.run_started(run)
        waiting = list(workflow.jobs)
        while waiting:
            ready = next((job for job in waiting if not set(job.needs) & {each.key for each in waiting}), None)
            if ready is None:
                raise WorkflowError(f"{path.name}: jobs wait for each other: {[job.key for job in waiting]}")
            waiting.remove(ready)
            self._run_job(run, ready)
        self.side.run_ended(run)
        return run

    def _run_job(self, run: WorkflowRun, job: Job) -> None:
        needs = self._needs(run, job)
        states = {each["result"] for each in needs.values()}
        status = next((each for each in ("cancelled", "failure", "skipped") if each in states), "success")
        around = self._around(run, {"needs": needs, "strategy": Strict()}, ("needs",), status)
        if not holds(job.condition, around):
            self._ended(run, JobRun(job.key, job.key, conclusion="skipped"), began=False)
            return
        failed = False
        for values in _rows(job, around):
            contexts = {"needs": needs, "matrix": Strict(values), "strategy": Strict()}
            around = self._around(run, contexts, ("needs", "matrix"), "success")
            name = _name(job, values, around)
            if failed and job.fail_fast:
                self._ended(run, JobRun(job.key, name, conclusion="cancelled"), began=False)
                continue
            started = JobRun(job.key, name)
            started.labels = fill(job.runs_on, around) if isinstance(job.runs_on, str) else job.runs_on
            if not started.labels:
                raise WorkflowError(f"{name}: runs-on is empty")
            started.concurrency = _filled(job.concurrency, around)
            named = job.deployment["name"] if isinstance(job.deployment, dict) else job.deployment
            started.deployment = _filled(named, around)
            started.permissions = job.permissions if job.permissions is not None else run.workflow.permissions
            self.side.job_started(run, started)
            run_steps(job, started, self._stage(run, job, started, around))
            size = sum(len(value.encode()) for value in started.outputs.values())
            if size > OUTPUT_BYTES_MAX:
                raise WorkflowError(f"{name}: its outputs have {size:,} bytes, GitHub takes {OUTPUT_BYTES_MAX:,}")
            failed = failed or started.conclusion != "success"
            self._ended(run, started)

    def _ended(self, run: WorkflowRun, job: JobRun, *, began: bool = True) -> None:
        run.jobs.append(job)
        if not began:
            self.side.job_started(run, job)
        self.side.job_ended(run, job)

    def _needs(self, run: WorkflowRun, job: Job) -> Strict:
        """The `needs` context: for a matrix the worst result and the last outputs, as GitHub has it."""
        found = Strict()
        for key in job.needs:
            parts = [each for each in run.jobs if each.key == key]
            declared = next(each for each in run.workflow.jobs if each.key == key).outputs
            order = ("failure", "cancelled", "skipped", "success")
            result = next(each for each in order if any(part.conclusion == each for part in parts))
            outputs = dict.fromkeys(declared, "") | {k: v for part in parts for k, v in part.outputs.items()}
            found[key] = Strict(result=result, outputs=Strict(outputs))
        return found

    def _stage(self, run: WorkflowRun, job: Job, started: JobRun, around: Surroundings) -> Stage:
        token = self.side.token(run, started.permissions or {})
        github = Strict({**around.contexts["github"], "token": token})
        around = Surroundings({**around.contexts, "github": github}, around.status)
        place = self.folder / f"run-{run.run_id}" / f"{len(run.jobs)}-{job.key}"
        machine = Machine(place / "work", place / "temp", run.run_id, self.source, self.artifacts)
        machine.workspace.mkdir(parents=True)
        machine.temp.mkdir(parents=True)
        event_path = machine.temp / "event.json"
        event_path.write_text(json.dumps(run.event.payload), encoding="utf-8")
        base = {name: os.environ[name] for name in INHERITED if name in os.environ} | {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTOR": run.event.actor,
            "GITHUB_API_URL": self.side.api_url,
            "GITHUB_EVENT_NAME": run.event.name,
            "GITHUB_EVENT_PATH": str(event_path),
            "GITHUB_JOB": job.key,
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_REPOSITORY": self.repository,
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_RUN_ID": str(run.run_id),
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_SHA": self.sha,
            "GITHUB_WORKFLOW": run.workflow.name,
            "GITHUB_WORKSPACE": str(machine.workspace),
            "RUNNER_ARCH": "X64",
            "RUNNER_OS": "Linux",
            "RUNNER_TEMP": str(machine.temp),
        }
        # The clone's own code, not the checkout's that .venv was made for.
        base |= {"PYTHONPATH": str(machine.workspace if self.redline is None else self._action_path(machine))}
        return Stage(
            machine=machine,
            around=around,
            base=base | dict(self.environment),
            layers=(run.workflow.environment, job.environment),
            redline=self.redline,
            action=self.action,
            action_path=self._action_path(machine),
            deaths={step: after_s for (name, step), after_s in self.deaths.items() if name == started.name},
            timeout_s=self.step_timeout_s,
        )

    def _action_path(self, machine: Machine) -> Path:
        return machine.temp.parent / "actions" / "redline"

    def _around(
        self, run: WorkflowRun, more: Mapping[str, Any], known: tuple[str, ...], status: str = "success"
    ) -> Surroundings:
        payload = dict(run.event.payload)
        asked = payload.get("inputs") or {}
        declared = run.workflow.triggers.get("workflow_dispatch") or {}
        inputs = Strict({name: asked.get(name, "") for name in declared.get("inputs", {})})
        github = Strict(
            event=payload,
            event_name=run.event.name,
            actor=run.event.actor,
            repository=self.repository,
            run_id=float(run.run_id),
            sha=self.sha,
            ref="refs/heads/main",
            token="",
            server_url="https://github.com",
            api_url=self.side.api_url,
            workflow=run.workflow.name,
        )
        contexts = {"github": github, "inputs": inputs, "vars": dict(self.variables)}
        return Surroundings(contexts | {name: more[name] for name in known if name in more}, status)


def starts(workflow: Workflow, event: Event) -> bool:
    """Does this event start this workflow? Its type and, of a workflow_run, the workflow's name count too.

    Raises WorkflowError for a dispatch with inputs that GitHub would refuse.
    """
    if event.name not in workflow.triggers:
        return False
    asked = workflow.triggers[event.name]
    if event.name == "workflow_dispatch":
        _check_inputs(asked.get("inputs", {}), event.payload.get("inputs") or {})
        return True
    if event.name == "schedule":
        return event.payload.get("schedule") in {each["cron"] for each in asked}
    if "types" in asked and event.payload.get("action") not in asked["types"]:
        return False
    return "workflows" not in asked or event.payload["workflow_run"]["name"] in asked["workflows"]


def _check_inputs(declared: Mapping[str, Any], given: dict[str, Any]) -> None:
    unknown = set(given) - set(declared)
    missing = {name for name, each in declared.items() if each.get("required") and not given.get(name)}
    wrong = {
        name for name in set(given) & set(declared) if given[name] not in declared[name].get("options", [given[name]])
    }
    if unknown or missing or wrong:
        raise WorkflowError(f"GitHub refuses these inputs: unknown {unknown}, missing {missing}, no choice {wrong}")
    for name, each in declared.items():
        given.setdefault(name, each.get("default", ""))


def _rows(job: Job, around: Surroundings) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{}]
    for name, values in job.matrix.items():
        listed = fill(values, around) if isinstance(values, str) else values
        if not isinstance(listed, list) or not listed:
            raise WorkflowError(f"{job.key}: the matrix {name} is no list with something in it: {listed!r}")
        rows = [row | {name: value} for row in rows for value in listed]
    return rows


def _name(job: Job, values: Mapping[str, Any], around: Surroundings) -> str:
    """A job's name as the API states it: a name without an expression gets its matrix values in brackets."""
    if "${{" in job.name or not values:
        return as_text(fill(job.name, around))
    return f"{job.name} ({', '.join(as_text(value) for value in values.values())})"


def _filled(value: Any, around: Surroundings) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, around) for key, each in value.items()}
    return fill(value, around) if isinstance(value, str) else value
