"""What a standing Prefect server starts: the nightly, the gate and the sign-off, with parameters that are JSON.

A worker on the measuring machine runs one of these in a process of its own. It asks as the command line does, and the
flow of `flows/` that measures becomes a subflow. What comes out is a result whatever the verdict is: the run is
Completed for every exit code that says something of the build (`regressed` too: a result, no crash) and Failed for
the others (2 wrong parameters, 4 invalid, 5 infrastructure). Nothing is retried: a second measurement of the same
question is a choice of results.

Source of what Prefect does with them: docs.prefect.io, "Deployments", "Work pools" and "Artifacts", and version 3.8.8.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed
from pydantic import Field

from flows import session
from flows.accept import accepted_build
from flows.plan import Options, Wanted
from flows.request import Answer, GateRequest, NightlyRequest
from flows.workspace import CHECKOUT, Workspace, content_root
from redline.builds.build_spec import RecordSpec, WheelSpec, parse_spec
from redline.errors import ExitCode, RedlineError, UsageError
from redline.model import Arm

SAYS_NOTHING = (ExitCode.USAGE, ExitCode.INVALID, ExitCode.INFRASTRUCTURE)
WAIT_S_DEFAULT = 3600.0
DEFAULT_SUITE = "default"
MESSAGE_CHARS_MAX = 2000

Build = Annotated[str, Field(min_length=1)]
Runner = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
WaitS = Annotated[float, Field(ge=0, le=86_400)]


@flow(name="redline-nightly", persist_result=False)
def nightly(
    build: Build,
    runner: Runner = "cpu",
    suite: str = "",
    scenarios: list[str] = [],  # noqa: B006 - Prefect makes the JSON schema of it; never changed
    server_args: list[str] = [],  # noqa: B006 - as above
    night: date | None = None,
    state_dir: str = "",
    wait_s: WaitS = WAIT_S_DEFAULT,
) -> State[dict[str, Any]]:
    """Tonight's build, judged by the nights before it.

    Args:
        build: as the command line takes it.
        runner: runner class, of runners/NAME.toml.
        suite: of scenarios; empty: 'default', unless scenarios are named.
        scenarios: by name, instead of a suite.
        server_args: further server arguments, one word each.
        night: its name; empty: the day (UTC) for which the run was scheduled, however late it starts.
        state_dir: absolute path on the worker's host; empty: its $REDLINE_STATE, else .redline in the checkout.
        wait_s: seconds to wait for another measurement on that host.
    """

    def ask() -> Answer:
        names = _scenarios(suite, scenarios)
        name = (night or _scheduled_for()).isoformat()
        return session.nightly(_nightly(build, runner, names, server_args, name, _Place(state_dir, wait_s)))

    return _ended("nightly", runner, ask)


@flow(name="redline-gate", persist_result=False)
def gate(
    baseline: Build,
    candidate: Build,
    runner: Runner = "cpu",
    suite: str = "",
    scenarios: list[str] = [],  # noqa: B006 - as above
    complete: bool = False,
    state_dir: str = "",
    wait_s: WaitS = WAIT_S_DEFAULT,
) -> State[dict[str, Any]]:
    """Is the candidate worse than the baseline?

    Args:
        baseline: a build, as the command line takes it.
        candidate: another one.
        runner: runner class, of runners/NAME.toml.
        suite: of scenarios; empty: 'default', unless scenarios are named.
        scenarios: by name, instead of a suite.
        complete: measure speed even when the answers are proven worse.
        state_dir: absolute path on the worker's host; empty: its $REDLINE_STATE, else .redline in the checkout.
        wait_s: seconds to wait for another measurement on that host.
    """

    def ask() -> Answer:
        names = _scenarios(suite, scenarios)
        return session.gate(_gate(baseline, candidate, runner, names, complete, _Place(state_dir, wait_s)))

    return _ended("gate", runner, ask)


@flow(name="redline-signoff", persist_result=False)
def signoff(
    version: str = "",
    candidate: str = "",
    release: str = "",
    runner: Runner = "cpu",
    suite: str = "",
    complete: bool = False,
    state_dir: str = "",
    wait_s: WaitS = WAIT_S_DEFAULT,
) -> State[dict[str, Any]]:
    """May it be released? The candidate is a build, or a version of what service.toml signs off on this runner class.

    Args:
        version: X.Y.Z, filled into the signoff of the runner class's leg; or
        candidate: a build, as the command line takes it.
        release: what it is held against; empty: the build of the accepted baselines.
        runner: runner class, of runners/NAME.toml.
        suite: of scenarios; empty: 'default'.
        complete: measure speed even when the answers are proven worse.
        state_dir: absolute path on the worker's host; empty: its $REDLINE_STATE, else .redline in the checkout.
        wait_s: seconds to wait for another measurement on that host.
    """

    def ask() -> Answer:
        wanted = _candidate(version, candidate, runner)
        return session.signoff(_signoff(wanted, release, runner, suite, complete, _Place(state_dir, wait_s)))

    return _ended("signoff", runner, ask)


# --- from parameters to what flows take -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a run is kept (as its parameter says), and how long it waits for the machine, in seconds."""

    state_dir: str
    wait_s: float


