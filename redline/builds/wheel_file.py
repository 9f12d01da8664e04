"""A vLLM wheel on disk: what it says it is, and what it is (its SHA-256)."""

from __future__ import annotations

import email.parser
import hashlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from redline.builds.lock_text import normalised
from redline.errors import BuildError, UsageError

_READ_BYTES = 1 << 20
_METADATA_BYTES_MAX = 4_000_000


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One wheel: `sha256` in 64 hex digits, `distribution` normalised."""

    path: Path
    distribution: str
    version: str
    sha256: str


def read_wheel(path: Path) -> WheelFile:
    """What the wheel's own metadata say. Raises UsageError if there is no such file or it is no wheel."""
    if not path.is_file():
        raise UsageError(
            f"{path}: no such wheel",
            expected="the path of a .whl file",
            found="a directory" if path.is_dir() else "nothing",
            next_step="check the path",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [item for item in archive.infolist() if item.filename.endswith(".dist-info/METADATA")]
            if len(entries) != 1 or entries[0].file_size > _METADATA_BYTES_MAX:
                raise zipfile.BadZipFile(f"{len(entries)} METADATA entries of a plausible size, not 1")
            text = archive.read(entries[0]).decode("utf-8", errors="replace")
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path}: not a wheel",
            expected="a zip archive with one .dist-info/METADATA",
            found=str(error),
            next_step="build or download the wheel again",
        ) from error
    headers = email.parser.HeaderParser().parsestr(text)
    name, version = headers.get("Name", ""), headers.get("Version", "")
    return WheelFile(path, normalised(name), version.strip(), sha256_of(path))


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def keep_copy(wheel: WheelFile, state_dir: Path) -> Path:
    """The path of a copy under the state directory, so that a rebuilt wheel at the old path changes nothing.

    Raises BuildError if it cannot be written.
    """
    kept = kept_path(state_dir, wheel.sha256, wheel.path.name)
    if kept.is_file() and sha256_of(kept) == wheel.sha256:
        return kept
    temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        # A copy and no hard link: a link would change along with a file that is overwritten in place.
        shutil.copyfile(wheel.path, temporary)
        temporary.replace(kept)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BuildError(
            f"{wheel.path}: cannot be copied to {kept.parent}",
            expected="space and permission there",
            found=str(error),
            next_step="free space or choose another state directory",
        ) from error
    return kept


def kept_path(state_dir: Path, sha256: str, file_name: str) -> Path:
    """Where the state directory keeps a local wheel of this digest."""
    return state_dir / "wheels" / sha256 / file_name
