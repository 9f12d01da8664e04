"""A stand-in for the host of vLLM's wheels: its layout over real HTTP, a bucket's 403 for what is not there, ranges,
and failures on demand.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tests.fakes.local_server import LocalHandler, LocalServer

_NAME = re.compile(r"(?P<package>[^-]+)-(?P<version>[^-]+)-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl")


@dataclass
class Seen:
    """One request: its path and the headers that matter here."""

    path: str
    range: str = ""
    authorization: str = ""


class _Handler(LocalHandler):
    index: WheelIndexServer

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        self.index.answer(self)


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
        self._server = LocalServer(_Handler, index=self)
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    @property
    def base(self) -> str:
        """Its address."""
        return self._server.url

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

    def answer(self, request: LocalHandler) -> None:
        """One request, as an object store answers it."""
        headers = request.headers
        self.seen.append(Seen(request.path, headers.get("range", ""), headers.get("authorization", "")))
        path = request.path.replace("%2B", "+")
        if self.statuses.get(path):
            return request.reply(self.statuses[path].pop(0), b"busy")
        if path in self.redirects:
            return request.reply(302, b"", {"Location": self.redirects[path]})
        if path not in self.files:
            return request.reply(self.missing_status, b"<Error><Code>AccessDenied</Code></Error>")
        body = self.files[path]
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        known = {"ETag": etag} if self.etags else {}
        known["Content-Type"] = "text/html" if path.endswith("/") else "application/octet-stream"
        known["Last-Modified"] = "Sat, 21 Nov 2026 04:00:00 GMT"
        match = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if match and headers.get("if-range") == etag:
            begin = int(match[1])
            if begin >= len(body):
                return request.reply(416, b"")
            known["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            return request.reply(206, body[begin:], known, self._cut(path))
        return request.reply(200, body, known, self._cut(path))

    def _cut(self, path: str) -> int:
        return self.broken_off[path].pop(0) if self.broken_off.get(path) else -1


def _split(version: str) -> tuple[str, str]:
    """(version, variant) as vLLM's script splits them."""
    if "dev" in version:
        head, _, local = version.partition("+")
        commit, _, variant = local.partition(".")
        return (f"{head}+{commit}" if commit else head), variant
    public, _, variant = version.partition("+")
    return public, variant
