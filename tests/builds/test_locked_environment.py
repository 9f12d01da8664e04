"""One locked environment, made for real by uv from tiny wheels, whoever asks for it and however the last try ended."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from redline.builds.locked_environment import LockedEnvironment, ensure, installed_versions
from redline.builds.uv_process import UvSetup, set_up
from redline.errors import BuildError, InfrastructureError
from tests.builds.conftest import MakeWheel


@pytest.fixture
def wanted(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> LockedEnvironment:
    """An environment of one tiny package."""
    wheel = make_wheel(links, "tiny-tool", "1.5")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = f"tiny-tool==1.5 --hash=sha256:{sha256}\n"
    return LockedEnvironment(tmp_path / "state" / "tiny", lock, "Tiny", main="tiny-tool", facts={"colour": "red"})


def test_it_is_made_once_and_holds_its_lock_and_nothing_else(wanted: LockedEnvironment) -> None:
    """No pip, no redline, nothing of this process; the second call says nothing and finds the same."""
    lines: list[str] = []
    first = ensure(wanted, on_line=lines.append)
    assert (first.cached, dict(first.versions)) == (False, {"tiny-tool": "1.5"})
    assert any("tiny-tool==1.5" in line for line in lines)
    lines.clear()
    second = ensure(wanted, on_line=lines.append)
    assert (second.cached, second.versions, second.python, lines) == (True, first.versions, first.python, [])
    program = "import sys, tiny_tool_content; print(sys.prefix, *sys.version_info[:2])"
    done = subprocess.run([first.python, "-I", "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{wanted.home / 'venv'} {sys.version_info.major} {sys.version_info.minor}\n"
    assert list(wanted.home.rglob("tiny_tool_content.*.pyc")), "bytecode is compiled at install"
    assert (wanted.home / "lock.txt").read_text() == wanted.lock


@pytest.mark.slow
def test_hooks_are_called_only_when_there_is_something_to_install(wanted: LockedEnvironment) -> None:
    """`begin` before anything is there, `finish` once the packages are, and the record comes last."""
    seen: list[str] = []

    def begin() -> UvSetup:
        assert not wanted.home.exists()
        seen.append("begin")
        return set_up()

    def finish() -> None:
        assert dict(installed_versions(wanted.python)) == {"tiny-tool": "1.5"}
        assert not (wanted.home / "complete.json").exists()
        seen.append("finish")

    for _ in range(2):
        ensure(wanted, on_line=seen.append, begin=begin, finish=finish)
    assert (seen[0], seen[-1], seen.count("begin")) == ("begin", "finish", 1)
    record = json.loads((wanted.home / "complete.json").read_text())
    assert record["colour"] == "red"
    assert record["seconds"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("raised", [KeyboardInterrupt, OSError])
def test_an_install_that_was_cut_short_is_started_again(wanted: LockedEnvironment, raised: type[BaseException]) -> None:
    """What it left does not count and is gone, whatever it was."""

    def interrupted() -> None:
        (wanted.home / "venv" / "left.txt").write_text("half")
        raise raised

    with pytest.raises(raised):
        ensure(wanted, on_line=lambda line: None, finish=interrupted)
    lines: list[str] = []
    assert not ensure(wanted, on_line=lines.append).cached
    assert lines[0] == "an earlier install of Tiny was cut short: starting again"
    assert not (wanted.home / "venv" / "left.txt").exists()


def test_an_index_without_the_package_is_an_error_with_the_reason(wanted: LockedEnvironment, links: Path) -> None:
    """It is an infrastructure error that says what uv said, and nothing counts as installed."""
    (links / "tiny_tool-1.5-py3-none-any.whl").unlink()
    with pytest.raises(InfrastructureError, match="Tiny could not be installed") as caught:
        ensure(wanted, on_line=lambda line: None)
    assert "tiny-tool" in caught.value.found
    assert not (wanted.home / "complete.json").exists()


@pytest.mark.slow
def test_what_is_beside_the_lock_must_be_there_too(wanted: LockedEnvironment) -> None:
    """Packages that come from elsewhere are expected at their versions; what the environment is for is named first."""
    with_more = LockedEnvironment(wanted.home, wanted.lock, wanted.name, "tiny-tool", beside={"a-base": "2.0"})
    with pytest.raises(BuildError, match="is not Tiny as it was locked") as caught:
        ensure(with_more, on_line=lambda line: None)
    assert caught.value.found == "1 differ: a-base missing instead of 2.0"
    assert not (wanted.home / "complete.json").exists()
    ensure(wanted, on_line=lambda line: None)
    other = LockedEnvironment(wanted.home, wanted.lock.replace("1.5", "1.6"), "Tiny", "tiny-tool", {"a-base": "2.0"})
    with pytest.raises(BuildError) as caught:
        ensure(other, on_line=lambda line: None)
    assert caught.value.found == "2 differ: tiny-tool 1.5 instead of 1.6; a-base missing instead of 2.0"
    assert str(wanted.home) in caught.value.next_step


def test_a_state_directory_that_cannot_be_made_is_named(wanted: LockedEnvironment, tmp_path: Path) -> None:
    """A file where the directory should be: an error with the path, not a traceback."""
    (tmp_path / "state").write_text("")
    with pytest.raises(BuildError, match=r"state: Tiny cannot be kept here"):
        ensure(wanted, on_line=lambda line: None)
