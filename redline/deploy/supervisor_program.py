"""The supervisor: a small process that starts one server and outlives everybody who could forget it.

Run as a script (`python -I -S -u supervisor_program.py`), standard library only, so that it starts in
milliseconds and depends on nothing of the caller's environment. It is two processes:

    caller -> warden -> keeper -> server -> whatever the server starts

The keeper talks with the caller: the first line of its standard input is the order (JSON), later lines are
commands, end of file means that the caller is gone. It reports the server's pid and exit status as JSON lines
on standard output. Both warden and keeper are child subreapers (Linux), so every orphan below them comes back
to them, however often it forked or called setsid: only our own descendants are ever signalled. Whoever dies:

- the caller, in any way: the keeper sees end of file, or its pidfd fires even where a forked child of the
  caller still holds the pipe; SIGTERM to the server's group, a bounded wait, SIGKILL to all that is left;
- the keeper, by SIGKILL: the server dies with it (PR_SET_PDEATHSIG) and its orphans come to the warden,
  which kills them;
- the warden, by SIGKILL: the keeper is told by its own PR_SET_PDEATHSIG and tears down.

An order may hold one more command, `afterwards`: the keeper runs it when all of that is over. It is for what a server
leaves with somebody who is no descendant of ours, a container with its engine.

Outside Linux there are neither subreapers nor /proc: there only the server's process group is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

GRACE_S = 10.0
"""How long a server may take after SIGTERM when nobody says otherwise."""

ORPHAN_GRACE_S = 2.0
"""How long the server's own children may take after the server itself has ended."""

KILL_S_MAX = 10.0
"""How long processes are hunted with SIGKILL before the supervisor reports them as left over."""

AFTERWARDS_S_MAX = 30.0
"""How long the command that tidies up afterwards may take."""

ORDER_S_MAX = 10.0
"""How long the caller may take to send its order."""

_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"


def process_table() -> dict[int, tuple[int, str]]:
    """Every process by pid: (parent's pid, state letter). Empty where there is no /proc."""
    table: dict[int, tuple[int, str]] = {}
    if not _LINUX:
        return table
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The command name stands in parentheses and may itself hold spaces and parentheses.
            state, parent = (process / "stat").read_bytes().rsplit(b")", 1)[1].split()[:2]
            table[int(process.name)] = (int(parent), state.decode())
    return table


def live_descendants(root: int) -> tuple[int, ...]:
    """Pids of all live (not zombie) descendants of `root`, parents before children, without `root` itself."""
    table = process_table()
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    level = [root]
    while level:  # ends: each pid has one parent, and /proc is finite
        level = [pid for parent in level for pid in sorted(children.get(parent, ()))]
        found += level
    return tuple(pid for pid in found if table[pid][1] not in "ZX")


def _prctl(option: int, value: int) -> None:
    if _LINUX and _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


_LIBC = ctypes.CDLL(None, use_errno=True)


def _watch_process(pid: int) -> int | None:
    """A descriptor that is readable once `pid` ended; None where the system has none (Linux before 5.3).

    Raises ProcessLookupError if the process is gone already.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return None
        raise


def _report(**facts: Any) -> None:
    """One JSON line to the caller; a caller that is gone cannot be told, which is no error."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(facts).encode() + b"\n")


def _note(text: str) -> None:
    """One line in the server's log."""
    with contextlib.suppress(OSError):
        os.write(2, f"redline supervisor: {text}\n".encode())


