"""A file is there whole or not at all: real files, a real file-size limit, processes that are really killed."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from redline.whole_file import publish, temporary_in, write_whole

CHECKOUT = Path(__file__).resolve().parents[1]
LARGE = 1_000_000

_KILLED = """
import sys
from pathlib import Path
from redline.whole_file import temporary_in
with temporary_in(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("begun", flush=True)
    sys.stdin.read()
"""


@contextmanager
def umask(value: int) -> Iterator[None]:
    """Another umask of this process inside the context."""
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def full_disk(bytes_max: int) -> Iterator[None]:
    """No file of this process may grow beyond `bytes_max` inside the context: the kernel refuses the write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(directory: Path) -> list[str]:
    """Everything in a directory, hidden files included."""
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("content", [b"", b"\x00\xff\r\n", "Größe: 1 µs\r\n\u2028"])
def test_what_is_written_is_read_back(tmp_path: Path, content: bytes | str) -> None:
    """Bytes as they are and text as UTF-8, in directories that are made; a second write replaces the first."""
    path = tmp_path / "deep" / "er" / "a.json"
    write_whole(path, b"an older, longer content that is replaced")
    write_whole(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(path.parent) == ["a.json"]


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_who_may_read_it_is_up_to_the_umask(tmp_path: Path, mask: int, mode: int, replace: bool) -> None:
    """A folder that a team shares can be read by the team, and a private one by nobody else."""
    with umask(mask):
        write_whole(tmp_path / "night.json", "{}", replace=replace)
    assert stat.S_IMODE((tmp_path / "night.json").stat().st_mode) == mode


def test_without_replace_the_first_one_stays(tmp_path: Path) -> None:
    """The second is told so and leaves nothing."""
    path = tmp_path / "a.json"
    write_whole(path, "first", replace=False)
    with pytest.raises(FileExistsError):
        write_whole(path, "second", replace=False)
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, replace: bool) -> None:
    """A write that the kernel cuts short raises, and neither a half file nor a temporary one is left."""
    write_whole(tmp_path / "old.json", "old")
    with full_disk(LARGE // 2):
        for name in ("old.json", "new.json"):
            with pytest.raises(OSError, match="File too large"):
                write_whole(tmp_path / name, b"x" * LARGE, replace=replace)
    assert names(tmp_path) == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize("replace", [True, False])
def test_a_place_that_is_no_directory_is_no_file_that_exists(tmp_path: Path, replace: bool) -> None:
    """A file where the directory should be is not mistaken for a file that is there already."""
    (tmp_path / "taken").write_text("")
    for path in (tmp_path / "taken" / "a.json", tmp_path / "taken" / "deep" / "a.json"):
        with pytest.raises(NotADirectoryError):
            write_whole(path, "x", replace=replace)
    assert names(tmp_path) == ["taken"]


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    """A directory of that name stays, and no temporary file is left beside it."""
    (tmp_path / "a.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "a.json", "x")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a.json", "x", replace=False)
    assert names(tmp_path) == ["a.json"]


def test_text_that_utf_8_cannot_say_is_refused_first(tmp_path: Path) -> None:
    """Before anything is made, the directory included."""
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "deep" / "a.txt", "\udcff")
    assert names(tmp_path) == []


def test_two_writers_at_once_leave_one_whole_content(tmp_path: Path) -> None:
    """Eight threads replace one file many times while it is read: it is always one of theirs, whole."""
    path = tmp_path / "a.json"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    write_whole(path, contents[0])
    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(write_whole, path, content) for content in contents * 3]
        seen = [path.read_bytes() for _ in range(50)]
        assert all(each.result() is None for each in writing)
    assert set(seen) <= set(contents)
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["a.json"]


def test_of_writers_who_may_not_replace_one_wins(tmp_path: Path) -> None:
    """Eight at once: one content, whole, and seven who are told."""
    path = tmp_path / "a.json"

    def attempt(number: int) -> bool:
        try:
            write_whole(path, str(number) * 1000, replace=False)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(attempt, range(8)))
    assert taken.count(True) == 1
    assert path.read_text() == str(taken.index(True)) * 1000
    assert names(tmp_path) == ["a.json"]


def test_what_a_killed_writer_leaves_is_no_content(tmp_path: Path) -> None:
    """SIGKILL in the middle: nothing has the target's name or its suffix, and what is left is hidden."""
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGKILL)
    (left,) = names(tmp_path)
    assert left.startswith(".writing-")
    assert Path(left).suffix == ""
    write_whole(tmp_path / "a.json", "whole")
    assert [path.name for path in tmp_path.glob("*.json")] == ["a.json"]


def test_a_file_whose_name_is_known_last(tmp_path: Path) -> None:
    """It is written under the temporary name and published under its own."""
    with temporary_in(tmp_path / "deep") as temporary:
        temporary.write_text("content")
        publish(temporary, temporary.with_name("items-1.parquet"))
    assert names(tmp_path / "deep") == ["items-1.parquet"]


def test_a_writer_that_gives_up_leaves_nothing(tmp_path: Path) -> None:
    """Whatever ends it: an interrupt of its user as well."""

    def interrupted() -> None:
        with temporary_in(tmp_path / "deep") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path / "deep") == []
