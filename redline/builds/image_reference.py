"""The name of a container image, pure: what it is, and what its tag claims is inside. Only the digest is a fact."""

from __future__ import annotations

import re
from dataclasses import dataclass

IMAGE_PREFIX = "image:"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PORT = r":[0-9]{1,5}"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
# Without a dot or a port, the first part is a folder of the default registry; `localhost` alone is a host.
_HOST = rf"(?:{_NAME}(?:\.{_NAME})+(?:{_PORT})?|{_NAME}{_PORT}|localhost)"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_REPOSITORY_CHARACTERS_MAX = 255
_VERSION_TAG = re.compile(r"v(?P<version>\d+\.\d+\.\d+(?:rc\d+)?(?:\.post\d+)?)(?:-[A-Za-z0-9_.-]+)?")
_COMMIT = re.compile(r"(?:^|-)(?P<commit>[0-9a-f]{40})(?:-|$)")
_PLATFORM_WORDS = {"rocm": "rocm", "cpu": "cpu", "openai": "cuda", "cuda": "cuda"}


@dataclass(frozen=True, slots=True)
class ImageReference:
    """`repository` with the registry's host, if any; `tag` and `digest` (`sha256:` and 64 hex digits) may be empty."""

    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """`REPOSITORY:TAG`, what a registry is asked for; without a tag the digest."""
        return f"{self.repository}:{self.tag}" if self.tag else self.pinned

    @property
    def pinned(self) -> str:
        """`REPOSITORY@sha256:...`: a tag beside a digest means nothing to an engine, so it is no part of a pin."""
        return f"{self.repository}@{self.digest}"


def parse_image(text: str) -> ImageReference:
    """The reference, which has a tag, a digest or both. Raises ValueError in words.

    Source: the grammar of the distribution project, github.com/distribution/reference.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:200]!r}, which is no reference of an image (repositories are in small letters)")
    found = ImageReference(match["repository"], match["tag"] or "", match["digest"] or "")
    if len(found.repository) > _REPOSITORY_CHARACTERS_MAX:
        raise ValueError(
            f"a repository of {len(found.repository)} characters, {_REPOSITORY_CHARACTERS_MAX} are allowed"
        )
    if not found.tag and not found.digest:
        raise ValueError(f"{text[:200]!r}, with neither a digest nor a tag: 'latest' is not guessed")
    return found


def version_claimed(tag: str) -> str:
    """`0.33.0` of `v0.33.0`, `v0.33.0-cu129` and the like; empty if a tag claims none."""
    match = _VERSION_TAG.fullmatch(tag)
    return match["version"] if match else ""


def commit_claimed(tag: str) -> str:
    """The 40 hex digits of `nightly-SHA`, `SHA-x86_64` and the like; empty if a tag claims none."""
    match = _COMMIT.search(tag)
    return match["commit"] if match else ""


def platform_claimed(reference: ImageReference) -> str:
    """`cpu`, `cuda` or `rocm` by the words of the repository's last part and of the tag; empty if they name none.

    `openai` alone means CUDA, as in vllm/vllm-openai; beside `rocm` or `cpu` it means nothing.
    """
    words = re.split(r"[^a-z0-9]+", f"{reference.repository.rpartition('/')[2]}-{reference.tag}".lower())
    found = {_PLATFORM_WORDS[word] for word in words if word in _PLATFORM_WORDS}
    found |= {"cuda" for word in words if re.fullmatch(r"cu\d{3}", word)}
    return next((platform for platform in ("rocm", "cpu", "cuda") if platform in found), "")
