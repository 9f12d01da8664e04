"""Why a command ended with an error, kept beside its `--run-file` for the step that tells: `FILE.refused`, JSON.

The build that was measured ran as the same user and may have written the file: it is read bounded, and as text.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from redline.errors import ExitCode, RedlineError, StoreError
from redline.store.untrusted_file import read_bounded
from redline.whole_file import write_whole

SUFFIX = ".refused"
BYTES_MAX = 100_000
PART_CHARS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """The parts of an error's message, empty where it has none, and what the command ended with."""

    exit_code: ExitCode
    problem: str
    expected: str = ""
    found: str = ""
    next_step: str = ""

    @classmethod
    def of(cls, error: RedlineError) -> Refusal:
        """What there is to say of an error."""
        parts = (error.problem, error.expected, error.found, error.next_step)
        return cls(error.exit_code, *(part[:PART_CHARS_MAX] for part in parts))

    def __str__(self) -> str:
        """All of it in one line."""
        labels = (("expected", self.expected), ("found", self.found), ("next step", self.next_step))
        return "; ".join((self.problem, *(f"{label}: {text}" for label, text in labels if text)))


def keep(run_file: Path, refusal: Refusal) -> None:
    """Write it down as far as the disk lets: the error itself matters more than its record."""
    with suppress(OSError):
        write_whole(_path(run_file), json.dumps(asdict(refusal), indent=1) + "\n")


def forget(run_file: Path) -> None:
    """Remove what an earlier command left: its run's id, and why it was refused. Raises OSError."""
    for path in (run_file, _path(run_file)):
        path.unlink(missing_ok=True)


def read_refusal(run_file: Path) -> Refusal | None:
    """What the command was refused for; None if nothing readable says so."""
    try:
        raw = json.loads(read_bounded(_path(run_file), BYTES_MAX))
        parts = (str(raw[name])[:PART_CHARS_MAX] for name in ("problem", "expected", "found", "next_step"))
        return Refusal(ExitCode(raw["exit_code"]), *parts)
    except (StoreError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _path(run_file: Path) -> Path:
    return run_file.with_name(run_file.name + SUFFIX)
