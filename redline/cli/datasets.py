"""`redline datasets`: which there are, what they are, and preparing them from what you have."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from redline.cli.options import Commands, add_state, state_dir_of
from redline.errors import ExitCode


def add_commands(commands: Commands) -> None:
    """Add datasets, with its actions list (the default), show and prepare."""
    datasets = commands.add_parser("datasets", help="list, show and prepare the data sets that scenarios ask")
    add_state(datasets)
    datasets.set_defaults(action=_list)
    actions = datasets.add_subparsers(dest="datasets_command", metavar="ACTION")

    listing = actions.add_parser("list", help="name, items, prepared or not, licence (the default)")
    _add_state_below(listing)
    listing.set_defaults(action=_list)

    show = actions.add_parser("show", help="one data set: what it is, whether one may use it, its first item")
    show.add_argument("name", metavar="NAME")
    _add_state_below(show)
    show.set_defaults(action=_show)

    prepare = actions.add_parser("prepare", help="read, check and keep a data set (docs/datasets.md)")
    prepare.add_argument("name", metavar="NAME")
    prepare.add_argument(
        "--from", dest="source", required=True, metavar="PATH", help="file or folder that you have, or 'hub'"
    )
    prepare.add_argument(
        "--tokenizer", type=Path, metavar="PATH", help="the model's tokenizer.json, or the folder that holds it"
    )
    _add_state_below(prepare)
    prepare.set_defaults(action=_prepare)


def _add_state_below(command: argparse.ArgumentParser) -> None:
    """--state-dir after the action as before it: left out here, what stood there holds."""
    command.add_argument("--state-dir", type=Path, default=argparse.SUPPRESS, metavar="DIR", help=argparse.SUPPRESS)


def _list(arguments: argparse.Namespace) -> int:
    from flows import datasets

    return _say(datasets.listing(state_dir_of(arguments)))


def _show(arguments: argparse.Namespace) -> int:
    from flows import datasets

    return _say(datasets.show(state_dir_of(arguments), arguments.name))


def _prepare(arguments: argparse.Namespace) -> int:
    from flows import datasets

    return _say(datasets.prepare(state_dir_of(arguments), arguments.name, arguments.source, arguments.tokenizer))


def _say(lines: Iterable[str]) -> int:
    for line in lines:
        print(line)
    return ExitCode.NO_WORSE
