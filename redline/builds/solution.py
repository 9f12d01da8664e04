"""The lock of a build: uv's solution of one requirement, every file fixed by its SHA-256."""

from __future__ import annotations

import logging
import re
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redline.builds.build_spec import IndexSpec
from redline.builds.lock_text import LockedPackage, normalised
from redline.builds.pin_cache import python_version
from redline.builds.torch_backend import TORCH_PACKAGES, torch_mismatch, torch_overrides
from redline.builds.uv_process import (
    UvOutcome,
    UvSetup,
    run_uv,
    run_uv_with_torch,
    set_up,
    shortened,
    unreachable_address,
)
from redline.errors import BuildError

RESOLVE_S_MAX = 900.0
NEAREST_S_MAX = 60.0

CPU_OVERRIDES = ("torchvision", "torchaudio", "torchcodec", "triton")
"""Never installed with a CPU build: an index serves their CUDA builds, which break `import transformers` beside a
`+cpu` torch ("operator torchvision::nms does not exist"), and triton (1 GB) compiles for no CPU."""

_LOG = logging.getLogger("redline.builds")


@dataclass(frozen=True, slots=True, repr=False)
class Question:
    """What is to be locked: a requirement as uv takes it, for the build `wanted` on a platform.

    `torch_backend` and `requires`: of a wheel of a variant, see `torch_backend.torch_overrides`. `packages_beside`: a
    package index that serves what belongs to it; not printable, it may hold a password.
    """

    requirement: str
    wanted: IndexSpec
    platform: str
    torch_backend: str = ""
    requires: tuple[str, ...] = ()
    packages_beside: str = ""


@dataclass(frozen=True, slots=True)
class Solution:
    """Packages by name, and (file name, sha256) of each package's files that fit this machine."""

    packages: dict[str, LockedPackage]
    files: dict[str, list[tuple[str, str]]]


