"""A report's data as a file: what a page was rendered from, for who renders it again elsewhere. Whole or not at all."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from redline.errors import StoreError
from redline.whole_file import write_whole
from reports.data import ReportData

REPORT_BYTES_MAX = 20_000_000
SUFFIX = ".data.json"

# Numbers that JSON has no word for, an unbounded interval's end, are written as strings and read back.
ReportData.__pydantic_config__ = ConfigDict(extra="forbid", ser_json_inf_nan="strings")  # type: ignore[attr-defined]
_REPORT = TypeAdapter(ReportData)


def write_report(path: Path, data: ReportData) -> None:
    """Keep a report's data at `path`. Raises OSError if the disk refuses."""
    write_whole(path, _REPORT.dump_json(data, indent=1) + b"\n")


def read_report(path: Path) -> ReportData:
    """The data of `write_report`. Raises StoreError if the file is missing, too large, or says something else.

    What it holds may have been written by a stranger: every string goes through the renderer's escaping.
    """
    try:
        size = path.stat().st_size
        if size > REPORT_BYTES_MAX:
            raise StoreError(
                f"{path.name} is too large for a report",
                expected=f"at most {REPORT_BYTES_MAX:,} bytes",
                found=f"{size:,} bytes",
                next_step="look at the trials instead; nothing was rendered",
            )
        return _REPORT.validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError) as error:
        raise StoreError(
            f"{path.name} cannot be read as a report",
            expected="what Redline of the same version wrote",
            found=str(error).splitlines()[0],
            next_step="look at the job's log, or render it with the version that wrote it",
        ) from error
