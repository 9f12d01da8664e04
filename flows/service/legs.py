"""The jobs of the service's workflows: one leg per runner class, as the rows of a GitHub matrix.

Every value of a row is reviewed content or was checked: a row ends up in `runs-on` and in the environment of commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from flows.plan import groups
from flows.request import Answer
from flows.service.leg_builds import check_build, needs_of, of_leg
from flows.service.telling import log_line, told
from flows.workspace import Workspace, content_root
from redline import markdown
from redline.errors import ContentError, ExitCode, UsageError
from redline.github.environment import Environment, write_outputs
from redline.model import LegSettings

LEGS_MAX = 256  # of a GitHub matrix
HOSTED = ("ubuntu-24.04",)
SCENARIO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.post\d+)?")
_ANY_COMMIT = "0" * 40  # stands for a pull request's, where only the form of a build is looked at


def legs(environment: Environment | None, use: str, version: str) -> Answer:
    """The rows of the matrix of a use (`gate`, `nightly`, `signoff`): outputs `run`, `legs` and `date` (UTC).

    Without an environment, and for the gate, whose builds wait for a pull request, they are only said.
    Raises UsageError for a sign-off without a version or with one that is none; ContentError, which names the leg, for
    wrong content.
    """
    root = content_root()
    workspace = Workspace(root, root)
    filled = {"version": _version(version) if use == "signoff" else "", "sha": _ANY_COMMIT}
    rows = []
    for leg in workspace.service().legs:
        template = str(getattr(leg, use))
        if not template:
            continue
        build = template.replace("{version}", filled["version"]).replace("{sha}", filled["sha"])
        # A sign-off on a choice of scenarios would be a sign-off of something else.
        row = row_of(workspace, replace(leg, scenarios=()) if use == "signoff" else leg)
        check_build(leg, use, build, workspace.runner_class(leg.runner))
        rows.append(row | {"build": template if use == "gate" else build})
    said = [_said(row) for row in rows] or [f"no leg of service.toml is for {use}"]
    if environment is None or use == "gate":
        return Answer(tuple(map(log_line, said)), ExitCode.NO_WORSE)
    write_matrix(environment, rows)
    # One date for every job: a leg or the report may end after midnight.
    write_outputs(environment, {"date": str(datetime.now(UTC).date())})
    return told(environment, f"Legs of the {use}", said, ExitCode.NO_WORSE)


def _version(text: str) -> str:
    version = text.strip()
    if not VERSION.fullmatch(version):
        raise UsageError(
            "a sign-off needs a version",
            expected="--version X.Y.Z, also X.Y.ZrcN or X.Y.Z.postN",
            found=repr(version[:60]) if version else "none",
            next_step="name the release that is to be signed off",
        )
    return version


def _said(row: Mapping[str, Any]) -> str:
    """One line of Markdown: runner class, build, scenarios, labels, and what the build needs."""
    build = str(row["build"])
    needs = needs_of(build.replace("{sha}", _ANY_COMMIT))
    words = [f"{markdown.code(row['runner'])}: {markdown.code(build)}", markdown.code(row["select"])]
    words += [f"on {markdown.code(' '.join(row['labels']))}", *([markdown.text(needs)] if needs else [])]
    return ", ".join(words)


def served(workspace: Workspace, runner: str, scenarios: Sequence[str]) -> tuple[str, ...]:
    """Those of the scenarios that a runner class can serve, as far as content says. Raises ContentError."""
    platform = workspace.runner_class(runner).platform
    return tuple(
        name for name in scenarios if platform in workspace.recipe(workspace.scenario(name).recipe).server_args
    )


def row_of(workspace: Workspace, leg: LegSettings, scenarios: Sequence[str] = ()) -> dict[str, Any]:
    """What every row says: runner class, labels of its machines, and what is measured there.

    `scenarios`: asked for instead of the leg's. With any, `suite` is empty: the command line takes one of the two, and
    `select` is its words, `--suite NAME` or `--scenario NAME ...`, names only. Raises ContentError, which
    names the leg, also if the class cannot serve what would be measured.
    """
    chosen = tuple(scenarios or leg.scenarios)
    with of_leg(leg):
        for name in (*chosen, leg.suite, leg.runner):
            _checked_name(name)
        suite = workspace.suite(leg.suite)  # also if it is not measured: a misspelt name is a mistake in any case
        groups(workspace, chosen or suite.scenarios, workspace.runner_class(leg.runner), ())
        labels = labels_of(workspace, leg.runner)
    words = [f"--scenario {name}" for name in chosen] or [f"--suite {leg.suite}"]
    return {
        "runner": leg.runner,
        "labels": list(labels),
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
            "it names what cannot be a file's name",
            expected="letters, digits, '.', '_' and '-'",
            found=repr(name[:100]),
            next_step="correct the name",
        )
