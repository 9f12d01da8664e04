"""Workflow and action files, read strictly: a key that the runner does not know is an error, never left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

WORKFLOW_KEYS = {"name", "run-name", "on", "permissions", "env", "defaults", "concurrency", "jobs"}
JOB_KEYS = {
    *("name", "needs", "if", "permissions", "runs-on", "environment", "concurrency", "outputs", "env", "defaults"),
    *("timeout-minutes", "strategy", "steps"),
}
STEP_KEYS = {
    *("id", "name", "if", "uses", "with", "run", "shell", "env", "working-directory", "continue-on-error"),
    "timeout-minutes",
}
COMPOSITE_STEP_KEYS = STEP_KEYS - {"timeout-minutes"}  # GitHub has none there
ACTION_KEYS = {"name", "description", "author", "branding", "inputs", "outputs", "runs"}


class WorkflowError(Exception):
    """A file that is no workflow as this runner knows them."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step as written. `key`: its id, or the empty text."""

    key: str
    name: str
    condition: str | bool | None
    uses: str
    options: Mapping[str, Any]
    run: str
    shell: str
    environment: Mapping[str, Any]
    folder: str
    continue_on_error: bool | str
    timeout_min: float | None

    @property
    def title(self) -> str:
        """How a log names it."""
        return self.name or self.key or self.uses or self.run.strip().splitlines()[0]


@dataclass(frozen=True, slots=True)
class Job:
    """One job as written; with a matrix it becomes several."""

    key: str
    name: str
    needs: tuple[str, ...]
    condition: str | bool | None
    permissions: Any
    runs_on: Any
    deployment: Any
    concurrency: Any
    outputs: Mapping[str, str]
    environment: Mapping[str, Any]
    shell: str
    timeout_min: float | None
    matrix: Mapping[str, Any]
    fail_fast: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A file under .github/workflows."""

    path: Path
    name: str
    run_name: str
    triggers: Mapping[str, Any]
    permissions: Any
    environment: Mapping[str, Any]
    concurrency: Any
    jobs: tuple[Job, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Action:
    """A composite action: its inputs with their defaults, the steps, the outputs as expressions."""

    path: Path
    inputs: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, str]
    steps: tuple[Step, ...]


class _Loader(yaml.SafeLoader):
    """YAML as GitHub reads it: `on` is a word, and a key stands once."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise WorkflowError(f"{node.start_mark}: {', '.join(sorted(map(str, twice)))} stands there twice")
    return {key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value, strict=True)}


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's mapping. Raises WorkflowError."""
    value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader of its own
    if not isinstance(value, dict):
        raise WorkflowError(f"{path}: no mapping")
    return value


def read_workflow(path: Path) -> Workflow:
    """The workflow of a file. Raises WorkflowError."""
    raw = _known(read_yaml(path), WORKFLOW_KEYS, path.name)
    shell = _shell(raw.get("defaults"), path.name)
    triggers = raw["on"]
    if isinstance(triggers, str):
        triggers = {triggers: None}
    return Workflow(
        path=path,
        name=str(raw["name"]),
        run_name=str(raw.get("run-name", "")),
        triggers={key: value or {} for key, value in triggers.items()},
        permissions=raw.get("permissions"),
        environment=raw.get("env", {}),
        concurrency=raw.get("concurrency"),
        jobs=tuple(_job(key, value, shell, f"{path.name}: {key}") for key, value in raw["jobs"].items()),
    )


def read_action(path: Path) -> Action:
    """The composite action of a file. Raises WorkflowError."""
    raw = _known(read_yaml(path), ACTION_KEYS, path.name)
    runs = _known(raw["runs"], {"using", "steps"}, f"{path.name}: runs")
    if runs["using"] != "composite":
        raise WorkflowError(f"{path.name}: not composite but {runs['using']}")
    steps = tuple(_step(each, "", f"{path.name}: step", COMPOSITE_STEP_KEYS) for each in runs["steps"])
    unsaid = [step.title for step in steps if step.run and not step.shell]
    if unsaid:
        raise WorkflowError(f"{path.name}: without a shell: {unsaid}")
    outputs = {name: str(value["value"]) for name, value in raw.get("outputs", {}).items()}
    return Action(path, raw.get("inputs", {}), outputs, steps)


def _known(raw: Any, keys: set[str], where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise WorkflowError(f"{where}: no mapping but {raw!r}")
    unknown = set(raw) - keys
    if unknown:
        raise WorkflowError(f"{where}: unknown here: {', '.join(sorted(map(str, unknown)))}")
    return raw


def _shell(defaults: Any, where: str) -> str:
    if defaults is None:
        return ""
    run = _known(_known(defaults, {"run"}, where)["run"], {"shell"}, where)
    return str(run["shell"])


def _job(key: str, value: Any, shell: str, where: str) -> Job:
    raw = _known(value, JOB_KEYS, where)
    strategy = _known(raw.get("strategy", {}), {"fail-fast", "max-parallel", "matrix"}, where)
    needs = raw.get("needs", ())
    own_shell = _shell(raw.get("defaults"), where) or shell
    return Job(
        key=key,
        name=str(raw.get("name", key)),
        needs=(needs,) if isinstance(needs, str) else tuple(needs),
        condition=raw.get("if"),
        permissions=raw.get("permissions"),
        runs_on=raw["runs-on"],
        deployment=raw.get("environment"),
        concurrency=raw.get("concurrency"),
        outputs=raw.get("outputs", {}),
        environment=raw.get("env", {}),
        shell=own_shell,
        timeout_min=raw.get("timeout-minutes"),
        matrix=strategy.get("matrix", {}),
        fail_fast=bool(strategy.get("fail-fast", True)),
        steps=tuple(_step(each, own_shell, f"{where}: step", STEP_KEYS) for each in raw["steps"]),
    )


def _step(value: Any, shell: str, where: str, keys: set[str]) -> Step:
    raw = _known(value, keys, where)
    if ("uses" in raw) == ("run" in raw):
        raise WorkflowError(f"{where}: a step has one of `uses` and `run`: {raw}")
    return Step(
        key=str(raw.get("id", "")),
        name=str(raw.get("name", "")),
        condition=raw.get("if"),
        uses=str(raw.get("uses", "")),
        options=raw.get("with", {}),
        run=str(raw.get("run", "")),
        shell=str(raw.get("shell", shell)),
        environment=raw.get("env", {}),
        folder=str(raw.get("working-directory", "")),
        continue_on_error=raw.get("continue-on-error", False),
        timeout_min=raw.get("timeout-minutes"),
    )
