"""One `run:` line as GitHub's runner runs it: bash, the files for outputs and summary, a bound, no process left over.

Source: docs.github.com, "Workflow commands for GitHub Actions" and "Workflow syntax" (`shell`).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SHELLS = {"bash": ("bash", "--noprofile", "--norc", "-eo", "pipefail"), "": ("bash", "-e")}
SUMMARY_BYTES_MAX = 1_048_576
ANNOTATIONS_PER_LEVEL_MAX = 10
_ANNOTATION = re.compile(r"^::(error|warning|notice)(?: ([^:]*(?::(?!:)[^:]*)*))?::(.*)$")


class MachineDiedError(Exception):
    """The machine of a job is gone: nothing of it runs any more."""


class StepFileError(Exception):
    """A file for outputs or variables holds what GitHub's runner refuses."""


@dataclass(slots=True)
class StepRun:
    """What became of a step. `outcome` is before `continue-on-error`, `conclusion` after it."""

    title: str
    key: str = ""
    outcome: str = "success"
    conclusion: str = "success"
    exit_code: int | None = None
    log: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    summary_was_too_large: bool = False
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: the filled script, its shell, the whole environment, the folder, bounds in seconds.

    `dies_after_s`: the machine dies then, with everything on it; at the end of the script if that comes first.
    """

    script: str
    shell: str
    environment: Mapping[str, str]
    folder: Path
    timeout_s: float
    dies_after_s: float | None = None


def execute(command: Command, files: Path, step: StepRun) -> dict[str, str]:
    """Run it into `step`; the variables that it hands to later steps. `files`: an empty folder for the runner's files.

    Raises MachineDiedError, StepFileError.
    """
    names = {"GITHUB_OUTPUT": "output", "GITHUB_ENV": "env", "GITHUB_STEP_SUMMARY": "summary", "GITHUB_PATH": "path"}
    files.mkdir(parents=True)
    environment = dict(command.environment)
    for variable, name in names.items():
        (files / name).touch()
        environment[variable] = str(files / name)
    script = files / "script.sh"
    script.write_text(command.script, encoding="utf-8")
    if command.shell not in SHELLS:
        raise StepFileError(f"the shell {command.shell!r} is not known here")
    step.exit_code = _run([*SHELLS[command.shell], str(script)], environment, command, files / "log")
    step.log = (files / "log").read_text(encoding="utf-8", errors="replace")
    step.annotations = annotations_of(step.log)
    step.outputs = assignments((files / "output").read_text(encoding="utf-8"))
    summary = (files / "summary").read_bytes()
    step.summary_was_too_large = len(summary) > SUMMARY_BYTES_MAX
    step.summary = "" if step.summary_was_too_large else summary.decode()
    step.outcome = "success" if step.exit_code == 0 else "failure"
    variables = assignments((files / "env").read_text(encoding="utf-8"))
    added = (files / "path").read_text(encoding="utf-8").split()
    if added:
        variables["PATH"] = os.pathsep.join([*reversed(added), environment["PATH"]])
    return variables


def _run(arguments: list[str], environment: dict[str, str], command: Command, log: Path) -> int:
    """The exit code; every process of the step has ended."""
    bound_s = command.timeout_s if command.dies_after_s is None else command.dies_after_s
    with log.open("wb") as file:
        process = subprocess.Popen(
            arguments,
            cwd=command.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout=bound_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
        if command.dies_after_s is not None:  # also where whoever kills it came late
            raise MachineDiedError(f"after {bound_s:g} s")
        if status is None:
            file.write(f"\nthe step ran into its bound of {bound_s:g} s\n".encode())
            return 124
        return status


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the step's whole session: as the runner does with what a job leaves behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(timeout=30)


def assignments(text: str) -> dict[str, str]:
    """`name=value` and `name<<WORD ... WORD` of a runner's file. Raises StepFileError."""
    found: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        name, sign, value = _split(line)
        if sign == "=":
            found[name] = value
            continue
        block = []
        for inside in lines:
            if inside == value:
                break
            block.append(inside)
        else:
            raise StepFileError(f"{name}: the closing {value!r} is missing")
        found[name] = "\n".join(block)
    return found


def _split(line: str) -> tuple[str, str, str]:
    equals, marks = line.find("="), line.find("<<")
    sign = "<<" if marks >= 0 and (equals < 0 or marks < equals) else "="
    name, found, value = line.partition(sign)
    if not found or not name:
        raise StepFileError(f"{line[:80]!r} is no assignment")
    return name, sign, value


def annotations_of(log: str) -> tuple[tuple[str, str], ...]:
    """(level, message) of those that GitHub shows: the first ten of each level."""
    shown: dict[str, list[tuple[str, str]]] = {}
    for line in log.splitlines():
        match = _ANNOTATION.match(line)
        if match:
            message = match.group(3).replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")
            shown.setdefault(match.group(1), []).append((match.group(1), message))
    return tuple(each for level in shown.values() for each in level[:ANNOTATIONS_PER_LEVEL_MAX])
