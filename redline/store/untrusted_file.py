"""Files that nobody vouches for: read only where they lie, only if they are files, and only up to a bound.

A folder that came from another machine may hold links to elsewhere, pipes that never end and files that fill a disk.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from redline.errors import StoreError


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """The content of an ordinary file. Raises StoreError for a link, a special file, or more than `bytes_max`."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for somebody who never comes.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _refused("an ordinary file", "a special file")
            if status.st_size > bytes_max:
                raise _refused(f"at most {bytes_max:,} bytes", f"{status.st_size:,} bytes")
            content = file.read(bytes_max + 1)
    except OSError as error:
        found = "a symbolic link" if path.is_symlink() else error.strerror or str(error)
        raise _refused("an ordinary file", found) from error
    if len(content) > bytes_max:
        raise _refused(f"at most {bytes_max:,} bytes", "a file that grows")
    return content


def names_in(directory: Path) -> tuple[str, ...]:
    """The names in a directory, sorted, hidden ones left out; none if there is no such directory.

    Raises StoreError if it is a link, no directory, or cannot be read.
    """
    try:
        if not stat.S_ISDIR(directory.lstat().st_mode):
            raise _refused("a directory", "a symbolic link" if directory.is_symlink() else "a file")
        return tuple(sorted(name for name in os.listdir(directory) if not name.startswith(".")))  # noqa: PTH208 - names
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _refused("a directory", error.strerror or str(error)) from error


def _refused(expected: str, found: str) -> StoreError:
    return StoreError(
        f"not taken: {found}", expected=expected, found=found, next_step="look at it where it lies; it was not touched"
    )
