"""The record of the nights, one JSON file each: `<directory>/<runner class>/<run id>.json`, written once.

A history is read whole or not at all: a damaged night is named, never skipped, because every level after it would
be another.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from redline.errors import StoreError
from redline.model import Night, require
from redline.store.json_file import write_json

_NIGHT = TypeAdapter(Night)


def write_night(directory: Path, night: Night) -> Path:
    """The file of a new night. Raises StoreError if there is one of this run already or the disk refuses."""
    path = directory / night.runner_class / f"{night.run_id}.json"
    try:
        return write_json(path, asdict(night), replace=False)
    except FileExistsError as error:
        raise StoreError(
            f"night {night.run_id} is on record already", found=str(path), next_step="a night is written once"
        ) from error


def read_nights(directory: Path, runner_class: str) -> tuple[Night, ...]:
    """Every night of a runner class, oldest first; none if there is no such directory. Raises StoreError."""
    return tuple(sorted(map(_read, (directory / runner_class).glob("*.json")), key=lambda night: night.run_id))


def decode_night(content: bytes, run_id: str) -> Night:
    """The night of a file called `<run_id>.json`. Raises ValueError if it says something else."""
    night = _NIGHT.validate_json(content)
    require(night.run_id == run_id, f"run_id must be {run_id}, found {night.run_id}")
    return night


def _read(path: Path) -> Night:
    try:
        night = _NIGHT.validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError) as error:
        raise StoreError(
            f"night {path.stem} cannot be read",
            expected="what Redline wrote there",
            found=str(error).splitlines()[0],
            next_step=f"restore {path}, or move it away: its findings are then forgotten",
        ) from error
    if night.run_id != path.stem:
        raise StoreError(f"{path} is of another night", expected=path.stem, found=night.run_id)
    return night
