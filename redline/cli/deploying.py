"""`redline deploy render`: what would be started or applied, shown only; `redline cleanup`: what a killed one left."""

from __future__ import annotations

import argparse
from pathlib import Path

from redline.cli.options import DEFAULT_RUNNER, Commands, add_state, scenarios_of, split, state_dir_of
from redline.errors import ExitCode, UsageError

ARMS = ("baseline", "candidate", "single")


def add_commands(commands: Commands) -> None:
    """Add deploy, with its action render, and cleanup."""
    deploy = commands.add_parser("deploy", help="show what serves a build: command lines, or a cluster's YAML")
    actions = deploy.add_subparsers(dest="deploy_command", required=True, metavar="ACTION")
    render = actions.add_parser("render", help="print it, or write it to a folder; nothing is started or applied")
    render.add_argument("--runner", default=DEFAULT_RUNNER, metavar="CLASS", help="runner class (default: %(default)s)")
    render.add_argument(
        "--build", required=True, metavar="BUILD", help="a cluster serves images: image:REPO@sha256:..."
    )
    render.add_argument(
        "--server-args",
        default="",
        metavar="ARGS",
        help="further server arguments, quoted as one: --server-args='--flag value'",
    )
    render.add_argument(
        "--scenario", metavar="NAME", help="what it is to be measured with (default: the suite's first)"
    )
    render.add_argument("--arm", choices=ARMS, default="single", help="which side of a pair (default: %(default)s)")
    render.add_argument("-o", "--output", type=Path, metavar="DIR", help="write one file an object there, and a README")
    add_state(render)
    render.set_defaults(action=_render)
    cleanup = commands.add_parser("cleanup", help="end what a killed Redline left: containers, a cluster's objects")
    cleanup.add_argument(
        "--older-than-hours",
        type=float,
        metavar="HOURS",
        help="also what was started longer ago than this, whoever started it and whether that Redline still lives",
    )
    cleanup.add_argument(
        "--runner",
        default="",
        metavar="CLASS",
        help="a cluster's class: look into its namespace, also from a machine that keeps no state",
    )
    add_state(cleanup)
    cleanup.set_defaults(action=_cleanup)


def _cleanup(arguments: argparse.Namespace) -> int:
    from flows.cleanup import cleanup

    hours: float | None = arguments.older_than_hours
    if hours is not None and not hours > 0:
        raise UsageError(
            "nothing is older than that",
            expected="--older-than-hours above 0",
            found=f"{hours:g}",
            next_step="leave it out to end only what a Redline that is gone left",
        )
    for line in cleanup(
        state_dir_of(arguments), older_than_s=None if hours is None else hours * 3600, runner=arguments.runner
    ):
        print(line)
    return ExitCode.NO_WORSE


def _render(arguments: argparse.Namespace) -> int:
    from flows import deploy_render
    from redline.model import Arm

    arguments.scenario = [arguments.scenario] if arguments.scenario else None
    names = scenarios_of(arguments)
    if not names:
        raise UsageError(
            "there is no scenario to render for",
            expected="a scenario",
            found="none",
            next_step="say it: --scenario NAME",
        )
    request = deploy_render.RenderRequest(
        runner=arguments.runner,
        spec=arguments.build,
        scenario=names[0],
        arm=Arm(arguments.arm),
        extra_args=split(arguments.server_args, "--server-args"),
    )
    state_dir = state_dir_of(arguments)
    if arguments.output is None:
        print(deploy_render.render(state_dir, request), end="")
    else:
        for line in deploy_render.write_files(state_dir, request, arguments.output):
            print(line)
    return ExitCode.NO_WORSE
