"""GitHub's API over HTTP: one client of one repository, its retries bounded, its token in one header only.

What may be asked twice is asked again after a broken connection or a server error; what may not, a creation, raises
GitHubUnsureError, and who asked looks first whether it was done (`redline.github.certainty`). What a rate limit turned
away was not done, so it is asked again in any case, when GitHub says so and within a bound.

Source: docs.github.com, "Best practices for using the REST API", "Using pagination in the REST API".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from redline.errors import GitHubError, GitHubUnsureError, UsageError
from redline.github import fields, transport
from redline.github.environment import Environment
from redline.github.refusals import refused, words
from redline.github.transport import REDIRECTS, Answer
from redline.github.waiting import ATTEMPTS_MAX, WAIT_S_MAX, Clock, broken_s, limited_s
from redline.markdown import one_line
from redline.model import REPOSITORY

API_VERSION = "2022-11-28"
PER_PAGE = 100
PAGES_MAX = 100
SILENCE_S_MAX = 30.0

_REDIRECTS_MAX = 3
_NOT_IN_PATHS = re.compile(r"[?#\\\x00-\x20\x7f]")
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


@dataclass(frozen=True, slots=True)
class _Request:
    """One question; `params` may be none where the address holds them already."""

    method: str
    url: httpx.URL
    params: Mapping[str, str | int] | None = None
    body: Mapping[str, Any] | None = None
    repeatable: bool = True
    follow: bool = True

    @property
    def words(self) -> str:
        """Method and path, without the query."""
        return one_line(f"{self.method} {self.url.path}", 200)


def segment(value: str) -> str:
    """An outsider's string as one part of a path; what would climb out of it, `..`, the client refuses."""
    return quote(value, safe="")


