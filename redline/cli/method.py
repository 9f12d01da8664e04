"""`redline method verify`: the product re-measures its own error rates, beside the rules that others use."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from redline.cli.options import Commands, add_state, state_dir_of
from redline.errors import ExitCode

if TYPE_CHECKING:
    from flows.verify import Verified

SECTIONS = (
    "gate",
    "stored",
    "sign-off",
    "nightly",
    "accuracy",
    "threshold",
    "bisection",
    "pull-requests",
    "nights",
)


def add_commands(commands: Commands) -> None:
    """Add method."""
    method = commands.add_parser("method", help="how Redline decides: measure its own error rates")
    actions = method.add_subparsers(dest="method_command", required=True, metavar="ACTION")
    verify = actions.add_parser(
        "verify",
        help="simulate the error table anew with the shipped code, and check every promise",
        description="Simulates the error table of docs/method.md with the shipped code and policies, the rules that "
        "others use beside it, and checks every promise. Ends with 0 if all are kept, with 4 if one is broken.",
    )
    size = verify.add_mutually_exclusive_group()
    size.add_argument("--suites", type=int, metavar="N", help="suites a row (default: 2000); others are scaled with it")
    size.add_argument(
        "--quick",
        action="store_true",
        help="200 suites a row, no Otava; promises are then judged with an allowance for chance",
    )
    verify.add_argument(
        "--only", nargs="+", action="extend", default=[], choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS)
    )
    verify.add_argument("--seed", type=int, metavar="N", help="another seed than the table's")
    verify.add_argument("--output", type=Path, metavar="DIR", help="where to write (default: method/ in the state)")
    verify.add_argument(
        "--processes", type=int, metavar="N", help="default: one per CPU; the figures do not depend on it"
    )
    verify.add_argument("--without-otava", action="store_true", help="leave out Otava, which has to be installed once")
    verify.add_argument("--json", action="store_true", help="print the table as JSON on standard output")
    verify.add_argument("--quiet", action="store_true", help="no progress")
    add_state(verify)
    verify.set_defaults(action=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    from flows import verify

    left_out = "--without-otava" if arguments.without_otava else "--quick" if arguments.quick else ""
    suites = verify.SUITES_QUICK if arguments.quick else arguments.suites
    found = verify.verify(
        verify.VerifyOptions(
            state_dir=state_dir_of(arguments),
            output=arguments.output,
            suites=verify.SUITES_FULL if suites is None else suites,
            sections=tuple(arguments.only),
            seed=verify.SEED if arguments.seed is None else arguments.seed,
            process_count=arguments.processes,
            no_otava=left_out,
            quiet=arguments.quiet,
        )
    )
    return answer(found, as_json=arguments.json)


def answer(found: Verified, *, as_json: bool) -> int:
    """Print the table, where it lies and what is broken; the exit code."""
    print(found.json if as_json else found.markdown, end="")
    # With --json standard output is the table and nothing else.
    said = sys.stderr if as_json else sys.stdout
    for path in found.paths:
        print(f"wrote {path}", file=said)
    for promise in found.broken:
        print(f"broken: {promise}", file=said)
    if found.broken:
        return ExitCode.INVALID
    print(f"{len(found.document.promises)} promises, none broken", file=said)
    return ExitCode.NO_WORSE
