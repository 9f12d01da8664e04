"""The builds in a state directory: what they are, how large, when they were last used; and removing them.

Redline removes none by itself. A build that is removed can be installed again from its pin, which stays.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from redline.builds.in_use import alone, is_in_use, used_path
from redline.builds.locked_environment import COMPLETE
from redline.builds.pin_record import read_pin
from redline.errors import BuildError, ContentError, UsageError
from redline.model import BuildKind, BuildPin

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class StoredBuild:
    """One directory of builds. `pin`: None where it cannot be read, `problem` says why, or that it is unfinished.

    `size_bytes`: on the disk, its kept wheel included; what uv's cache shares with it is freed only when both are gone.
    `used_s`: when it was last used, seconds since 1970.
    """

    home: Path
    pin: BuildPin | None
    size_bytes: int
    used_s: float
    in_use: bool
    problem: str = ""

    @property
    def pin_id(self) -> str:
        """16 hex digits."""
        return self.home.name

    @property
    def label(self) -> str:
        """What people call it."""
        return self.pin.label if self.pin is not None else "unknown build"


def stored_builds(state_dir: Path) -> tuple[StoredBuild, ...]:
    """All there are, those last used long ago first. Damaged and unfinished ones are among them."""
    homes = [path for path in (state_dir / "builds").glob("*") if path.is_dir() and not path.is_symlink()]
    return tuple(sorted((_stored(home, state_dir) for home in homes), key=lambda each: (each.used_s, each.pin_id)))


def unused_since(builds: Iterable[StoredBuild], days: float, now_s: float) -> tuple[StoredBuild, ...]:
    """Those that nobody used for so many days and nobody uses now. `now_s`: seconds since 1970."""
    return tuple(each for each in builds if not each.in_use and now_s - each.used_s >= days * DAY_S)


def named(builds: Iterable[StoredBuild], name: str) -> StoredBuild:
    """The build of a pin id, or of its first digits if they are one build's only. Raises UsageError."""
    known = tuple(builds)
    found = [each for each in known if name and each.pin_id.startswith(name)]
    if len(found) != 1:
        raise UsageError(
            f"{name!r} names no installed build" if not found else f"{name!r} names {len(found)} installed builds",
            expected="a pin id, or its first digits",
            found=", ".join(each.pin_id for each in found or known) or "no builds at all",
            next_step="copy one from `redline builds list`",
        )
    return found[0]


def remove(build: StoredBuild, state_dir: Path) -> None:
    """Remove a build and, if it can be fetched again, its kept wheel.

    Raises BuildError if a process uses it, or if it cannot be removed as a whole; it counts as unfinished then.
    """
    with alone(build.home) as free:
        if not free:
            raise BuildError(
                f"{build.label} ({build.pin_id}) is in use",
                expected="a build that no process measures or installs",
                found=f"{used_path(build.home)} is locked",
                next_step="wait until the measurement has ended, then try again",
            )
        try:
            # First what makes it count, so that half of it is never taken for a build.
            (build.home / COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(build.home)
            wheel = _kept_wheel(build.pin, state_dir)
            if wheel is not None and not _others_need(build, state_dir):
                shutil.rmtree(wheel, ignore_errors=True)
        except OSError as error:
            raise BuildError(
                f"{build.home}: cannot be removed",
                expected="permission to delete everything in it",
                found=str(error),
                next_step="delete the rest of it as the user who installed it",
            ) from error


def _stored(home: Path, state_dir: Path) -> StoredBuild:
    pin, problem = None, ""
    try:
        pin = read_pin(home / "pin.json")
    except ContentError as error:
        problem = error.problem
    if not (home / COMPLETE).is_file():
        problem = "unfinished: its install was cut short, or is going on"
    wheel = _kept_wheel(pin, state_dir)
    size_bytes = _size(home) + (_size(wheel) if wheel is not None else 0)
    times = [path.stat().st_mtime for path in (used_path(home), home / COMPLETE) if path.is_file()]
    return StoredBuild(home, pin, size_bytes, max(times, default=home.stat().st_mtime), is_in_use(home), problem)


def _kept_wheel(pin: BuildPin | None, state_dir: Path) -> Path | None:
    """The directory of a wheel that its address still names; a local wheel's kept copy may be the only one."""
    if pin is None or pin.kind is not BuildKind.REMOTE_WHEEL:
        return None
    directory = state_dir / "wheels" / str(pin.wheel_sha256)
    return directory if directory.is_dir() else None


def _others_need(build: StoredBuild, state_dir: Path) -> bool:
    wheel = build.pin.wheel_sha256 if build.pin is not None else None
    others = (path for path in (state_dir / "builds").glob("*/pin.json") if path.parent.name != build.pin_id)
    for path in others:
        try:
            if read_pin(path).wheel_sha256 == wheel:
                return True
        except ContentError:
            continue
    return False


def _size(directory: Path) -> int:
    """Bytes on the disk of all files below, links not followed; what vanishes meanwhile is not counted."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(Path(parent) / name).st_blocks * 512
            except OSError:
                continue
    return total
