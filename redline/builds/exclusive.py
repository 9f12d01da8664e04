"""One process at a time installs into a directory of the state; the others wait, bounded, and are told so."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redline.errors import BuildError

INSTALL_S_MAX = 1800.0
LOCK_WAIT_S_MAX = INSTALL_S_MAX + 60.0
LOCK_POLL_S = 0.2


@contextmanager
def hold(path: Path, name: str, on_line: Callable[[str], None], *, doing: str = "installing") -> Iterator[int]:
    """The descriptor of a lock that is held inside the context; `name` is what messages say is installed (`doing`).

    Closing the descriptor lets the lock go, also when this process is killed. Raises BuildError after
    `LOCK_WAIT_S_MAX`.
    """
    descriptor = acquire(path, name, on_line, doing=doing)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def acquire(
    path: Path, name: str, on_line: Callable[[str], None], *, doing: str = "installing", shared: bool = False
) -> int:
    """The same for as long as the caller keeps the descriptor open. `shared`: beside others that share it."""
    descriptor = _open(path, name)
    try:
        deadline_s = time.monotonic() + LOCK_WAIT_S_MAX
        told = False
        while not try_lock(descriptor, shared=shared):
            if time.monotonic() >= deadline_s:
                raise BuildError(
                    f"another process has been {doing} {name} for too long",
                    expected=f"an end within {LOCK_WAIT_S_MAX:.0f} s",
                    found=f"{path} is still locked",
                    next_step="end the other process, then try again",
                )
            if not told:
                on_line(f"another process is {doing} {name}: waiting for it")
                told = True
            time.sleep(LOCK_POLL_S)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """True if the lock is ours now."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path, name: str) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise BuildError(
            f"{path.parent}: {name} cannot be kept here",
            expected="a directory this user may write to",
            found=str(error),
            next_step="correct the permissions or choose another state directory",
        ) from error
