"""Running one Python program of a stranger: what goes in, what comes out, what went wrong."""

from __future__ import annotations

import contextlib
import enum
import functools
import json
import math
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from typing import IO

from redline.errors import SandboxError
from redline.sandbox.bubblewrap import Sandbox, identity, interpreters

STDERR_TAIL_CHARACTERS = 2000
STOP_S_MAX = 5.0
_EXPECTED = "bubblewrap 0.8 or newer (the command bwrap), unprivileged user namespaces, and a Python it can start"


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """What one program may take.

    `time_s` is of the clock; each process may take as much CPU time, rounded up, and a second. `memory_bytes`
    is of address space, each process its own. `output_bytes` is of standard output, of standard error and of
    any file. `processes` counts threads too. Source of 6 s: what LiveCodeBench's runner gives one test.
    """

    time_s: float = 6.0
    memory_bytes: int = 2 * 2**30
    output_bytes: int = 8 * 2**20
    processes: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.time_s <= 600:
            raise ValueError(f"time_s must be in (0, 600] seconds, not {self.time_s}")
        if self.memory_bytes < 64 * 2**20:
            raise ValueError(
                f"memory_bytes must be at least 64 MiB, which Python itself needs, not {self.memory_bytes}"
            )
        if self.output_bytes < 1 or self.processes < 1:
            raise ValueError("output_bytes and processes must be at least 1")


class Ending(enum.StrEnum):
    """How a program ended."""

    OK = "ended by itself, exit status 0"
    FAILED = "ended with an error, or was killed for a limit of the kernel's"
    TIME = "was still running when its time was over"
    OUTPUT = "wrote more than it may"


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """What came of a program: its output is whole only if `ending` is OK; `exit_status` is None if it was stopped."""

    ending: Ending
    exit_status: int | None
    stdout: str
    stderr_tail: str


def run_python(program: str, stdin: str = "", limits: ProgramLimits | None = None) -> ProgramResult:
    """Run the source of a Python program in the sandbox, with that text as its standard input.

    Whatever the program does is in the result. Raises SandboxError if no sandbox works here, or if it broke:
    the program is then not run at all.
    """
    return _run(sandbox(), program, stdin, limits or ProgramLimits())


@functools.lru_cache(maxsize=1)
def sandbox() -> Sandbox:
    """The sandbox of this machine, seen to work. Raises SandboxError, with what bwrap said, if there is none."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxError(
            "programs cannot be run: there is no sandbox",
            expected=_EXPECTED,
            found="no bwrap in PATH",
            next_step="install the package bubblewrap, or leave programs unrun",
        )
    complaints = []
    for interpreter in interpreters():
        candidate = Sandbox(bwrap, interpreter)
        if not (complaint := _complaint(candidate)):
            return candidate
        complaints.append(f"{interpreter.path}: {complaint}")
    raise SandboxError(
        "programs cannot be run: the sandbox does not start",
        expected=_EXPECTED,
        found="; ".join(complaints),
        next_step="allow user namespaces (a container's seccomp profile counts too), or leave programs unrun",
    )


def _complaint(candidate: Sandbox) -> str:
    """Empty if the sandbox runs a program to its end, else what was said about it last."""
    try:
        result = _run(candidate, "print(input())", "works", ProgramLimits(time_s=20.0))
    except SandboxError as error:
        return error.found
    if result.ending is Ending.OK and result.stdout == "works\n":
        return ""
    return (result.stderr_tail.strip().splitlines() or [str(result.ending)])[-1]


def _run(walls: Sandbox, program: str, stdin: str, limits: ProgramLimits) -> ProgramResult:
    """Everything goes through files without a name: no path to guess, no pipe to fill, nothing to remove."""
    with (
        _file_of(program) as source,
        _file_of(stdin) as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.TemporaryFile() as status,
    ):
        command = walls.command(
            source.fileno(),
            status.fileno(),
            cpu_s=math.ceil(limits.time_s) + 1,
            memory=limits.memory_bytes,
            file=limits.output_bytes,
            processes=limits.processes,
        )
        exit_status = _wait(command, (given, out, err), source, status, limits.time_s)
        stdout, stderr = _text_of(out, limits.output_bytes), _text_of(err, limits.output_bytes)
        if exit_status is not None and not any("exit-code" in document for document in _documents(status)):
            raise SandboxError(
                "the sandbox did not start the program",
                expected=_EXPECTED,
                found=(stderr.strip().splitlines() or [f"exit status {exit_status}"])[-1],
                next_step="look at what bwrap says",
            )
        full = max(os.fstat(out.fileno()).st_size, os.fstat(err.fileno()).st_size) >= limits.output_bytes
    ending = _ending(exit_status, is_full=full)
    return ProgramResult(ending, exit_status, stdout, stderr[-STDERR_TAIL_CHARACTERS:])


def _ending(exit_status: int | None, *, is_full: bool) -> Ending:
    if is_full:
        return Ending.OUTPUT
    if exit_status is None:
        return Ending.TIME
    return Ending.OK if exit_status == 0 else Ending.FAILED


def _wait(
    command: list[str], streams: tuple[IO[bytes], ...], source: IO[bytes], status: IO[bytes], time_s: float
) -> int | None:
    """bwrap's exit status, or None if the time was over; nothing that was inside lives on."""
    given, out, err = streams
    passed = (source.fileno(), status.fileno())
    try:
        process = subprocess.Popen(
            command, stdin=given, stdout=out, stderr=err, pass_fds=passed, env={}, cwd="/", **identity()
        )
    except OSError as error:
        raise SandboxError("bwrap cannot be started", expected=_EXPECTED, found=str(error)) from error
    with process:
        try:
            return process.wait(time_s)
        except subprocess.TimeoutExpired:
            _stop(process, status)
            return None
        finally:
            process.kill()  # whatever happens: --die-with-parent takes everything inside along


def _stop(process: subprocess.Popen[bytes], status: IO[bytes]) -> None:
    """Kill the first process inside, with which the kernel ends all others; bwrap then sees it and ends by itself."""
    pids = [pid for document in _documents(status) if isinstance(pid := document.get("child-pid"), int)]
    if pids and process.poll() is None:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.kill(pids[0], signal.SIGKILL)
            process.wait(STOP_S_MAX)


def _documents(status: IO[bytes]) -> list[dict[str, object]]:
    """What bwrap has said so far: `child-pid` once there is an inside, `exit-code` once that has ended by itself."""
    said = os.pread(status.fileno(), 65_536, 0)  # without a seek: the place in the file is bwrap's too
    return [json.loads(line) for line in said.splitlines(keepends=True) if line.endswith(b"}\n")]


def _file_of(text: str) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(text.encode(errors="replace"))  # half a surrogate pair is no text a program could be given
    file.seek(0)
    return file


def _text_of(file: IO[bytes], size: int) -> str:
    file.seek(0)
    return file.read(size).decode(errors="replace")
