"""`redline run`, `gate`, `signoff`, `sign` and `rate`: what measures a build."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from redline.cli.options import (
    DEFAULT_BUILD,
    SUITE_HELP,
    Commands,
    add_measuring,
    add_run_code,
    add_state,
    models_of,
    options_of,
    refusals_kept,
    say,
    scenarios_of,
    split,
    state_dir_of,
    who,
)
from redline.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from flows.request import GateRequest

COMPLETE_HELP = "measure speed even when the answers are proven worse"
PLAN_HELP = "only say what would be done, how long it takes and what it could see; nothing is started"


def add_commands(commands: Commands) -> None:
    """Add run, gate, signoff, sign and rate."""
    _add_run(commands)
    _add_gate(commands)
    _add_signoff(commands)
    _add_sign(commands)
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
    rate.set_defaults(action=refusals_kept(_rate))


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
    run.add_argument(
        "--driver",
        choices=("native", "loadgen"),
        default="native",
        help="who sends the requests: Redline, or MLPerf's own LoadGen over the same client (default: %(default)s)",
    )
    add_run_code(run)
    add_measuring(run)
    run.set_defaults(action=refusals_kept(_run))


def _add_gate(commands: Commands) -> None:
    gate = commands.add_parser("gate", help="is the candidate worse? interleaved pairs on this machine")
    _add_arms(gate, ("baseline", "candidate"))
    gate.add_argument("--complete", action="store_true", help=COMPLETE_HELP)
    gate.add_argument("--plan", action="store_true", help=PLAN_HELP)
    add_run_code(gate)
    add_measuring(gate)
    gate.set_defaults(action=refusals_kept(_gate))


def _add_signoff(commands: Commands) -> None:
    signoff = commands.add_parser(
        "signoff", help="may the candidate be released? a whole suite against the last release, fixed pairs"
    )
    _add_arms(signoff, ("release", "candidate"), required=("candidate",))
    signoff.add_argument("--complete", action="store_true", help=COMPLETE_HELP)
    signoff.add_argument("--plan", action="store_true", help=PLAN_HELP)
    # A sign-off on a choice of scenarios would be a sign-off of something else.
    signoff.add_argument("--suite", metavar="NAME", help=SUITE_HELP)
    add_run_code(signoff)
    add_measuring(signoff, choose_scenarios=False)
    signoff.set_defaults(action=refusals_kept(_signoff), scenario=None)


def _add_sign(commands: Commands) -> None:
    sign = commands.add_parser("sign", help="put your name under a sign-off that says yes: reports/published/")
    sign.add_argument("run_id", metavar="RUN", help="the sign-off's run id, or 'latest'")
    sign.add_argument("--by", metavar="NAME", help="who signs (default: your user name)")
    sign.add_argument("--note", default="", metavar="TEXT", help="what else the reader should know")
    add_state(sign)
    sign.set_defaults(action=_sign)


OTHER_NAMES = {"candidate": ("--build",), "release": ("--baseline",)}
"""In a sign-off: `--build B --baseline A` is the same question."""


def _add_arms(command: argparse.ArgumentParser, arms: tuple[str, str], required: tuple[str, ...] | None = None) -> None:
    for arm in arms:
        needed = required is None or arm in required
        names = (f"--{arm}", *(OTHER_NAMES.get(arm, ()) if required else ()))
        said = f"{arm} build" if needed else f"{arm} build (default: the accepted baselines')"
        command.add_argument(*names, required=needed, metavar="BUILD", help=said)
        command.add_argument(
            f"--{arm}-args",
            default="",
            metavar="ARGS",
            help=f"further server arguments of the {arm}, quoted as one: --{arm}-args='--flag value'",
        )
        command.add_argument(
            f"--{arm}-model", action="append", default=[], metavar="RECIPE=DIR", help=f"another model for the {arm}"
        )


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
    from flows import planning, session

    request = _gate_request(arguments, "baseline")
    return say(planning.plan_gate(request) if arguments.plan else session.gate(request))


def _signoff(arguments: argparse.Namespace) -> int:
    from flows import plan, planning, session
    from flows.accept import accepted_build

    if arguments.release is None:
        names = scenarios_of(arguments)
        arguments.release, accepted_args = accepted_build(state_dir_of(arguments), arguments.runner, names)
        arguments.release_args = arguments.release_args or shlex.join(accepted_args)
    request = _gate_request(arguments, "release")
    if not arguments.plan:
        return say(session.signoff(request))
    return say(planning.plan_gate(replace(request, options=replace(request.options, use=plan.Use.SIGNOFF))))


def _sign(arguments: argparse.Namespace) -> int:
    from flows import sign

    for line in sign.sign(state_dir_of(arguments), arguments.run_id, who(arguments), arguments.note):
        print(line)
    return ExitCode.NO_WORSE


def _gate_request(arguments: argparse.Namespace, baseline: str) -> GateRequest:
    """The two arms; `baseline` is what the command line calls the baseline arm."""
    from flows import plan, request
    from redline.model import Arm

    def wanted(arm: Arm, name: str) -> plan.Wanted:
        return plan.Wanted(
            arm=arm,
            spec=getattr(arguments, name),
            extra_args=split(getattr(arguments, f"{name}_args"), f"--{name}-args"),
            models=models_of(getattr(arguments, f"{name}_model"), f"--{name}-model"),
        )

    return request.GateRequest(
        baseline=wanted(Arm.BASELINE, baseline),
        candidate=wanted(Arm.CANDIDATE, "candidate"),
        options=options_of(arguments),
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
