"""`redline health`: do this runner's A/A rounds support the policy in use?"""

from __future__ import annotations

import argparse
import shlex
import sys

from redline.cli.options import (
    DEFAULT_BUILD,
    Commands,
    add_measuring,
    program,
    say,
    scenarios_of,
    state_dir_of,
)


def add_commands(commands: Commands) -> None:
    """Add health."""
    health = commands.add_parser(
        "health",
        help="do this runner's A/A rounds support the policy in use?",
        description="Do this runner's A/A rounds support the policy in use? Each machine, or set of nodes of a "
        "cluster, is judged by itself, newest first. Together they do not support it (exit code 4) if one of them "
        "does not, else support it (0) if one does, else there is not enough data (3).",
    )
    health.add_argument(
        "--rounds", type=int, default=0, metavar="N", help="measure N A/A gates first (default: only read)"
    )
    health.add_argument(
        "--build", default=DEFAULT_BUILD, metavar="BUILD", help="build of both arms (default: %(default)s)"
    )
    health.add_argument(
        "--all",
        action="store_true",
        help="every series in the store, not only this machine's of today's scenarios; exit code and answer are the "
        "worst over runner classes and suites, which say nothing of each other",
    )
    add_measuring(health)
    health.set_defaults(action=_health)


def _health(arguments: argparse.Namespace) -> int:
    from flows import health

    return say(
        health.health(
            health.HealthRequest(
                state_dir=state_dir_of(arguments),
                runner=arguments.runner,
                scenarios=scenarios_of(arguments),
                round_count=arguments.rounds,
                build=arguments.build,
                every_series=arguments.all,
                wait_s=arguments.wait,
                as_json=arguments.json,
                quiet=arguments.quiet,
                program=program(),
                command=shlex.join([program(), *sys.argv[1:]]),
            )
        )
    )
