"""Why regressions were taken all the same: `<directory>/<justification id>.json`, written once, never changed.

The name is the identity of the content, so the same reason kept by two machines is one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from redline.errors import StoreError
from redline.model import Justification, require
from redline.store.encoding import printable
from redline.store.json_file import write_json

_JUSTIFICATION = TypeAdapter(Justification)
_NUMBER_MAX = 2**31 - 1

COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("justification_id", "repository", "head_sha", "reason")),
        *((name, pa.string()) for name in ("justified_by", "justified_at", "url")),
        ("number", pa.int64()),
        ("run_ids", pa.list_(pa.string())),
    ]
)
"""The columns of `justification_row`, in any order."""


def write_justification(directory: Path, justification: Justification) -> Path:
    """The file of a justification; one that is there already says the same. Raises StoreError if the disk refuses."""
    path = directory / f"{justification.justification_id}.json"
    try:
        return write_json(path, asdict(justification), replace=False)
    except FileExistsError:
        pass
    try:
        read_justification(path)
    except StoreError:  # its name says its content, so a damaged one is mended
        return write_json(path, asdict(justification))
    return path


def decode_justification(content: bytes, justification_id: str) -> Justification:
    """The justification of a file called `<justification id>.json`. Raises ValueError if it says something else."""
    found = _JUSTIFICATION.validate_json(content)
    require(
        found.justification_id == justification_id,
        f"the content must be that of {justification_id}, found {found.justification_id}: damaged or edited",
    )
    require(0 <= found.number <= _NUMBER_MAX, f"number must be in [0, {_NUMBER_MAX}]")
    return found


def list_justifications(directory: Path) -> tuple[Path, ...]:
    """Every justification's file, in order of name; none if there is no such directory."""
    return tuple(sorted(path for path in directory.glob("*.json") if not path.name.startswith(".")))


def read_justification(path: Path) -> Justification:
    """The justification of a file made by `write_justification`. Raises StoreError if it is damaged or edited."""
    try:
        return decode_justification(path.read_bytes(), path.stem)
    except (OSError, ValidationError, ValueError) as error:
        raise StoreError(
            f"justification {path.stem} cannot be read",
            expected="what Redline wrote there",
            found=str(error).splitlines()[0],
            next_step=f"restore {path}, or move it away: its regression is then unexplained",
        ) from error


def justification_row(justification: Justification) -> Mapping[str, Any]:
    """The row of the database's table `justifications`, its text fit for UTF-8."""
    return {
        "justification_id": justification.justification_id,
        "repository": printable(justification.repository),
        "number": justification.number,
        "head_sha": justification.head_sha,
        "run_ids": [printable(run_id) for run_id in justification.run_ids],
        "reason": printable(justification.reason),
        "justified_by": printable(justification.by),
        "justified_at": printable(justification.at),
        "url": printable(justification.url),
    }
