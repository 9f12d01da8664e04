"""MLPerf's submission layout as paths, and a tree of files that appears whole or not at all.

Source: directory structure of MLPerf Inference v6.0 in mlcommons/inference, tools/submission.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from redline.errors import StoreError, UsageError
from redline.interchange.whole_file import write_whole

DIVISIONS = ("open", "closed")
SUBMITTER_DEFAULT = "not-a-submission"
_SUBMITTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Submitter:
    """Whose folder it is, and in which division."""

    name: str = SUBMITTER_DEFAULT
    division: str = "open"

    @property
    def root(self) -> PurePosixPath:
        """`open/NAME`."""
        return PurePosixPath(self.division, self.name)

    def system_file(self, system: str) -> PurePosixPath:
        """The description of a system."""
        return self.root / "systems" / f"{system}.json"

    def scenario_folder(self, system: str, benchmark: str, scenario: str) -> PurePosixPath:
        """Everything of one scenario of one benchmark."""
        return self.root / "results" / system / benchmark / scenario

    def source_folder(self, benchmark: str) -> PurePosixPath:
        """How a benchmark was run."""
        return self.root / "src" / benchmark


def submitter(name: str | None, division: str | None) -> Submitter:
    """A submitter of that name, which becomes a folder. Raises UsageError for a name or division that cannot be."""
    chosen = Submitter(name or SUBMITTER_DEFAULT, division or "open")
    if not _SUBMITTER.fullmatch(chosen.name):
        raise UsageError(
            "--submitter cannot be a folder's name",
            expected="1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first",
            found=repr(chosen.name),
            next_step="write it without spaces and slashes, as in Red_Hat",
        )
    if chosen.division not in DIVISIONS:
        raise UsageError(
            "--division is none of MLPerf's",
            expected=" or ".join(DIVISIONS),
            found=repr(chosen.division),
            next_step="leave it out: open",
        )
    return chosen


def require_free(directory: Path) -> None:
    """Refuse a folder that holds anything. Raises UsageError."""
    held = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    if not held and (directory.is_dir() or not directory.exists()):
        return
    found = f"{', '.join(held[:3])}{' and more' if len(held) > 3 else ''}" if held else "a file"
    raise UsageError(
        f"{directory} exists and is not empty" if held else f"{directory} is no folder",
        expected="a new folder, or an empty one: results of two exports must not mix",
        found=found,
        next_step="name another folder; several runs go into one export: redline export RUN RUN ...",
    )


def write_tree(directory: Path, files: Mapping[PurePosixPath, bytes]) -> None:
    """Put the files at `directory`, by one rename.

    Raises UsageError as `require_free`, StoreError if the disk refuses.
    """
    require_free(directory)
    target = directory.resolve()
    temporary = target.parent / f".writing-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        for path, content in files.items():
            write_whole(temporary / path, content)
        temporary.replace(target)
    except OSError as error:
        raise StoreError(
            f"{directory} could not be written",
            found=error.strerror or str(error),
            next_step="free space on that disk or name a place that is writable",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
