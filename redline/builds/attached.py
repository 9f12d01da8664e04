"""The pin of servers that somebody else started: what they say they are, which is all that can be known."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence

import httpx

from redline.access import api_key, headers, trust
from redline.builds.build_spec import UNKNOWN_PLATFORM, VALID_FORMS, platform_of
from redline.errors import BuildError
from redline.model import BuildKind, BuildPin

VERSION_ANSWER_S_MAX = 10.0
VERSION_ANSWER_BYTES_MAX = 65_536


def resolve_endpoint(base_urls: Sequence[str]) -> BuildPin:
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
            f"nobody answers at {base_url}"
            if isinstance(error, httpx.TransportError)
            else f"{address} does not say which vLLM it is",
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
