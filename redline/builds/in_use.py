"""A build is in use from its install until the process that asked for it ends, between two deployments as well.

`<state>/builds/<pin_id>.used` is locked (shared) all that time and let go by the kernel, however the process ends; its
time of change is when the build was last used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redline.builds.exclusive import acquire, try_lock

_HELD: dict[Path, int] = {}


def used_path(home: Path) -> Path:
    """The file that says so for a build's directory."""
    return home.with_name(f"{home.name}.used")


def mark_in_use(home: Path, name: str, on_line: Callable[[str], None]) -> None:
    """Keep a build from being removed until this process ends. Raises BuildError if it cannot be noted."""
    if home not in _HELD:
        _HELD[home] = acquire(used_path(home), name, on_line, doing="removing", shared=True)
    os.utime(_HELD[home])


def is_in_use(home: Path) -> bool:
    """True if a process of any user uses it, or installs it."""
    with alone(home, looking=True) as free:
        return not free


@contextmanager
def alone(home: Path, *, looking: bool = False) -> Iterator[bool]:
    """True, and nobody begins to use or install it inside the context; False if somebody does, or that is not ours to
    know (the files belong to another user). `looking`: nothing is made or kept from beginning where no file is yet; a
    new one would look like use.
    """
    with ExitStack() as stack:
        free = True
        for path in (used_path(home), home.with_name(f"{home.name}.lock")):
            if looking and not path.exists():
                continue
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError:
                free = False
                continue
            stack.callback(os.close, descriptor)
            free = try_lock(descriptor) and free
        yield free
