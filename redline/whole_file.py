"""A file that is there whole or not at all, whatever ends the process.

What is half written lies beside its target under a name that no reader looks for, `.writing-<process>-<random>`. Only
a process that is killed leaves one behind.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = ".writing-"


def write_whole(path: Path, content: bytes | str, *, replace: bool = True) -> None:
    """Put `content` at `path` at once, on the disk when this returns; text is kept as UTF-8, its line ends as they are.

    Its directory is made, and who may read both is up to the umask. Whatever is raised, no temporary file stays.

    Raises:
        FileExistsError: there is something at `path` and `replace` is False; it is left as it is.
        OSError: the disk refuses; what was at `path` is left as it is.
        UnicodeEncodeError: text that UTF-8 cannot say.
    """
    data = content.encode() if isinstance(content, str) else content
    with temporary_in(path.parent) as temporary:
        with temporary.open("xb") as file:
            file.write(data)
        publish(temporary, path, replace=replace)


@contextmanager
def temporary_in(directory: Path) -> Iterator[Path]:
    """A path for a file that is still being written; what lies there at the end of the context is removed.

    The directory is made. Raises OSError if it cannot be; never FileExistsError, which would say that a file is there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from error
    temporary = directory / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path, *, replace: bool = True) -> None:
    """Give a file that is complete, in the same directory as `path`, its name, at once and on the disk for good.

    Raises as `write_whole`. Without `replace` the temporary name stays until its context ends.
    """
    _sync(temporary)
    if replace:
        temporary.replace(path)
    else:
        path.hardlink_to(temporary)  # unlike a rename it refuses to replace
    _sync(path.parent)  # without it the name may be lost with the power


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