def _nightly(
    build: str, runner: str, names: tuple[str, ...], server_args: list[str], night: str, place: _Place
) -> NightlyRequest:
    more = ["--date", night, *([f"--server-args={shlex.join(server_args)}"] if server_args else [])]
    options = _options("nightly", runner, names, place, more, build=build)
    return NightlyRequest(Wanted(Arm.SINGLE, _spec(build), tuple(server_args)), night, options)


def _gate(
    baseline: str, candidate: str, runner: str, names: tuple[str, ...], complete: bool, place: _Place
) -> GateRequest:
    options = _options("gate", runner, names, place, _complete(complete), baseline=baseline, candidate=candidate)
    return GateRequest(Wanted(Arm.BASELINE, _spec(baseline)), Wanted(Arm.CANDIDATE, _spec(candidate)), options)


def _signoff(candidate: str, release: str, runner: str, suite: str, complete: bool, place: _Place) -> GateRequest:
    names = _scenarios(suite, [])
    given = {"candidate": candidate} | ({"release": release} if release else {})
    more = [*(["--suite", suite] if suite else []), *_complete(complete)]
    options = _options("signoff", runner, names, place, more, **given)
    against, extra_args = (release, ()) if release else accepted_build(options.state_dir, runner, names)
    baseline = Wanted(Arm.BASELINE, _spec(against), extra_args)
    return GateRequest(baseline, Wanted(Arm.CANDIDATE, _spec(candidate)), options)


def _complete(wanted: bool) -> list[str]:
    return ["--complete"] if wanted else []


def _spec(text: str) -> str:
    """The build spec, files of the content by their whole path: a worker runs in a directory of its own."""
    spec = parse_spec(text)
    if isinstance(spec, RecordSpec | WheelSpec) and not spec.path.is_absolute():
        return str(content_root() / spec.path)
    return text


def _scenarios(suite: str, scenarios: list[str]) -> tuple[str, ...]:
    if suite and scenarios:
        raise UsageError(
            "suite and scenarios name the scenarios twice",
            expected="one of the two",
            found=f"suite {suite!r} and {len(scenarios)} scenarios",
            next_step="leave one out",
        )
    root = content_root()
    return tuple(scenarios) or Workspace(root, root).suite(suite or DEFAULT_SUITE).scenarios


