"""Extras over a build, for real: uv makes both environments, and their own interpreters say what they hold."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
from pathlib import Path

import pytest

from redline.builds.extras import SHIM_MODULE, extras_id, read_extras, with_extras
from redline.builds.install import InstalledBuild, install, list_installed, metadata_version
from redline.builds.lock_text import parse_lock
from redline.builds.resolve import resolve
from redline.errors import BuildError, ContentError
from tests.builds.conftest import MakeWheel

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
_silent = logging.getLogger("redline.builds.test").debug


@pytest.fixture
def build(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> InstalledBuild:
    """A tiny build with one dependency, installed; its platform is the CPU."""
    make_wheel(links, "tiny-dependency", "1.5", content="the build's")
    wheel = make_wheel(tmp_path / "mine", "vllm", "0.0.1+cpu", ("tiny-dependency",))
    pin = resolve(str(wheel), state_dir=tmp_path / "state")
    assert pin.platform == "cpu"
    return install(pin, state_dir=tmp_path / "state", on_line=_silent)


def _locked(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    return f"{name.replace('_', '-')}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def _says(python: Path, program: str) -> str:
    done = subprocess.run([str(python), "-I", "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_extras_lie_over_a_build_and_leave_it_as_it_is(
    build: InstalledBuild, links: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """The new interpreter has the extra and all of the build; the build's own has not, and keeps its pin."""
    lock = _locked(make_wheel(links, "tiny-extra", "2.0", content="the extra's"))
    lines: list[str] = []
    python = with_extras(build, lock, state_dir=tmp_path / "state", on_line=lines.append)
    assert any("tiny-extra" in line for line in lines)
    imported = _says(
        python, "import tiny_extra_content as e, tiny_dependency_content as d; print(e.CONTENT, d.CONTENT)"
    )
    assert imported == "the extra's the build's"
    assert metadata_version(python, "vllm") == "0.0.1+cpu"
    with pytest.raises(BuildError, match="tiny-extra is not installed"):
        metadata_version(build.python, "tiny-extra")
    assert install(build.pin, state_dir=tmp_path / "state", on_line=_silent).cached
    assert [each.pin for each in list_installed(tmp_path / "state")] == [build.pin]


def test_extras_are_installed_once_and_looked_at_every_time(
    build: InstalledBuild, links: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """The second call finds the first one's; one without its marker is made again, one that lost its extra refused."""
    lock = _locked(make_wheel(links, "tiny-extra", "2.0"))
    python = with_extras(build, lock, state_dir=tmp_path / "state", on_line=_silent)
    lines: list[str] = []
    assert with_extras(build, lock, state_dir=tmp_path / "state", on_line=lines.append) == python
    assert lines == []
    (python.parents[2] / "complete.json").unlink()
    with_extras(build, lock, state_dir=tmp_path / "state", on_line=lines.append)
    assert any("cut short" in line for line in lines)
    (gone,) = python.parents[1].glob("lib/python*/site-packages/tiny_extra-2.0.dist-info")
    shutil.rmtree(gone)
    with pytest.raises(BuildError) as caught:
        with_extras(build, lock, state_dir=tmp_path / "state", on_line=_silent)
    assert "tiny-extra missing instead of 2.0" in caught.value.found
    assert "with its extras" in caught.value.expected


def test_extras_never_replace_a_package_of_the_build(
    build: InstalledBuild, links: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """A lock that names one of the build's packages is refused, whatever its version."""
    lock = _locked(make_wheel(links, "tiny-dependency", "9.9"))
    with pytest.raises(BuildError, match="would replace") as caught:
        with_extras(build, lock, state_dir=tmp_path / "state", on_line=_silent)
    assert caught.value.found == "tiny-dependency"


def test_other_bytes_under_a_locked_name_are_refused(
    build: InstalledBuild, links: Path, tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that serves something else than what was locked does not get it installed."""
    lock = _locked(make_wheel(links, "tiny-extra", "2.0", content="one"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    make_wheel(links, "tiny-extra", "2.0", content="two")
    with pytest.raises(BuildError, match="could not be installed"):
        with_extras(build, lock, state_dir=tmp_path / "state", on_line=_silent)


def test_a_torchvision_beside_a_cpu_build_gets_its_operators_declared(
    build: InstalledBuild, links: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """The shim is in place before any program runs, and waits for torchvision to be imported."""
    lock = _locked(make_wheel(links, "torchvision", "0.0.1"))
    python = with_extras(build, lock, state_dir=tmp_path / "state", on_line=_silent)
    finder = _says(python, "import sys; print(sys.meta_path[0].__class__.__module__, 'torch' in sys.modules)")
    assert finder == f"{SHIM_MODULE} False"
    other = with_extras(
        build, _locked(make_wheel(links, "tiny-extra", "2.0")), state_dir=tmp_path / "state", on_line=_silent
    )
    assert SHIM_MODULE not in _says(other, "import sys; print(*sys.modules)")


@pytest.mark.parametrize("text", ["", "soundfile\n", "soundfile==0.13.1\n", "--index-url=x\n"])
def test_what_is_no_lock_is_refused(tmp_path: Path, text: str) -> None:
    """Extras without versions, hashes or packages are no extras, and the error names the file."""
    path = tmp_path / "speech.cpu.lock"
    path.write_text(text)
    with pytest.raises(ContentError, match=r"speech\.cpu\.lock: not a lock"):
        read_extras(path)


def test_an_identity_does_not_depend_on_the_order_of_lines() -> None:
    """Two files that install the same have one id; another hash makes another."""
    one, two = (f"{name}==1.0 --hash=sha256:{name[0] * 64}\n" for name in ("alpha", "beta"))
    assert extras_id(one + two) == extras_id(two + one)
    assert extras_id(one) != extras_id(one.replace("a" * 64, "b" * 64))


@pytest.mark.parametrize("name", ["speech", "pictures"])
def test_the_shipped_extras_are_locks(name: str) -> None:
    """What the stand-ins of Whisper and Qwen3-VL need beside a CPU build is one package each."""
    lock = read_extras(CHECKOUT / "recipes" / "extras" / f"{name}.cpu.lock")
    assert set(parse_lock(lock)) == {{"speech": "soundfile", "pictures": "torchvision"}[name]}
