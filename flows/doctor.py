"""`redline doctor`: look at this machine, judge it, say what an administrator can mend. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from checks.host_fitness import findings, is_fit
from flows.request import Answer
from flows.workspace import Workspace, content_root
from redline.deploy.placing import usable
from redline.errors import AcceleratorError, ExitCode
from redline.model import DeviceHealth, HostFinding, MachineReading, RunnerClass
from redline.runner.accelerators import OPENERS, Opener, opened_readers
from redline.runner.host import SAMPLE_S, read_host
from reports.doctor import doctor_lines

JSON_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class DoctorRequest:
    """What `redline doctor` is told. `runner`: also judge what this class asks for; empty for none."""

    state_dir: Path
    runner: str = ""
    as_json: bool = False


def doctor(request: DoctorRequest, *, openers: tuple[Opener, ...] = OPENERS, sample_s: float = SAMPLE_S) -> Answer:
    """The answer: exit code 0 if the machine is fit, 4 if it is not.

    `openers`, `sample_s`: other ones in tests only.
    Raises UsageError for a class that does not exist, or a variable that makes visible what is not there.
    """
    runner_class = Workspace(content_root(), request.state_dir).runner_class(request.runner) if request.runner else None
    reading = read_machine(request.state_dir, runner_class, openers=openers, sample_s=sample_s)
    found = findings(reading, runner_class)
    exit_code = ExitCode.NO_WORSE if is_fit(found) else ExitCode.INVALID
    if request.as_json:
        return Answer((as_json(reading, found, request.runner, exit_code),), exit_code)
    return Answer(doctor_lines(found, runner=f"runner class {request.runner}" if request.runner else ""), exit_code)


def read_machine(
    state_dir: Path,
    runner_class: RunnerClass | None = None,
    *,
    openers: tuple[Opener, ...] = OPENERS,
    sample_s: float = SAMPLE_S,
) -> MachineReading:
    """The machine now. With a class only the accelerators that its caller left visible, as a measurement would.

    One that is lost while it is looked at is a problem, not the end: the others are still read. Raises UsageError if a
    variable such as CUDA_VISIBLE_DEVICES names an accelerator that is not there.
    """
    host = read_host(state_dir, sample_s=sample_s)
    devices: list[DeviceHealth] = []
    with opened_readers(openers) as opened:
        problems = list(opened.problems)
        for reader in opened.readers:
            there = reader.devices()
            for device in there if runner_class is None or runner_class.platform == "cpu" else usable(there):
                try:
                    devices.append(reader.inspect(device.uuid))
                except AcceleratorError as error:
                    problems.append(f"{error.problem}: {error.found}")
    return MachineReading(host, tuple(devices), tuple(problems), opened.absent)


def as_json(reading: MachineReading, found: Sequence[HostFinding], runner: str, exit_code: ExitCode) -> str:
    """Everything, for machines. Keys: `schema`, `generated_at`, `runner`, `fit`, `exit_code`, `findings`, `reading`."""
    return json.dumps(
        {
            "schema": JSON_SCHEMA,
            "generated_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "runner": runner,
            "fit": is_fit(found),
            "exit_code": int(exit_code),
            "findings": [asdict(each) for each in found],
            "reading": asdict(reading),
        },
        indent=2,
        allow_nan=False,
    )
