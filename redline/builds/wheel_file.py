"""A vLLM wheel on disk: what it says it is, and what it is (its SHA-256)."""

from __future__ import annotations

import email.parser
import hashlib
import os
import re
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from redline.builds.lock_text import normalised
from redline.errors import BuildError, UsageError
from redline.whole_file import publish

_READ_BYTES = 1 << 20
_METADATA_BYTES_MAX = 4_000_000
_VERSION_FILE = "vllm/_version.py"
_COMMIT_ID = re.compile(r"^__commit_id__\s*=\s*(?:\w+\s*=\s*)?['\"]g?([0-9a-f]{7,40})['\"]", re.MULTILINE)
_VERSION_COMMIT = re.compile(r"(?:^|\.)g([0-9a-f]{7,40})(?:\.|$)")


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One wheel: `sha256` in 64 hex digits, `distribution` normalised.

    `commits`: the source it was built from, 7 to 40 hex digits each: what `vllm/_version.py` says (`__commit_id__`,
    written by setuptools-scm) and what the version does (`+g2f3f441f8`). `requires`: its dependencies as written.
    """

    path: Path
    distribution: str
    version: str
    sha256: str
    commits: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    def is_of(self, commit: str) -> bool:
        """True if the wheel says which commit it is of, and all it says agrees with `commit` (40 hex digits)."""
        return bool(self.commits) and all(commit.startswith(each) for each in self.commits)


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
            source = _version_file(archive)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UsageError(
            f"{path}: not a wheel",
            expected="a zip archive with one .dist-info/METADATA",
            found=str(error),
            next_step="build or download the wheel again",
        ) from error
    headers = email.parser.HeaderParser().parsestr(text)
    name, version = headers.get("Name", ""), headers.get("Version", "").strip()
    commits = (*_COMMIT_ID.findall(source), *_VERSION_COMMIT.findall(version.partition("+")[2]))
    requires = tuple(str(each) for each in headers.get_all("Requires-Dist", []))
    return WheelFile(path, normalised(name), version, sha256_of(path), tuple(dict.fromkeys(commits)), requires)


def _version_file(archive: zipfile.ZipFile) -> str:
    """What `vllm/_version.py` holds; empty if there is no such file of a plausible size."""
    try:
        entry = archive.getinfo(_VERSION_FILE)
    except KeyError:
        return ""
    return archive.read(entry).decode("utf-8", errors="replace") if entry.file_size <= _METADATA_BYTES_MAX else ""


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


def keep_moved(wheel: WheelFile, file_name: str, state_dir: Path) -> Path:
    """As `keep_copy`, for a file that was downloaded into the state directory: it is moved, not copied.

    Raises BuildError if it cannot be moved.
    """
    kept = kept_path(state_dir, wheel.sha256, file_name)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        publish(wheel.path, kept)
    except OSError as error:
        raise BuildError(
            f"{file_name}: cannot be moved to {kept.parent}",
            expected="a state directory on one disk, with permission to write",
            found=str(error),
            next_step="correct the permissions or choose another state directory",
        ) from error
    return kept


def kept_path(state_dir: Path, sha256: str, file_name: str) -> Path:
    """Where the state directory keeps a wheel of this digest that no package index serves."""
    return state_dir / "wheels" / sha256 / file_name
