"""A JSON file that is there whole or not at all, whatever ends the process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from redline.errors import StoreError
from redline.whole_file import write_whole


def write_json(path: Path, value: Any, *, replace: bool = True) -> Path:
    """The file, on the disk when this returns; its directory is made.

    Raises StoreError if the disk refuses, FileExistsError if the file is there and `replace` is False.
    """
    try:
        write_whole(path, json.dumps(value, indent=1) + "\n", replace=replace)
    except FileExistsError:
        raise
    except OSError as error:
        raise StoreError(f"{path} could not be written", found=str(error), next_step="make room for it") from error
    return path
