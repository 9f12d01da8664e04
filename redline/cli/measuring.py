"""`redline run`, `gate` and `rate`: what measures a build."""

from __future__ import annotations

import argparse

from redline.cli.options import DEFAULT_BUILD, Commands, add_measuring, models_of, options_of, say, split
from redline.errors import UsageError


def add_commands(commands: Commands) -> None:
    """Add run, gate and rate."""
    _add_run(commands)
    _add_gate(commands)
    _add_rate(commands)


def _add_rate(commands: Commands) -> None:
    rate = commands.add_parser("rate", help="search the highest rate of a server scenario within latency limits")
    rate.add_argument("name", metavar="SCENARIO", help="a server scenario")
    source = rate.add_mutually_exclusive_group()
    source.add_argument("--build", default=DEFAULT_BUILD, metavar="BUILD", help="build (default: %(default)s)")
    source.add_argument("--endpoint", metavar="URL", help="a server that is already running")
    rate.add_argument("--server-args", default="", metavar="ARGS", help="further server arguments, quoted as one")
    rate.add_argument("--ttft-p99", type=float, required=True, metavar="S", help="limit of TTFT p99, seconds")
    rate.add_argument("--tpot-p99", type=float, required=True, metavar="S", help="limit of TPOT p99, seconds")
    rate.add_argument("--searches", type=int, metavar="N", help="fresh deployments (default: 3; an endpoint has one)")
    rate.add_argument("--seconds", type=float, default=10.0, metavar="S", help="per window (default: %(default)s)")
    rate.add_argument("--resolution", type=float, default=0.1, metavar="SHARE", help="default: %(default)s")
    add_measuring(rate, choose_scenarios=False)
    rate.set_defaults(action=_rate)


def _add_run(commands: Commands) -> None:
    run = commands.add_parser("run", help="measure one build and compare it with the accepted baseline")
    source = run.add_mutually_exclusive_group()
    source.add_argument(
        "--build", default=DEFAULT_BUILD, metavar="BUILD", help="build to measure (default: %(default)s)"
    )
    source.add_argument(
        "--endpoint", metavar="URL", help="measure a server that is already running; replicas with commas"
    )
    run.add_argument(
        "--server-args",
        default="",
        metavar="ARGS",
        help="further server arguments, quoted as one: --server-args='--flag value'",
    )
    run.add_argument("--model", action="append", default=[], metavar="RECIPE=DIR", help="serve another model")
    add_measuring(run)
    run.set_defaults(action=_run)


def _add_gate(commands: Commands) -> None:
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
    add_measuring(gate)
    gate.set_defaults(action=_gate)


def _run(arguments: argparse.Namespace) -> int:
    from flows import plan, request, session
    from redline.model import Arm

    return say(
        session.run(
            request.RunRequest(
                wanted=plan.Wanted(
                    arm=Arm.SINGLE,
                    spec=arguments.endpoint or arguments.build,
                    extra_args=split(arguments.server_args, "--server-args"),
                    models=models_of(arguments.model, "--model"),
                ),
                options=options_of(arguments),
            )
        )
    )


def _gate(arguments: argparse.Namespace) -> int:
    from flows import plan, request, session
    from redline.model import Arm

    return say(
        session.gate(
            request.GateRequest(
                baseline=plan.Wanted(
                    arm=Arm.BASELINE,
                    spec=arguments.baseline,
                    extra_args=split(arguments.baseline_args, "--baseline-args"),
                    models=models_of(arguments.baseline_model, "--baseline-model"),
                ),
                candidate=plan.Wanted(
                    arm=Arm.CANDIDATE,
                    spec=arguments.candidate,
                    extra_args=split(arguments.candidate_args, "--candidate-args"),
                    models=models_of(arguments.candidate_model, "--candidate-model"),
                ),
                options=options_of(arguments),
            )
        )
    )


def _rate(arguments: argparse.Namespace) -> int:
    from checks.rate_search import RateLimits
    from flows import plan, session
    from redline.model import Arm

    try:
        limits = RateLimits(arguments.ttft_p99, arguments.tpot_p99)
    except ValueError as error:
        raise UsageError(
            "--ttft-p99 or --tpot-p99 is no limit", expected="seconds above 0", found=str(error), next_step="correct it"
        ) from error
    arguments.scenario = [arguments.name]
    wanted = plan.Wanted(
        arm=Arm.SINGLE,
        spec=arguments.endpoint or arguments.build,
        extra_args=split(arguments.server_args, "--server-args"),
    )
    searches = arguments.searches or (1 if arguments.endpoint else 3)
    shape = plan.SearchShape(searches, arguments.seconds, arguments.resolution)
    return say(session.rate(wanted, limits, shape, options_of(arguments)))
