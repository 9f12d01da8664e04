"""The jobs of the service's workflows: one leg per runner class, as the rows of a GitHub matrix.

Every value of a row is reviewed content or was checked: a row ends up in `runs-on` and in the environment of commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from flows.request import Answer
from flows.service.telling import told
from flows.workspace import Workspace, content_root
from redline import markdown
from redline.builds.build_spec import parse_spec
from redline.errors import ContentError, ExitCode, UsageError
from redline.github.environment import Environment, write_outputs
from redline.model import LegSettings

LEGS_MAX = 256  # of a GitHub matrix
HOSTED = ("ubuntu-24.04",)
SCENARIO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def legs(environment: Environment, use: str, version: str) -> Answer:
    """The rows of a nightly's or a sign-off's matrix: outputs `run`, `legs` and `date` (UTC).

    Raises UsageError for a sign-off without a version or with one that is none; ContentError for wrong content.
    """
    root = content_root()
    workspace = Workspace(root, root)
    if use == "signoff" and not version.strip():
        raise UsageError(
            "a sign-off needs a version",
            expected="--version X.Y.Z",
            found="none",
            next_step="name the release that is to be signed off",
        )
    rows = []
    for leg in workspace.service().legs:
        spec = leg.nightly if use == "nightly" else leg.signoff.replace("{version}", version.strip())
        if spec:
            parse_spec(spec)
            # A sign-off on a choice of scenarios would be a sign-off of something else.
            whole = replace(leg, scenarios=()) if use == "signoff" else leg
            rows.append(row_of(workspace, whole) | {"build": spec})
    write_matrix(environment, rows)
    # One date for every job: a leg or the report may end after midnight.
    write_outputs(environment, {"date": str(datetime.now(UTC).date())})
    said = [f"{markdown.code(row['runner'])}: {markdown.code(row['build'])}" for row in rows]
    return told(environment, f"Legs of the {use}", said or [f"no leg of service.toml is for {use}"], ExitCode.NO_WORSE)


def row_of(workspace: Workspace, leg: LegSettings, scenarios: Sequence[str] = ()) -> dict[str, Any]:
    """What every row says: runner class, labels of its machines, and what is measured there.

    `scenarios`: asked for instead of the leg's. With any, `suite` is empty: the command line takes one of the two, and
    `select` is its words, `--suite NAME` or `--scenario NAME ...`, names only. Raises ContentError.
    """
    chosen = tuple(scenarios or leg.scenarios)
    for name in chosen:
        _checked_name(name)
        workspace.scenario(name)
    if not chosen:
        _checked_name(leg.suite)
        for name in workspace.suite(leg.suite).scenarios:
            workspace.scenario(name)
    words = [f"--scenario {name}" for name in chosen] or [f"--suite {leg.suite}"]
    return {
        "runner": leg.runner,
        "labels": list(labels_of(workspace, leg.runner)),
        "suite": "" if chosen else leg.suite,
        "scenarios": list(chosen),
        "select": " ".join(words),
    }


def labels_of(workspace: Workspace, runner: str) -> tuple[str, ...]:
    """The labels of the machines of a runner class; a CPU class without any is served by GitHub's own machines.

    Raises ContentError for a class with accelerators and no labels.
    """
    _checked_name(runner)
    found = workspace.runner_class(runner)
    if found.labels or found.platform == "cpu":
        return found.labels or HOSTED
    raise ContentError(
        f"runners/{runner}.toml: key 'labels' is missing",
        expected="the labels of the self-hosted GitHub runners of this class",
        found="none, and GitHub's own machines have no such accelerators",
        next_step="add labels, such as those that its machines were registered with",
    )


def write_matrix(environment: Environment, rows: Sequence[dict[str, Any]]) -> None:
    """Hand the rows on: `run` is `true` if there is one, `legs` a JSON list. Raises ContentError for too many."""
    if len(rows) > LEGS_MAX:
        raise ContentError(
            "service.toml has more legs than GitHub runs side by side",
            expected=f"at most {LEGS_MAX}",
            found=str(len(rows)),
            next_step="split the service",
        )
    write_outputs(environment, {"run": "true" if rows else "false", "legs": json.dumps(list(rows))})


def _checked_name(name: str) -> None:
    if not SCENARIO.fullmatch(name):
        raise ContentError(
            "service.toml names what cannot be a file's name",
            expected="letters, digits, '.', '_' and '-'",
            found=repr(name[:100]),
            next_step="correct the name",
        )
