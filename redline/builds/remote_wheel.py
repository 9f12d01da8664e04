"""A wheel from an address becomes a pin: downloaded once, kept by content, and believed only where all of it agrees.

What the index says, what the file is called, what the wheel's metadata say and, where a commit was asked for, what its
source says must be one: a resolver given the documented nightly command can install another wheel than was meant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from redline.builds.build_spec import DISTRIBUTIONS, AddressSpec, CommitSpec, NightlySpec, variant_of
from redline.builds.download import download
from redline.builds.exclusive import hold
from redline.builds.no_build import NoBuild
from redline.builds.pin_cache import cached_path, commit_key, commits_cached, read_cached
from redline.builds.pin_record import write_text
from redline.builds.wheel_file import WheelFile, keep_moved, kept_path, read_wheel
from redline.builds.wheel_index import OfferedWheel, index_address, open_index
from redline.errors import BuildError, UsageError
from redline.model import BuildPin

COMMIT_DIGITS = 40


@dataclass(frozen=True, slots=True)
class FetchedWheel:
    """A wheel that is kept now and was verified. `commit`: 40 hex digits, empty if nobody says it. `variant`: empty for
    the default, also where that has another name in the index.
    """

    wheel: WheelFile
    kept: Path
    url: str
    commit: str
    variant: str


def commit_in_full(spec: CommitSpec, state_dir: Path) -> str:
    """The 40 hex digits of a commit that was written short. Raises UsageError: an index knows commits in full only."""
    if len(spec.commit) == COMMIT_DIGITS:
        return spec.commit
    known = commits_cached(spec.commit, spec.variant, state_dir)
    if len(known) == 1:
        return known[0]
    raise UsageError(
        f"commit {spec.commit} is not written in full",
        expected=f"{COMMIT_DIGITS} hex digits: the wheel index knows commits by nothing less",
        found=f"{len(known)} commits pinned here that begin so",
        next_step=f"write what `git rev-parse {spec.commit}` prints in a checkout of vLLM",
    )


def offered(spec: CommitSpec | NightlySpec, on_line: Callable[[str], None]) -> OfferedWheel:
    """What the index offers for a spec; of nightly it says which commit that is, and of when.

    Raises NoBuildError if it offers nothing for this machine; UsageError and BuildError as `open_index` and its index.
    """
    with open_index() as index:
        if isinstance(spec, NightlySpec):
            found = index.nightly(spec.variant)
        else:
            found = index.of_commit(spec.commit, spec.variant)
    if isinstance(found, NoBuild):
        raise found.as_error()
    if isinstance(spec, NightlySpec):
        when = f", listed {found.written}" if found.written else ""
        on_line(f"nightly is commit {found.commit}{when}: {found.file_name}")
    return found


def pin_of_commit(commit: str, variant: str, state_dir: Path) -> BuildPin | None:
    """The pin that was made of it before; None if there is none. Raises ContentError if it is damaged."""
    path = cached_path(commit_key(commit, variant), state_dir)
    return read_cached(path, commit) if path.exists() else None


def address_key(url: str) -> str:
    """The key of a wheel that was named by its address."""
    return f"address-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def exclusively(url: str, state_dir: Path, on_line: Callable[[str], None]) -> AbstractContextManager[int]:
    """One process at a time fetches what is at an address; the others wait, and find it made."""
    path = _downloads(state_dir) / f"{address_key(url)}.lock"
    return hold(path, url.rpartition("/")[2], on_line, doing="fetching")


def fetch_offered(offer: OfferedWheel, variant: str, state_dir: Path, on_line: Callable[[str], None]) -> FetchedWheel:
    """The wheel that the index offers, verified to be of the commit and version that it was offered as.

    Raises BuildError. The caller holds `exclusively`.
    """
    wheel = _downloaded(offer.url, offer.file_name, state_dir, on_line)
    _require_version(wheel, offer.url, offer.version)
    if not wheel.is_of(offer.commit):
        wheel.path.unlink(missing_ok=True)
        raise BuildError(
            f"{offer.url}: not a wheel of the commit that it is offered for",
            expected=f"__commit_id__ or a version of {offer.commit}",
            found=" and ".join(wheel.commits) or "a wheel that does not say which commit it is of",
            next_step="name the wheel by its address if you trust it: its commit is then unknown",
        )
    kept = _kept(wheel, offer.url, offer.file_name, state_dir)
    return FetchedWheel(wheel, kept, offer.url, offer.commit, variant if offer.variant else "")


def fetch_address(spec: AddressSpec, state_dir: Path, on_line: Callable[[str], None]) -> FetchedWheel:
    """The wheel at an address, verified to be what its name says. Its commit is known only if the wheel says all of it.

    Raises BuildError. The caller holds `exclusively`.
    """
    wheel = _downloaded(spec.url, spec.file_name, state_dir, on_line)
    _require_version(wheel, spec.url, str(parse_wheel_filename(spec.file_name)[1]))
    kept = _kept(wheel, spec.url, spec.file_name, state_dir)
    whole = [each for each in wheel.commits if len(each) == COMMIT_DIGITS]
    in_address = [part for part in spec.url.split("/") if len(part) == COMMIT_DIGITS and wheel.is_of(part)]
    commit = next(iter([*whole, *in_address]), "")
    return FetchedWheel(wheel, kept, spec.url, commit, variant_of(wheel.version))


def fetch_again(pin: BuildPin, file_name: str, state_dir: Path, on_line: Callable[[str], None]) -> Path:
    """A pinned wheel that is no longer kept, from the index that the user named and from nowhere else.

    A pin may arrive in a pull request: its address alone must not make this machine fetch from anywhere.
    Raises BuildError: not of that index, not to be had, or other bytes than were pinned.
    """
    url, address = str(pin.url), index_address()
    if address is None or not address.holds(url):
        raise BuildError(
            f"the wheel of {pin.label} is not on this machine",
            expected=f"{file_name} with sha256 {pin.wheel_sha256}, or an address under $REDLINE_WHEEL_INDEX",
            found=f"a record that names {url}",
            next_step=f"if you trust that address: redline builds pin {url}",
        )
    with exclusively(url, state_dir, on_line):
        wheel = _downloaded(url, file_name, state_dir, on_line)
        if wheel.sha256 != pin.wheel_sha256:
            wheel.path.unlink(missing_ok=True)
            raise BuildError(
                f"{url}: not the wheel that was pinned",
                expected=f"sha256 {pin.wheel_sha256}",
                found=f"sha256 {wheel.sha256}",
                next_step="the index has another file there now: pin the build again",
            )
        return _kept(wheel, url, file_name, state_dir)


def packages_beside(url: str, variant: str) -> str:
    """Where the packages are that a wheel of this variant brings, empty if it brings none; it may hold a password."""
    address = index_address()
    return address.packages_beside(url, variant) if address is not None else ""


def _downloads(state_dir: Path) -> Path:
    return state_dir / "wheels" / ".downloads"


def _downloaded(url: str, file_name: str, state_dir: Path, on_line: Callable[[str], None]) -> WheelFile:
    """The wheel, not yet kept. Raises BuildError if what came is no wheel of vLLM; it is deleted then."""
    address = index_address()
    auth = address.auth if address is not None and address.holds(url) else None
    target = _downloads(state_dir) / f"{address_key(url)}.whl"
    if (kept := _kept_before(url, file_name, state_dir)) is not None:
        return kept
    on_line(f"downloading {url}")
    download(url, target, on_line=on_line, auth=auth)
    try:
        wheel = read_wheel(target)
    except UsageError as error:
        target.unlink(missing_ok=True)
        raise BuildError(
            f"{url}: what came is no wheel",
            expected=file_name,
            found=error.found,
            next_step="check the address; it may be a page that asks for a login",
        ) from error
    if wheel.distribution not in DISTRIBUTIONS:
        target.unlink(missing_ok=True)
        raise BuildError(
            f"{url}: not a wheel of vLLM",
            expected=f"Name {' or '.join(DISTRIBUTIONS)} in its metadata",
            found=repr(wheel.distribution)[:100],
            next_step="check the address",
        )
    return wheel


def _kept(wheel: WheelFile, url: str, file_name: str, state_dir: Path) -> Path:
    """The wheel put where it stays, and a note of which address it is from. Raises BuildError."""
    kept = kept_path(state_dir, wheel.sha256, file_name)
    if wheel.path != kept:
        keep_moved(wheel, file_name, state_dir)
        write_text(_note(url, state_dir), json.dumps({"url": url, "sha256": wheel.sha256}) + "\n")
    return kept


def _kept_before(url: str, file_name: str, state_dir: Path) -> WheelFile | None:
    """What was fetched from there before, if its bytes are still what they were: a lock may have failed after it."""
    try:
        note = json.loads(_note(url, state_dir).read_text(encoding="utf-8"))
        kept = kept_path(state_dir, str(note["sha256"]), file_name)
        return wheel if note["url"] == url and (wheel := read_wheel(kept)).sha256 == note["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError, UsageError):
        return None


def _note(url: str, state_dir: Path) -> Path:
    return _downloads(state_dir) / f"{address_key(url)}.json"


def _require_version(wheel: WheelFile, url: str, version: str) -> None:
    if Version(wheel.version) != Version(version):
        wheel.path.unlink(missing_ok=True)
        raise BuildError(
            f"{url}: the wheel is not of the version that its name says",
            expected=version,
            found=wheel.version[:100] or "none",
            next_step="do not use it; report it to whoever published it",
        )
