"""A small Kubernetes API server over real HTTP: discovery, create, get, list, watch, delete, logs, and faults to order.

It answers the real `kubernetes` client with a real kubeconfig and token. It is not Kubernetes: what it does not know it
answers with 404, and nothing but what Redline asks is there.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.kubernetes_state import RESOURCES, RefusedError, State, selected
from tests.fakes.local_server import LocalHandler, LocalServer

TOKEN = "token-of-the-test"


@dataclass
class Fault:
    """What happens instead of an answer, `times` times, to one verb on one resource.

    `status` with `reason` and `message`; `hang_s` before it; `cut`: the connection is closed without a word.
    """

    verb: str
    resource: str
    status: int = 0
    reason: str = ""
    message: str = "injected"
    times: int = 10**9
    headers: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    hang_s: float = 0.0
    cut: bool = False
    after: bool = False
    """Only once the question has been done: its answer is lost."""
    page: str = ""
    """Text instead of the API's JSON."""


@dataclass(frozen=True)
class Question:
    """One request as the API understands it."""

    verb: str
    plural: str
    group: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class KubernetesApi:
    """The server. `faults` may be added at any time; `asked` holds every question; `logs` answers pods/log."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.faults: list[Fault] = []
        self.forbidden: set[tuple[str, str]] = set()
        self.missing: set[str] = set()  # group/versions that are not installed
        self.asked: list[Question] = []
        self.logs: Callable[[str, str, bool], bytes] = lambda pod, container, previous: b""
        self.closing = threading.Event()
        self._server = LocalServer(_Handler, api=self)

    @property
    def url(self) -> str:
        return self._server.url

    def __enter__(self) -> KubernetesApi:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()  # first: of this a watch learns that it ends
        with self.state.changed:
            self.state.changed.notify_all()
        self._server.close()

    def kubeconfig(self, path: Path, token: str = TOKEN) -> Path:
        """A kubeconfig with one context, `test`. JSON is YAML."""
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
                    "users": [{"name": "tester", "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "fake", "user": "tester"}}],
                }
            )
        )
        return path

    def count(self, verb: str, plural: str) -> int:
        """How often it was asked."""
        return sum(each.verb == verb and each.plural == plural for each in self.asked)

    def fault_of(self, question: Question) -> Fault | None:
        """The next fault for a question; it is used up."""
        for fault in self.faults:
            if (fault.verb, fault.resource) == (question.verb, question.plural) and fault.times > 0:
                fault.times -= 1
                return fault
        return None


class _Handler(LocalHandler):
    api: KubernetesApi

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise RefusedError(401, "Unauthorized", "Unauthorized")
            steps = [unquote(step) for step in parts.path.strip("/").split("/")]
            if self._discovery(steps):
                return
            question = self._question(steps, query)
            self.api.asked.append(question)
            fault = self.api.fault_of(question)
            if fault is not None and not fault.after and self._fail(fault):
                return
            self._require_allowed(question)
            if question.verb == "watch":
                self._watch(question, query)
                return
            status, content = self._do(question, query, json.loads(body) if body else {})
            if fault is not None and fault.after and self._fail(fault):
                return
            self._send(status, content)
        except RefusedError as error:
            self._send(error.status, error.content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client went away

    do_POST = do_DELETE = do_GET  # noqa: N815 - as above

    # --- what is asked ---------------------------------------------------------------------------------------

    def _discovery(self, steps: list[str]) -> bool:
        version = "/".join(steps[1:])
        if steps[0] not in ("api", "apis") or len(steps) > 3:
            return False
        known = [each for each in RESOURCES if each[0] == version and version not in self.api.missing]
        if not known:
            self._send(404, "404 page not found\n")
            return True
        resources = [
            {"name": plural, "kind": kind, "namespaced": namespaced, "verbs": ["get"]}
            for _, plural, kind, namespaced in known
        ]
        if version == "v1":
            resources.append({"name": "pods/log", "kind": "Pod", "namespaced": True, "verbs": ["get"]})
        self._send(200, {"kind": "APIResourceList", "groupVersion": version, "resources": resources})
        return True

    def _question(self, steps: list[str], query: dict[str, str]) -> Question:
        rest = steps[2:] if steps[0] == "api" else steps[3:]
        group = "" if steps[0] == "api" else steps[1]
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, name, sub = [*rest, "", "", ""][:3]
        verb = {"POST": "create", "DELETE": "delete"}.get(self.command, "get" if name else "list")
        if query.get("watch") == "true":
            verb = "watch"
        return Question(verb, f"{plural}/{sub}" if sub else plural, group, namespace, name, sub)

    def _require_allowed(self, question: Question) -> None:
        if (question.verb, question.plural) in self.api.forbidden:
            raise RefusedError(
                403,
                "Forbidden",
                f'{question.plural}{"." + question.group if question.group else ""} is forbidden: User "tester" cannot '
                f'{question.verb} resource "{question.plural}" in API group "{question.group}" in the namespace '
                f'"{question.namespace}"',
            )

    def _fail(self, fault: Fault) -> bool:
        """True if this was the answer."""
        self.api.closing.wait(fault.hang_s)
        if fault.cut:
            self.close_connection = True
            self.connection.close()
            return True
        if fault.page:
            self._send(fault.status, fault.page)
            return True
        if fault.status:
            refused = RefusedError(fault.status, fault.reason, fault.message, **fault.details)
            self._send(fault.status, refused.content, fault.headers)
        return bool(fault.status)

    def _do(self, question: Question, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        state, plural, namespace, name = self.api.state, question.plural, question.namespace, question.name
        if question.subresource == "log":
            state.get("pods", namespace, name)
            return 200, self.api.logs(name, query["container"], query.get("previous") == "true")
        match question.verb:
            case "create":
                if query.get("fieldValidation") != "Strict":
                    raise RefusedError(400, "BadRequest", "this server takes only strict requests")
                return 201, state.create(plural, namespace, body, query["fieldManager"])
            case "get":
                return 200, state.get(plural, namespace, name)
            case "list":
                items = state.listed(plural, namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))
                for item in items:
                    item.pop("kind", ""), item.pop("apiVersion", "")  # as members of a list are
                return 200, {"kind": "List", "metadata": {"resourceVersion": str(state.version)}, "items": items}
            case _:
                return 200, state.delete(plural, namespace, name, body)

    # --- how it is answered ----------------------------------------------------------------------------------

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else b""
        data = data or (json.dumps(content).encode() if not isinstance(content, bytes | str) else b"")
        self.reply(status, data, headers)

    def _watch(self, question: Question, query: dict[str, str]) -> None:
        state = self.api.state
        version = int(query["resourceVersion"])
        deadline = time.monotonic() + float(query["timeoutSeconds"])
        state.events_after(version, question.plural, question.namespace)  # 410 before the stream begins
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}})
        while time.monotonic() < deadline and not self.api.closing.is_set():
            try:
                events = state.events_after(version, question.plural, question.namespace)
            except RefusedError as error:
                self._chunk({"type": "ERROR", "object": error.content})
                break
            for version, kind, found in events:  # noqa: B007 - the last one is where to go on
                if selected(found, query.get("labelSelector", ""), query.get("fieldSelector", "")):
                    self._chunk({"type": kind, "object": found})
            with state.changed:
                state.changed.wait(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: dict[str, Any]) -> None:
        data = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()
