"""`redline nightly` and `nights`: measure tonight and judge it by the nights before; what is on record."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime

from redline.cli.options import (
    DEFAULT_RUNNER,
    Commands,
    add_measuring,
    add_state,
    options_of,
    refusals_kept,
    say,
    split,
    state_dir_of,
    who,
)
from redline.errors import ExitCode


def add_commands(commands: Commands) -> None:
    """Add nightly and nights."""
    nightly = commands.add_parser("nightly", help="measure tonight's build and judge it by the nights before")
    nightly.add_argument("--build", required=True, metavar="BUILD", help="tonight's build; another one every night")
    nightly.add_argument("--server-args", default="", metavar="ARGS", help="further server arguments, quoted as one")
    nightly.add_argument("--date", type=_day, metavar="DATE", help="the night's name, YYYY-MM-DD (default: today, UTC)")
    add_measuring(nightly)
    nightly.set_defaults(action=refusals_kept(_nightly))

    nights = commands.add_parser("nights", help="the nights on record: readings, findings, levels")
    actions = nights.add_subparsers(dest="nights_command", metavar="ACTION")
    show = actions.add_parser("show", help="list them (the default)")
    accept = actions.add_parser("accept", help="accept the level that a metric has now: it is owed no more")
    accept.add_argument("scenario", metavar="SCENARIO")
    accept.add_argument("metric", metavar="METRIC")
    accept.add_argument("--reason", required=True, help="why this level is right from now on")
    accept.add_argument("--by", default=None, metavar="NAME", help="who accepts it (default: your user name)")
    accept.add_argument(
        "--night", type=_day, default=None, metavar="DATE", help="last night that you looked at: refused if another is"
    )
    accept.add_argument("--wait", type=float, default=30.0, metavar="S", help="wait for the machine")
    accept.set_defaults(action=_accept)
    for command in (nights, show, accept):
        command.add_argument("--runner", default=DEFAULT_RUNNER, metavar="CLASS", help="default: %(default)s")
        add_state(command)
    for command in (nights, show):
        command.set_defaults(action=_show)


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a date such as 2026-11-21, found {text!r}") from error


def _nightly(arguments: argparse.Namespace) -> int:
    from flows import plan, request, session
    from redline.model import Arm

    wanted = plan.Wanted(Arm.SINGLE, arguments.build, split(arguments.server_args, "--server-args"))
    tonight = arguments.date or datetime.now(UTC).date().isoformat()
    return say(session.nightly(request.NightlyRequest(wanted, tonight, options_of(arguments))))


def _show(arguments: argparse.Namespace) -> int:
    from flows import nights_record

    for line in nights_record.show(state_dir_of(arguments), arguments.runner):
        print(line)
    return ExitCode.NO_WORSE


def _accept(arguments: argparse.Namespace) -> int:
    from flows import nights_record

    key = (arguments.scenario, arguments.metric)
    path = nights_record.accept(
        state_dir_of(arguments),
        arguments.runner,
        key,
        who(arguments),
        arguments.reason,
        arguments.wait,
        arguments.night or "",
    )
    print(f"wrote {path}")
    return ExitCode.NO_WORSE
