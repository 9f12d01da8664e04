"""The Kubernetes API as far as Redline speaks it: every call bounded in time and size, retried only where that helps.

The `kubernetes` package brings credentials, certificates, proxies and HTTP. Its DynamicClient is not used: it asks
questions without a time limit when it is made, and keeps what it learned in a file of a shared directory under a name
that anybody can take first. What it would do is one question here (which resource is this kind?).

Objects are created (POST), never applied over what is there: applying merges into somebody else's object of the same
name without a word wherever the fields differ, and only creating is refused as a whole. Strict validation makes an
unknown field an error.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from redline.deploy.cluster_errors import (
    ApiRefusalError,
    Asked,
    is_about_certificate,
    is_transient,
    message_of,
    reason_of,
    refusal,
    unknown_kind,
    unreachable,
)
from redline.errors import ClusterError

FIELD_MANAGER = "redline"
_CHUNK_BYTES = 1 << 14

Json = Mapping[str, Any]
Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of one question: seconds of each try, tries, seconds of all together, first pause, bytes of an answer."""

    try_s: float = 20.0
    try_count_max: int = 6
    all_s: float = 60.0
    pause_s: float = 0.5
    bytes_max: int = 1 << 26


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API addresses it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def group(self) -> str:
        """`serving.kserve.io`; '' for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str, name: str = "") -> str:
        """`/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL[/NAME]`."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        place = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced else ""
        return f"{root}{place}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


