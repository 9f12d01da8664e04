"""Pins by the spec they were made from: the same spec gives the same build later, without network."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

from redline.builds.pin_record import read_pin
from redline.errors import ContentError
from redline.model import BuildPin

_FILE_NAME_UNSAFE = re.compile(r"[^A-Za-z0-9.+=-]+")


def python_version() -> str:
    """`X.Y` of the Python that runs Redline: builds are locked for it and installed with it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def cached_path(key: str, state_dir: Path) -> Path:
    """One file per spec, Python and machine: a lock holds the files of one of each."""
    name = f"{key}-py{python_version()}-{sys.platform}-{platform.machine()}"
    return state_dir / "pins" / f"{_FILE_NAME_UNSAFE.sub('-', name)}.json"


def read_cached(path: Path, identity: str) -> BuildPin:
    """The pin kept at `path`. `identity`: its spec, its wheel's SHA-256, its address or its commit.

    Raises ContentError if it is damaged or the pin of another build.
    """
    pin = read_pin(path)
    if identity not in (pin.spec, pin.wheel_sha256, pin.url, pin.commit or None):
        raise ContentError(
            f"{path}: key 'spec' is wrong: this is the pin of another build",
            expected=identity,
            found=pin.spec,
            next_step=f"delete {path} and resolve the build again",
        )
    return pin


def commits_cached(prefix: str, variant: str, state_dir: Path) -> tuple[str, ...]:
    """The commits (40 hex digits) that begin so and were pinned here, in this variant, by `commit_key`."""
    pattern = re.compile(rf"commit-({re.escape(prefix)}[0-9a-f]*)(?:-{re.escape(variant)})?-py")
    names = (path.name for path in (state_dir / "pins").glob(f"commit-{prefix}*"))
    return tuple(sorted({match[1] for name in names if (match := pattern.match(name)) and len(match[1]) == 40}))


def commit_key(commit: str, variant: str) -> str:
    """The key of a per-commit wheel."""
    return f"commit-{commit}-{variant}" if variant else f"commit-{commit}"
