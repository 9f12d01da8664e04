"""A build spec becomes a `BuildPin`: everything that will be installed, fixed by SHA-256."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from redline.builds.attached import resolve_endpoint
from redline.builds.build_spec import (
    DISTRIBUTIONS,
    AddressSpec,
    CommitSpec,
    EndpointSpec,
    IndexSpec,
    NightlySpec,
    RecordSpec,
    WheelSpec,
    parse_spec,
    platform_of,
)
from redline.builds.image_pin import resolve_image
from redline.builds.image_reference import ImageReference
from redline.builds.lock_text import LockedPackage, write_lock
from redline.builds.pin_cache import cached_path, commit_key, python_version, read_cached
from redline.builds.pin_record import read_pin, write_pin
from redline.builds.remote_wheel import (
    FetchedWheel,
    address_key,
    commit_in_full,
    exclusively,
    fetch_address,
    fetch_offered,
    offered,
    packages_beside,
    pin_of_commit,
)
from redline.builds.solution import Question, solve
from redline.builds.trusted_record import read_trusted_pin
from redline.builds.variants import variant_named
from redline.builds.wheel_file import WheelFile, keep_copy, read_wheel
from redline.errors import UsageError
from redline.model import BuildKind, BuildPin

__all__ = ["python_version", "read_pin", "resolve", "write_pin"]

_LOG = logging.getLogger("redline.builds")


def resolve(spec: str, *, state_dir: Path, on_line: Callable[[str], None] = _LOG.info) -> BuildPin:
    """The pin of a spec; the same spec gives the same pin later, without network, from `state_dir`/pins.

    Three ask anew every time, for what they name moves: `nightly`, an image's tag, an endpoint. `on_line` is told how
    a download goes and which commit nightly is.
    Source of packages: the user's own pip configuration, and PyTorch's indexes only if that lacks the torch.

    Raises:
        UsageError: the spec has none of the valid forms, is not exact, or names a file that is not there; or a record
            of an endpoint, or of an image that the user did not allow.
        ContentError: a pin record is damaged.
        NoBuildError: nobody made such a build, or not for this machine.
        BuildError: no such version, no solution, an index or an endpoint that cannot be reached.
    """
    text = spec.strip()
    match parse_spec(spec):
        case IndexSpec() as index_spec:
            return _resolve_index_wheel(index_spec, state_dir)
        case WheelSpec(path):
            return _resolve_local_wheel(path, text, state_dir)
        case RecordSpec(path):
            return read_trusted_pin(path)
        case EndpointSpec(base_urls):
            return resolve_endpoint(base_urls)
        case ImageReference() as reference:
            return resolve_image(reference, text)
        case AddressSpec() as address:
            return _resolve_address(address, state_dir, on_line)
        case CommitSpec() as commit_spec:
            whole = replace(commit_spec, commit=commit_in_full(commit_spec, state_dir))
            return _resolve_commit(whole, text, state_dir, on_line)
        case NightlySpec() as nightly:
            return _resolve_commit(nightly, text, state_dir, on_line)


def _resolve_index_wheel(wanted: IndexSpec, state_dir: Path) -> BuildPin:
    spec = f"{wanted.distribution}=={wanted.version}"
    cached = cached_path(spec, state_dir)
    if cached.exists():
        return read_cached(cached, spec)
    chosen = platform_of(wanted.distribution, wanted.version)
    # '===' keeps 0.32.0 from being answered with 0.32.0+cu129, which PEP 440's '==' allows.
    solution = solve(Question(f"{wanted.distribution}==={wanted.version}", wanted, chosen))
    packages = solution.packages
    found = packages[wanted.distribution]
    if len(found.sha256) > 1:
        # Several files fit this machine. Which one uv takes may change with uv, so the pin allows only one of them.
        found = LockedPackage(found.name, found.version, (max(solution.files[wanted.distribution])[1],))
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


# --- wheels that no package index serves ----------------------------------------------------------------------


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
    cached = cached_path(f"{path.name}-{wheel.sha256[:16]}", state_dir)
    if cached.exists():
        return replace(read_cached(cached, wheel.sha256), spec=spec)
    pin = _pin_around(wheel, path.name, spec, _question_about(wheel, kept))
    write_pin(cached, pin)
    return pin


def _question_about(wheel: WheelFile, kept: Path) -> Question:
    """What is to be locked around a wheel that lies at `kept`, as far as the wheel itself says it."""
    return Question(
        f"{wheel.distribution} @ {kept.resolve().as_uri()}",
        IndexSpec(wheel.distribution, wheel.version),
        platform_of(wheel.distribution, wheel.version),
    )


def _pin_around(
    wheel: WheelFile, file_name: str, spec: str, question: Question, *, url: str | None = None, commit: str = ""
) -> BuildPin:
    """The pin of a wheel with the packages that answer the question. `url`: where it is from, None for a local file."""
    packages = solve(question).packages
    packages[wheel.distribution] = LockedPackage(wheel.distribution, wheel.version, (wheel.sha256,))
    return BuildPin(
        kind=BuildKind.LOCAL_WHEEL if url is None else BuildKind.REMOTE_WHEEL,
        spec=spec,
        distribution=wheel.distribution,
        version=wheel.version,
        platform=question.platform,
        python_version=python_version(),
        wheel_sha256=wheel.sha256,
        lock=write_lock(packages.values(), local_wheel=file_name),
        url=url,
        commit=commit,
    )


# --- wheels from an address -----------------------------------------------------------------------------------


def _resolve_commit(
    spec: CommitSpec | NightlySpec, text: str, state_dir: Path, on_line: Callable[[str], None]
) -> BuildPin:
    """A wheel of vLLM's index. Pins are kept by commit, so a nightly that was seen before is not fetched again."""
    if isinstance(spec, CommitSpec) and (known := pin_of_commit(spec.commit, spec.variant, state_dir)):
        return replace(known, spec=text)
    offer = offered(spec, on_line)
    with exclusively(offer.url, state_dir, on_line):
        if known := pin_of_commit(offer.commit, spec.variant, state_dir):  # made while we waited, or a nightly before
            return replace(known, spec=text)
        fetched = fetch_offered(offer, spec.variant, state_dir, on_line)
        pin = _pin_of_fetched(fetched, offer.file_name, text)
        write_pin(cached_path(commit_key(offer.commit, spec.variant), state_dir), pin)
    return pin


def _resolve_address(spec: AddressSpec, state_dir: Path, on_line: Callable[[str], None]) -> BuildPin:
    cached = cached_path(address_key(spec.url), state_dir)
    if cached.exists():
        return read_cached(cached, spec.url)
    with exclusively(spec.url, state_dir, on_line):
        if cached.exists():
            return read_cached(cached, spec.url)
        pin = _pin_of_fetched(fetch_address(spec, state_dir, on_line), spec.file_name, spec.url)
        write_pin(cached, pin)
    return pin


def _pin_of_fetched(fetched: FetchedWheel, file_name: str, spec: str) -> BuildPin:
    wheel, variant = fetched.wheel, variant_named(fetched.variant)
    by_itself = _question_about(wheel, fetched.kept)
    question = replace(
        by_itself,
        platform=variant.platform if fetched.variant else by_itself.platform,
        torch_backend=variant.torch_backend,
        requires=wheel.requires,
        packages_beside=packages_beside(fetched.url, fetched.variant),
    )
    return _pin_around(wheel, file_name, spec, question, url=fetched.url, commit=fetched.commit)
