"""`redline replay`: what Redline would have said of a recorded past."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from redline.cli.options import DEFAULT_RUNNER, Commands, add_state, say, state_dir_of
from redline.errors import UsageError

EVERY_DAYS_MAX = 366


def add_commands(commands: Commands) -> None:
    """Add replay."""
    replay = commands.add_parser("replay", help="judge a recorded history as the nightly or the gate would have")
    replay.add_argument("file", type=Path, metavar="FILE", help="a history, .csv or .parquet (docs/replay.md)")
    replay.add_argument(
        "--as", dest="judge_as", choices=("nightly", "gate"), default="nightly", help="default: %(default)s"
    )
    replay.add_argument(
        "--policy", default=DEFAULT_RUNNER, metavar="NAME", help="of checks/policies (default: %(default)s)"
    )
    for name in ("runner", "scenario", "metric"):
        replay.add_argument(
            f"--{name}", action="append", default=[], metavar="NAME", help=f"only this {name}; may be repeated"
        )
    replay.add_argument("--since", default="", metavar="DATE", help="only the nights from this one on, YYYY-MM-DD")
    replay.add_argument("--release", default="", metavar="BUILD", help="build that a slow drift is measured against")
    replay.add_argument(
        "--every-days", type=int, metavar="N", help="a night is due every N days (default: learned from the dates)"
    )
    replay.add_argument(
        "--drop-first-repeat", action="store_true", help="repeat 0 of each deployment was warm-up: leave it out"
    )
    replay.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="for replay.md and replay-findings.csv (default: the state's reports)",
    )
    replay.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    add_state(replay)
    replay.set_defaults(action=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    from checks.replay import Choice
    from flows import replay

    state_dir = state_dir_of(arguments)
    if arguments.every_days is not None and not 1 <= arguments.every_days <= EVERY_DAYS_MAX:
        raise UsageError(
            "--every-days is no cadence",
            expected=f"days from 1 to {EVERY_DAYS_MAX}",
            found=str(arguments.every_days),
            next_step="correct it, or leave it out: it is then learned from the dates",
        )
    choice = Choice(
        runners=tuple(arguments.runner),
        scenarios=tuple(arguments.scenario),
        metrics=tuple(arguments.metric),
        since=_since(arguments.since),
        drop_first_repeat=arguments.drop_first_repeat,
    )
    return say(
        replay.replay(
            replay.ReplayRequest(
                file=arguments.file,
                state_dir=state_dir,
                output=arguments.output or state_dir / "reports",
                judge_as=replay.JudgeAs(arguments.judge_as),
                policy=arguments.policy,
                choice=choice,
                release=arguments.release,
                every_days=arguments.every_days,
                as_json=arguments.json,
            )
        )
    )


def _since(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError as error:
        raise UsageError(
            "--since is no date", expected="a day such as 2026-11-21", found=text, next_step="correct it"
        ) from error
