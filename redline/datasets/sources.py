"""The files that a user points at: which of them hold the data set, and whether they are the known ones."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path

from redline.errors import ContentError
from redline.model import Dataset


def sha256_of(path: Path) -> str:
    """64 hex digits over a file's bytes. Raises ContentError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ContentError(
            f"{path}: cannot be read", expected="a readable file", found=str(error), next_step="correct path or rights"
        ) from error


def bytes_of(path: Path, bytes_max: int) -> bytes:
    """A small file, whole. Raises OSError, and ValueError for one that is larger, or that could be read for ever."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("no plain file")
    if found.st_size > bytes_max:
        raise ValueError(f"{found.st_size} bytes, more than {bytes_max}")
    with path.open("rb") as file:
        return file.read(bytes_max)


def files_of(source: Path, patterns: Sequence[str]) -> tuple[Path, ...]:
    """The file itself, or those in a folder that the first fitting pattern names, in the order of their names.

    A pattern may name several groups with `+` between them, whose files follow each other: `train-*+test-*`.
    Raises ContentError if there is nothing there, or nothing that fits.
    """
    if source.is_file():
        return (source,)
    if not source.is_dir():
        raise ContentError(
            f"{source}: no such file or folder",
            expected=f"a file, or a folder with {_spoken(patterns)}",
            found="nothing",
            next_step="correct the path after --from",
        )
    for pattern in patterns:
        groups = [sorted(path for path in source.glob(part) if path.is_file()) for part in pattern.split("+")]
        if all(groups):
            return tuple(path for group in groups for path in group)
    pickles = sorted(path for path in source.iterdir() if {".pkl", ".pickle"} & set(path.suffixes))
    if pickles:
        return (pickles[0],)  # refused where it is read, with the command that converts it
    raise ContentError(
        f"{source}: no file of this data set in it",
        expected=_spoken(patterns),
        found=", ".join(sorted(path.name for path in source.iterdir()))[:300] or "an empty folder",
        next_step="name the file itself after --from",
    )


def checked_hashes(definition: Dataset, paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 by name of the files that were read.

    Raises ContentError if one of them is not the file that the definition knows under its name.
    """
    hashes: dict[str, str] = {}
    for path in paths:
        name = path.name if path.name not in hashes else f"{path.parent.name}/{path.name}"
        hashes[name] = sha256_of(path)
        known = definition.files.get(path.name)
        if known is not None and known != hashes[name]:
            raise ContentError(
                f"{path} is not the file that data set {definition.name} is made of",
                expected=f"SHA-256 {known}",
                found=f"SHA-256 {hashes[name]}",
                next_step=f"fetch it again: {definition.source}",
            )
    return hashes


def _spoken(patterns: Sequence[str]) -> str:
    return " or ".join(pattern.replace("+", " and ").replace("**/", "") for pattern in patterns)
