"""Downloads over real HTTP: whole, taken up again, bounded."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from redline.builds.download import download
from redline.errors import BuildError
from tests.fakes.wheel_index_server import WheelIndexServer

BODY = bytes(range(256)) * 4000
_silent = logging.getLogger("redline.builds.test").debug


def test_a_download_that_breaks_off_is_taken_up_where_it_was(index: WheelIndexServer, tmp_path: Path) -> None:
    """The second request asks for the rest only, and the file is whole."""
    index.files["/a.whl"] = BODY
    index.broken_off["/a.whl"] = [300_000]
    lines: list[str] = []
    download(f"{index.base}/a.whl", tmp_path / "new" / "a.whl", on_line=lines.append, retry_s=0.0)
    assert (tmp_path / "new" / "a.whl").read_bytes() == BODY
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.whl"]
    assert index.seen[0].range == ""
    assert index.seen[1].range == "bytes=300000-"
    assert any("trying again" in line for line in lines)


def test_another_file_at_the_address_is_fetched_from_its_beginning(index: WheelIndexServer, tmp_path: Path) -> None:
    """Bytes of two files are never joined: what was begun counts only while the server's mark is the same."""
    index.files["/a.whl"] = BODY
    index.broken_off["/a.whl"] = [300_000, 0, 0, 0, 0, 0]
    with pytest.raises(BuildError, match="cannot be downloaded"):
        download(f"{index.base}/a.whl", tmp_path / "a.whl", on_line=_silent, retry_s=0.0)
    assert (tmp_path / "a.whl.part").exists()
    index.files["/a.whl"] = changed = BODY[::-1]
    index.broken_off.clear()
    download(f"{index.base}/a.whl", tmp_path / "a.whl", on_line=_silent)
    assert (tmp_path / "a.whl").read_bytes() == changed


def test_half_a_file_of_another_address_is_not_used(index: WheelIndexServer, tmp_path: Path) -> None:
    """A part that lies there for another address, or without a note, is begun again."""
    index.files |= {"/a.whl": BODY, "/b.whl": BODY}
    (tmp_path / "a.whl.part").write_bytes(b"x" * 1000)
    (tmp_path / "a.whl.part.json").write_text('{"url": "http://other/a.whl", "etag": "\\"1\\""}')
    download(f"{index.base}/a.whl", tmp_path / "a.whl", on_line=_silent)
    (tmp_path / "b.whl.part").write_bytes(b"x" * 1000)
    (tmp_path / "b.whl.part.json").write_text("[")
    download(f"{index.base}/b.whl", tmp_path / "b.whl", on_line=_silent)
    assert (tmp_path / "a.whl").read_bytes() == (tmp_path / "b.whl").read_bytes() == BODY
    assert {seen.range for seen in index.seen} == {""}


def test_a_server_without_marks_sends_it_all_again(index: WheelIndexServer, tmp_path: Path) -> None:
    """Without an ETag nothing says that it is still the same file."""
    index.etags = False
    index.files["/a.whl"] = BODY
    index.broken_off["/a.whl"] = [300_000]
    download(f"{index.base}/a.whl", tmp_path / "a.whl", on_line=_silent, retry_s=0.0)
    assert (tmp_path / "a.whl").read_bytes() == BODY
    assert [seen.range for seen in index.seen] == ["", ""]


def test_a_part_that_is_longer_than_the_file_is_dropped(index: WheelIndexServer, tmp_path: Path) -> None:
    """A 416 begins anew instead of failing for ever."""
    index.files["/a.whl"] = BODY
    index.broken_off["/a.whl"] = [len(BODY) - 1, 0, 0, 0, 0, 0]
    with pytest.raises(BuildError):
        download(f"{index.base}/a.whl", tmp_path / "a.whl", on_line=_silent, retry_s=0.0)
    with (tmp_path / "a.whl.part").open("ab") as part:
        part.write(b"much more than there is")
    index.broken_off.clear()
    download(f"{index.base}/a.whl", tmp_path / "a.whl", on_line=_silent, retry_s=0.0)
    assert (tmp_path / "a.whl").read_bytes() == BODY


def test_what_is_not_there_is_said_at_once(index: WheelIndexServer, tmp_path: Path) -> None:
    """A 403 or 404 is not tried again, and leaves nothing."""
    with pytest.raises(BuildError) as caught:
        download(f"{index.base}/no.whl", tmp_path / "a.whl", on_line=_silent)
    assert caught.value.found == "HTTP status 403"
    assert len(index.seen) == 1
    assert not list(tmp_path.iterdir())


def test_a_busy_server_is_asked_again(index: WheelIndexServer, tmp_path: Path) -> None:
    """A 503 passes."""
    index.files["/a.whl"] = BODY
    index.statuses["/a.whl"] = [503]
    download(f"{index.base}/a.whl", tmp_path / "a.whl", on_line=_silent, retry_s=0.0)
    assert (tmp_path / "a.whl").read_bytes() == BODY


def test_a_file_may_not_be_larger_than_its_bound(index: WheelIndexServer, tmp_path: Path) -> None:
    """What is too large is refused before its first byte is written."""
    index.files["/a.whl"] = BODY
    with pytest.raises(BuildError, match="cannot be downloaded") as caught:
        download(f"{index.base}/a.whl", tmp_path / "a.whl", on_line=_silent, bytes_max=1000)
    assert caught.value.found == "0.0 GB"
    assert not (tmp_path / "a.whl.part").exists()


def test_a_password_does_not_follow_a_redirect_to_another_host(index: WheelIndexServer, tmp_path: Path) -> None:
    """It is for the index alone."""
    with WheelIndexServer(files={"/a.whl": BODY}) as elsewhere:
        index.redirects["/a.whl"] = f"{elsewhere.base}/a.whl"
        download(f"{index.base}/a.whl", tmp_path / "a.whl", on_line=_silent, auth=("user", "hunter2"))
        assert elsewhere.seen[0].authorization == ""
    assert index.seen[0].authorization.startswith("Basic ")


def test_a_directory_that_cannot_be_written_is_a_clear_error(index: WheelIndexServer, tmp_path: Path) -> None:
    """The state directory may be a file by mistake."""
    index.files["/a.whl"] = BODY
    (tmp_path / "state").write_text("")
    with pytest.raises(BuildError, match="cannot be downloaded"):
        download(f"{index.base}/a.whl", tmp_path / "state" / "a.whl", on_line=_silent)
