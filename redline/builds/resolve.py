"""A build spec becomes a `BuildPin`: everything that will be installed, fixed by SHA-256."""

from __future__ import annotations

import json
import logging
import platform
import re
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from redline.access import api_key, headers, trust
from redline.builds.build_spec import (
    DISTRIBUTIONS,
    UNKNOWN_PLATFORM,
    VALID_FORMS,
    EndpointSpec,
    IndexSpec,
    RecordSpec,
    WheelSpec,
    parse_spec,
    platform_of,
)
from redline.builds.lock_text import LockedPackage, normalised, write_lock
from redline.builds.pin_record import read_pin, write_pin
from redline.builds.uv_process import (
    UvOutcome,
    UvSetup,
    run_uv,
    run_uv_with_torch,
    set_up,
    shortened,
    unreachable_address,
)
from redline.builds.wheel_file import keep_copy, read_wheel
from redline.errors import BuildError, ContentError, UsageError
from redline.model import BuildKind, BuildPin

__all__ = ["python_version", "read_pin", "resolve", "write_pin"]

RESOLVE_S_MAX = 900.0
NEAREST_S_MAX = 60.0
VERSION_ANSWER_S_MAX = 10.0
VERSION_ANSWER_BYTES_MAX = 65_536

CPU_OVERRIDES = ("torchvision", "torchaudio", "torchcodec", "triton")
"""Never installed with a CPU build: an index serves their CUDA builds, which break `import transformers` beside a
`+cpu` torch ("operator torchvision::nms does not exist"), and triton (1 GB) compiles for no CPU."""

_LOG = logging.getLogger("redline.builds")
_FILE_NAME_UNSAFE = re.compile(r"[^A-Za-z0-9.+=-]+")


