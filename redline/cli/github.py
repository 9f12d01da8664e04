"""`redline github`: the steps of the service's workflows. Each reads what GitHub's runner tells a job."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from redline.cli.options import JOB_VARIABLE, Commands, add_state, say, state_dir_of
from redline.errors import UsageError

if TYPE_CHECKING:
    from redline.github.environment import Environment

ASKED_WITH = "The token: $REDLINE_GITHUB_TOKEN, else $GITHUB_TOKEN."
KINDS = ("run", "gate", "nightly", "sign-off")


def add_commands(commands: Commands) -> None:
    """Add the group."""
    group = commands.add_parser("github", help="the steps of the service's workflows on GitHub (docs/github.md)")
    steps = group.add_subparsers(dest="step", metavar="STEP", required=True)
    _add_before(steps)
    _add_leg(steps)
    _add_after(steps)
    _add_proposals(steps)


def _add_before(steps: Commands) -> None:
    decide = steps.add_parser(
        "decide",
        help="what does this event ask for, and may whoever sent it? outputs: run, legs",
        description="Reads the event in $GITHUB_EVENT_PATH: pull_request_target, issue_comment or workflow_dispatch. "
        "Permissions: actions: read, checks: write, contents: read, pull-requests: write. " + ASKED_WITH,
    )
    decide.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="pins to measure, a justification to keep"
    )
    decide.set_defaults(action=_decide)
    legs = steps.add_parser(
        "legs", help="which runner class measures what: output legs, a matrix; outside a job only said"
    )
    legs.add_argument("--use", choices=("gate", "nightly", "signoff"), required=True, help="a gate is only said")
    legs.add_argument("--version", default="", metavar="X.Y.Z", help="of a sign-off")
    legs.set_defaults(action=_legs)


def _add_leg(steps: Commands) -> None:
    leg = steps.add_parser("leg", help="after measuring: summary, outputs, annotations, and a folder to upload")
    leg.add_argument("--kind", choices=KINDS, required=True)
    leg.add_argument("--runner", required=True, metavar="CLASS", help="runner class")
    leg.add_argument("--run-file", type=Path, required=True, metavar="FILE", help="as given to the command before")
    leg.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to upload as an artifact")
    leg.add_argument("--number", type=int, default=0, metavar="N", help="of the pull request")
    leg.add_argument("--head-sha", default="", metavar="SHA", help="of the pull request")
    leg.add_argument("--base-sha", default="", metavar="SHA", help="the merge base")
    add_state(leg)
    leg.set_defaults(action=_leg)


def _add_after(steps: Commands) -> None:
    publish = steps.add_parser(
        "publish",
        help="tell the pull request: comment and check run, from legs nobody trusts",
        description="Reads the event workflow_run of the gate in $GITHUB_EVENT_PATH. "
        "Permissions: actions: read, checks: write, contents: read, pull-requests: write. " + ASKED_WITH,
    )
    publish.add_argument("--legs", type=Path, metavar="DIR", help="folders of this run's legs (default: download)")
    publish.set_defaults(action=_publish)
    collect = steps.add_parser(
        "collect",
        help="fetch the last state and every leg since, and merge them",
        description="Any event. Permissions: actions: read, contents: read. " + ASKED_WITH,
    )
    collect.add_argument("--workflow", default="nightly.yml", metavar="FILE", help="whose runs (default: %(default)s)")
    collect.add_argument("--legs", type=Path, metavar="DIR", help="folders of this run's legs")
    collect.add_argument(
        "--first",
        nargs="?",
        const="true",
        default="false",
        choices=("true", "false", ""),
        help="begin anew where the state is gone: the nights, levels and reasons from before are lost",
    )
    collect.add_argument(
        "--no-database", action="store_true", help="the files only: for legs, whose machines make their own"
    )
    add_state(collect)
    collect.set_defaults(action=_collect)
    answer = steps.add_parser("answer", help="may it be released? One page over every leg of a sign-off")
    answer.add_argument("--kind", choices=("sign-off",), required=True)
    answer.set_defaults(action=_answer)
    issues = steps.add_parser(
        "issues",
        help="one issue per cause that a nightly found: opened, updated, closed",
        description="Any event. Permissions: contents: read, issues: write. " + ASKED_WITH,
    )
    issues.add_argument("--date", metavar="DATE", help="the night, YYYY-MM-DD (default: the last one on record)")
    add_state(issues)
    issues.set_defaults(action=_issues)


def _add_proposals(steps: Commands) -> None:
    promote = steps.add_parser("promote", help="open a pull request that accepts runs as baselines, with the evidence")
    promote.add_argument("runs", nargs="+", metavar="RUN", help="run ids, or 'latest'")
    promote.add_argument("--reason", required=True, metavar="TEXT", help="why")
    add_state(promote)
    promote.set_defaults(action=_promote)
    pins = steps.add_parser("pins", help="open a pull request that renews the recorded pins of service.toml")
    pins.add_argument("--build", action="append", metavar="PIN=BUILD", help="pins/NAME.json=BUILD; may be repeated")
    add_state(pins)
    pins.set_defaults(action=_pins)


def _environment() -> Environment:
    from redline.github.environment import read_environment

    return read_environment(os.environ)


def _environment_if_any() -> Environment | None:
    """The job's, for a step that somebody also calls to look at what it says. None outside of one."""
    in_job = any(os.environ.get(name) for name in (JOB_VARIABLE, "GITHUB_REPOSITORY", "GITHUB_EVENT_NAME"))
    return _environment() if in_job else None


def _decide(arguments: argparse.Namespace) -> int:
    from flows.service import decide

    return say(decide.decide(_environment(), arguments.output))


def _legs(arguments: argparse.Namespace) -> int:
    from flows.service import legs

    return say(legs.legs(_environment_if_any(), arguments.use, arguments.version))


def _leg(arguments: argparse.Namespace) -> int:
    from flows.service import leg

    request = leg.LegRequest(
        kind=arguments.kind,
        runner=arguments.runner,
        run_file=arguments.run_file,
        output=arguments.output,
        number=arguments.number,
        head_sha=arguments.head_sha,
        base_sha=arguments.base_sha,
    )
    return say(leg.pack(_environment(), state_dir_of(arguments), request))


def _publish(arguments: argparse.Namespace) -> int:
    from flows.service import publish

    return say(publish.publish(_environment(), arguments.legs))


def _collect(arguments: argparse.Namespace) -> int:
    from flows.service import collect

    return say(
        collect.collect(
            _environment(),
            state_dir_of(arguments),
            arguments.workflow,
            arguments.legs,
            first=arguments.first == "true",
            with_database=not arguments.no_database,
        )
    )


def _answer(_: argparse.Namespace) -> int:
    from flows.service import joint_answer

    return say(joint_answer.answer(_environment()))


def _issues(arguments: argparse.Namespace) -> int:
    from flows.service import issues

    return say(issues.sync(_environment(), state_dir_of(arguments), arguments.date))


def _promote(arguments: argparse.Namespace) -> int:
    from flows.service import promote

    environment = _environment()
    if not environment.actor:
        raise UsageError(
            "nobody is known to have asked for this",
            expected="GITHUB_ACTOR, who then stands in the baseline as who accepted it",
            found="it is not set",
            next_step="start the workflow promote.yml, or set GITHUB_ACTOR to your login",
        )
    return say(promote.promote(environment, state_dir_of(arguments), tuple(arguments.runs), arguments.reason))


def _pins(arguments: argparse.Namespace) -> int:
    from flows.service import pins

    return say(pins.renew(_environment(), state_dir_of(arguments), tuple(arguments.build or ())))
