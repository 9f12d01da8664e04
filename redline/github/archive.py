"""A zip file that a stranger made, unpacked safely: whole or not at all.

Names are the stranger's text: no error repeats one. What is counted while unpacking is what really comes out, not what
a header says.

Source: APPNOTE.TXT 6.3.10 (PKWARE); CWE-22 (path traversal), CWE-59 (links), CWE-409 (bombs).
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from redline.errors import ArtifactError

_DEPTH_MAX = 12
_NAME_BYTES_MAX = 255
_PATH_CHARS_MAX = 1_000
_BLOCK_BYTES = 65_536
_RATIO_FREE_BYTES = 1_000_000
"""So much may come out whatever the ratio: a small file of blanks is no bomb."""

# What the standard library raises at bytes that are no archive. ValueError: names that are no UTF-8, places before the
# beginning; RuntimeError: an entry that turns out to be encrypted.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error, ValueError)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENTRY_BYTES_MIN = 46
_END = struct.Struct("<4s4H2LH")
_END_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How much an archive may hold.

    Bytes of the zip file; entries; bytes of one file and of all together; and how often its own size may come out.
    """

    archive_bytes_max: int = 100_000_000
    files_max: int = 5_000
    file_bytes_max: int = 50_000_000
    total_bytes_max: int = 400_000_000
    ratio_max: int = 200


def unpack(archive: Path, folder: Path, limits: ArchiveLimits) -> None:
    """Unpack into `folder`, which must not exist and is there whole or not at all.

    Only plain files and folders come out, with this process's own rights. Raises FileExistsError if there is something
    at `folder`, OSError if the disk refuses, and ArtifactError for a file that is damaged, encrypted, beyond a limit,
    or holds a name that leads out of the folder, a link, a special file, or two names that some file system takes for
    one.
    """
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder.name} is there already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    room = folder.parent / f".unpacking-{secrets.token_hex(8)}"
    room.mkdir(mode=0o700)
    try:
        _require_directory(archive, limits)
        with zipfile.ZipFile(archive) as opened:
            entries = _checked(opened.infolist(), limits)
            _extract(opened, entries, room / "whole", archive.stat().st_size, limits)
        (room / "whole").rename(folder)
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a place before the file's beginning
            raise
        raise _refused("a zip file that can be read to its end", f"damage ({type(error).__name__})") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _require_directory(archive: Path, limits: ArchiveLimits) -> None:
    """Refuse before reading: the table of contents takes memory, however small the limits are."""
    size = archive.stat().st_size
    if size > limits.archive_bytes_max:
        raise _refused(f"at most {limits.archive_bytes_max:,} bytes", f"{size:,} bytes")
    with archive.open("rb") as file:
        file.seek(max(0, size - _END.size - _END_LOCATOR.size - _END_64.size))
        tail = file.read()
    if len(tail) < _END.size or not tail[-_END.size :].startswith(b"PK\5\6"):
        raise _refused("a zip file that ends with its table of contents", f"{size:,} bytes that do not")
    _, _, _, _, entries, directory_bytes, _, _ = _END.unpack(tail[-_END.size :])
    before = tail[: -_END.size]
    if before[-_END_LOCATOR.size :].startswith(b"PK\6\7"):  # more than 65,535 entries, or streamed
        record = before[: -_END_LOCATOR.size]
        if len(record) != _END_64.size or not record.startswith(b"PK\6\6"):
            raise _refused("a zip file whose table of contents can be found", "one that cannot")
        unpacked = _END_64.unpack(record)
        entries, directory_bytes = unpacked[7], unpacked[8]
    # The number may lie, the size cannot: it is what is read. An entry takes 46 bytes and its name.
    if entries > limits.files_max or directory_bytes > limits.files_max * (_ENTRY_BYTES_MIN + _PATH_CHARS_MAX):
        raise _refused(f"at most {limits.files_max:,} entries", f"{entries:,} in {directory_bytes:,} bytes")


