"""A small GitHub over real HTTP: the parts of the API that Redline uses, their limits, and faults to order.

It answers the real client with real requests. It is not GitHub: what it does not know it answers with 404. Files of
artifacts lie on a second server at another port, which refuses whoever brings a token.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from tests.fakes import github_code, github_jobs, github_talk
from tests.fakes.github_routing import ROUTES, Listing, RefusedError, Reply, Request, require_rights
from tests.fakes.github_state import REPOSITORY, TOKEN, GitHubState, Identity
from tests.fakes.local_server import LocalHandler, LocalServer

__all__ = ["REPOSITORY", "TOKEN", "Asked", "Fault", "GitHubApi", "GitHubState", "Identity"]

assert github_code and github_jobs and github_talk, "importing them makes the routes"


@dataclass
class Fault:
    """What happens instead of an answer, `times` times, to requests whose path below the repository fits `path`.

    `drop`: the connection ends without a word, `before` anything is done or `after`. `cut`: so many bytes of the body
    come and no more. `delay_s` is waited first. `page`: text instead of the API's JSON.
    """

    method: str
    path: str
    status: int = 0
    message: str = "injected"
    headers: dict[str, str] = field(default_factory=dict)
    errors: list[Any] = field(default_factory=list)
    times: int = 1
    drop: str = ""
    after: bool = False
    """A status that comes although all was done."""
    cut: int = -1
    delay_s: float = 0.0
    page: str = ""
    storage: bool = False
    """It happens at the host that keeps the files."""

    @classmethod
    def primary(cls, method: str, path: str, reset_epoch_s: float, **more: Any) -> Fault:
        """The hourly limit is used up."""
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(reset_epoch_s))}
        return cls(method, path, 403, "API rate limit exceeded for installation ID 1.", headers, **more)

    @classmethod
    def secondary(cls, method: str, path: str, retry_after_s: int | None = None, **more: Any) -> Fault:
        """Too much at once; without `retry_after_s` only the text says so."""
        headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
        return cls(method, path, 403, "You have exceeded a secondary rate limit.", headers, **more)


@dataclass(frozen=True)
class Asked:
    """One request as it came, `path` without the repository's part and decoded."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class GitHubApi:
    """Both servers; a context manager. `faults` may be added at any time, `asked` and `fetched` hold every request."""

    def __init__(self, state: GitHubState | None = None) -> None:
        self.state = state or GitHubState()
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.fetched: list[Asked] = []
        self._server, self._storage = LocalServer(_Api, api=self), LocalServer(_Storage, api=self)

    def forget(self) -> None:
        """Be as new: an empty repository, no faults, nothing asked. Starting a server takes longer than a test."""
        self.state, self.faults, self.asked, self.fetched = GitHubState(), [], [], []

    @property
    def url(self) -> str:
        """The API's address."""
        return self._server.url

    @property
    def storage_url(self) -> str:
        """The address of the host that keeps the files."""
        return self._storage.url

    def __enter__(self) -> GitHubApi:
        self._server.start()
        self._storage.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._storage.close()

    def variables(
        self, event_name: str, event: Any, folder: Path, *, token: str = TOKEN, run_id: int = 1
    ) -> dict[str, str]:
        """The variables of a job of this server's repository; its files (event, outputs, summary) lie in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "event.json").write_text(json.dumps(event))
        return {
            "GITHUB_REPOSITORY": self.state.repository,
            "GITHUB_EVENT_NAME": event_name,
            "GITHUB_EVENT_PATH": str(folder / "event.json"),
            "GITHUB_API_URL": self.url,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_RUN_ID": str(run_id),
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            "GITHUB_TOKEN": token,
        }

    def count(self, method: str, path: str) -> int:
        """How often a path, a regular expression, was asked."""
        return sum(each.method == method and bool(re.fullmatch(path, each.path)) for each in self.asked)

    def writes(self) -> list[Asked]:
        """Every request that may have changed something."""
        reading = ("query{viewer", "query($ids")
        return [
            each
            for each in self.asked
            if each.method != "GET" and not (each.path == "/graphql" and each.body["query"].startswith(reading))
        ]

    def fault_of(self, method: str, path: str, *, storage: bool = False) -> Fault | None:
        """The next fault for a request; it is used up."""
        with self.state.changing:
            for fault in self.faults:
                fits = fault.method == method and fault.storage == storage and re.fullmatch(fault.path, path)
                if fits and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


class _Handler(LocalHandler):
    api: GitHubApi

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        self._answer()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 - as above

    def _answer(self) -> None:
        raise NotImplementedError

    def _asked(self) -> Asked:
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        prefix = f"/repos/{self.api.state.repository}/"
        path = "" if f"{parts.path}/" == prefix else parts.path.removeprefix(prefix)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Asked(self.command, unquote(path), query, headers, json.loads(body) if body else None)

    def _fail(self, fault: Fault) -> bool:
        """True if the request is over."""
        time.sleep(fault.delay_s)
        if fault.drop:
            self.close_connection = True
            return True
        if fault.page:
            self._send(fault.status or 200, fault.headers, fault.page.encode())
            return True
        if fault.status:
            content = {"message": fault.message} | ({"errors": fault.errors} if fault.errors else {})
            self._send(fault.status, fault.headers, json.dumps(content).encode())
            return True
        return False

    def _send(self, status: int, headers: dict[str, str], body: bytes, cut: int = -1) -> None:
        self.reply(status, body, {"content-type": "application/json", **headers}, cut)


class _Api(_Handler):
    def _answer(self) -> None:
        asked = self._asked()
        self.api.asked.append(asked)
        fault = self.api.fault_of(asked.method, asked.path)
        early = fault is not None and fault.drop != "after" and not fault.after
        if fault is not None and early and self._fail(fault):
            return
        with self.api.state.changing:
            try:
                reply = self._done(asked)
            except RefusedError as error:
                reply = Reply(error.status, error.content, error.headers)
            body = b"" if reply.content is None else json.dumps(reply.content).encode()
        if fault is not None and not early and self._fail(fault):
            return
        location = reply.headers.get("location", "").replace("STORAGE", self.api.storage_url)
        headers = reply.headers | ({"location": location} if location else {})
        self._send(reply.status, headers, body, -1 if fault is None else fault.cut)

    def _done(self, asked: Asked) -> Reply:
        identity = self._identity(asked)
        whole = urlsplit(self.path).path
        for each in ROUTES:
            found = each.pattern.fullmatch(whole)
            if each.method != asked.method or found is None:
                continue
            parts = {name: unquote(value) for name, value in found.groupdict().items()}
            if "owner" in parts and f"{parts['owner']}/{parts['repo']}" != self.api.state.repository:
                continue
            require_rights(identity, each.needs)
            request = Request(asked.method, asked.path, parts, asked.query, asked.body, self.api.state, identity)
            answer = each.answer(request)
            return answer if isinstance(answer, Reply) else self._page(answer, asked.query)
        raise RefusedError(404, "Not Found")

    def _identity(self, asked: Asked) -> Identity:
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        identity = self.api.state.tokens.get(token) if kind == "Bearer" else None
        if identity is None:
            raise RefusedError(401, "Bad credentials")
        return identity

    def _page(self, listing: Listing, query: dict[str, str]) -> Reply:
        size, page = min(100, int(query.get("per_page", "30"))), int(query.get("page", "1"))
        some = listing.items[(page - 1) * size : page * size]
        content: Any = {"total_count": len(listing.items), listing.key: some} if listing.key else some
        if page * size >= len(listing.items):
            return Reply(200, content)
        following = urlencode({**query, "page": page + 1})
        address = f"{self.api.url}{urlsplit(self.path).path}?{following}"
        return Reply(200, content, {"link": f'<{address}>; rel="next", <{address}>; rel="last"'})


class _Storage(_Handler):
    def _answer(self) -> None:
        asked = self._asked()
        self.api.fetched.append(asked)
        fault = self.api.fault_of(asked.method, asked.path, storage=True)
        if fault is not None and self._fail(fault):
            return
        archive = self.api.state.archives.get(int(asked.path.strip("/") or 0))
        if "authorization" in asked.headers:
            self._send(400, {}, b"two ways of signing in")
        elif archive is None or asked.query.get("signature") != "secret-of-the-storage":
            self._send(403, {}, b"the signature did not match")
        else:
            self._send(200, {"content-type": "application/zip"}, archive, -1 if fault is None else fault.cut)
