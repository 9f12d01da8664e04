"""`redline merge` and `overview`: results of several runners, one database, one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from redline.cli.options import Commands, add_state, say, state_dir_of

DATE_HELP = "the night, YYYY-MM-DD (default: the last one on record, or today if that is older than yesterday)"


def add_commands(commands: Commands) -> None:
    """Add merge and overview."""
    merge = commands.add_parser("merge", help="take other runners' results into this state directory, once each")
    merge.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a leg's folder, or another state directory"
    )
    merge.add_argument(
        "--runner",
        default="",
        metavar="CLASS",
        help="only the trials and nights of this runner class, and the reasons; no reports",
    )
    add_state(merge)
    merge.set_defaults(action=_merge)
    overview = commands.add_parser("overview", help="one page over every runner class: findings, changes, trends")
    overview.add_argument("--output", type=Path, required=True, metavar="DIR", help="overview.md and index.html")
    overview.add_argument("--date", metavar="DATE", help=DATE_HELP)
    add_state(overview)
    overview.set_defaults(action=_overview)


def _merge(arguments: argparse.Namespace) -> int:
    from flows import merge

    return say(merge.merge(state_dir_of(arguments), tuple(arguments.folders), arguments.runner))


def _overview(arguments: argparse.Namespace) -> int:
    from flows.service import overview

    return say(overview.overview(state_dir_of(arguments), arguments.output, arguments.date))