def _signal_all(pids: tuple[int, ...], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


class Keeper:
    """Starts the server, waits for whatever comes first, and tears down."""

    def __init__(self) -> None:
        self.server_pid = 0
        self.exit_status: int | None = None
        self.grace_s = GRACE_S
        self.reason = ""
        self._input = b""
        self._wake, wake_in = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_in, False)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        # Handlers, not SIG_IGN: an ignored signal would stay ignored in the server after exec.
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, *_: object) -> None:
        self.reason = self.reason or "SIGTERM, or the warden is gone"

    def read_order(self) -> dict[str, Any]:
        """The caller's order. Raises TimeoutError or EOFError if none comes."""
        deadline = time.monotonic() + ORDER_S_MAX
        while b"\n" not in self._input:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([0], [], [], left_s)[0]:
                raise TimeoutError("no order came")
            data = os.read(0, 65536)
            if not data:
                raise EOFError("the caller is gone before it sent its order")
            self._input += data
        line, self._input = self._input.split(b"\n", 1)
        order: dict[str, Any] = json.loads(line)
        return order

    def start(self, order: dict[str, Any]) -> None:
        """Start the server in its own session. Raises OSError or ValueError if it cannot be started."""
        self.grace_s = float(order["grace_s"])
        if order["cpu_ids"]:
            os.sched_setaffinity(0, order["cpu_ids"])  # inherited; the keeper itself uses no CPU to speak of
        own_pid = os.getpid()

        def die_with_keeper() -> None:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != own_pid:  # the keeper died before the line above
                os._exit(1)

        server = subprocess.Popen(
            order["command"],
            stdin=subprocess.DEVNULL,
            stdout=2,  # the keeper's standard error is the log
            stderr=2,
            env=order["environment"],
            cwd=order["cwd"],
            close_fds=True,
            start_new_session=True,
            preexec_fn=die_with_keeper,  # noqa: PLW1509 - the keeper has one thread
        )
        self.server_pid = server.pid
        server.returncode = 0  # reaped below with everybody else; Popen must not look for it
        _report(pid=server.pid, keeper_pid=own_pid)

    def reap(self) -> None:
        """Take the exit status of every child that ended, adopted orphans included."""
        with contextlib.suppress(ChildProcessError):
            while True:  # ends: each round takes one of finitely many dead children
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self.server_pid and self.exit_status is None:
                    self.exit_status = os.waitstatus_to_exitcode(status)
                    _report(exit=self.exit_status)

    def watch(self, caller_fd: int | None, warden_pid: int) -> None:
        """Return when the server ended or somebody wants it to end (`reason`)."""
        self._apply_command()  # it may have come together with the order
        poller = select.poll()
        for fd in (0, self._wake, caller_fd):
            if fd is not None:
                poller.register(fd, select.POLLIN)
        while self.exit_status is None and not self.reason:
            ready = {fd for fd, _ in poller.poll(1000)}
            if self._wake in ready:
                os.read(self._wake, 4096)
            self.reap()
            if caller_fd in ready:
                self.reason = "the caller is gone"
            elif 0 in ready:
                self._read_command()
            if os.getppid() != warden_pid:
                self.reason = self.reason or "the warden is gone"
        if self.exit_status is None and self.reason:
            _note(f"{self.reason}; stopping pid {self.server_pid}")

    def _read_command(self) -> None:
        data = os.read(0, 65536)
        self._input += data
        if not data:
            self.reason = "the caller is gone"
        self._apply_command()

    def _apply_command(self) -> None:
        if b"\n" in self._input:
            command = json.loads(self._input.split(b"\n", 1)[0])
            self.grace_s = float(command["stop"])
            self.reason = "the caller said stop"

    def tear_down(self) -> tuple[int, ...]:
        """End the server, then all that descends from it; pids that even SIGKILL did not end."""
        deadline = time.monotonic() + self.grace_s
        if self.exit_status is None:
            # Not yet reaped, so the group's number cannot belong to anybody else.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.server_pid, signal.SIGTERM)
        while self.exit_status is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            self.reap()
        if self.exit_status is None:
            _note(f"pid {self.server_pid} did not end within {self.grace_s:g} s of SIGTERM; killing it")
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.server_pid, signal.SIGKILL)
        else:
            self._let_orphans_end()
        left = kill_descendants(self.reap)
        self.reap()
        return left

    def _let_orphans_end(self) -> None:
        deadline = time.monotonic() + min(ORPHAN_GRACE_S, self.grace_s)
        orphans = live_descendants(os.getpid())
        _signal_all(orphans, signal.SIGTERM)
        while orphans and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            self.reap()
            orphans = live_descendants(os.getpid())


def kill_descendants(reap: Callable[[], None]) -> tuple[int, ...]:
    """SIGKILL every descendant until none is left or KILL_S_MAX is over; the pids that are left."""
    deadline = time.monotonic() + KILL_S_MAX
    while (left := live_descendants(os.getpid())) and time.monotonic() < deadline:
        _signal_all(left, signal.SIGKILL)
        time.sleep(_POLL_S)
        reap()
    return left


def _run_afterwards(command: list[str] | None, environment: dict[str, str]) -> None:
    """Tidy up; only that it failed is noted in the log, whose last lines are the server's."""
    if not command:
        return
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=AFTERWARDS_S_MAX,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        _note(f"{command[0]} afterwards: {type(error).__name__}: {error}")
        return
    if done.returncode:
        _note(f"{command[0]} afterwards: exit status {done.returncode}")


def _keeper_main(warden_pid: int) -> int:
    os.setsid()  # a signal to the warden's group does not take both
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    keeper = Keeper()
    try:
        order = keeper.read_order()
        caller_fd = _watch_process(int(order["caller_pid"]))
        keeper.start(order)
    except (OSError, ValueError, KeyError, EOFError, subprocess.SubprocessError) as error:
        _report(error=f"{type(error).__name__}: {error}")
        return 1
    keeper.watch(caller_fd, warden_pid)
    left = keeper.tear_down()
    _run_afterwards(order.get("afterwards"), order["environment"])
    if left:
        _note(f"could not end {list(left)}")
    _report(left=list(left))
    return 0


def _reap_all() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> NoReturn:
    """Become the warden; ends when nothing is left below it. Its standard output closes last."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a caller's blocked signals would reach the server
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    warden_pid = os.getpid()
    keeper_pid = os.fork()
    if keeper_pid == 0:
        os._exit(_keeper_main(warden_pid))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: _signal_all((keeper_pid,), signal.SIGTERM))
    status = 1
    with contextlib.suppress(ChildProcessError):
        status = os.waitpid(keeper_pid, 0)[1]
    kill_descendants(_reap_all)
    os._exit(0 if status == 0 else 1)


if __name__ == "__main__":
    main()
