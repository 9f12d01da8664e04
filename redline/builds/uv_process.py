"""Running uv: bounded, quiet on the user's screen, with pip's configuration, and PyTorch's indexes as last resort."""

from __future__ import annotations

import logging
import os
import re
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv

from redline.builds.pip_configuration import read, uv_arguments, uv_environment, without_credentials
from redline.builds.torch_backend import backend_missing
from redline.errors import BuildError

TORCH_CPU_INDEX_URL = "https://download.pytorch.org/whl/cpu"
LINE_COUNT_MAX = 2000
HTTP_S_MAX = "60"
HTTP_RETRY_COUNT_MAX = "2"
KILL_WAIT_S_MAX = 10.0
FOUND_CHARACTERS_MAX = 1500

_LOG = logging.getLogger("redline.builds")
_UNREACHABLE = re.compile(r"Failed to fetch: `?([a-z]+://[^\s`]+)")


@dataclass(frozen=True, slots=True)
class UvOutcome:
    """How a uv process ended: `text` is what it wrote (stdout and stderr), passwords removed."""

    ok: bool
    text: str


@dataclass(frozen=True, slots=True, repr=False)
class UvSetup:
    """How uv is started whatever it is asked: its environment and the arguments that follow every command.

    Not printable: an index address among the variables may carry a password.
    """

    variables: Mapping[str, str]
    arguments: tuple[str, ...] = ()

    def joined(self, name: str, value: str, separator: str) -> UvSetup:
        """The same with a value added to the list that a variable holds; as an argument it would replace the list."""
        values = [item for item in (self.variables.get(name), value) if item]
        return UvSetup({**self.variables, name: separator.join(values)}, self.arguments)


def set_up() -> UvSetup:
    """How to start uv: as pip is configured on this machine, in our environment less what would change the result."""
    configuration = read()
    result = uv_environment(configuration, os.environ)
    # Set, it would keep uv from leaving bytecode behind, and every start of vLLM would compile again.
    for name in ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_TORCH_BACKEND"):
        result.pop(name, None)
    result |= {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    result.setdefault("UV_HTTP_TIMEOUT", HTTP_S_MAX)
    result.setdefault("UV_HTTP_RETRIES", HTTP_RETRY_COUNT_MAX)
    return UvSetup(result, uv_arguments(configuration))


def run_uv(
    arguments: Sequence[str],
    *,
    setup: UvSetup,
    directory: Path,
    timeout_s: float,
    on_line: Callable[[str], None] = _LOG.debug,
    kept_open: Sequence[int] = (),
) -> UvOutcome:
    """How uv ended and what it wrote; each line also goes to `on_line` as it comes.

    `kept_open` are file descriptors that uv inherits: a lock held through one outlives this process while uv runs.
    Raises BuildError if uv is missing or runs longer than `timeout_s`; no process is left behind.
    """
    try:
        binary = os.fsdecode(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise BuildError(
            "uv is not installed beside Redline",
            expected="the Python package uv",
            found=str(error),
            next_step="install Redline's locked requirements again",
        ) from error
    process = subprocess.Popen(
        [binary, *arguments, *setup.arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env=dict(setup.variables),
        pass_fds=tuple(kept_open),
        start_new_session=True,
    )
    try:
        lines = _read_lines(process, time.monotonic() + timeout_s, on_line)
        if lines is None:
            raise BuildError(
                f"uv {' '.join(arguments[:2])} took too long",
                expected=f"an end within {timeout_s:.0f} s",
                found="still running",
                next_step="check the network and the package indexes that pip is configured with, then try again",
            )
        return UvOutcome(ok=process.wait(KILL_WAIT_S_MAX) == 0, text="\n".join(lines))
    finally:
        _end(process)


def _read_lines(
    process: subprocess.Popen[bytes], deadline_s: float, on_line: Callable[[str], None]
) -> list[str] | None:
    """What the process wrote until it closed its output; None if it had not by the deadline."""
    assert process.stdout is not None, "Popen was given a pipe"
    lines: deque[str] = deque(maxlen=LINE_COUNT_MAX)
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left_s := deadline_s - time.monotonic()) > 0:
            if not selector.select(left_s):
                continue
            block = os.read(process.stdout.fileno(), 65536)
            *whole, pending = (pending + block).split(b"\n")
            if not block and pending:
                whole, pending = [pending], b""
            for raw in whole:
                line = without_credentials(raw.decode(errors="replace").rstrip())
                lines.append(line)
                on_line(line)
            if not block:
                return list(lines)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing behind: uv and the compilers it started are one process group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(KILL_WAIT_S_MAX)
    if process.stdout is not None:
        process.stdout.close()


def run_uv_with_torch(run: Callable[[UvSetup], UvOutcome], setup: UvSetup) -> tuple[UvOutcome, UvSetup]:
    """The outcome of `run` with the user's own indexes and, only if those lack a torch of the build's variant
    (`+cpu`, `+cu129`), with PyTorch's too.

    The second element is the setup it was reached with. The index is the last resort because many machines
    have their own copy of that torch, and because an index that cannot be reached costs a minute of retries.
    Raises BuildError if PyTorch's index was needed and could not be reached.
    """
    outcome = run(setup)
    backend = "" if outcome.ok or "--no-index" in setup.arguments else backend_missing(outcome.text)
    if not backend:
        return outcome, setup
    if backend == "cpu":
        extended = setup.joined("UV_EXTRA_INDEX_URL", TORCH_CPU_INDEX_URL, " ")
    else:
        # uv knows where each of them is. It then looks nowhere else for torch, which a CPU build's lock does not need.
        extended = UvSetup({**setup.variables, "UV_TORCH_BACKEND": backend}, setup.arguments)
    outcome = run(extended)
    unreachable = unreachable_address(outcome)
    if unreachable.startswith(TORCH_CPU_INDEX_URL) or (unreachable and backend != "cpu"):
        raise BuildError(
            f"the torch of this build is on PyTorch's {backend.replace('cpu', 'CPU')} index, which cannot be reached",
            expected=f"an answer from {unreachable}, or a '+{backend}' torch wheel in pip's own find-links",
            found=shortened(outcome.text),
            next_step="let this machine reach that index, or put the torch wheel into a directory named by find-links",
        )
    return outcome, extended


def unreachable_address(outcome: UvOutcome) -> str:
    """The address that uv could not fetch; empty if that is not why it failed."""
    match = None if outcome.ok else _UNREACHABLE.search(outcome.text)
    return match[1] if match else ""


def shortened(text: str) -> str:
    """What uv said, bounded for a message: its first lines say why."""
    return text.strip()[:FOUND_CHARACTERS_MAX]
