"""Prepared data sets on disk: a manifest and its items, replaced as one, never half.

`<directory>/<name>/manifest.json` names the file of items, `items-<digest>.parquet`, and its SHA-256: who reads the one
manifest gets the one set, whole, even while another is put in its place.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from redline.datasets.item_table import digest_of, read_items, write_items
from redline.datasets.sources import sha256_of
from redline.errors import ContentError, StoreError
from redline.model import Dataset, Item, digest
from redline.whole_file import TEMPORARY, publish, temporary_in, write_whole

MANIFEST, LOCK = "manifest.json", ".lock"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
TEMPLATE_SOURCE = "prompts.json#"
READ_ATTEMPTS_MAX = 10


@dataclass(frozen=True, slots=True)
class PreparedSet:
    """A data set as it will be asked, and what it was made of.

    `digest`: 16 hex digits over keys, prompts and references. `source_files`: SHA-256 of the files it was made of, by
    name; the wording of its prompt as `prompts.json#<key>`. `tokenizer_sha256`: empty if no tokenizer was used.
    """

    name: str
    items: tuple[Item, ...]
    digest: str
    source_files: Mapping[str, str]
    tokenizer_sha256: str
    definition_digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of a prepared set without reading its items."""

    name: str
    item_count: int
    digest: str
    source_files: Mapping[str, str]
    tokenizer_sha256: str
    definition_digest: str
    items_file: str
    items_sha256: str
    schema: int = 1


def definition_digest(definition: Dataset) -> str:
    """16 hex digits over what decides a data set's items; other words in its description change nothing."""
    irrelevant = {"description", "licence", "source", "scorer", "name"}
    return digest({key: value for key, value in asdict(definition).items() if key not in irrelevant})


def write_prepared(directory: Path, prepared: PreparedSet) -> Path:
    """Keep a set under `<directory>/<name>/`, on the disk when this returns; its folder.

    What is there already and equal is left as it is; anything else is replaced, at once and whole.
    Raises ContentError for a name that is none, StoreError if the disk refuses.
    """
    folder = _folder(directory, prepared.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if not _holds(folder, prepared):
                _publish(folder, prepared)
    except (OSError, UnicodeEncodeError) as error:
        raise StoreError(
            f"data set {prepared.name} could not be written to {folder}",
            found=str(error)[:300],
            next_step="free space on that disk or make it writable, then prepare again",
        ) from error
    return folder


def read_prepared(directory: Path, name: str, definition: Dataset) -> PreparedSet:
    """The set as it was written, checked to the last byte.

    Raises ContentError if it is not prepared, damaged, or was prepared from another definition.
    """
    for _ in range(READ_ATTEMPTS_MAX):
        manifest = _of_definition(directory, name, definition)
        try:
            items = _whole_items(_folder(directory, name) / manifest.items_file, manifest, definition)
        except ContentError:
            if read_manifest(directory, name) == manifest:
                raise
            continue  # it was replaced while it was read
        return PreparedSet(
            name,
            items,
            manifest.digest,
            manifest.source_files,
            manifest.tokenizer_sha256,
            manifest.definition_digest,
        )
    raise _again(definition, f"data set {name} is replaced again and again", "a set that stays", "another each time")


def _of_definition(directory: Path, name: str, definition: Dataset) -> Manifest:
    """The manifest of a set that was prepared from this definition. Raises ContentError."""
    manifest = read_manifest(directory, name)
    if manifest is None:
        folder = _folder(directory, name)
        raise _again(definition, f"data set {name} is not prepared", "a prepared set", f"nothing in {folder}")
    if manifest.definition_digest != definition_digest(definition):
        raise _again(
            definition,
            f"data set {name} was prepared from another definition",
            f"datasets/{name}.toml as it is now ({definition_digest(definition)})",
            f"one with digest {manifest.definition_digest}",
        )
    return manifest


def read_manifest(directory: Path, name: str) -> Manifest | None:
    """What is known of a prepared set, None if there is none. Raises ContentError if its manifest is damaged."""
    path = _folder(directory, name) / MANIFEST
    try:
        raw = json.loads(path.read_bytes())
        manifest = Manifest(**raw)
        if manifest.schema != 1 or not re.fullmatch(r"items-[0-9a-f]{16}\.parquet", manifest.items_file):
            raise ValueError("a manifest of another kind")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ContentError(
            f"{path} is damaged",
            expected="the manifest that `redline datasets prepare` wrote",
            found=str(error)[:200],
            next_step=f"prepare it again: redline datasets prepare {name} --from PATH",
        ) from error
    return manifest


def _whole_items(path: Path, manifest: Manifest, definition: Dataset) -> tuple[Item, ...]:
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and most commands need no data set

    damaged = f"data set {manifest.name} is damaged"
    try:
        found = sha256_of(path)
        if found != manifest.items_sha256:
            raise _again(definition, damaged, f"{path.name} with SHA-256 {manifest.items_sha256}", found)
        items = read_items(path)
    except (ContentError, OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        if isinstance(error, ContentError) and error.problem == damaged:
            raise
        raise _again(definition, damaged, f"{path.name}, whole", str(error)[:200]) from error
    if len(items) != manifest.item_count or digest_of(items) != manifest.digest:
        raise _again(definition, damaged, f"{manifest.item_count} items, digest {manifest.digest}", "other items")
    return items


def _again(definition: Dataset, problem: str, expected: str, found: str) -> ContentError:
    origin = definition.bundled or "PATH"
    command = f"redline datasets prepare {definition.name} --from {origin}"
    return ContentError(problem, expected=expected, found=found, next_step=command)


def _folder(directory: Path, name: str) -> Path:
    if not NAME.fullmatch(name):
        raise ContentError(
            f"{name!r} is no name of a data set",
            expected="small letters, digits, '-', '.' and '_'",
            found=repr(name)[:100],
            next_step="list them: redline datasets",
        )
    return directory / name


def _holds(folder: Path, prepared: PreparedSet) -> bool:
    """True if the folder holds this very set, undamaged."""
    try:
        manifest = read_manifest(folder.parent, folder.name)
        return (
            manifest is not None
            and (manifest.digest, manifest.item_count) == (prepared.digest, len(prepared.items))
            and dict(manifest.source_files) == dict(prepared.source_files)
            and manifest.tokenizer_sha256 == prepared.tokenizer_sha256
            and manifest.definition_digest == prepared.definition_digest
            and sha256_of(folder / manifest.items_file) == manifest.items_sha256
        )
    except ContentError:
        return False


def _publish(folder: Path, prepared: PreparedSet) -> None:
    """Write the items, then the manifest that names them, then remove what no manifest names any more."""
    with temporary_in(folder) as temporary:
        write_items(temporary, prepared.items)
        sha256 = sha256_of(temporary)
        items_file = folder / f"items-{sha256[:16]}.parquet"
        publish(temporary, items_file)  # on the disk before the manifest that names it
    manifest = Manifest(
        prepared.name,
        len(prepared.items),
        prepared.digest,
        dict(prepared.source_files),
        prepared.tokenizer_sha256,
        prepared.definition_digest,
        items_file.name,
        sha256,
    )
    write_whole(folder / MANIFEST, json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n")
    stale = [*folder.glob("items-*.parquet"), *folder.glob(f"{TEMPORARY}*")]
    for path in stale:
        if path != items_file:
            path.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer of a set at a time; the kernel frees the lock whatever becomes of this process."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
