"""`redline doctor`: is this machine fit to measure?"""

from __future__ import annotations

import argparse

from redline.cli.options import Commands, add_state, say, state_dir_of


def add_commands(commands: Commands) -> None:
    """Add doctor."""
    doctor = commands.add_parser(
        "doctor",
        help="is this machine fit to measure? what is wrong, what that does to a measurement, how to mend it",
        description="Looks at this machine and changes nothing. Exit code 0: fit, 4: not fit (docs/doctor.md).",
    )
    doctor.add_argument(
        "--runner", default="", metavar="CLASS", help="also judge what this runner class asks of its machines"
    )
    doctor.add_argument("--json", action="store_true", help="print everything that was read and found as JSON")
    add_state(doctor)
    doctor.set_defaults(action=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from flows import doctor

    return say(
        doctor.doctor(
            doctor.DoctorRequest(state_dir=state_dir_of(arguments), runner=arguments.runner, as_json=arguments.json)
        )
    )
