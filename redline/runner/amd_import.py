"""The amdsmi that matches the ROCm of this host."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def import_amdsmi(folders: Sequence[Path] | None = None) -> Any:
    """The module: ROCm's own copy if there is one, else an installed one.

    Raises whatever importing raises: ModuleNotFoundError where there is none, KeyError('libamd_smi.so') where only the
    wrapper is installed. What it prints meanwhile is thrown away: it would break what we print for machines.
    """
    found = [each for each in (rocm_folders() if folders is None else folders) if (each / "amdsmi").is_dir()]
    if not found or "amdsmi" in sys.modules:
        return _import()
    before = list(sys.path)
    sys.path.insert(0, str(found[0]))
    try:
        return _import()
    finally:
        sys.path[:] = before


def rocm_folders() -> tuple[Path, ...]:
    """Where ROCm keeps its copy, best first."""
    roots = dict.fromkeys((os.environ.get("ROCM_HOME"), os.environ.get("ROCM_PATH"), "/opt/rocm"))
    return tuple(Path(root) / "share" / "amd_smi" for root in roots if root)


def _import() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module("amdsmi")
