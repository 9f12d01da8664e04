"""`redline baseline`, `builds`, `scenarios` and `db`: what is accepted, pinned, planned and stored."""

from __future__ import annotations

import argparse
from pathlib import Path

from redline.cli.options import DEFAULT_RUNNER, Commands, add_state, state_dir_of, who
from redline.errors import ExitCode


def add_commands(commands: Commands) -> None:
    """Add baseline, builds, scenarios and db."""
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
    builds = commands.add_parser("builds", help="pin and install vLLM builds")
    build_actions = builds.add_subparsers(dest="builds_command", required=True, metavar="ACTION")
    pin = build_actions.add_parser("pin", help="resolve a build and print (or write) its pin")
    pin.add_argument("build", metavar="BUILD")
    pin.add_argument("--output", type=Path, metavar="FILE", help="write the pin's record here")
    add_state(pin)
    pin.set_defaults(action=_builds_pin)
    install = build_actions.add_parser("install", help="install a build from its spec or its recorded pin")
    install.add_argument("build", metavar="BUILD")
    add_state(install)
    install.set_defaults(action=_builds_install)

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


def _builds_pin(arguments: argparse.Namespace) -> int:
    from redline.builds.resolve import resolve, write_pin

    pin = resolve(arguments.build, state_dir=state_dir_of(arguments))
    packages = sum("==" in line for line in pin.lock.splitlines())
    print(f"{pin.label}\n  pin {pin.pin_id}\n  platform {pin.platform}, Python {pin.python_version}")
    print(f"  wheel sha256 {pin.wheel_sha256}\n  lock: {packages} packages with hashes")
    if arguments.output:
        write_pin(arguments.output, pin)
        print(f"wrote {arguments.output}")
    return ExitCode.NO_WORSE


def _builds_install(arguments: argparse.Namespace) -> int:
    from redline.builds.install import install
    from redline.builds.resolve import resolve

    state_dir = state_dir_of(arguments)
    build = install(resolve(arguments.build, state_dir=state_dir), state_dir=state_dir, on_line=lambda _: None)
    how = "already there" if build.cached else f"installed in {build.seconds:.0f} s"
    print(f"{build.pin.label}: {how}\n  interpreter {build.python}")
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
