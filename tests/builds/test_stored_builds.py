"""The builds of a state directory: listed as they are, removed only when nobody uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redline.builds.in_use import alone, mark_in_use, used_path
from redline.builds.pin_record import write_pin
from redline.builds.stored_builds import StoredBuild, named, remove, stored_builds, unused_since
from redline.errors import BuildError, UsageError
from redline.model import BuildKind, BuildPin

DAY_S = 86_400.0
_HOLDER = """
import sys
from pathlib import Path
from redline.builds.in_use import mark_in_use
mark_in_use(Path(sys.argv[1]), "a build", print)
print("held", flush=True)
sys.stdin.read()
"""


def pin_of(version: str, kind: BuildKind = BuildKind.INDEX_WHEEL) -> BuildPin:
    """A pin that differs from others by its version."""
    sha = version.replace(".", "").ljust(64, "0")
    lock = f"vllm=={version} --hash=sha256:{sha}\n"
    url = "https://host/vllm.whl" if kind is BuildKind.REMOTE_WHEEL else None
    return BuildPin(kind, f"vllm=={version}", "vllm", version, "cuda", "3.11", sha, lock, url)


def put(state: Path, pin: BuildPin, *, used_s: float = 0.0, complete: bool = True) -> Path:
    """A directory such as an install leaves, of 100 kB."""
    home = state / "builds" / pin.pin_id
    write_pin(home / "pin.json", pin)
    (home / "venv").mkdir()
    (home / "venv" / "library.so").write_bytes(os.urandom(100_000))
    if complete:
        (home / "complete.json").write_text("{}")
        os.utime(home / "complete.json", (used_s, used_s))
    wheel = state / "wheels" / str(pin.wheel_sha256) / "vllm.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    wheel.write_bytes(os.urandom(50_000))
    return home


def test_builds_are_listed_with_size_and_last_use(tmp_path: Path) -> None:
    """The longest unused first; a kept wheel counts where its build can be fetched again."""
    put(tmp_path, pin_of("0.3", BuildKind.REMOTE_WHEEL), used_s=3 * DAY_S)
    put(tmp_path, pin_of("0.2"), used_s=2 * DAY_S)
    older, newer = stored_builds(tmp_path)
    assert (older.label, newer.label) == ("vllm 0.2", "vllm 0.3")
    assert (older.used_s, newer.used_s) == (2 * DAY_S, 3 * DAY_S)
    assert 100_000 <= older.size_bytes < 140_000
    assert 150_000 <= newer.size_bytes < 200_000
    assert not older.problem
    assert stored_builds(tmp_path) == (older, newer), "to be looked at is no use"
    assert stored_builds(tmp_path / "nowhere") == ()


def test_what_is_unfinished_or_damaged_is_listed_too(tmp_path: Path) -> None:
    """It takes space, and can be removed like any other."""
    put(tmp_path, pin_of("0.2"), complete=False)
    damaged = put(tmp_path, pin_of("0.3"))
    (damaged / "pin.json").write_text("{")
    (tmp_path / "builds" / "link").symlink_to(tmp_path)
    by_id = {build.pin_id: build for build in stored_builds(tmp_path)}
    assert len(by_id) == 2
    assert by_id[pin_of("0.2").pin_id].problem.startswith("unfinished")
    assert "pin.json" in by_id[damaged.name].problem
    assert by_id[damaged.name].label == "unknown build"
    for build in by_id.values():
        remove(build, tmp_path)
    assert stored_builds(tmp_path) == ()


def test_a_build_is_in_use_until_its_process_ends(tmp_path: Path) -> None:
    """Also between its deployments, and whatever ends it."""
    home = put(tmp_path, pin_of("0.2"))
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        (build,) = stored_builds(tmp_path)
        assert build.in_use
        assert build.used_s > 50 * 365 * DAY_S, "used just now"
        with pytest.raises(BuildError, match="is in use"):
            remove(build, tmp_path)
        assert (home / "complete.json").exists()
        assert unused_since([build], 0.0, build.used_s + DAY_S) == ()
    finally:
        holder.kill()
        holder.communicate(timeout=30)
    (build,) = stored_builds(tmp_path)
    assert not build.in_use
    remove(build, tmp_path)
    assert not home.exists()


def test_several_may_use_a_build_and_one_alone_removes_it(tmp_path: Path) -> None:
    """Use is shared; an install that is going on counts as use."""
    home = tmp_path / "builds" / "ab"
    mark_in_use(home, "a build", print)
    mark_in_use(home, "a build", print)
    with alone(home) as free:
        assert not free
    other = tmp_path / "builds" / "cd"
    with alone(other) as free:
        assert free
        with alone(other) as second:
            assert not second
    with alone(other) as free:
        assert free


def test_only_a_wheel_that_can_be_fetched_again_goes_with_its_build(tmp_path: Path) -> None:
    """And only if no other build is of the same wheel; a local wheel's kept copy may be the only one."""
    remote, local = pin_of("0.3", BuildKind.REMOTE_WHEEL), pin_of("0.2", BuildKind.LOCAL_WHEEL)
    put(tmp_path, remote)
    put(tmp_path, local)
    for build in stored_builds(tmp_path):
        remove(build, tmp_path)
    assert not (tmp_path / "wheels" / str(remote.wheel_sha256)).exists()
    assert (tmp_path / "wheels" / str(local.wheel_sha256) / "vllm.whl").exists()


def test_the_wheel_of_another_build_stays(tmp_path: Path) -> None:
    """Two Pythons' builds of one wheel share it."""
    one = pin_of("0.3", BuildKind.REMOTE_WHEEL)
    other = BuildPin(**(one.content | {"kind": one.kind, "python_version": "3.12"}))
    put(tmp_path, one)
    put(tmp_path, other)
    remove(named(stored_builds(tmp_path), one.pin_id), tmp_path)
    assert (tmp_path / "wheels" / str(one.wheel_sha256) / "vllm.whl").exists()
    remove(named(stored_builds(tmp_path), other.pin_id), tmp_path)
    assert not (tmp_path / "wheels" / str(one.wheel_sha256)).exists()


def test_unused_builds_are_counted_in_days(tmp_path: Path) -> None:
    """A build of the last days, and one in use, is not among them."""
    builds = [StoredBuild(tmp_path / str(day), None, 0, day * DAY_S, in_use=day == 1) for day in range(5)]
    assert [build.pin_id for build in unused_since(builds, 2.0, 5 * DAY_S)] == ["0", "2", "3"]


@pytest.mark.parametrize("name", ["", "zz", "a", "../a1"])
def test_a_build_is_named_by_its_id_or_the_beginning_of_it(tmp_path: Path, name: str) -> None:
    """What fits none or several is refused, with those that there are."""
    builds = [StoredBuild(tmp_path / each, None, 0, 0.0, in_use=False) for each in ("a1b2", "a1c3", "d4")]
    assert named(builds, "d").pin_id == "d4"
    with pytest.raises(UsageError, match="installed build"):
        named(builds, name)


def test_use_leaves_its_mark_beside_the_build(tmp_path: Path) -> None:
    """A reinstall, which deletes the directory, does not lose it."""
    home = tmp_path / "builds" / "ab"
    assert used_path(home) == tmp_path / "builds" / "ab.used"
