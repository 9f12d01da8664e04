"""Walking back over commits, and which changes may be measured with binaries compiled before them."""

from __future__ import annotations

import pytest

from redline.builds.last_build import Walked, last_build, read_commits
from redline.builds.no_build import NoBuild
from redline.builds.python_only import paths_that_forbid, python_only
from redline.errors import NoBuildError, UsageError

COMMITS = tuple(f"{number:040x}" for number in range(5))


def test_the_newest_commit_with_a_build_is_found() -> None:
    """Those without one are passed over, in order, and none behind it is looked at."""
    asked = []

    def find(commit: str) -> str | NoBuild:
        asked.append(commit)
        return NoBuild(commit, "none") if commit in COMMITS[:2] else f"build of {commit}"

    walked = last_build(COMMITS, find)
    assert (walked.commit, walked.found) == (COMMITS[2], f"build of {COMMITS[2]}")
    assert [each.name for each in walked.missed] == list(COMMITS[:2])
    assert asked == list(COMMITS[:3])


def test_a_walk_is_bounded() -> None:
    """After so many commits it ends without a build."""
    walked: Walked[str] = last_build(COMMITS, lambda commit: NoBuild(commit, "none"), walk_max=3)
    assert walked.found is None
    assert len(walked.missed) == 3
    assert last_build((), lambda commit: NoBuild(commit, "none")) == Walked("", None, ())


def test_the_reason_of_no_build_is_one_line() -> None:
    """It stands behind a `#` in lists of builds, and comes from a stranger's server."""
    reason = NoBuild("x", "first\nvllm==9 --trust\x1b[2J\u2028 second " + "x" * 5000).reason
    assert reason.startswith("first vllm==9 --trust [2J second")
    assert len(reason) == 1000
    assert isinstance(NoBuild("x", "y").as_error(), NoBuildError)


def test_commits_are_read_as_git_prints_them() -> None:
    """`git rev-list` and `git log --oneline --no-abbrev-commit` alike; order kept, doubles and comments left out."""
    lines = [COMMITS[2], "", "# newest first", f"{COMMITS[1]} [Bugfix] Fix #12", COMMITS[2], COMMITS[0].upper()]
    assert read_commits(lines, "list") == (COMMITS[2], COMMITS[1], COMMITS[0])


@pytest.mark.parametrize("lines", [[], ["# only"], ["abc1234 short"], [COMMITS[0], "main"], [COMMITS[0] + "f"]])
def test_what_is_no_list_of_commits_is_refused(lines: list[str]) -> None:
    """A short commit, a branch and nothing at all are named by line."""
    with pytest.raises(UsageError, match="list"):
        read_commits(lines, "list")


@pytest.mark.parametrize(
    "path",
    [
        "vllm/engine/llm_engine.py",
        "vllm/attention/ops/triton_unified_attention.py",
        "vllm/model_executor/layers/fused_moe/configs/E=8,N=3584,device_name=NVIDIA_H100.json",
        "vllm/envs.py",
        "tests/kernels/test_moe.cu",
        "docs/index.md",
        "README.md",
        "benchmarks/kernels/benchmark.py",
        ".buildkite/release-pipeline.yaml",
    ],
)
def test_python_and_what_is_not_installed_may_use_old_binaries(path: str) -> None:
    """Triton kernels are Python: the running build compiles them."""
    assert python_only([path])


@pytest.mark.parametrize(
    "path",
    [
        "csrc/attention/paged.cu",
        "vllm/csrc/x.cpp",
        "vllm/_C.abi3.so",
        "CMakeLists.txt",
        "cmake/utils.cmake",
        "setup.py",
        "pyproject.toml",
        "requirements/cuda.txt",
        "rust/src/main.rs",
        "Cargo.lock",
        "tools/build_rust.sh",
        "docker/Dockerfile",
        "vllm/vllm_flash_attn/flash_attn_interface.py",
        "vllm/third_party/triton_kernels/matmul.py",
        "vllm/_version.py",
        "docs/../csrc/a.cu",
        "/vllm/a.py",
        "something/new.py",
        "",
    ],
)
def test_everything_else_forbids_old_binaries(path: str) -> None:
    """What is compiled, what decides how, what the compiled wheel overwrites, and what nobody knows."""
    assert paths_that_forbid(["vllm/a.py", path]) == (path,)
    assert not python_only(["vllm/a.py", path])
