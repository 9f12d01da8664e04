"""What a recipe needs beside a build: a few more packages, locked by hash, in an environment over the build's own.

A pin stays what it is, and so does its environment: the one made here begins with the extras and continues with the
build's. Extras add packages and never replace one, so a build behaves with them as it does without.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from redline.builds import torchvision_shim
from redline.builds.exclusive import INSTALL_S_MAX, hold
from redline.builds.install import InstalledBuild, verify
from redline.builds.lock_text import LockedPackage, check_lock, parse_lock, write_lock
from redline.builds.pin_record import write_text
from redline.builds.uv_process import UvOutcome, run_uv, set_up, shortened, unreachable_address
from redline.errors import BuildError, ContentError
from redline.model import digest

SHIM_MODULE = "redline_torchvision_shim"

_MARKER = "complete.json"


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
    python = home / "venv" / "bin" / "python"
    with hold(home.with_name(f"{home.name}.lock"), on_line) as descriptor:
        cached = (home / _MARKER).exists()
        if not cached:
            _install_over(build, home, write_lock(extras.values()), on_line, descriptor)
            if "torchvision" in extras and build.pin.platform == "cpu":
                _add_shim(python)
        verify(python, build.pin, home, extras)
        if not cached:
            write_text(home / _MARKER, json.dumps({"packages": sorted(extras)}) + "\n")
    return python


def _refuse_replacements(build: InstalledBuild, extras: Mapping[str, LockedPackage]) -> None:
    both = sorted(set(extras) & set(check_lock(build.pin)))
    if both:
        raise BuildError(
            f"extras would replace packages of {build.pin.label}",
            expected="packages that the build does not have",
            found=", ".join(both),
            next_step="take them out of the extras; the build brings its own",
        )


def _install_over(build: InstalledBuild, home: Path, lock: str, on_line: Callable[[str], None], held: int) -> None:
    """An environment of its own at `home`/venv whose packages are the extras, then the build's."""
    if home.exists():
        on_line("an earlier install of these extras was cut short: starting again")
        shutil.rmtree(home)
    home.mkdir(parents=True)
    write_text(home / "lock.txt", lock)
    python = home / "venv" / "bin" / "python"
    install = ["pip", "install", "--python", str(python), "--compile-bytecode", "--no-deps", "--require-hashes"]
    install += ["--only-binary", ":all:", "-r", str(home / "lock.txt")]
    outcome = UvOutcome(ok=True, text="")
    for arguments in (["venv", "--no-project", "--python", sys.executable, str(home / "venv")], install):
        if outcome.ok:
            outcome = run_uv(
                arguments,
                setup=set_up(),
                directory=home,
                timeout_s=INSTALL_S_MAX,
                on_line=on_line,
                kept_open=(held,),
            )
    if not outcome.ok:
        address = unreachable_address(outcome)
        raise BuildError(
            f"the extras of {build.pin.label} could not be installed",
            expected=f"an answer from {address}" if address else "every file in the lock of extras, with its SHA-256",
            found=shortened(outcome.text),
            next_step="check the network and the indexes that `pip config list` shows",
        )
    # addsitedir and not the bare path: the build's own .pth files count as well.
    line = f"import site; site.addsitedir({str(_packages_of(build.python))!r})\n"
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