def _candidate(version: str, candidate: str, runner: str) -> str:
    """The build to sign off. Raises UsageError unless it is said once, and in a way that service.toml knows."""
    if bool(version) == bool(candidate):
        raise UsageError(
            "which build is to be signed off?",
            expected="one of version and candidate",
            found="both" if version else "neither",
            next_step="run it again with one of the two",
        )
    if candidate:
        return candidate
    root = content_root()
    legs = {leg.runner: leg.signoff for leg in Workspace(root, root).service().legs if leg.signoff}
    if runner not in legs:
        raise UsageError(
            f"service.toml does not say which build of version {version} runs on {runner}",
            expected="a leg with a signoff of its own" + (f", as {', '.join(legs)} has" if legs else ""),
            found=f"no signoff of {runner}",
            next_step="name the build: candidate",
        )
    return legs[runner].replace("{version}", version)


def _state_dir(text: str) -> Path:
    chosen = text or os.environ.get("REDLINE_STATE", "")
    if chosen and not Path(chosen).is_absolute():
        raise UsageError(
            "the state directory is not a whole path",
            expected="an absolute path on the worker's host: its jobs run in a directory that is deleted after them",
            found=chosen,
            next_step="correct state_dir, or REDLINE_STATE of the worker",
        )
    return Path(chosen) if chosen else CHECKOUT / ".redline"


def _options(
    use: str,
    runner: str,
    scenarios: tuple[str, ...],
    place: _Place,
    more: Sequence[str],
    **builds: str,
) -> Options:
    """What a measuring command is told; `command` is the one that asks the same, with `more` of its own options."""
    state_dir = _state_dir(place.state_dir)
    words = ["redline", use]
    for name, build in builds.items():
        words += [f"--{name}", _spec(build)]
    words += ["--runner", runner]
    if use != "signoff":  # which takes a suite only
        words += [word for name in scenarios for word in ("--scenario", name)]
    words += ["--state-dir", str(state_dir), *more]
    return Options(
        state_dir=state_dir,
        scenarios=scenarios,
        runner=runner,
        wait_s=place.wait_s,
        as_json=True,
        quiet=False,
        program="redline",
        command=shlex.join(words),
        complete="--complete" in more,
    )


def _scheduled_for() -> date:
    """The day of this run's schedule, in UTC: a night that waited for a place keeps its name."""
    at = flow_run.scheduled_start_time
    return (at if isinstance(at, datetime) else datetime.now(UTC)).astimezone(UTC).date()


# --- how a run ends ---------------------------------------------------------------------------------------------


def _ended(use: str, runner: str, ask: Callable[[], Answer]) -> State[dict[str, Any]]:
    """The state that this run ends in, its report published as an artifact."""
    if url := get_current_settings().api.url:
        os.environ.setdefault("PREFECT_API_URL", str(url))  # of a profile, too: the session then starts no server
    try:
        answer = ask()
    except RedlineError as error:
        get_run_logger().error("%s", error)
        return Failed(message=f"{_named(error.exit_code)}: {error}"[:MESSAGE_CHARS_MAX])
    verdict = json.loads(answer.lines[0])
    message = f"{verdict['finding']}: {verdict['reason']}"[:MESSAGE_CHARS_MAX]
    get_run_logger().info("%s; report: %s", message, verdict["report"])
    _publish(f"redline-{use}-{_slug(runner)}", Path(str(verdict["report"])), message)
    if answer.exit_code in SAYS_NOTHING:
        return Failed(message=message)  # with data, Prefect would look for an exception in it
    return Completed(message=message, data=verdict)


def _named(code: ExitCode) -> str:
    return f"exit code {int(code)}, {code.name.lower()}"


def _slug(name: str) -> str:
    """Lower-case letters, digits and dashes: all that Prefect takes in an artifact's key."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _publish(key: str, report: Path, description: str) -> None:
    """The report as an artifact. Its page is kept beside it in any case: a server that refuses loses no verdict."""
    try:
        create_markdown_artifact(key=key, markdown=report.read_text(encoding="utf-8"), description=description)
    except Exception as error:  # noqa: BLE001 - whatever a server, a proxy or a disk does here
        get_run_logger().warning("the report could not be published as an artifact: %s", type(error).__name__)