def solve(question: Question) -> Solution:
    """Everything that belongs to a build.

    uv writes a PEP 751 lock, which Redline turns into its own: unlike a requirements file with hashes, it lists
    only the files that fit this machine (21 KB instead of 350 KB, and the pin allows nothing else to be installed).
    Raises BuildError: no solution, an index that cannot be reached, a torch of another CUDA than the build's.
    """
    wanted = question.wanted
    with tempfile.TemporaryDirectory(prefix="redline-resolve-") as name:
        directory = Path(name)
        (directory / "build.in").write_text(question.requirement + "\n", encoding="utf-8")
        overrides = [f'{package} ; sys_platform == "never"' for package in CPU_OVERRIDES if question.platform == "cpu"]
        overrides += torch_overrides(question.requires, question.torch_backend)
        (directory / "overrides.txt").write_text("".join(f"{line}\n" for line in overrides), encoding="utf-8")
        arguments = ["pip", "compile", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"]
        # Wheels only: what a source distribution builds into is not fixed by its hash.
        arguments += ["--no-header", "--only-binary", ":all:", "--override", "overrides.txt"]
        arguments += ["--python-version", python_version(), "--python", sys.executable]
        arguments += ["--format", "pylock.toml", "-o", "pylock.toml", "--quiet", "build.in"]

        def run(setup: UvSetup) -> UvOutcome:
            return run_uv(arguments, setup=setup, directory=directory, timeout_s=RESOLVE_S_MAX)

        setup = set_up()
        if question.packages_beside:
            setup = setup.joined("UV_EXTRA_INDEX_URL", question.packages_beside, " ")
        outcome, setup = run_uv_with_torch(run, setup)
        if not outcome.ok:
            raise _no_solution(outcome, wanted, setup)
        found = _read_pylock((directory / "pylock.toml").read_text(encoding="utf-8"), wanted)
    _require_torch(found, question)
    return found


def _require_torch(found: Solution, question: Question) -> None:
    torches = [found.packages[name].version for name in TORCH_PACKAGES if name in found.packages]
    if wrong := torch_mismatch(torches, question.torch_backend):
        raise BuildError(
            f"{question.wanted.distribution} {question.wanted.version} would get a torch of another kind",
            expected=f"torch built for {question.torch_backend}",
            found=wrong,
            next_step="add an index that serves that torch to pip's configuration",
        )


def _read_pylock(text: str, wanted: IndexSpec) -> Solution:
    packages: dict[str, LockedPackage] = {}
    files: dict[str, list[tuple[str, str]]] = {}
    for entry in tomllib.loads(text).get("packages", []):
        name = normalised(entry["name"])
        sources = entry.get("wheels") or [entry.get("archive", {})]
        found = [(_file_name(source), source.get("hashes", {}).get("sha256", "")) for source in sources]
        if not all(digest for _, digest in found) or "version" not in entry:
            raise BuildError(
                f"{name} cannot be locked",
                expected="a version and the SHA-256 of every file",
                found=f"keys {', '.join(sorted(entry))} without them",
                next_step="use an index that serves wheels",
            )
        packages[name] = LockedPackage(name, entry["version"], tuple(sorted({digest for _, digest in found})))
        files[name] = found
    if wanted.distribution not in packages:
        raise BuildError(
            f"the lock made for {wanted.distribution} does not hold it",
            expected=f"{wanted.distribution}=={wanted.version}",
            found=f"{len(packages)} other packages",
            next_step="report this with the version of uv",
        )
    return Solution(packages, files)


def _file_name(source: Mapping[str, Any]) -> str:
    address = str(source.get("name") or source.get("url") or source.get("path") or "")
    return address.rsplit("/", 1)[-1]


def _no_solution(outcome: UvOutcome, wanted: IndexSpec, setup: UvSetup) -> BuildError:
    label = f"{wanted.distribution}=={wanted.version}"
    if address := unreachable_address(outcome):
        return BuildError(
            f"{label} could not be looked up: an index cannot be reached",
            expected=f"an answer from {address}",
            found=shortened(outcome.text),
            next_step="check the network, or the indexes that `pip config list` shows",
        )
    text = " ".join(outcome.text.split())
    if f"no version of {wanted.distribution}==" in text or f"{wanted.distribution} was not found" in text:
        nearest = _nearest(wanted, setup)
        return BuildError(
            f"there is no version {wanted.version} of {wanted.distribution}",
            expected=f"a version that the configured indexes have for Python {python_version()}",
            found=f"the nearest: {' and '.join(nearest)}" if nearest else f"no version of {wanted.distribution} at all",
            next_step=f"write {wanted.distribution}=={nearest[0]}" if nearest else "check what `pip config list` shows",
        )
    return BuildError(
        f"{label} cannot be installed with what the configured indexes have",
        expected="a version of everything it needs, as wheels for this machine",
        found=shortened(outcome.text),
        next_step="choose another version, or add the index that has what is missing to pip's configuration",
    )


def _nearest(wanted: IndexSpec, setup: UvSetup) -> list[str]:
    """The newest version below and the oldest above, as far as the indexes have them."""
    public = wanted.version.partition("+")[0]
    nearest: list[str] = []
    for operator, preference in (("<=", "highest"), (">=", "lowest")):
        with tempfile.TemporaryDirectory(prefix="redline-resolve-") as name:
            directory = Path(name)
            requirement = f"{wanted.distribution}{operator}{public}\n"
            (directory / "build.in").write_text(requirement, encoding="utf-8")
            arguments = ["pip", "compile", "--no-deps", "--no-header", "--no-annotate", "--quiet", "build.in"]
            arguments += ["--python-version", python_version(), "--python", sys.executable, "--resolution", preference]
            try:
                outcome = run_uv(arguments, setup=setup, directory=directory, timeout_s=NEAREST_S_MAX)
            except BuildError as error:
                _LOG.debug("nearest versions: %s", error)
                break
        match = re.search(rf"^{re.escape(wanted.distribution)}==(\S+)", outcome.text, re.MULTILINE)
        if outcome.ok and match and match[1] not in nearest:
            nearest.append(match[1])
    return nearest
