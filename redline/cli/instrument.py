"""`redline simulate`, `calibrate`, `export` and `import`: the load client itself, and other tools' results."""

from __future__ import annotations

import argparse
from pathlib import Path

from redline.cli.options import Commands, add_state, state_dir_of
from redline.errors import ExitCode, UsageError

ARMS = ("baseline", "candidate", "single", "probe")
MLPERF = "mlperf"
EXPORT_FORMATS = ("vllm-bench", "pytorch-hud", "github-action-benchmark", "parquet", MLPERF)


def add_commands(commands: Commands) -> None:
    """Add simulate, calibrate, export and import."""
    _add_load_commands(commands)
    _add_exchange_commands(commands)


def _add_load_commands(commands: Commands) -> None:
    from redline.simulator.options import add_arguments

    simulate = commands.add_parser(
        "simulate", help="serve a stand-in for a vLLM server: exact timers, failures on demand, never a measurement"
    )
    add_arguments(simulate)
    simulate.set_defaults(action=_simulate)

    calibrate = commands.add_parser("calibrate", help="measure this machine's load client against the stand-in")
    calibrate.add_argument(
        "--rate", type=float, action="append", default=[], metavar="R", help="requests a second; may be repeated"
    )
    calibrate.add_argument("--seconds", type=float, default=5.0, metavar="S", help="per rate (default: %(default)s)")
    calibrate.add_argument("--wait", type=float, default=30.0, metavar="S", help="wait for the machine")
    calibrate.add_argument("--quiet", action="store_true", help="no progress")
    add_state(calibrate)
    calibrate.set_defaults(action=_calibrate)


def _add_exchange_commands(commands: Commands) -> None:
    export = commands.add_parser("export", help="write runs in other tools' formats")
    export.add_argument("run_ids", nargs="+", metavar="RUN", help="run ids, or 'latest'")
    export.add_argument(
        "--format", required=True, choices=EXPORT_FORMATS, metavar="FORMAT", help=", ".join(EXPORT_FORMATS)
    )
    export.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write to")
    export.add_argument("--arm", choices=ARMS, metavar="ARM", help=f"only this arm: {', '.join(ARMS)}")
    mlperf = export.add_argument_group("for --format mlperf, a folder in MLPerf's submission layout, no submission")
    mlperf.add_argument("--submitter", metavar="NAME", help="the folder's name (default: not-a-submission)")
    mlperf.add_argument("--division", choices=("open", "closed"), help="default: open")
    mlperf.add_argument(
        "--system", type=Path, metavar="FILE.json", help="fields of the system's description that nobody captured"
    )
    add_state(export)
    export.set_defaults(action=_export)
    importing = commands.add_parser(
        "import", help="turn results of vllm bench and GuideLLM into a history (CSV or Parquet)"
    )
    importing.add_argument("files", nargs="+", type=Path, metavar="FILE", help="their JSON, or a history")
    importing.add_argument("--output", type=Path, required=True, metavar="FILE", help=".csv or .parquet")
    for name in ("build", "scenario", "runner"):
        importing.add_argument(f"--{name}", metavar="NAME", help=f"{name} of all files, where they do not say it")
    importing.set_defaults(action=_import)


def _simulate(arguments: argparse.Namespace) -> int:
    from redline.simulator.program import run

    return run(arguments)


def _calibrate(arguments: argparse.Namespace) -> int:
    from flows import calibrate

    chosen = calibrate.options(
        state_dir_of(arguments),
        rates=arguments.rate,
        seconds=arguments.seconds,
        wait_s=arguments.wait,
        quiet=arguments.quiet,
    )
    for line in calibrate.calibrate(chosen):
        print(line)
    return ExitCode.NO_WORSE


def _export(arguments: argparse.Namespace) -> int:
    from flows import exchange

    state_dir = state_dir_of(arguments)
    if arguments.format == MLPERF:
        return _export_mlperf(arguments)
    if unused := [name for name in ("submitter", "division", "system") if getattr(arguments, name) is not None]:
        raise UsageError(
            f"--{unused[0]} is for --format {MLPERF}",
            expected=f"--format {MLPERF}",
            found=f"--format {arguments.format}",
            next_step=f"leave --{unused[0]} out, or choose that format",
        )
    for path in exchange.export_runs(
        state_dir, arguments.run_ids, arguments.format, arguments.output, arm=arguments.arm
    ):
        print(f"wrote {path}")
    return ExitCode.NO_WORSE


def _export_mlperf(arguments: argparse.Namespace) -> int:
    from flows import export_mlperf

    options = export_mlperf.Options(
        arm=arguments.arm,
        submitter=arguments.submitter,
        division=arguments.division,
        system_file=arguments.system,
    )
    lines = export_mlperf.export_mlperf(state_dir_of(arguments), arguments.run_ids, arguments.output, options)
    for line in lines:
        print(line)
    return ExitCode.NO_WORSE


def _import(arguments: argparse.Namespace) -> int:
    from flows import exchange

    left_out = False
    for line in exchange.import_results(
        arguments.files,
        arguments.output,
        build=arguments.build,
        scenario=arguments.scenario,
        runner=arguments.runner,
    ):
        print(line)
        left_out = left_out or line.startswith(exchange.LEFT_OUT)
    return ExitCode.USAGE if left_out else ExitCode.NO_WORSE
