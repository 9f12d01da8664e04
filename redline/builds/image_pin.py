"""The pin of a container image: its digest is its identity, and the deployer holds the server to it.

`version` is what vLLM's labels or the tag claim, and is checked against what the server says; where nothing claims one
it is `unknown`, and what the server says is recorded without being held against it.
"""

from __future__ import annotations

from redline.builds.build_spec import UNKNOWN_PLATFORM
from redline.builds.image_lookup import ImageFacts, look_up
from redline.builds.image_reference import ImageReference, commit_claimed, platform_claimed, version_claimed
from redline.builds.no_build import NoBuild
from redline.model import BuildKind, BuildPin

UNKNOWN_VERSION = "unknown"


def resolve_image(reference: ImageReference, spec: str) -> BuildPin:
    """The pin. An image named by digest needs no network; a tag is looked up every time, for it can move.

    Raises NoBuildError if there is no such image, BuildError if a tag cannot be looked up.
    """
    if reference.digest:
        facts = ImageFacts(reference.digest, version_claimed(reference.tag), commit_claimed(reference.tag))
    else:
        found = look_up(reference)
        if isinstance(found, NoBuild):
            raise found.as_error()
        facts = found
    return BuildPin(
        kind=BuildKind.IMAGE,
        spec=spec,
        distribution="vllm",
        version=facts.version or UNKNOWN_VERSION,
        platform=platform_claimed(reference) or UNKNOWN_PLATFORM,
        python_version="",
        wheel_sha256=None,
        lock="",
        url=ImageReference(reference.repository, digest=facts.digest).pinned,
        commit=facts.commit,
    )
