"""What a recipe needs beside a build: a few more packages, locked by hash, in an environment over the build's own.

A pin stays what it is, and so does its environment: the one made here begins with the extras and continues with the
build's. Extras add packages and never replace one, so a build behaves with them as it does without.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from redline.builds import torchvision_shim
from redline.builds.install import InstalledBuild
from redline.builds.lock_text import LockedPackage, check_lock, parse_lock, write_lock
from redline.builds.locked_environment import LockedEnvironment, ensure
from redline.errors import BuildError, ContentError
from redline.model import digest

SHIM_MODULE = "redline_torchvision_shim"


def read_extras(path: Path) -> str:
    """The lock of a file such as recipes/extras/speech.cpu.lock, in one form. Raises ContentError."""
    try:
        packages = parse_lock(path.read_text(encoding="utf-8"))
        if not packages:
            raise ValueError("no package")
    except (OSError, ValueError) as error:
        raise ContentError(
            f"{path}: not a lock of extra packages",
            expected="lines of 'name==version --hash=sha256:...'",
            found=str(error),
            next_step="correct the file, or the recipe that names it",
        ) from error
    return write_lock(packages.values())


def extras_id(lock: str) -> str:
    """16 hex digits: two locks with one id install the same bytes."""
    return digest(write_lock(parse_lock(lock).values()))


def with_extras(build: InstalledBuild, lock: str, *, state_dir: Path, on_line: Callable[[str], None]) -> Path:
    """The interpreter of an environment that holds the build and the extras, made once and verified every time.

    `lock` is what `read_extras` returns. It lies under `state_dir`/builds/<pin_id>, and goes when the build goes.

    Raises BuildError: an extra is a package of the build, uv failed, or what is there is not what the locks say.
    """
    extras = parse_lock(lock)
    _refuse_replacements(build, extras)
    home = (state_dir / "builds" / build.pin.pin_id / f"extras-{extras_id(lock)}").resolve()
    environment = LockedEnvironment(
        home,
        write_lock(extras.values()),
        f"{build.pin.label} with its extras",
        main=build.pin.distribution,
        beside={package.name: package.version for package in check_lock(build.pin).values()},
        facts={"packages": sorted(extras)},
    )

    def lay_over() -> None:
        _show_packages_of(build.python, environment.python)
        if "torchvision" in extras and build.pin.platform == "cpu":
            _add_shim(environment.python)

    return ensure(environment, on_line=on_line, finish=lay_over).python


def _refuse_replacements(build: InstalledBuild, extras: Mapping[str, LockedPackage]) -> None:
    both = sorted(set(extras) & set(check_lock(build.pin)))
    if both:
        raise BuildError(
            f"extras would replace packages of {build.pin.label}",
            expected="packages that the build does not have",
            found=", ".join(both),
            next_step="take them out of the extras; the build brings its own",
        )


def _show_packages_of(below: Path, python: Path) -> None:
    """Let an interpreter see another one's packages after its own."""
    # addsitedir and not the bare path: the build's own .pth files count as well.
    line = f"import site; site.addsitedir({str(_packages_of(below))!r})\n"
    (_packages_of(python) / "redline_build.pth").write_text(line, encoding="utf-8")


def _add_shim(python: Path) -> None:
    """Let a CUDA build of torchvision be imported: pip's indexes serve no other for most machines."""
    packages = _packages_of(python)
    shutil.copyfile(torchvision_shim.__file__, packages / f"{SHIM_MODULE}.py")
    (packages / f"{SHIM_MODULE}.pth").write_text(f"import {SHIM_MODULE}\n", encoding="utf-8")


def _packages_of(python: Path) -> Path:
    """The site-packages of the virtual environment that an interpreter belongs to."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return python.parents[1] / "lib" / version / "site-packages"
