"""The caller's side of the supervisor: a child process that cannot be forgotten.

`with guarded(command, environment=..., log_path=...) as child:` runs a command in its own session, both its
outputs in a log. Whatever becomes of the caller (a return, an exception, Ctrl-C, SIGTERM, SIGKILL), the
command and everything it started are gone a bounded time later: see `supervisor_program` for how. No signal
handler is installed in the caller, and it may run in any thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from redline.deploy import supervisor_program
from redline.deploy.supervisor_program import (
    AFTERWARDS_S_MAX,
    GRACE_S,
    KILL_S_MAX,
    ORPHAN_GRACE_S,
    live_descendants,
)
from redline.errors import DeployError

START_S_MAX = 20.0
"""How long the supervisor itself may take to report the pid of the command."""

_MARGIN_S = 5.0


class GuardedProcess:
    """A running command under a supervisor of its own. Leaving the `with` block ends it and all it started."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log_path: Path,
        cpu_ids: Sequence[int] = (),
        cwd: Path | None = None,
        grace_s: float = GRACE_S,
        afterwards: Sequence[str] = (),
    ) -> None:
        """Start `command` at once; standard output and error are appended to `log_path`.

        `environment` is the whole environment of the command, nothing of the caller's is added; `cpu_ids`
        (Linux) are the CPUs it may run on, () for all; `grace_s` is how long it may take after SIGTERM;
        `afterwards` is a command that tidies up when everything has ended, however it came to that.

        Raises: DeployError if it cannot be started.
        """
        self.command = tuple(command)
        self.log_path = log_path
        self.pid = 0
        self.left_over: tuple[int, ...] = ()
        self._grace_s = grace_s
        self._afterwards_s_max = AFTERWARDS_S_MAX if afterwards else 0.0
        self._keeper_pid = 0
        self._exit_status: int | None = None
        self._ended = False
        self._unread = b""
        self._lock = threading.RLock()
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            # -I -S: no site-packages, no PYTHON* variables, no current directory: quick and independent.
            self._warden = subprocess.Popen(
                [sys.executable, "-I", "-S", "-u", supervisor_program.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                close_fds=True,
                start_new_session=True,  # the terminal's Ctrl-C is for the caller, who then orders the end
            )
        order = {
            "command": list(command),
            "environment": dict(environment),
            "cpu_ids": list(cpu_ids),
            "cwd": str(cwd) if cwd is not None else None,
            "grace_s": grace_s,
            "afterwards": list(afterwards),
            "caller_pid": os.getpid(),
        }
        try:
            self._order(order)
            self._await_start()
        except BaseException:
            self.stop()
            raise

    def _pipe(self, stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None  # both were asked for as PIPE
        return stream

    def _order(self, message: Mapping[str, object]) -> None:
        pipe = self._pipe(self._warden.stdin)
        with contextlib.suppress(BrokenPipeError, ValueError):  # ended or closed: the reports say so
            pipe.write(json.dumps(message).encode() + b"\n")
            pipe.flush()

    def _await_start(self) -> None:
        deadline = time.monotonic() + START_S_MAX
        while self.pid == 0:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self._ended:
                raise DeployError(
                    f"the supervisor did not start {self.command[0]}",
                    expected=f"a pid within {START_S_MAX:g} s",
                    found="it ended at once" if self._ended else "no report",
                    next_step=f"read {self.log_path}",
                )
            self._read_reports(left_s)

    def _read_reports(self, wait_s: float) -> None:
        """Take in what the supervisor reported, waiting at most `wait_s` for the first report."""
        with self._lock, selectors.DefaultSelector() as selector:
            pipe = self._pipe(self._warden.stdout)
            if self._ended:
                return
            selector.register(pipe, selectors.EVENT_READ)
            while selector.select(max(0.0, wait_s)):
                data = os.read(pipe.fileno(), 65536)
                if not data:
                    self._ended = True  # the warden closes it last: nothing is left below it
                    break
                self._unread += data
                wait_s = 0.0
            *lines, self._unread = self._unread.split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, report: Mapping[str, object]) -> None:
        match report:
            case {"pid": int(pid), "keeper_pid": int(keeper_pid)}:
                self.pid, self._keeper_pid = pid, keeper_pid
            case {"exit": int(status)}:
                self._exit_status = status
            case {"left": list(left)}:
                self.left_over = tuple(int(pid) for pid in left)
            case {"error": str(error)}:
                raise DeployError(
                    f"could not start {self.command[0]}",
                    expected="a program that can be run",
                    found=error,
                    next_step="check the path of the program, its working directory and the CPU ids",
                )
            case _:
                raise DeployError("the supervisor sent an unknown report", found=repr(dict(report)))

    def poll(self) -> int | None:
        """The command's exit status (minus the signal's number if a signal ended it); None while it runs.

        A supervisor that was killed took the command with it: that too is -SIGKILL.
        """
        self._read_reports(0.0)
        if self._exit_status is None and self._ended:
            self._exit_status = -signal.SIGKILL
        return self._exit_status

    def pids(self) -> tuple[int, ...]:
        """All live processes of the command, itself first, the supervisor's own two left out; () once ended."""
        if self._ended:
            return ()
        own = (self._warden.pid, self._keeper_pid)
        return tuple(pid for pid in live_descendants(self._warden.pid) if pid not in own)

    def stop(self, timeout_s: float | None = None) -> None:
        """End the command and all it started; returns when they are gone. Doing it twice does no harm.

        `timeout_s` is the wait between SIGTERM and SIGKILL, the constructor's `grace_s` if None.

        Raises: DeployError if a process survived SIGKILL (one that hangs in the kernel does).
        """
        grace_s = self._grace_s if timeout_s is None else timeout_s
        self._order({"stop": grace_s})
        deadline = time.monotonic() + grace_s + ORPHAN_GRACE_S + 2 * KILL_S_MAX + self._afterwards_s_max + _MARGIN_S
        while not self._ended and (left_s := deadline - time.monotonic()) > 0:
            self._read_reports(left_s)
        self._close(deadline)
        if self.left_over:
            raise DeployError(
                f"processes {list(self.left_over)} did not end",
                expected="none left after SIGTERM and SIGKILL",
                found=f"{len(self.left_over)} still there",
                next_step="look at their state with ps; a process in state D waits for a device or a file system",
            )

    def _close(self, deadline: float) -> None:
        """Close the pipes and take the supervisor's exit status; if it hangs, kill it, which kills the rest."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe(self._warden.stdin).close()
        try:
            self._warden.wait(max(_MARGIN_S, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            survivors = live_descendants(self._warden.pid)
            for pid in (*survivors, self._warden.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._warden.wait(_MARGIN_S)
        self.poll()
        self._ended = True
        self._pipe(self._warden.stdout).close()

    def __enter__(self) -> GuardedProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def guarded(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log_path: Path,
    cpu_ids: Sequence[int] = (),
    cwd: Path | None = None,
    grace_s: float = GRACE_S,
    afterwards: Sequence[str] = (),
) -> GuardedProcess:
    """A started GuardedProcess, to be used in a `with` block. Raises DeployError if it cannot be started."""
    return GuardedProcess(
        command,
        environment=environment,
        log_path=log_path,
        cpu_ids=cpu_ids,
        cwd=cwd,
        grace_s=grace_s,
        afterwards=afterwards,
    )