def _checked(entries: list[zipfile.ZipInfo], limits: ArchiveLimits) -> list[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    """The entries with the parts of their names, none of which leads anywhere else."""
    if len(entries) > limits.files_max:
        raise _refused(f"at most {limits.files_max:,} entries", f"{len(entries):,}")
    checked = [(entry, _parts(entry, number)) for number, entry in enumerate(entries, 1)]
    files: set[tuple[str, ...]] = set()
    folders: dict[tuple[str, ...], tuple[str, ...]] = {}
    for number, (entry, parts) in enumerate(checked, 1):
        key = _folded(parts)
        for depth in range(1, len(parts) + _is_folder(entry)):
            # Two spellings of one folder are one folder on some file systems, and two on others.
            if folders.setdefault(key[:depth], parts[:depth]) != parts[:depth]:
                raise _refused("names that differ on every file system", f"entry {number} repeats another")
        if _is_folder(entry):
            continue
        if key in files:
            raise _refused("names that differ on every file system", f"entry {number} repeats another")
        files.add(key)
    if files & folders.keys():
        raise _refused("names that are a file or a folder", "one that is both")
    declared = sum(entry.file_size for entry in entries)
    if declared > limits.total_bytes_max:
        raise _refused(f"at most {limits.total_bytes_max:,} bytes in all", f"{declared:,} by its headers")
    return checked


def _parts(entry: zipfile.ZipInfo, number: int) -> tuple[str, ...]:
    name = entry.orig_filename
    parts = tuple(name.removesuffix("/").split("/"))
    mode = entry.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFDIR if _is_folder(entry) else stat.S_IFREG):
        raise _refused("plain files and folders", f"entry {number} is a link or a special file")
    if entry.flag_bits & 0x1 or entry.compress_type not in _METHODS:
        raise _refused("files that are stored or deflated, and not encrypted", f"entry {number} is not")
    fits = len(name) <= _PATH_CHARS_MAX and len(parts) <= _DEPTH_MAX
    if not fits or name != entry.filename or not all(map(_is_plain, parts)):
        raise _refused("names of files below the folder", f"entry {number} has another")
    return parts


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.endswith("/")


def _is_plain(part: str) -> bool:
    """True for a name that is the same name on every file system: no colon, no blank or dot at its end."""
    if part != part.rstrip(" .") or part != part.lstrip(" "):
        return False
    return bool(part) and part.isprintable() and not set('\\:*?"<>|') & set(part) and _is_short(part)


def _is_short(part: str) -> bool:
    return len(part.encode("utf-8", errors="replace")) <= _NAME_BYTES_MAX


def _folded(parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFKC", part).casefold() for part in parts)


def _extract(
    opened: zipfile.ZipFile,
    entries: list[tuple[zipfile.ZipInfo, tuple[str, ...]]],
    folder: Path,
    archive_bytes: int,
    limits: ArchiveLimits,
) -> None:
    folder.mkdir()
    total_max = min(limits.total_bytes_max, max(limits.ratio_max * archive_bytes, _RATIO_FREE_BYTES))
    total = 0
    for number, (entry, parts) in enumerate(entries, 1):
        path = folder.joinpath(*parts)
        if _is_folder(entry):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with opened.open(entry) as source, path.open("xb") as target:
            while block := source.read(_BLOCK_BYTES):
                size += len(block)
                if size > limits.file_bytes_max:
                    raise _refused(f"at most {limits.file_bytes_max:,} bytes in a file", f"more in entry {number}")
                if total + size > total_max:
                    raise _refused(f"at most {total_max:,} bytes out of {archive_bytes:,}", "more")
                target.write(block)
        total += size


def _refused(expected: str, found: str) -> ArtifactError:
    return ArtifactError(
        "an archive is not unpacked",
        expected=expected,
        found=found,
        next_step="look at who made it; nothing of it was kept",
    )
