"""What stands in for `uses:`. Nothing is fetched or installed; an action that is not known here is an error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.service.workflow_runner_artifacts import Artifacts, copy_of_checkout, download, upload

# What `make` sets .venv up from: never newer than what was set up, or it would set up anew.
SET_UP_FROM = ("pyproject.toml", "requirements.lock", "requirements-dev.lock", "requirements-uv.lock")
STAMPS = tuple(f".set-up-{kind}-{version}" for kind in ("run", "dev") for version in ("3.11", "3.12", "3.13"))


class ActionError(Exception):
    """An action that is not known here, or that is asked for what it may not be asked for."""


@dataclass(frozen=True, slots=True)
class Source:
    """A repository's files as a fresh clone has them. `root`: where they lie now; `files`: which of them."""

    root: Path
    files: tuple[Path, ...]
    venv: Path | None = None

    def clone(self, target: Path) -> None:
        """A copy; where there is an environment it is linked, as set up, with the compiled modules."""
        compiled = tuple(
            each
            for file in self.files
            if self.venv is not None and file.suffix == ".py"
            for each in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")
        )
        copy_of_checkout(self.files + compiled, self.root, target)
        if self.venv is None:
            return
        (target / ".venv").mkdir()
        for entry in self.venv.iterdir():
            if entry.name not in STAMPS:
                (target / ".venv" / entry.name).symlink_to(entry)
        for name in STAMPS:
            (target / ".venv" / name).touch()
        for name in SET_UP_FROM:
            os.utime(target / name, (0, 0))


def this_checkout() -> Source:
    """This repository as it lies here, with the environment that runs the tests."""
    root = Path(__file__).resolve().parents[2]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    files = tuple(path for name in listed.stdout.split("\0") if name and (path := root / name).is_file())
    return Source(root, files, Path(sys.prefix))


@dataclass(slots=True)
class Machine:
    """What one job runs on: fresh every time. `variables`: what steps handed to later ones."""

    workspace: Path
    temp: Path
    run_id: int
    source: Source
    artifacts: Artifacts
    variables: dict[str, str] = field(default_factory=dict)
    pages: list[Path] = field(default_factory=list)


def _checkout(machine: Machine, options: dict[str, Any]) -> dict[str, str]:
    """The repository's own commit, without credentials: anything else would be somebody else's code."""
    if options != {"persist-credentials": False}:
        raise ActionError(f"checkout with {options}: only persist-credentials: false, never another ref or repository")
    machine.source.clone(machine.workspace)
    return {}


def _setup_python(machine: Machine, options: dict[str, Any]) -> dict[str, str]:
    if set(options) - {"update-environment"} != {"python-version"}:
        raise ActionError(f"setup-python with {sorted(options)}: no cache, which a stranger's job could have filled")
    return {"python-path": sys.executable}


def _upload(machine: Machine, options: dict[str, Any]) -> dict[str, str]:
    return upload(machine.artifacts, machine.run_id, machine.workspace, options)


def _download(machine: Machine, options: dict[str, Any]) -> dict[str, str]:
    return download(machine.artifacts, machine.run_id, machine.workspace, options)


def _configure_pages(machine: Machine, options: dict[str, Any]) -> dict[str, str]:
    if options:
        raise ActionError(f"configure-pages with {options}")
    return {"base_url": "http://127.0.0.1/pages"}


def _upload_pages(machine: Machine, options: dict[str, Any]) -> dict[str, str]:
    if set(options) - {"path", "name", "retention-days"}:
        raise ActionError(f"upload-pages-artifact with {options}")
    named = {"name": "github-pages"} | {key: options[key] for key in options if key != "retention-days"}
    done = upload(machine.artifacts, machine.run_id, machine.workspace, named | {"if-no-files-found": "error"})
    return {"artifact_id": done["artifact-id"]}


def _deploy_pages(machine: Machine, options: dict[str, Any]) -> dict[str, str]:
    if options:
        raise ActionError(f"deploy-pages with {options}")
    target = machine.temp / "pages"
    download(machine.artifacts, machine.run_id, machine.temp, {"name": "github-pages", "path": "pages"})
    machine.pages.append(target)
    return {"page_url": "http://127.0.0.1/pages/"}


STAND_INS: dict[str, Callable[[Machine, dict[str, Any]], dict[str, str]]] = {
    "actions/checkout": _checkout,
    "actions/setup-python": _setup_python,
    "actions/upload-artifact": _upload,
    "actions/download-artifact": _download,
    "actions/configure-pages": _configure_pages,
    "actions/upload-pages-artifact": _upload_pages,
    "actions/deploy-pages": _deploy_pages,
}
