"""`redline bisect`: which build of a list is the first bad one."""

from __future__ import annotations

import argparse
from pathlib import Path

from redline.cli.options import Commands, add_measuring, options_of, say
from redline.errors import UsageError

READINGS_MAX_DEFAULT = 80


def add_commands(commands: Commands) -> None:
    """Add bisect."""
    bisect = commands.add_parser(
        "bisect",
        help="find the first bad build of a list; goes on where it was interrupted",
        description="Reads pairs of fresh deployments of builds of a list against the good one, each where it tells "
        "most, until one build is all but certain; then confirms it by a gate against its parent. "
        "Exit code 1: a culprit is named and confirmed; 0: the ends do not differ; 3: gave up.",
    )
    bisect.add_argument(
        "--builds",
        type=Path,
        required=True,
        metavar="FILE",
        help="the builds, the oldest first, one per line: BUILD [server arguments...]; # begins a comment",
    )
    for end, default in (("good", "first"), ("bad", "last")):
        bisect.add_argument(
            f"--{end}",
            metavar="BUILD",
            help=f"the {end} end: a line of FILE, or its number among the builds, from 1 (default: the {default})",
        )
    bisect.add_argument("--scenario", required=True, metavar="NAME", help="the scenario that shows it")
    bisect.add_argument(
        "--metric", metavar="ID", help="the metric to follow (default: the scenario's first primary one)"
    )
    bisect.add_argument(
        "--readings-max",
        type=int,
        default=READINGS_MAX_DEFAULT,
        metavar="N",
        help="give up after so many pairs of ends and search, confirmations apart (default: %(default)s)",
    )
    bisect.add_argument("--restart", action="store_true", help="begin anew; the old state is kept under another name")
    add_measuring(bisect, choose_scenarios=False)
    bisect.set_defaults(action=_bisect)


def _bisect(arguments: argparse.Namespace) -> int:
    from flows import bisection, bisection_work, build_list

    source = str(arguments.builds)
    builds = build_list.read_builds(_text(arguments.builds), source)
    arguments.scenario = [arguments.scenario]
    return say(
        bisection.bisect(
            bisection_work.BisectRequest(
                builds=build_list.between(builds, arguments.good, arguments.bad),
                metric=arguments.metric,
                readings_max=arguments.readings_max,
                restart=arguments.restart,
                options=options_of(arguments),
            )
        )
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read",
            expected="a text file with one build per line",
            found=str(error),
            next_step="correct --builds",
        ) from error