class Cluster:
    """A connection to one cluster. Made by `redline.deploy.cluster_credentials.connect`. Safe for several threads."""

    def __init__(self, api: Any, limits: CallLimits) -> None:
        self._api = api
        self._limits = limits
        self._resources: dict[tuple[str, str], Resource] = {}
        self.now = datetime.now(UTC)
        """The cluster's clock at its last answer: ages are told by it, not by this machine's."""

    @property
    def host(self) -> str:
        """The API's address."""
        return str(self._api.configuration.host)

    def resource(self, api_version: str, kind: str) -> Resource:
        """How the API addresses a kind; asked once. Raises ApiRefusalError (404) if the cluster does not know it."""
        key = (api_version, kind)
        if key not in self._resources:
            group = api_version.rpartition("/")[0]
            path = f"/apis/{api_version}" if group else f"/api/{api_version}"
            try:
                content = self._ask(Asked("get", path), "GET", path)
            except ApiRefusalError as error:
                if error.status == 404:
                    raise unknown_kind(api_version, kind, ()) from error
                raise
            listed = [each for each in content.get("resources") or () if "/" not in each["name"]]
            found = next((each for each in listed if each["kind"] == kind), None)
            if found is None:
                raise unknown_kind(api_version, kind, tuple(each["kind"] for each in listed))
            self._resources[key] = Resource(api_version, kind, found["name"], bool(found["namespaced"]))
        return self._resources[key]

    def create(self, manifest: Json) -> Json:
        """The object as the API made it. Raises ApiRefusalError: 409 if something has its name already."""
        resource, namespace, name = self._place(manifest)
        return self._ask(
            Asked("create", resource.plural, resource.group, namespace, name),
            "POST",
            resource.path(namespace),
            query=(("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict")),
            body=manifest,
        )

    def find(self, api_version: str, kind: str, namespace: str, name: str) -> Json | None:
        """The object now; None if there is none. Raises ClusterError."""
        resource = self.resource(api_version, kind)
        try:
            return self._ask(
                Asked("get", resource.plural, resource.group, namespace, name), "GET", resource.path(namespace, name)
            )
        except ApiRefusalError as error:
            if error.status == 404:
                return None
            raise

    def listed(
        self, api_version: str, kind: str, namespace: str, *, labels: str = "", fields: str = ""
    ) -> tuple[tuple[Json, ...], str]:
        """(objects, resource version from which to watch on). `labels`, `fields`: selectors. Raises ClusterError."""
        resource = self.resource(api_version, kind)
        content = self._ask(
            Asked("list", resource.plural, resource.group, namespace),
            "GET",
            resource.path(namespace),
            query=_selectors(labels, fields),
        )
        version = (content.get("metadata") or {}).get("resourceVersion") or ""
        # Members of a list come without their kind.
        items = ({"apiVersion": api_version, "kind": kind, **item} for item in content.get("items") or ())
        return tuple(items), str(version)

    def delete(self, found: Json) -> bool:
        """Ask for the end of just this object (its uid) and, before it, of all that it owns; False if it is gone.

        Raises ClusterError. Another object that has taken its name is left alone.
        """
        resource, namespace, name = self._place(found)
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": found["metadata"]["uid"]},
        }
        asked = Asked("delete", resource.plural, resource.group, namespace, name)
        try:
            self._ask(asked, "DELETE", resource.path(namespace, name), body=body)
        except ApiRefusalError as error:
            if error.status in (404, 409):  # gone, or the name belongs to another object by now
                return False
            raise
        return True

    def wait_for_change(
        self, resource: Resource, namespace: str, version: str, timeout_s: float, **chosen: str
    ) -> None:
        """Return when something was added, changed or removed since `version`, at the latest after `timeout_s`.

        It only wakes: whoever waits lists again. So a stream that breaks, expires (410) or is refused costs nothing but
        time, and is no error here. `chosen`: selectors as of `listed`.
        """
        started = time.monotonic()
        query = (
            *_selectors(chosen.get("labels", ""), chosen.get("fields", "")),
            *(("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", version)),
            ("timeoutSeconds", str(max(1, round(timeout_s)))),
        )
        asked = Asked("watch", resource.plural, resource.group, namespace)
        try:
            changed = self._first_event(asked, resource.path(namespace), query, timeout_s)
        except ClusterError:
            changed = False
        if not changed:  # a stream that ends at once must not become a busy loop
            time.sleep(max(0.0, min(timeout_s, 2.0) - (time.monotonic() - started)))

    def log(self, namespace: str, pod: str, container: str, *, previous: bool, line_count: int) -> bytes:
        """The last lines of a container's log, of its `previous` run if asked; asked for once. Raises ClusterError."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/log"
        query = (("container", container), ("tailLines", str(line_count)), ("previous", str(previous).lower()))
        return self._raw(Asked("get", "pods/log", "", namespace, pod), "GET", path, query=query, try_count_max=1)

    # --- one question ---------------------------------------------------------------------------------------

    def _place(self, manifest: Json) -> tuple[Resource, str, str]:
        resource = self.resource(manifest["apiVersion"], manifest["kind"])
        return resource, manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]

    def _ask(self, asked: Asked, method: str, path: str, *, query: Query = (), body: Json | None = None) -> Json:
        content = _parsed(self._raw(asked, method, path, query=query, body=body))
        if not isinstance(content, Mapping):
            raise ClusterError(
                f"{self.host} is no Kubernetes API",
                expected="a JSON object",
                found=message_of(content)[:200],
                next_step="check the kubeconfig's server; a login page answers so",
            )
        return content

    def _raw(
        self,
        asked: Asked,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Json | None = None,
        try_count_max: int | None = None,
    ) -> bytes:
        limits = self._limits
        try_count = try_count_max or limits.try_count_max
        deadline = time.monotonic() + limits.all_s
        for attempt in range(try_count):
            pause_s = limits.pause_s * 2**attempt
            try:
                status, headers, data = self._once(method, path, query, body)
            except Exception as error:
                if not _is_transport(error):
                    raise
                problem: ClusterError = unreachable(self.host, error)
                final = is_about_certificate(error)
            else:
                if 200 <= status < 300:
                    return data
                content = _parsed(data)
                problem, final = refusal(asked, status, content), not is_transient(status, content)
                pause_s = max(pause_s, _retry_after_s(headers))
            if final or attempt + 1 == try_count or time.monotonic() + pause_s > deadline:
                raise problem
            time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, method: str, path: str, query: Query, body: Json | None, read_s: float) -> Any:
        prepared = self._api.param_serialize(
            method,
            path,
            query_params=list(query),
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        return self._api.call_api(*prepared, _request_timeout=(self._limits.try_s, read_s)).response

    def _once(self, method: str, path: str, query: Query, body: Json | None) -> tuple[int, Mapping[str, str], bytes]:
        deadline = time.monotonic() + self._limits.try_s
        response = self._send(method, path, query, body, self._limits.try_s)
        try:
            data = bytearray()
            for piece in response.stream(_CHUNK_BYTES):
                data += piece
                if len(data) > self._limits.bytes_max or time.monotonic() > deadline:
                    raise TimeoutError(f"an answer of more than {len(data)} bytes or {self._limits.try_s:g} s")
            self._note_clock(response.headers)
            return response.status, response.headers, bytes(data)
        finally:
            response.close()
            response.release_conn()

    def _first_event(self, asked: Asked, path: str, query: Query, timeout_s: float) -> bool:
        """True at the first event that is not a bookmark, False at the end of the stream. Raises ClusterError."""
        from kubernetes.watch.watch import iter_resp_lines  # noqa: PLC0415 - the package takes most of a second

        try:
            response = self._send("GET", path, query, None, timeout_s)  # the API counts whole seconds only
            try:
                if response.status != 200:
                    raise refusal(asked, response.status, _parsed(response.read(_CHUNK_BYTES)))
                for line in iter_resp_lines(response):  # type: ignore[no-untyped-call]
                    event = _parsed(line.encode())
                    if isinstance(event, Mapping) and event.get("type") != "BOOKMARK":
                        return event.get("type") != "ERROR" or reason_of(event.get("object")) == "Expired"
            finally:
                response.close()
                response.release_conn()
        except Exception as error:
            if not _is_transport(error):
                raise
            raise unreachable(self.host, error) from error
        return False

    def _note_clock(self, headers: Mapping[str, str]) -> None:
        try:
            self.now = parsedate_to_datetime(headers.get("Date", ""))
        except ValueError:
            self.now = datetime.now(UTC)


def _selectors(labels: str, fields: str) -> Query:
    return tuple((key, value) for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value)


def _parsed(data: bytes) -> object:
    """JSON, or the text as it is."""
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def _retry_after_s(headers: Mapping[str, str]) -> float:
    said = headers.get("Retry-After", "")
    return float(said) if said.isdecimal() and len(said) < 6 else 0.0


def _is_transport(error: Exception) -> bool:
    """True for everything that can happen between here and the API: sockets, TLS, time-outs, broken answers."""
    from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 - the package takes most of a second
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with it

    return isinstance(error, ApiException | HTTPError | OSError)
