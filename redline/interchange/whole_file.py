"""A file as one value: read within a bound, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from redline import whole_file
from redline.errors import ContentError, StoreError

FILE_BYTES_MAX = 2 << 30
"""2 GiB: a detailed result of a million requests is smaller."""


def read_whole(path: Path) -> bytes:
    """The content of a file. Raises ContentError if it cannot be read or is over FILE_BYTES_MAX."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ContentError(
            f"{path}: cannot be read", expected="a readable file", found=error.strerror or str(error)
        ) from error
    if len(content) > FILE_BYTES_MAX:
        raise ContentError(
            f"{path}: too large",
            expected=f"at most {FILE_BYTES_MAX} bytes",
            found=f"{path.stat().st_size} bytes",
            next_step="import it without its per-request arrays (vllm bench serve without --save-detailed)",
        )
    return content


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` at once, on disk for good; a file already there is replaced.

    Raises StoreError if the disk refuses; what was at `path` is then untouched.
    """
    try:
        whole_file.write_whole(path, content)
    except OSError as error:
        raise StoreError(
            f"{path} could not be written",
            found=error.strerror or str(error),
            next_step="free space on that disk or name a place that is writable",
        ) from error
