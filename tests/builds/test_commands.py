"""`redline builds` as people call it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from flows.build_list import read_builds
from redline.cli import main
from tests.builds.conftest import MakeWheel
from tests.builds.test_stored_builds import pin_of, put
from tests.fakes.wheel_index_server import WheelIndexServer

NEWEST, MIDDLE, OLDEST = (f"{digit}" * 40 for digit in "abc")


def publish(index: WheelIndexServer, make_wheel: MakeWheel, directory: Path) -> None:
    """The middle commit has a wheel for CUDA 12.9, the oldest too; the newest has only the default."""
    for commit, suffix in ((NEWEST, ""), (MIDDLE, ".cu129"), (OLDEST, ".cu129")):
        wheel = make_wheel(directory / commit, "vllm", f"0.23.1rc1.dev1+g{commit[:9]}{suffix}")
        index.publish(commit, wheel)
    index.publish(NEWEST, make_wheel(directory / "again", "vllm", f"0.23.1rc1.dev1+g{NEWEST[:9]}"))


@pytest.fixture
def commits(index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel) -> str:
    """The path of a list of three commits, newest first."""
    publish(index, make_wheel, tmp_path / "made")
    path = tmp_path / "commits.txt"
    path.write_text(f"{NEWEST} newest\n{MIDDLE}\n{OLDEST}\n")
    return str(path)


def test_the_last_build_is_the_newest_that_exists(commits: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What has none is said aside; standard output is the build and nothing else."""
    assert main(["builds", "last", "--commits", commits, "--variant", "cu129"]) == 0
    said = capsys.readouterr()
    assert said.out == f"commit:{MIDDLE}/cu129\n"
    assert f"no build: commit:{NEWEST}/cu129" in said.err
    assert main(["builds", "last", "--commits", commits]) == 0
    assert capsys.readouterr().out == f"commit:{NEWEST}\n"


def test_what_is_available_is_a_list_to_bisect(commits: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A commit without a build is a comment, so the list is searched as it is."""
    assert main(["builds", "available", "--commits", commits, "--variant", "cu129"]) == 0
    said = capsys.readouterr().out
    builds = read_builds(said, "list")
    assert [build.spec for build in builds] == [f"commit:{MIDDLE}/cu129", f"commit:{OLDEST}/cu129"]
    assert said.startswith(f"# no build: commit:{NEWEST}/cu129: ")
    assert f"0.23.1rc1.dev1+g{'b' * 9}.cu129" in said


def test_a_list_without_any_build_ends_with_5(
    commits: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said about any build then; commits come from standard input as well."""
    monkeypatch.setattr("sys.stdin", io.StringIO(Path(commits).read_text()))
    assert main(["builds", "last", "--commits", "-", "--variant", "xpu", "--limit", "2"]) == 5
    assert "none of the 2 commits has a build" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--limit", "0"], "allows no commit"),
        (["--variant", "a/b"], "no variant"),
        (["--image", "a/b:nightly"], "names one image"),
        (["--image", "a/b@sha256:" + "1" * 64], "names one image"),
    ],
)
def test_what_makes_no_sense_is_refused(
    commits: str, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    """Before anything is asked."""
    assert main(["builds", "last", "--commits", commits, *arguments]) == 2
    assert problem in capsys.readouterr().err


def test_images_are_looked_for_by_commit(
    tmp_path: Path, commits: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first commit whose tag a registry knows, pinned by its digest."""
    digest = "sha256:" + "5" * 64
    program = tmp_path / "bin" / "skopeo"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *{MIDDLE}) echo \'{{"Digest": "{digest}"}}\';;\n'
        '*) echo "manifest unknown" >&2; exit 1;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert main(["builds", "last", "--commits", commits, "--image", "vllm/vllm-openai:nightly-{commit}"]) == 0
    said = capsys.readouterr()
    assert said.out == f"image:vllm/vllm-openai@{digest}\n"
    assert f"nightly-{NEWEST}" in said.err


def test_precompiled_names_the_paths_that_forbid_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first word is for scripts."""
    path = tmp_path / "paths"
    path.write_text("vllm/a.py\ncsrc/b.cu\n")
    assert main(["builds", "precompiled", "--paths", str(path)]) == 0
    assert capsys.readouterr().out == "no\n  csrc/b.cu\n"
    path.write_text("vllm/a.py\n")
    assert main(["builds", "precompiled", "--paths", str(path)]) == 0
    assert capsys.readouterr().out == "yes\n"
    assert main(["builds", "precompiled", "--paths", str(tmp_path / "none")]) == 2


def test_builds_are_listed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By id, or those that nobody used for long."""
    for version in ("0.2", "0.3", "0.4"):
        put(tmp_path, pin_of(version), used_s=0.0)
    state = ["--state-dir", str(tmp_path)]
    assert main(["builds", "list", *state]) == 0
    said = capsys.readouterr().out
    assert f"{pin_of('0.2').pin_id}    0.00 GB  last used 1970-01-01  vllm 0.2" in said
    assert "3 builds" in said
    assert main(["builds", "remove", pin_of("0.3").pin_id, *state]) == 0
    assert f"removed vllm 0.3 ({pin_of('0.3').pin_id})" in capsys.readouterr().out
    for wrong in ([], ["ab", "--unused-days", "1"], ["--unused-days", "-1"], ["--unused-days", "nan"], ["zz"]):
        assert main(["builds", "remove", *wrong, *state]) == 2
    assert main(["builds", "remove", "--unused-days", "30", *state]) == 0
    assert capsys.readouterr().out.count("removed") == 2
    assert not list((tmp_path / "builds").glob("*/"))


def test_an_image_is_pinned_by_its_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any engine or network; it cannot be installed, and the message says what to do."""
    spec = f"image:vllm/vllm-openai:v0.33.0@sha256:{'6' * 64}"
    state = ["--state-dir", str(tmp_path)]
    assert main(["builds", "pin", spec, "--output", str(tmp_path / "pin.json"), *state]) == 0
    said = capsys.readouterr().out
    assert f"vllm 0.33.0 image {'6' * 12}" in said
    assert f"from vllm/vllm-openai@sha256:{'6' * 64}" in said
    assert main(["builds", "install", str(tmp_path / "pin.json"), *state]) == 5
    assert "an image is not installed" in capsys.readouterr().err
