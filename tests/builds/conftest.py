"""Tiny real wheels and a package index that is a directory, so that uv and pip run for real without network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.wheel_index_server import WheelIndexServer

MakeWheel = Callable[..., Path]


def _make_wheel(
    directory: Path,
    name: str,
    version: str,
    requires: tuple[str, ...] = (),
    content: str = "",
    *,
    commit_id: str = "",
    tag: str = "py3-none-any",
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    requirements = "".join(f"Requires-Dist: {item}\n" for item in requires)
    files = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirements}",
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{name.replace('-', '_')}_content.py": f"CONTENT = {content!r}\n",
    }
    if commit_id:
        files["vllm/_version.py"] = f"__version__ = version = {version!r}\n__commit_id__ = commit_id = {commit_id!r}\n"
    record = ""
    for file_name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{file_name},sha256={digest},{len(text)}\n"
    path = directory / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file_name, text in files.items():
            archive.writestr(zipfile.ZipInfo(file_name, (2020, 1, 1, 0, 0, 0)), text)
        record_info = zipfile.ZipInfo(f"{stem}.dist-info/RECORD", (2020, 1, 1, 0, 0, 0))
        archive.writestr(record_info, f"{record}{stem}.dist-info/RECORD,,\n")
    return path


@pytest.fixture
def make_wheel() -> MakeWheel:
    """A function (directory, name, version, requires, content, commit_id, tag) -> path of a real, installable wheel."""
    return _make_wheel


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip, and through Redline uv, takes wheels from, and from nowhere else."""
    directory = tmp_path / "links"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[WheelIndexServer]:
    """A wheel index on this machine, which Redline is told of."""
    with WheelIndexServer() as server:
        monkeypatch.setenv("REDLINE_WHEEL_INDEX", server.base)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield server
