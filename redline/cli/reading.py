"""`redline baseline`, `scenarios` and `db`: what is accepted, planned and stored."""

from __future__ import annotations

import argparse

from redline.cli.options import DEFAULT_RUNNER, Commands, add_state, state_dir_of, who
from redline.errors import ExitCode


def add_commands(commands: Commands) -> None:
    """Add baseline, scenarios and db."""
    _add_baseline(commands)
    _add_reading_commands(commands)


def _add_baseline(commands: Commands) -> None:
    baseline = commands.add_parser("baseline", help="accept a run as the baseline, or show what is accepted")
    actions = baseline.add_subparsers(dest="baseline_command", required=True, metavar="ACTION")
    accept = actions.add_parser("accept", help="write a run's readings under baselines/, for review")
    accept.add_argument("run_ids", nargs="+", metavar="RUN", help="run ids, or 'latest'")
    accept.add_argument("--reason", required=True, help="why these readings are the baseline")
    accept.add_argument("--by", default=None, metavar="NAME", help="who accepts them (default: your user name)")
    add_state(accept)
    accept.set_defaults(action=_baseline_accept)
    show = actions.add_parser("show", help="list the accepted baselines")
    show.add_argument("--runner", default=DEFAULT_RUNNER, metavar="CLASS")
    show.set_defaults(action=_baseline_show)


def _add_reading_commands(commands: Commands) -> None:
    scenarios = commands.add_parser("scenarios", help="list the scenarios, or show what one would run")
    scenarios.add_argument("name", nargs="*", metavar="NAME", help="one scenario, in full ('show NAME' does the same)")
    scenarios.add_argument(
        "--runner",
        default="",
        metavar="CLASS",
        help="as this runner class would measure it: its rate, size and servers",
    )
    add_state(scenarios)
    scenarios.set_defaults(action=_scenarios)

    database = commands.add_parser("db", help="query every result with SQL")
    database.add_argument("query", metavar="SQL", help="a query, or one of: tables, noise, rebuild")
    add_state(database)
    database.set_defaults(action=_db)


def _baseline_accept(arguments: argparse.Namespace) -> int:
    from flows import accept

    for path in accept.accept(state_dir_of(arguments), arguments.run_ids, who(arguments), arguments.reason):
        print(f"wrote {path}")
    print("review the change and commit it: a baseline moves only by a reviewed change")
    return ExitCode.NO_WORSE


def _baseline_show(arguments: argparse.Namespace) -> int:
    from flows import accept

    for line in accept.show(arguments.runner):
        print(line)
    return ExitCode.NO_WORSE


def _scenarios(arguments: argparse.Namespace) -> int:
    from flows import scenarios

    for line in scenarios.describe(arguments.name, state_dir_of(arguments), arguments.runner):
        print(line)
    return ExitCode.NO_WORSE


def _db(arguments: argparse.Namespace) -> int:
    from flows import query

    for line in query.answer(state_dir_of(arguments), arguments.query):
        print(line)
    return ExitCode.NO_WORSE
