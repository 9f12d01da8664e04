"""vLLM's index of nightly and per-commit wheels: which wheel there is for a commit, on this machine, at what address.

    <index>/<40 hex digits>/vllm/metadata.json              the default variant of a commit
    <index>/<40 hex digits>/<variant>/vllm/metadata.json    another one; for ROCm all of it lies under <index>/rocm
    <index>/nightly[/<variant>]/vllm/metadata.json          what the newest commit on main has, overwritten by each

The wheels themselves lie under their commit only. The files hold no digests: what is downloaded is checked by what the
wheel says of itself, and pinned by its own. Where the index is, the user says: $REDLINE_WHEEL_INDEX.
Source: vLLM's docs/contributing/ci/nightly_builds.md and .buildkite/scripts/generate-nightly-index.py.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

import httpx
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from redline.access import trust
from redline.builds.lock_text import WHEEL_FILE_NAME
from redline.builds.no_build import NoBuild
from redline.builds.variants import Variant, variant_named
from redline.errors import BuildError, UsageError

INDEX_VARIABLE = "REDLINE_WHEEL_INDEX"
NIGHTLY = "nightly"
ANSWER_S_MAX = 30.0
ANSWER_BYTES_MAX = 1_000_000
ATTEMPTS_MAX = 3
RETRY_S = 0.5
SHOWN_MAX = 5
_MISSING = (403, 404, 410)
_BUSY = (429, 500, 502, 503, 504)
_COMMIT = re.compile(r"/([0-9a-f]{40})/")


@dataclass(frozen=True, slots=True)
class OfferedWheel:
    """A wheel of the index that fits this machine: `version` in full, `commit` 40 hex digits, `variant` empty for the
    default. `written`: when the index page was, as the server says it, empty if it does not.
    """

    url: str
    file_name: str
    version: str
    commit: str
    variant: str
    written: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class IndexAddress:
    """Where the index is: `base` without credentials or a slash at its end. Not printable: `auth` is a password."""

    base: str
    auth: tuple[str, str] | None = None

    def holds(self, url: str) -> bool:
        """True if the address is one of this index, however it is spelled."""
        path = unquote(urlsplit(url).path)
        return url.startswith(f"{self.base}/") and ".." not in path.split("/") and "\\" not in path

    def packages_beside(self, url: str, variant: str) -> str:
        """The package index that serves what a wheel of this index brings with it; empty if it brings nothing.

        Credentials are in it: for the environment of a process only.
        """
        if not variant or not self.holds(url) or not variant_named(variant).brings_packages:
            return ""
        parts = urlsplit(f"{url.rpartition('/')[0]}/{variant}/")
        user = ":".join(quote(part, safe="") for part in self.auth) + "@" if self.auth else ""
        return urlunsplit(parts._replace(netloc=f"{user}{parts.netloc}"))


def index_address(environment: Mapping[str, str] = os.environ) -> IndexAddress | None:
    """What $REDLINE_WHEEL_INDEX says; None if it says nothing. Raises UsageError, without repeating a password."""
    text = environment.get(INDEX_VARIABLE, "").strip().rstrip("/")
    if not text:
        return None
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username is not None else None
        base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.port != 0 else ""
    except ValueError:
        usable, base, auth = False, "", None
    if not usable or not base:
        raise UsageError(
            f"${INDEX_VARIABLE} is not the address of an index",
            expected="https://HOST or https://HOST/PATH, without query",
            found="something else",
            next_step="vLLM's installation page names the address under which it publishes wheels of every commit",
        )
    return IndexAddress(base, auth)


@contextmanager
def open_index() -> Iterator[WheelIndex]:
    """The index that the user named, its connection kept while the context lasts. Raises UsageError if none is."""
    address = index_address()
    if address is None:
        raise UsageError(
            "Redline does not know where vLLM's nightly and per-commit wheels are",
            expected=f"${INDEX_VARIABLE}, the address of vLLM's wheel index or of a mirror of it",
            found="no such variable",
            next_step=f"export {INDEX_VARIABLE}=https://... ; vLLM's installation page says which address. "
            "In the service it is a repository variable (docs/github.md)",
        )
    with httpx.Client(verify=trust(), auth=address.auth, timeout=ANSWER_S_MAX, follow_redirects=True) as client:
        yield WheelIndex(address, client)


class WheelIndex:
    """The index; a 403 is how a bucket that may not be listed says that there is no such file."""

    def __init__(self, address: IndexAddress, client: httpx.Client, *, retry_s: float = RETRY_S) -> None:
        self.address = address
        self._client = client
        self._retry_s = retry_s
        self._answers: bool | None = None

    def of_commit(self, commit: str, variant: str = "") -> OfferedWheel | NoBuild:
        """The wheel of a commit (40 hex digits). Raises BuildError if the index cannot be asked or is damaged."""
        found = self._find(commit, variant)
        if isinstance(found, OfferedWheel) and found.commit != commit:
            raise _damaged(found.url, f"a wheel under {commit}", "a wheel of another commit")
        return found

    def nightly(self, variant: str = "") -> OfferedWheel | NoBuild:
        """What the index calls nightly now. Raises BuildError as above."""
        return self._find(NIGHTLY, variant)

    def _find(self, folder: str, variant: str) -> OfferedWheel | NoBuild:
        described = variant_named(variant)
        name = f"{folder if folder == NIGHTLY else f'commit:{folder}'}{f'/{variant}' if variant else ''}"
        parts = [self.address.base, described.folder, folder, variant, "vllm", "metadata.json"]
        url = "/".join(part for part in parts if part)
        answer = self._get(url)
        if answer.status_code in _MISSING:
            self._require_answering(answer)
            return NoBuild(name, f"the index has nothing under it (HTTP status {answer.status_code})")
        entries = _entries(url, answer)
        offers = [offer for entry in entries if (offer := self._offer(url, entry, variant, answer))]
        return _fitting(name, offers, described)

    def _offer(
        self, url: str, entry: Mapping[str, Any], variant: str, answer: httpx.Response
    ) -> tuple[OfferedWheel, frozenset[Any]] | None:
        """One line of an index page with the tags of its file; None if it is of another package or variant.

        Raises BuildError for an address outside of the index, or a line that contradicts itself.
        """
        name, path, suffix = entry.get("filename"), entry.get("path"), entry.get("variant")
        if entry.get("package_name") != "vllm" or suffix not in (None, variant or None):
            return None
        if not isinstance(name, str) or not isinstance(path, str) or not WHEEL_FILE_NAME.fullmatch(name):
            raise _damaged(url, "the name and the path of a wheel", repr(name)[:200])
        address = urljoin(url, path)
        said = str(entry.get("version"))
        full = f"{said}{'.' if '+' in said else '+'}{suffix}" if suffix else said
        try:
            _, version, _, tags = parse_wheel_filename(name)
            agrees = version == Version(full) and unquote(urlsplit(address).path.rpartition("/")[2]) == name
        except (InvalidWheelFilename, InvalidVersion, ValueError) as error:
            raise _damaged(url, "the name of a wheel", repr(name)[:200]) from error
        commit = _COMMIT.findall(urlsplit(address).path)
        if not agrees or not commit or not self.address.holds(address):
            raise _damaged(url, f"a wheel of version {full} in the folder of a commit", repr(path)[:200])
        written = answer.headers.get("last-modified", "")
        return OfferedWheel(address, name, str(version), commit[-1], suffix or "", written), frozenset(tags)

    def _require_answering(self, answer: httpx.Response) -> None:
        """Raise BuildError if a 403 means that nothing is served here at all, not even nightly."""
        if answer.status_code != 403 or self._answers:
            return
        probe = self._get(f"{self.address.base}/{NIGHTLY}/vllm/metadata.json")
        self._answers = probe.status_code == 200
        if not self._answers:
            raise BuildError(
                "the wheel index serves nothing",
                expected=f"an answer at {self.address.base}/{NIGHTLY}/vllm/metadata.json",
                found=f"HTTP status {probe.status_code}",
                next_step=f"correct ${INDEX_VARIABLE}, or ask why this machine may not read there",
            )

    def _get(self, url: str) -> httpx.Response:
        """The answer, bounded in size and time. Raises BuildError if there is none."""
        problem = ""
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                time.sleep(self._retry_s * 2**attempt)
            try:
                answer = _read(self._client, url)
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                problem = f"{type(error).__name__}: {str(error)[:200]}"
                continue
            if answer.status_code not in _BUSY:
                return answer
            problem = f"HTTP status {answer.status_code}"
        raise BuildError(
            "the wheel index cannot be asked",
            expected=f"an answer at {url}",
            found=problem,
            next_step=f"check the network and ${INDEX_VARIABLE}, then try again",
        )


def _read(client: httpx.Client, url: str) -> httpx.Response:
    deadline_s = time.monotonic() + ANSWER_S_MAX
    with client.stream("GET", url) as answer:
        body = b""
        for block in answer.iter_bytes():
            body += block
            if len(body) > ANSWER_BYTES_MAX or time.monotonic() > deadline_s:
                raise ValueError(f"an answer that is too long or too slow ({len(body)} bytes so far)")
    plain = {name: value for name, value in answer.headers.items() if name.lower() == "last-modified"}
    return httpx.Response(answer.status_code, headers=plain, content=body)


def _entries(url: str, answer: httpx.Response) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads(answer.content) if answer.status_code == 200 else None
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _damaged(url, "a JSON list of wheels", f"HTTP status {answer.status_code}, {len(answer.content)} bytes")
    return entries


def _fitting(
    name: str, offers: list[tuple[OfferedWheel, frozenset[Any]]], described: Variant
) -> OfferedWheel | NoBuild:
    """The wheel whose tags this Python and this machine like best."""
    rank = {tag: index for index, tag in enumerate(sys_tags())}
    ranked = [
        (min(rank[tag] for tag in tags & rank.keys()), offer.file_name, offer)
        for offer, tags in offers
        if tags & rank.keys()
    ]
    if ranked:
        return min(ranked, key=lambda each: each[:2])[2]
    here = f"Python {sys.version_info.major}.{sys.version_info.minor} on {platform.machine()}"
    here += f" with {' '.join(platform.libc_ver()).strip() or 'an unknown C library'}"
    there = ", ".join(sorted(offer.file_name for offer, _ in offers)[:SHOWN_MAX]) or "no wheel of this variant"
    needs = f"; this variant needs {described.needs}" if described.needs else ""
    return NoBuild(name, f"none fits {here}: the index has {there}{needs}")


def _damaged(url: str, expected: str, found: str) -> BuildError:
    return BuildError(
        f"{url}: not a page of vLLM's wheel index",
        expected=expected,
        found=found,
        next_step=f"check ${INDEX_VARIABLE}; if it is right, the index itself is damaged",
    )
