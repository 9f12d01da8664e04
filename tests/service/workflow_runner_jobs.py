"""The steps of one job in turn: conditions, environment, outputs, composite actions, and what the job ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.service.workflow_runner_actions import STAND_INS, ActionError, Machine, Source
from tests.service.workflow_runner_artifacts import ArtifactError
from tests.service.workflow_runner_expressions import Strict, Surroundings, as_text, fill, holds, truth
from tests.service.workflow_runner_files import Job, Step, WorkflowError, read_action
from tests.service.workflow_runner_steps import Command, MachineDiedError, StepRun, execute


@dataclass(slots=True)
class JobRun:
    """What became of a job: its steps, outputs, and what GitHub would have been told about it."""

    key: str
    name: str
    conclusion: str = "success"
    steps: list[StepRun] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    labels: Any = ()
    permissions: Any = None
    concurrency: Any = None
    deployment: Any = None
    deployment_url: str = ""
    workspace: Path | None = None
    died: bool = False

    def step(self, title: str) -> StepRun:
        """The step of that name, id or action. Raises KeyError."""
        return {name: step for step in self.steps for name in (step.title, step.key) if name}[title]

    @property
    def summary(self) -> str:
        """The job's summary: those of its steps."""
        return "".join(step.summary for step in self.steps)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where steps run. `layers`: `env:` of the workflow and of the job; `base`: the machine's own variables.

    `action`, `redline`, `action_path`: Redline as an action of another repository, and where its clone goes.
    """

    machine: Machine
    around: Surroundings
    base: Mapping[str, str]
    layers: tuple[Mapping[str, Any], ...]
    redline: Source | None
    action: str
    action_path: Path
    deaths: Mapping[str, float]
    timeout_s: float


def run_steps(job: Job, started: JobRun, stage: Stage) -> None:
    """Run a job's steps into `started`. Raises WorkflowError, ExpressionError for what this runner does not know."""
    machine = stage.machine
    started.workspace = machine.workspace
    runner = Strict(os="Linux", arch="X64", temp=str(machine.temp), name="here")
    fixed = {"runner": runner, "job": Strict(status="success")}
    stage = replace(stage, around=_with(stage.around, fixed))
    try:
        ended = _Steps(stage, job.steps).run()
    except MachineDiedError as error:
        started.died = True
        started.conclusion = "failure"
        started.steps = error.args[1] if len(error.args) > 1 else []
        return
    started.steps = ended.done
    started.conclusion = ended.status
    around = ended.around()
    started.outputs = {name: as_text(fill(value, around)) for name, value in job.outputs.items()}
    if isinstance(job.deployment, dict):  # GitHub fills in the address when the job has ended
        started.deployment_url = as_text(fill(job.deployment["url"], around))


def _with(around: Surroundings, more: Mapping[str, Any], status: str | None = None) -> Surroundings:
    return Surroundings({**around.contexts, **more}, status or around.status)


