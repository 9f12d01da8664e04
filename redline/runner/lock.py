"""Hold this machine alone: two measurements at once would measure each other."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from redline.errors import RunnerBusyError

LOCK_PATH = Path("/tmp/redline-runner.lock")  # noqa: S108 - one per machine, whatever a user's TMPDIR says
POLL_S = 0.5


def _open(path: Path) -> int:
    """The lock file, made for everybody: the next measurement may be another user's. Raises RunnerBusyError.

    One that is there is opened without O_CREAT: with fs.protected_regular (most systemd hosts) the kernel refuses
    O_CREAT on another user's file in /tmp, whatever its mode.
    """
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError as error:
        raise RunnerBusyError(
            "the machine's lock file belongs to another user and is closed to us",
            expected=f"{path} readable and writable by everybody",
            found=str(error),
            next_step=f"its owner runs: chmod 666 {path}",
        ) from error
    with suppress(PermissionError):  # only its owner may, and did when making it
        os.fchmod(descriptor, 0o666)
    return descriptor


@contextmanager
def runner_lock(wait_s: float, on_wait: Callable[[str], None], path: Path = LOCK_PATH) -> Iterator[None]:
    """Hold the machine's lock inside the context; the kernel frees it whatever becomes of this process.

    Raises RunnerBusyError when another measurement still holds it after `wait_s` seconds.
    """
    descriptor = _open(path)
    try:
        deadline_s = time.monotonic() + wait_s
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
            if time.monotonic() >= deadline_s:
                raise RunnerBusyError(
                    "another measurement holds this machine",
                    expected=f"the machine free within {wait_s:.0f} s",
                    found=f"held by {holder}",
                    next_step="wait for it to end, or raise --wait",
                )
            if not told:
                on_wait(f"waiting for another measurement to end ({holder})")
                told = True
            time.sleep(POLL_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
