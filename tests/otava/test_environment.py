"""The lock says exactly what is installed, and an environment counts only when it is whole."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from redline.errors import InfrastructureError
from redline.otava.environment import LOCK, otava_python


def test_the_lock_has_hashes_and_no_address():
    """Every package has one exact version and SHA-256 digests; no index, address, path or option is named."""
    text = LOCK.read_text(encoding="utf-8")
    assert "://" not in text
    entries = re.findall(r"^\S.*(?:\n[ ]+.*)*", text, re.MULTILINE)
    assert entries[0].startswith("apache-otava==0.8.0 ")
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==[0-9][^ ]* (;|\\)", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry.splitlines()[0]


@pytest.mark.slow
def test_otava_is_installed_once_with_the_versions_of_its_lock(otava: Path, vllm_state_dir: Path):
    """The second call says nothing and finds the same interpreter, which has what the lock names and no redline."""
    lines: list[str] = []
    assert otava_python(vllm_state_dir, on_line=lines.append) == otava
    assert lines == []
    program = "import importlib.metadata as m; print(*(f'{d.name.lower()}=={d.version}' for d in m.distributions()))"
    done = subprocess.run([str(otava), "-I", "-c", program], capture_output=True, text=True, timeout=60, check=True)
    installed = set(done.stdout.split())
    assert {"apache-otava==0.8.0", "numpy==2.2.0"} <= installed
    assert not any(item.startswith("redline==") for item in installed)
    assert f"{next(item for item in installed if item.startswith('scipy=='))} " in LOCK.read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_index_without_the_package_is_an_infrastructure_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing to install from: the error says what pip said, and no environment counts as installed."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    lines: list[str] = []
    with pytest.raises(InfrastructureError, match="could not be installed") as caught:
        otava_python(tmp_path / "state", on_line=lines.append)
    assert "apache-otava==0.8.0" in caught.value.found
    assert len(lines) == 1
    assert list((tmp_path / "state").rglob("complete")) == []


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path):
    """A file where the directory should be: an infrastructure error with the path, not a traceback."""
    (tmp_path / "state").write_text("")
    with pytest.raises(InfrastructureError, match="cannot be kept here"):
        otava_python(tmp_path / "state", on_line=lambda line: None)
