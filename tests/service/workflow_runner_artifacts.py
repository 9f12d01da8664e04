"""Artifacts as GitHub keeps them between jobs: a name once per run, whole, without hidden files unless asked for.

Source: the README of actions/upload-artifact and actions/download-artifact, and issue 424 of the latter.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORBIDDEN = frozenset('":<>|*?\r\n\\/')


class ArtifactError(Exception):
    """What the action would fail with."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One upload: its number, the run that made it, its name and its zip file's bytes."""

    artifact_id: int
    run_id: int
    name: str
    content: bytes

    @property
    def digest(self) -> str:
        """As GitHub states it: `sha256:` and 64 hex digits of the zip file."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"


@dataclass(slots=True)
class Artifacts:
    """Every artifact so far. `uploaded` is told of each one: a local GitHub can then serve it over its API."""

    uploaded: Callable[[Artifact], None]
    deleted: Callable[[Artifact], None]
    kept: list[Artifact] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def of_run(self, run_id: int) -> dict[str, Artifact]:
        """A run's artifacts by name."""
        return {each.name: each for each in self.kept if each.run_id == run_id}

    def put(self, run_id: int, name: str, content: bytes, *, overwrite: bool = False) -> Artifact:
        """Keep one. Raises ArtifactError for a name that is taken or that no file may have."""
        if not name or FORBIDDEN & set(name):
            raise ArtifactError(f"{name!r} is no name for an artifact")
        old = self.of_run(run_id).get(name)
        if old is not None:
            if not overwrite:
                raise ArtifactError(f"the run has an artifact {name!r} already (409)")
            self.kept.remove(old)
            self.deleted(old)
        artifact = Artifact(next(self.numbers), run_id, name, content)
        self.kept.append(artifact)
        self.uploaded(artifact)
        return artifact


def upload(artifacts: Artifacts, run_id: int, workspace: Path, options: dict[str, Any]) -> dict[str, str]:
    """What actions/upload-artifact does: its outputs, empty if there was nothing and that is allowed."""
    known = {"name", "path", "if-no-files-found", "retention-days", "overwrite", "include-hidden-files"}
    _only(options, known, "upload-artifact")
    path = Path(workspace, str(options["path"]).strip())
    if "\n" in str(options["path"]).strip() or "*" in str(options["path"]):
        raise ArtifactError("this stand-in takes one path, without a pattern")
    files = _files(path, with_hidden=_yes(options.get("include-hidden-files", False)))
    if not files:
        if options.get("if-no-files-found", "warn") == "error":
            raise ArtifactError(f"no files were found at {path}")
        return {}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files.items()):
            archive.writestr(name, file.read_bytes())
    content = buffer.getvalue()
    overwrite = _yes(options.get("overwrite", False))
    artifact = artifacts.put(run_id, str(options["name"]), content, overwrite=overwrite)
    return {"artifact-id": str(artifact.artifact_id), "artifact-digest": artifact.digest.removeprefix("sha256:")}


def download(artifacts: Artifacts, run_id: int, workspace: Path, options: dict[str, Any]) -> dict[str, str]:
    """What actions/download-artifact does with one name, with one number (since v5 alike), or with a pattern.

    A pattern that finds one artifact puts its files into `path` itself, several go into a folder each: as the real one.
    """
    _only(options, {"name", "path", "pattern", "artifact-ids"}, "download-artifact")
    if len({"name", "pattern", "artifact-ids"} & options.keys()) != 1:
        raise ArtifactError("this stand-in takes a name, a number or a pattern")
    target = Path(workspace, str(options.get("path", ".")))
    if "pattern" in options:
        found = [each for name, each in artifacts.of_run(run_id).items() if Path(name).match(str(options["pattern"]))]
    elif "artifact-ids" in options:
        number = str(options["artifact-ids"])  # the real one takes everything for an empty text
        found = [each for each in artifacts.of_run(run_id).values() if str(each.artifact_id) == number]
        if not found:
            raise ArtifactError(f"the run has no artifact of number {number!r}")
    else:
        found = [each for name, each in artifacts.of_run(run_id).items() if name == str(options["name"])]
        if not found:
            raise ArtifactError(f"the run has no artifact {options['name']!r}")
    for artifact in found:
        folder = target if len(found) == 1 else target / artifact.name
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(io.BytesIO(artifact.content)) as archive:
            archive.extractall(folder)
    return {"download-path": str(target)}


def copy_of_checkout(files: tuple[Path, ...], checkout: Path, target: Path) -> None:
    """A fresh clone, as a job finds it: these files, older than whatever was set up from them, and no others."""
    for file in files:
        copied = target / file.relative_to(checkout)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copied)


def _files(path: Path, *, with_hidden: bool) -> dict[str, Path]:
    if path.is_file():
        return {path.name: path}
    found = {each.relative_to(path).as_posix(): each for each in path.rglob("*") if each.is_file()}
    hidden = {name for name in found if any(part.startswith(".") for part in Path(name).parts)}
    return {name: file for name, file in found.items() if with_hidden or name not in hidden}


def _yes(value: Any) -> bool:
    if str(value).lower() not in {"true", "false"}:
        raise ArtifactError(f"{value!r} is neither true nor false")
    return str(value).lower() == "true"


def _only(options: dict[str, Any], known: set[str], action: str) -> None:
    unknown = set(options) - known
    if unknown:
        raise ArtifactError(f"this stand-in of {action} does not know {', '.join(sorted(unknown))}")