class _Steps:
    """Steps that share a `steps` context: a job's, or those of one use of a composite action."""

    def __init__(self, stage: Stage, steps: tuple[Step, ...], *, inherited: Mapping[str, str] | None = None) -> None:
        self.stage = stage
        self.steps = steps
        self.inherited = dict(inherited or {})
        self.done: list[StepRun] = []
        self.known = Strict()
        self.status = "success"

    def around(self, environment: Mapping[str, str] | None = None) -> Surroundings:
        """What an expression sees after the steps so far."""
        more = {"steps": self.known, "env": Strict(environment if environment is not None else self._environment({}))}
        return _with(self.stage.around, more, self.status)

    def run(self) -> _Steps:
        """Run them all; whatever ends, those with `always()` still run. Raises MachineDiedError."""
        for step in self.steps:
            environment = self._environment(step.environment)
            around = self.around(environment)
            record = StepRun(as_text(fill(step.title, around)), step.key)
            self.done.append(record)
            if holds(step.condition, around):
                self._one(step, record, around, environment)
            else:
                record.outcome = record.conclusion = "skipped"
            if record.outcome == "failure":
                forgiven = _forgiven(step, around)
                record.conclusion = "success" if forgiven else "failure"
                self.status = self.status if forgiven else "failure"
            if step.key:
                outputs = dict(record.outputs)
                self.known[step.key] = Strict(outputs=outputs, outcome=record.outcome, conclusion=record.conclusion)
        return self

    def _one(self, step: Step, record: StepRun, around: Surroundings, environment: dict[str, str]) -> None:
        try:
            if step.uses:
                self._use(step, record, around, environment)
            else:
                self._run(step, record, around, environment)
        except (ActionError, ArtifactError) as error:
            record.outcome = "failure"
            record.log += f"\n{type(error).__name__}: {error}"
        except MachineDiedError as error:
            record.outcome = record.conclusion = "failure"
            raise MachineDiedError(error.args[0], self.done) from error

    def _run(self, step: Step, record: StepRun, around: Surroundings, environment: dict[str, str]) -> None:
        machine, stage = self.stage.machine, self.stage
        bound_s = min(stage.timeout_s, (step.timeout_min or 360) * 60)
        folder = Path(machine.workspace, as_text(fill(step.folder, around)))
        script = as_text(fill(step.run, around))
        whole = dict(stage.base) | machine.variables | environment
        command = Command(script, step.shell, whole, folder, bound_s, stage.deaths.get(record.title))
        number = sum(1 for each in machine.temp.glob("step-*"))
        machine.variables |= execute(command, machine.temp / f"step-{number}", record)

    def _use(self, step: Step, record: StepRun, around: Surroundings, environment: dict[str, str]) -> None:
        options = {
            name: fill(value, around) if isinstance(value, str) else value for name, value in step.options.items()
        }
        name, _, version = step.uses.partition("@")
        if step.uses.startswith("./") or (self.stage.action and name == self.stage.action):
            self._composite(step, record, options, environment)
        elif name in STAND_INS and len(version) == 40:
            record.outputs = STAND_INS[name](self.stage.machine, options)
        else:
            raise WorkflowError(f"{step.uses}: this action is not known here, or not pinned by its commit")

    def _composite(self, step: Step, record: StepRun, options: Mapping[str, Any], environment: dict[str, str]) -> None:
        stage, machine = self.stage, self.stage.machine
        path = machine.workspace
        if not step.uses.startswith("./"):
            path = stage.action_path
            if stage.redline is None:
                raise WorkflowError(f"{step.uses}: nobody said where its files are")
            if not path.exists():
                stage.redline.clone(path)
        action = read_action(path / "action.yml")
        inputs = self._inputs(action.inputs, options)
        github = Strict({**stage.around.contexts["github"], "action_path": str(path)})
        inner = replace(
            stage,
            around=Surroundings({"github": github, "inputs": inputs, "runner": stage.around.contexts["runner"]}),
            base={**stage.base, "GITHUB_ACTION_PATH": str(path)},
        )
        steps = _Steps(inner, action.steps, inherited=environment)
        try:
            steps.run()
        except MachineDiedError as error:
            raise MachineDiedError(error.args[0]) from error
        finally:
            record.log = "\n".join(f"== {each.title}: {each.outcome}\n{each.log}" for each in steps.done)
            record.summary = "".join(each.summary for each in steps.done)
            record.annotations = tuple(each for part in steps.done for each in part.annotations)
        record.outcome = steps.status
        record.outputs = {name: as_text(fill(value, steps.around())) for name, value in action.outputs.items()}

    @staticmethod
    def _inputs(declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> Strict:
        unknown = set(given) - set(declared)
        missing = {name for name, each in declared.items() if each.get("required") and not as_text(given.get(name))}
        if unknown or missing:
            raise ActionError(f"inputs: unknown {sorted(unknown)}, missing {sorted(missing)}")
        return Strict({name: as_text(given.get(name, each.get("default", ""))) for name, each in declared.items()})

    def _environment(self, own: Mapping[str, Any]) -> dict[str, str]:
        """The variables that `env:` sets, filled layer by layer: workflow, job, step."""
        found: dict[str, str] = dict(self.inherited)
        for layer in (*(() if self.inherited else self.stage.layers), own):
            around = _with(self.stage.around, {"steps": self.known, "env": Strict(found)}, self.status)
            found |= {
                name: as_text(fill(value, around) if isinstance(value, str) else value) for name, value in layer.items()
            }
        return found


def _forgiven(step: Step, around: Surroundings) -> bool:
    """Does `continue-on-error` hold for a step?"""
    value = step.continue_on_error
    return truth(fill(value, around)) if isinstance(value, str) else value
