"""One HTTP question and its answer, bounded in bytes and in time; a download that leaves the token behind."""

from __future__ import annotations

import ipaddress
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from redline.access import trust
from redline.errors import ArtifactError, GitHubError, UsageError
from redline.github.waiting import Clock
from redline.markdown import one_line

REDIRECTS = (301, 302, 307, 308)

_ANSWER_BYTES_MAX = 50_000_000
_ANSWER_S_MAX = 120.0
_DOWNLOAD_S_MAX = 900.0
_SILENCE_S_MAX = 60.0
_HOPS_MAX = 3


@cache
def trusted() -> ssl.SSLContext:
    """The certificates that are trusted, read once: that takes longer than a request."""
    return trust()


class BrokenOffError(Exception):
    """A download did not come to its end; another attempt may."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. `headers`: names in lower case. `links`: addresses of the Link header by relation."""

    status: int
    headers: Mapping[str, str]
    links: Mapping[str, str]
    content: bytes
    url: httpx.URL

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.content.decode("utf-8", errors="replace")


def ask(
    client: httpx.Client,
    method: str,
    url: httpx.URL,
    *,
    params: Mapping[str, str | int] | None,
    body: Mapping[str, Any] | None,
    headers: Mapping[str, str],
    clock: Clock,
) -> Answer:
    """The answer to one question, read to its end. Raises httpx.HTTPError if it is none, is too long or too slow."""
    content = None if body is None else json.dumps(body).encode()
    sent = dict(headers) if body is None else {**headers, "content-type": "application/json"}
    until_s = clock.monotonic_s() + _ANSWER_S_MAX
    with client.stream(method, url, params=params or None, content=content, headers=sent) as answer:
        read = bytearray()
        for block in answer.iter_bytes():
            read += block
            if len(read) > _ANSWER_BYTES_MAX or clock.monotonic_s() > until_s:
                raise httpx.ReadError(f"more than {_ANSWER_BYTES_MAX:,} bytes or {_ANSWER_S_MAX:.0f} s")
        links = {relation: link.get("url", "") for relation, link in answer.links.items() if relation}
        plain = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, plain, links, bytes(read), answer.url)


def save(answer: Answer, api: httpx.URL, target: Path, bytes_max: int, clock: Clock) -> None:
    """Put what an answer of the API holds, or redirects to, at `target`: whole, or nothing is left there.

    The redirect is followed by a client that knows no token. Raises BrokenOffError, GitHubError, ArtifactError and
    OSError. No error repeats the address: it is signed, and whoever has it may fetch the file.
    """
    try:
        with target.open("wb") as file:
            size = 0
            for block in _blocks(answer, api, bytes_max, clock):
                size += len(block)
                if size > bytes_max:
                    raise _too_large(bytes_max, f"{size:,} bytes so far")
                file.write(block)
    except BaseException:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        raise


def _blocks(answer: Answer, api: httpx.URL, bytes_max: int, clock: Clock) -> Iterator[bytes]:
    if answer.status not in REDIRECTS:
        yield answer.content
        return
    url = joined(answer.url, answer.headers.get("location", ""))
    until_s = clock.monotonic_s() + _DOWNLOAD_S_MAX
    try:
        with httpx.Client(verify=trusted(), timeout=_SILENCE_S_MAX, follow_redirects=False) as client:
            for _ in range(_HOPS_MAX):
                _require_encrypted(url, api)
                headers = {"user-agent": "redline", "accept-encoding": "identity"}
                with client.stream("GET", url, headers=headers) as found:
                    if found.status_code in REDIRECTS:
                        url = joined(url, found.headers.get("location", ""))
                        continue
                    _require_file(found, bytes_max)
                    for block in found.iter_raw():
                        yield block
                        if clock.monotonic_s() > until_s:
                            raise BrokenOffError(f"no end within {_DOWNLOAD_S_MAX:.0f} s")
                    return
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BrokenOffError(type(error).__name__) from None  # its text and its chain may hold the address
    raise BrokenOffError(f"more than {_HOPS_MAX} redirects")


def _require_file(found: httpx.Response, bytes_max: int) -> None:
    if found.status_code != 200:
        raise BrokenOffError(f"HTTP status {found.status_code} of the host that keeps the file")
    if found.headers.get("content-encoding", "identity") != "identity":
        raise BrokenOffError("the file came in an encoding that was not asked for")
    length = found.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:18]) > bytes_max:
        raise _too_large(bytes_max, f"{int(length[:18]):,} bytes")


def _too_large(bytes_max: int, found: str) -> ArtifactError:
    return ArtifactError(
        "a file is too large to be fetched",
        expected=f"at most {bytes_max:,} bytes",
        found=found,
        next_step="look at what was uploaded; nothing of it was kept",
    )


def checked_api(api_url: str) -> httpx.URL:
    """The API's address without a slash at its end. Raises UsageError if a token may not be sent there."""
    try:
        url = httpx.URL(api_url.rstrip("/"))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if not url.host or url.userinfo or url.query or url.fragment or not (url.scheme == "https" or _is_local(url)):
        raise UsageError(
            "this is no address of GitHub's API",
            expected="https://HOST or https://HOST/api/v3",
            found=one_line(f"{url.scheme}://{url.host}" if url.host else "something else", 200),
            next_step="correct GITHUB_API_URL; the token was sent nowhere",
        )
    return url


def graphql_path(api_path: str) -> str:
    """The path of GraphQL beside that of REST: GitHub Enterprise Server has them at /api/graphql and /api/v3."""
    return f"{api_path.rstrip('/').removesuffix('/v3')}/graphql"


def joined(url: httpx.URL, location: str) -> httpx.URL:
    """Where a redirect or a link at `url` leads. Raises GitHubError if that is no address."""
    try:
        return url.join(location)
    except (httpx.InvalidURL, ValueError) as error:
        raise GitHubError(
            "GitHub's API leads to something that is no address",
            expected="an address",
            found=f"{len(location)} characters",
            next_step="see whether the address is a GitHub server's",
        ) from error


def same_origin(url: httpx.URL, api: httpx.URL) -> bool:
    """True if both are the same scheme, host and port, and the address names no user."""
    return (url.scheme, url.host, url.port) == (api.scheme, api.host, api.port) and not url.userinfo


def _require_encrypted(url: httpx.URL, api: httpx.URL) -> None:
    if url.scheme != "https" and not (_is_local(url) and _is_local(api)):
        raise GitHubError(
            "GitHub's API leads to an unencrypted address",
            expected="https",
            found=f"{one_line(url.scheme, 20)} at {one_line(url.host, 100)}",
            next_step="see whether the address is a GitHub server's; nothing was fetched",
        )


def _is_local(url: httpx.URL) -> bool:
    if url.scheme != "http":
        return False
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.host == "localhost"