def python_version() -> str:
    """`X.Y` of the Python that runs Redline: builds are locked for it and installed with it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def resolve(spec: str, *, state_dir: Path) -> BuildPin:
    """The pin of a spec; the same spec gives the same pin later, without network, from `state_dir`/pins.

    Source of packages: the user's own pip configuration, and PyTorch's CPU index only if that lacks the torch.

    Raises:
        UsageError: the spec has none of the valid forms, is not exact, or names a file that is not there.
        ContentError: a pin record is damaged.
        BuildError: no such version, no solution, an index or an endpoint that cannot be reached.
    """
    match parse_spec(spec):
        case IndexSpec() as index_spec:
            return _resolve_index_wheel(index_spec, state_dir)
        case WheelSpec(path):
            return _resolve_local_wheel(path, spec.strip(), state_dir)
        case RecordSpec(path):
            return read_pin(path)
        case EndpointSpec(base_urls):
            return _resolve_endpoint(base_urls)


def _resolve_index_wheel(wanted: IndexSpec, state_dir: Path) -> BuildPin:
    spec = f"{wanted.distribution}=={wanted.version}"
    cached = _cached_path(spec, state_dir)
    if cached.exists():
        return _read_cached(cached, spec)
    chosen = platform_of(wanted.distribution, wanted.version)
    # '===' keeps 0.32.0 from being answered with 0.32.0+cu129, which PEP 440's '==' allows.
    packages, files = _compile(f"{wanted.distribution}==={wanted.version}", wanted, chosen)
    found = packages[wanted.distribution]
    if len(found.sha256) > 1:
        # Several files fit this machine. Which one uv takes may change with uv, so the pin allows only one of them.
        found = LockedPackage(found.name, found.version, (max(files[wanted.distribution])[1],))
        packages[found.name] = found
    pin = BuildPin(
        kind=BuildKind.INDEX_WHEEL,
        spec=spec,
        distribution=found.name,
        version=found.version,
        platform=chosen,
        python_version=python_version(),
        wheel_sha256=found.sha256[0],
        lock=write_lock(packages.values()),
    )
    write_pin(cached, pin)
    return pin


def _resolve_local_wheel(path: Path, spec: str, state_dir: Path) -> BuildPin:
    wheel = read_wheel(path)
    if wheel.distribution not in DISTRIBUTIONS or not wheel.version:
        raise UsageError(
            f"{path}: not a wheel of vLLM",
            expected=f"Name {' or '.join(DISTRIBUTIONS)} and a Version in its metadata",
            found=f"Name {wheel.distribution or 'missing'}, Version {wheel.version or 'missing'}",
            next_step="give the path of a vLLM wheel",
        )
    kept = keep_copy(wheel, state_dir)
    # Keyed by content: a wheel that was built again at the same path is another build.
    cached = _cached_path(f"{path.name}-{wheel.sha256[:16]}", state_dir)
    if cached.exists():
        return replace(_read_cached(cached, wheel.sha256), spec=spec)
    chosen = platform_of(wheel.distribution, wheel.version)
    wanted = IndexSpec(wheel.distribution, wheel.version)
    packages, _ = _compile(f"{wheel.distribution} @ {kept.resolve().as_uri()}", wanted, chosen)
    packages[wheel.distribution] = LockedPackage(wheel.distribution, wheel.version, (wheel.sha256,))
    pin = BuildPin(
        kind=BuildKind.LOCAL_WHEEL,
        spec=spec,
        distribution=wheel.distribution,
        version=wheel.version,
        platform=chosen,
        python_version=python_version(),
        wheel_sha256=wheel.sha256,
        lock=write_lock(packages.values(), local_wheel=path.name),
    )
    write_pin(cached, pin)
    return pin


def _cached_path(key: str, state_dir: Path) -> Path:
    """One file per spec, Python and machine: a lock holds the files of one of each."""
    name = f"{key}-py{python_version()}-{sys.platform}-{platform.machine()}"
    return state_dir / "pins" / f"{_FILE_NAME_UNSAFE.sub('-', name)}.json"


def _read_cached(path: Path, identity: str) -> BuildPin:
    pin = read_pin(path)
    if identity not in (pin.spec, pin.wheel_sha256):
        raise ContentError(
            f"{path}: key 'spec' is wrong: this is the pin of another build",
            expected=identity,
            found=pin.spec,
            next_step=f"delete {path} and resolve the build again",
        )
    return pin


# --- the solution -------------------------------------------------------------------------------------------


def _compile(
    requirement: str, wanted: IndexSpec, chosen_platform: str
) -> tuple[dict[str, LockedPackage], dict[str, list[tuple[str, str]]]]:
    """(packages by name, (file name, sha256) of each package's files that fit this machine).

    uv writes a PEP 751 lock, which Redline turns into its own: unlike a requirements file with hashes, it lists
    only the files that fit this machine (21 KB instead of 350 KB, and the pin allows nothing else to be installed).
    """
    with tempfile.TemporaryDirectory(prefix="redline-resolve-") as name:
        directory = Path(name)
        (directory / "build.in").write_text(requirement + "\n", encoding="utf-8")
        overrides = CPU_OVERRIDES if chosen_platform == "cpu" else ()
        lines = (f'{package} ; sys_platform == "never"\n' for package in overrides)
        (directory / "overrides.txt").write_text("".join(lines), encoding="utf-8")
        arguments = [
            "pip",
            "compile",
            "--generate-hashes",
            "--no-emit-index-url",
            "--no-emit-find-links",
            "--no-header",
        ]
        # Wheels only: what a source distribution builds into is not fixed by its hash.
        arguments += ["--only-binary", ":all:", "--override", "overrides.txt", "--python-version", python_version()]
        arguments += ["--python", sys.executable, "--format", "pylock.toml", "-o", "pylock.toml", "--quiet", "build.in"]

        def run(setup: UvSetup) -> UvOutcome:
            return run_uv(arguments, setup=setup, directory=directory, timeout_s=RESOLVE_S_MAX)

        outcome, setup = run_uv_with_torch(run, set_up())
        if not outcome.ok:
            raise _no_solution(outcome, wanted, setup)
        return _read_pylock((directory / "pylock.toml").read_text(encoding="utf-8"), wanted)


def _read_pylock(text: str, wanted: IndexSpec) -> tuple[dict[str, LockedPackage], dict[str, list[tuple[str, str]]]]:
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
    return packages, files


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


# --- endpoints ----------------------------------------------------------------------------------------------


def _resolve_endpoint(base_urls: Sequence[str]) -> BuildPin:
    """The pin of running servers: what they say they are, which is all that can be known. Never cached."""
    versions = {base_url: _reported_version(base_url) for base_url in base_urls}
    version, *others = dict.fromkeys(versions.values())
    if others:
        raise BuildError(
            "the replicas are not one build",
            expected=f"version {version} of all",
            found=", ".join(f"{base_url} says {said}" for base_url, said in versions.items()),
            next_step="measure them apart, or bring them to one version",
        )
    joined = ",".join(base_urls)
    return BuildPin(
        kind=BuildKind.ENDPOINT,
        spec=joined,
        distribution="vllm",
        version=version,
        # The server does not say what it runs on unless its version does.
        platform=platform_of("vllm", version) if "+" in version else UNKNOWN_PLATFORM,
        python_version="",
        wheel_sha256=None,
        lock="",
        url=joined,
    )


def _reported_version(base_url: str) -> str:
    """What GET /version of one server says. Raises BuildError."""
    address = f"{base_url}/version"
    try:
        version = json.loads(_get(address))["version"]
        if not isinstance(version, str) or not re.fullmatch(r"[A-Za-z0-9.+!_-]{1,100}", version):
            raise ValueError(f"version {str(version)[:100]!r}")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"{address} does not say which vLLM it is",
            expected=f'{{"version": "..."}} within {VERSION_ANSWER_S_MAX:.0f} s',
            found=f"{type(error).__name__}: {str(error)[:300]}",
            next_step=f"check that a vLLM server listens there; other ways to name a build: {VALID_FORMS}",
        ) from error
    return version


def _get(address: str) -> bytes:
    """The body of a 200 answer, bounded in time and size as a whole. Raises httpx.HTTPError or ValueError."""
    deadline_s = time.monotonic() + VERSION_ANSWER_S_MAX
    body = b""
    # No proxy: the load goes to this address directly, and so must the question who answers there.
    with (
        httpx.Client(
            headers=headers(api_key()), verify=trust(), trust_env=False, timeout=VERSION_ANSWER_S_MAX
        ) as client,
        client.stream("GET", address) as answer,
    ):
        answer.raise_for_status()
        for block in answer.iter_raw():
            body += block
            if len(body) > VERSION_ANSWER_BYTES_MAX or time.monotonic() > deadline_s:
                raise ValueError(f"an answer that is too long or too slow ({len(body)} bytes so far)")
    return body
