"""A stand-in for the host of vLLM's wheels: its layout over real HTTP, a bucket's 403 for what is not there, ranges,
and failures on demand.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

_NAME = re.compile(r"(?P<package>[^-]+)-(?P<version>[^-]+)-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl")


@dataclass
class Seen:
    """One request: its path and the headers that matter here."""

    path: str
    range: str = ""
    authorization: str = ""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that goes away is no news."""


@dataclass
class WheelIndexServer:
    """`files` by path. `broken_off`: paths whose next answers end after so many bytes. `statuses`: answers by path."""

    files: dict[str, bytes] = field(default_factory=dict)
    broken_off: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    etags: bool = True
    missing_status: int = 403

    def __enter__(self) -> WheelIndexServer:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing on the terminal."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    @property
    def base(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def publish(self, commit: str, *wheels: Path, folder: str = "", alias: str = "", nightly: bool = True) -> None:
        """Wheels of a commit, and the pages of every variant among them; `alias`: also the default's other name."""
        pages: dict[str, list[dict[str, object]]] = {}
        for wheel in wheels:
            match = _NAME.fullmatch(wheel.name)
            assert match is not None, wheel.name
            version, variant = _split(match["version"])
            self.files["/".join(["", *filter(None, [folder]), commit, wheel.name])] = wheel.read_bytes()
            entry: dict[str, object] = {
                "package_name": match["package"],
                "version": version,
                "build_tag": None,
                "python_tag": match["python"],
                "abi_tag": match["abi"],
                "platform_tag": match["platform"],
                "variant": variant or None,
                "filename": wheel.name,
            }
            for name in [variant] + ([alias] if alias and not variant else []):
                up = "../../" if name else "../"
                path = f"{up}../{commit}/" + quote(wheel.name, safe=":%/")
                pages.setdefault(name, []).append({**entry, "path": path})
        for name, page in pages.items():
            for place in [commit, *(["nightly"] if nightly else [])]:
                url = "/".join(["", *filter(None, [folder, place, name]), "vllm", "metadata.json"])
                self.files[url] = json.dumps(page, indent=2).encode()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """One request, as an object store answers it."""
        headers = request.headers
        self.seen.append(Seen(request.path, headers.get("range", ""), headers.get("authorization", "")))
        path = request.path.replace("%2B", "+")
        if self.statuses.get(path):
            return _send(request, self.statuses[path].pop(0), b"busy")
        if path in self.redirects:
            return _send(request, 302, b"", {"Location": self.redirects[path]})
        if path not in self.files:
            return _send(request, self.missing_status, b"<Error><Code>AccessDenied</Code></Error>")
        body = self.files[path]
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        known = {"ETag": etag} if self.etags else {}
        known["Content-Type"] = "text/html" if path.endswith("/") else "application/octet-stream"
        known["Last-Modified"] = "Sat, 21 Nov 2026 04:00:00 GMT"
        match = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if match and headers.get("if-range") == etag:
            begin = int(match[1])
            if begin >= len(body):
                return _send(request, 416, b"")
            known["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            return _send(request, 206, body[begin:], known, self._cut(path))
        return _send(request, 200, body, known, self._cut(path))

    def _cut(self, path: str) -> int | None:
        return self.broken_off[path].pop(0) if self.broken_off.get(path) else None


def _split(version: str) -> tuple[str, str]:
    """(version, variant) as vLLM's script splits them."""
    if "dev" in version:
        head, _, local = version.partition("+")
        commit, _, variant = local.partition(".")
        return (f"{head}+{commit}" if commit else head), variant
    public, _, variant = version.partition("+")
    return public, variant


def _send(
    request: http.server.BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    cut: int | None = None,
) -> None:
    request.send_response(status)
    for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body if cut is None else body[:cut])
    if cut is not None:
        request.close_connection = True
