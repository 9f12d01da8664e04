"""A JSON file that is there whole or not at all, whatever ends the process."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from redline.errors import StoreError


def write_json(path: Path, value: Any, *, replace: bool = True) -> Path:
    """The file, on the disk when this returns; its directory is made.

    Raises StoreError if the disk refuses, FileExistsError if the file is there and `replace` is False.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(value, file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            if replace:
                Path(temporary).replace(path)
            else:
                path.hardlink_to(temporary)  # unlike a rename it refuses to replace
        finally:
            Path(temporary).unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise StoreError(f"{path} could not be written", found=str(error), next_step="make room for it") from error
    return path