class GitHub:
    """A client of one repository's API; a context manager. Not for several threads at once.

    Paths without a leading `/` are below `/repos/OWNER/NAME/`, the others at the API's root; outsiders' strings go
    into them through `segment`. Answers are parsed JSON, None where there is none. `remembered` holds what was learnt
    once about the token, for as long as the client lives.

    Every method raises GitHubError: for a refusal with its `status`, GitHubMissingError for 404 and 410, and
    GitHubUnsureError where a creation's answer was lost. No error's text holds the token.
    """

    def __init__(
        self,
        api_url: str,
        token: str,
        repository: str,
        *,
        clock: Clock | None = None,
        silence_s: float = SILENCE_S_MAX,
    ) -> None:
        self.repository = _checked_repository(repository)
        self.remembered: dict[str, str] = {}
        self.clock = clock or Clock()
        self._api = transport.checked_api(api_url)
        self._token = _checked_token(token)
        self._waited_s = 0.0
        self._client = httpx.Client(verify=transport.trusted(), timeout=silence_s, follow_redirects=False)

    def __repr__(self) -> str:
        return f"GitHub({self._api}, {self.repository})"

    def __enter__(self) -> GitHub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, **params: str | int) -> Any:
        """The JSON of one answer."""
        return self._json(_Request("GET", self._url(path), params))

    def pages(self, path: str, key: str | None = None, **params: str | int) -> Iterator[Any]:
        """Every element of a list, page by page; of the list under `key` where the answer is an object.

        Raises GitHubError if it does not end after `PAGES_MAX` pages: a list cut unseen would hide what is ours.
        """
        request = _Request("GET", self._url(path), {"per_page": PER_PAGE, **params})
        for _ in range(PAGES_MAX):
            answer = self._answered(request)
            found = self._parsed(request, answer)
            yield from fields.value(found, list, *([key] if key else []))
            following = answer.links.get("next", "")
            if not following:
                return
            request = _Request("GET", self._same_host(request, following))
        raise GitHubError(
            f"the list is too long: {request.words}",
            expected=f"at most {PAGES_MAX * PER_PAGE:,} entries",
            found="more",
            next_step="ask for less of it; nothing was changed",
        )

    def post(self, path: str, body: Mapping[str, Any], *, repeatable: bool = False) -> Any:
        """Make something. `repeatable`: doing it twice is the same as once, so a lost answer is no reason to stop."""
        return self._json(_Request("POST", self._url(path), body=body, repeatable=repeatable))

    def patch(self, path: str, body: Mapping[str, Any], *, repeatable: bool = True) -> Any:
        """Change something."""
        return self._json(_Request("PATCH", self._url(path), body=body, repeatable=repeatable))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Set something."""
        return self._json(_Request("PUT", self._url(path), body=body))

    def delete(self, path: str) -> None:
        """Remove something. Raises GitHubMissingError if it is gone, also by an attempt whose answer was lost."""
        self._json(_Request("DELETE", self._url(path)))

    def graphql(self, query: str, variables: Mapping[str, Any], *, repeatable: bool = False) -> Any:
        """The `data` of a GraphQL answer. Its errors, which come with status 200, are raised."""
        url = self._api.copy_with(path=transport.graphql_path(self._api.path))
        request = _Request("POST", url, body={"query": query, "variables": dict(variables)}, repeatable=repeatable)
        for attempt in range(ATTEMPTS_MAX):
            answer = self._answered(request)
            found = self._parsed(request, answer)
            errors = found.get("errors") if isinstance(found, dict) else None
            if not errors:
                return fields.value(found, dict, "data")
            if "RATE_LIMITED" not in [fields.text(each, "type") for each in errors]:
                said = self._without_token(words(json.dumps({"errors": errors})))
                raise GitHubError(
                    "GitHub refuses a GraphQL request",
                    expected="data",
                    found=said,
                    next_step="give the job the permission that this needs; docs/github.md lists each job's",
                    status=403 if "FORBIDDEN" in [fields.text(each, "type") for each in errors] else 200,
                )
            wait_s = limited_s(429, answer.headers, "", attempt, self.clock.epoch_s())
            self.pause(wait_s or 0.0, "GitHub's rate limit of GraphQL requests is used up")
        raise self._exhausted(request, "a rate limit that does not end")

    def download(self, path: str, target: Path, bytes_max: int) -> None:
        """Put a file that the API redirects to at `target`, which is whole or not there. The token stays with the API.

        Raises GitHubError, ArtifactError if there are more than `bytes_max` bytes, OSError if the disk refuses.
        """
        request = _Request("GET", self._url(path), follow=False)
        found = ""
        for attempt in range(ATTEMPTS_MAX):
            if attempt:  # from the start: the address that the API gave holds for a short time only
                wait_s = broken_s({}, attempt - 1, self.clock.epoch_s())
                self.pause(wait_s, f"a download broke off: {request.words}: {found}")
            answer = self._answered(request)
            try:
                transport.save(answer, self._api, target, bytes_max, self.clock)
            except transport.BrokenOffError as error:
                found = str(error)
            else:
                return
        raise self._exhausted(request, f"a download that breaks off: {found}")

    def pause(self, wait_s: float, reason: str) -> None:
        """Wait. Raises GitHubError, without waiting, if this client would then have waited too long in all."""
        if self._waited_s + wait_s > WAIT_S_MAX:
            raise GitHubError(
                self._without_token(reason),
                expected=f"an answer within {WAIT_S_MAX:.0f} s of waiting",
                found=f"{self._waited_s:.0f} s waited, {wait_s:.0f} s more asked for",
                next_step=f"start this step again in {wait_s / 60:.0f} minutes",
            )
        self._waited_s += wait_s
        self.clock.sleep(wait_s)

    # --- one question, asked until it is answered ---------------------------------------------------------------

    def _json(self, request: _Request) -> Any:
        return self._parsed(request, self._answered(request))

    def _parsed(self, request: _Request, answer: Answer) -> Any:
        if not answer.content:
            return None
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError) as error:
            raise (GitHubError if request.repeatable else GitHubUnsureError)(
                f"GitHub's answer cannot be read: {request.words}",
                expected="JSON",
                found=f"{len(answer.content):,} bytes of something else",
                next_step="see whether the address is a GitHub server's",
                status=answer.status,
            ) from error

    def _answered(self, request: _Request) -> Answer:
        """The final answer: of the 200s, or a redirect that the request does not follow."""
        found, wait_s = "", 0.0
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                self.pause(wait_s, f"GitHub does not answer: {request.words}: {found}")
            try:
                answer = self._redirected(request)
            except _NOT_SENT as error:
                found = f"it cannot be reached: {one_line(str(error))}"
                wait_s = broken_s({}, attempt, self.clock.epoch_s())
                continue
            except httpx.HTTPError as error:  # the question may have arrived
                found = f"its answer broke off: {type(error).__name__}"
                self._require_repeatable(request, found)
                wait_s = broken_s({}, attempt, self.clock.epoch_s())
                continue
            if answer.status < 300 or (answer.status in REDIRECTS and not request.follow):
                return answer
            found = f"HTTP status {answer.status}"
            wait_s = self._wait_s(request, answer, attempt)
        raise self._exhausted(request, found)

    def _redirected(self, request: _Request) -> Answer:
        for _ in range(_REDIRECTS_MAX + 1):
            answer = transport.ask(
                self._client,
                request.method,
                request.url,
                params=request.params,
                body=request.body,
                headers=self._headers(),
                clock=self.clock,
            )
            # A creation that was sent elsewhere with 301 or 302 would become a question: it is refused instead.
            kept = request.method == "GET" or answer.status in (307, 308)
            if answer.status not in REDIRECTS or not request.follow or not kept:
                return answer
            url = self._same_host(request, answer.headers.get("location", ""))
            request = _Request(request.method, url, None, request.body, request.repeatable)
        raise GitHubError(
            f"GitHub's API leads in a circle: {request.words}",
            expected=f"at most {_REDIRECTS_MAX} redirects",
            found="more",
            next_step="see whether the repository was moved",
        )

    def _wait_s(self, request: _Request, answer: Answer, attempt: int) -> float:
        """Seconds until the question may be asked again. Raises GitHubError if the answer is final."""
        now_s = self.clock.epoch_s()
        last = attempt + 1 == ATTEMPTS_MAX
        limited = limited_s(answer.status, answer.headers, answer.text, attempt, now_s)
        if limited is not None and not last:
            return limited
        if answer.status >= 500:
            self._require_repeatable(request, f"HTTP status {answer.status}")
            if not last:
                return broken_s(answer.headers, attempt, now_s)
        raise refused(request.words, answer.status, answer.headers, self._without_token(answer.text))

    def _require_repeatable(self, request: _Request, found: str) -> None:
        if not request.repeatable:
            raise GitHubUnsureError(
                f"GitHub's answer was lost: {request.words}",
                expected="an answer that says whether it was done",
                found=found,
                next_step="start this step again: it looks first at what is there",
            )

    def _exhausted(self, request: _Request, found: str) -> GitHubError:
        return GitHubError(
            f"GitHub does not answer: {request.words}",
            expected=f"an answer within {ATTEMPTS_MAX} attempts",
            found=found,
            next_step="start this step again later; see githubstatus.com",
        )

    # --- addresses and headers ------------------------------------------------------------------------------------

    def _url(self, path: str) -> httpx.URL:
        below = path[1:] if path.startswith("/") else f"repos/{self.repository}/{path}"
        parts = below.split("/")
        if any(part in ("", ".", "..") for part in parts) or not below.isascii() or _NOT_IN_PATHS.search(below):
            raise GitHubError(
                "this is no path of GitHub's API",
                expected="parts of a path, outsiders' strings escaped",
                found=one_line(path, 200),
                next_step="look at the name that it was made of",
            )
        return httpx.URL(f"{self._api}/{below}")

    def _same_host(self, request: _Request, location: str) -> httpx.URL:
        url = transport.joined(request.url, location)
        if not transport.same_origin(url, self._api):
            raise GitHubError(
                f"GitHub's API leads elsewhere: {request.words}",
                expected=f"an address at {self._api.host}",
                found=one_line(url.host or location, 100),
                next_step="see whether the repository was moved; the token was not sent there",
            )
        return url

    def _headers(self) -> dict[str, str]:
        return {
            "accept": "application/vnd.github+json",
            "authorization": f"Bearer {self._token}",
            "user-agent": "redline",
            "x-github-api-version": API_VERSION,
        }

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "[token]")


def github_of(environment: Environment, *, clock: Clock | None = None) -> GitHub:
    """A client for a job's repository with its token; a context manager. Raises UsageError without a token."""
    return GitHub(environment.api_url, environment.token, environment.repository, clock=clock)


def _checked_repository(repository: str) -> str:
    if REPOSITORY.fullmatch(repository) is None or repository.split("/")[1] in (".", ".."):
        raise UsageError(
            "this is no repository",
            expected="OWNER/NAME",
            found=one_line(repository, 200),
            next_step="correct GITHUB_REPOSITORY",
        )
    return repository


def _checked_token(token: str) -> str:
    if not token or not all("!" <= character <= "~" for character in token):
        raise UsageError(
            "this is no token",
            expected="printable ASCII without blanks",
            found="nothing" if not token else "a character that cannot stand in an HTTP header",
            next_step="give it to this one step: env: GITHUB_TOKEN: ${{ github.token }}",
        )
    return token
