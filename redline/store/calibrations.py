"""The load client's calibration, one file per machine: `<directory>/<fingerprint id>.json`.

It is measured again by whoever doubts it, so the last one counts and none is kept beside it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from redline.errors import StoreError
from redline.model import Calibration, CalibrationRung, StampSource
from redline.store.json_file import write_json

_NEXT_STEP = "delete it and calibrate again: redline calibrate"


def write_calibration(directory: Path, calibration: Calibration) -> Path:
    """The file, replaced whole. Raises StoreError if the disk refuses."""
    return write_json(directory / f"{calibration.fingerprint_id}.json", asdict(calibration))


def read_calibration(directory: Path, fingerprint_id: str) -> Calibration | None:
    """The calibration of this machine, or None. Raises StoreError, with the next step, if the file is damaged."""
    path = directory / f"{fingerprint_id}.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rungs = tuple(CalibrationRung(**rung) for rung in values["rungs"])
        found = Calibration(**{**values, "rungs": rungs, "stamps": StampSource(values["stamps"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read", found=str(error), next_step=_NEXT_STEP) from error
    if found.fingerprint_id != fingerprint_id:
        raise StoreError(
            f"{path} is of another machine", expected=fingerprint_id, found=found.fingerprint_id, next_step=_NEXT_STEP
        )
    return found
