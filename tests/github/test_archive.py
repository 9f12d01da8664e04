"""A stranger's zip file: what is plain comes out whole, what is not leaves nothing behind."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from redline.errors import ArtifactError
from redline.github.archive import ArchiveLimits, unpack

LIMITS = ArchiveLimits()


def packed(path: Path, entries: dict[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    """A zip file with these entries, as they are given."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, content)
    return path


def special(name: str, mode: int) -> zipfile.ZipInfo:
    """An entry that claims a kind of file."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def refuse(archive: Path, folder: Path, words: str = "not unpacked", limits: ArchiveLimits = LIMITS) -> None:
    """Unpacking fails, says so in our words, and leaves nothing but the archive."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(ArtifactError, match=words) as caught:
        unpack(archive, folder, limits)
    assert "evil" not in str(caught.value)
    assert sorted(folder.parent.rglob("*")) == before


def test_plain_files_come_out(tmp_path):
    """With their folders, empty ones too, and nothing executable."""
    content = {"leg.json": b"{}", "trials/one/a.parquet": b"\x00" * 70_000, "empty/": b"", ".hidden": b"x"}
    unpack(packed(tmp_path / "a.zip", content), tmp_path / "new" / "out", LIMITS)
    out = tmp_path / "new" / "out"
    assert {path.relative_to(out).as_posix() for path in out.rglob("*")} == {
        "leg.json",
        "trials",
        "trials/one",
        "trials/one/a.parquet",
        "empty",
        ".hidden",
    }
    assert (out / "trials/one/a.parquet").read_bytes() == b"\x00" * 70_000
    assert not any(path.stat().st_mode & 0o111 for path in out.rglob("*") if path.is_file())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out"]


def test_an_archive_without_files_is_an_empty_folder(tmp_path):
    """Nothing in it is nothing wrong with it."""
    unpack(packed(tmp_path / "a.zip", {}), tmp_path / "out", LIMITS)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/evil",
        "//evil",
        "C:/evil",
        "C:evil",
        "a\\..\\evil",
        "evil\\b",
        "./evil",
        "a//evil",
        "..",
        ".",
        "/",
        "a/./evil",
        "evil\n::error::x",
        "evil\x1b[31m",
        "evil\u202etxt",
        "evil ",
        "evil.",
        "evil/.. /x",
        "evil:stream",
        "evil\x7f",
        "evil" + "x" * 252,
        "/".join(["evil"] * 13),
        "e/" * 500 + "vil",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    """And nothing of the others comes out either."""
    archive = packed(tmp_path / "a.zip", [("first", b"fine"), (name, b"evil")])
    refuse(archive, tmp_path / "out", "not unpacked")


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR], ids=oct
)
def test_links_and_special_files_are_refused(tmp_path, kind):
    """A link to anywhere, a device, a pipe; and a file that claims to be a folder."""
    archive = packed(tmp_path / "a.zip", [(special("evil", kind | 0o777), b"/etc/passwd"), ("evil/x", b"x")])
    refuse(archive, tmp_path / "out", "link or a special file")


def test_rights_are_not_taken_over(tmp_path):
    """An entry that claims setuid and everything else comes out as a plain file."""
    unpack(packed(tmp_path / "a.zip", [(special("file", stat.S_IFREG | 0o6777), b"x")]), tmp_path / "out", LIMITS)
    assert not (tmp_path / "out" / "file").stat().st_mode & 0o7133


@pytest.mark.parametrize(
    "names",
    [
        ("evil", "evil"),
        ("evil", "EVIL"),
        ("a/evil", "A/evil"),
        ("a/evil", "A/other"),
        ("ﬁle-evil", "file-evil"),
        ("evil", "evil/x"),
        ("evil/x", "evil"),
        ("e\u0301vil", "\u00e9vil"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_names_that_are_one_somewhere_are_refused(tmp_path, names):
    """Twice the same, in other letters, composed otherwise, or a file and a folder of one name."""
    refuse(packed(tmp_path / "a.zip", [(name, b"x") for name in names]), tmp_path / "out")


def test_a_folder_may_be_listed_beside_its_files(tmp_path):
    """As upload-artifact and others do; twice too."""
    unpack(packed(tmp_path / "a.zip", [("a/", b""), ("a/b", b"x"), ("a/c", b"x")]), tmp_path / "out", LIMITS)
    assert (tmp_path / "out" / "a" / "c").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (ArchiveLimits(files_max=2), "at most 2 entries"),
        (ArchiveLimits(file_bytes_max=799_999), "in a file"),
        (ArchiveLimits(total_bytes_max=800_005), "bytes in all"),
        (ArchiveLimits(archive_bytes_max=100), "at most 100 bytes"),
    ],
)
def test_each_limit_holds(tmp_path, limits, words):
    """Entries, one file, all files, and the archive itself; one less of each would do."""
    archive = packed(tmp_path / "a.zip", {"one": bytes(800_000), "two": b"x" * 3, "three": b"x" * 3})
    refuse(archive, tmp_path / "out", words, limits)
    just_enough = ArchiveLimits(archive.stat().st_size, 3, 800_000, 800_006, 1)
    unpack(archive, tmp_path / "out", just_enough)


def test_much_out_of_little_is_refused(tmp_path):
    """Two megabytes of nothing out of two thousand bytes: no measurement looks like that."""
    archive = packed(tmp_path / "a.zip", {"evil": bytes(2_000_000)})
    refuse(archive, tmp_path / "out", "out of")
    unpack(archive, tmp_path / "out", ArchiveLimits(ratio_max=1_000))


def test_ten_thousand_files_are_refused_before_they_are_listed(tmp_path):
    """By the size of the table of contents, which is read first."""
    archive = packed(tmp_path / "a.zip", [(f"evil{number}", b"") for number in range(10_000)])
    refuse(archive, tmp_path / "out", "at most 5,000 entries")


def test_a_lie_about_the_number_of_entries_does_not_help(tmp_path):
    """The end record says one; its table is as large as it is."""
    archive = packed(tmp_path / "a.zip", [(f"evil{number}", b"") for number in range(300)])
    content = bytearray(archive.read_bytes())
    content[-14:-10] = struct.pack("<2H", 1, 1)
    archive.write_bytes(bytes(content))
    refuse(archive, tmp_path / "out", "at most", ArchiveLimits(files_max=10))


def test_a_bomb_is_stopped_while_it_goes_off(tmp_path):
    """Its headers say a few bytes; what comes out is what counts, and the damage is noticed."""
    archive = packed(tmp_path / "a.zip", {"evil": bytes(30_000_000)})
    content = archive.read_bytes()
    small = content.replace(struct.pack("<L", 30_000_000), struct.pack("<L", 300))
    archive.write_bytes(small)
    refuse(archive, tmp_path / "out", "damage")
    archive.write_bytes(content)
    refuse(archive, tmp_path / "out", "out of")


def test_damage_anywhere_leaves_nothing(tmp_path):
    """Cut off, bytes flipped, not a zip file, empty."""
    whole = packed(tmp_path / "a.zip", {"one": b"evil" * 5_000, "two": bytes(range(256)) * 40}).read_bytes()
    damaged = tmp_path / "damaged.zip"
    for content in (whole[:-1], whole[:-30], whole[: len(whole) // 2], b"", b"PK\5\6", b"evil" * 100, whole + b"evil"):
        damaged.write_bytes(content)
        refuse(damaged, tmp_path / "out")
    for place in range(35, len(whole) - 22, 7):
        flipped = bytearray(whole)
        flipped[place] ^= 0x55
        damaged.write_bytes(bytes(flipped))
        try:
            unpack(damaged, tmp_path / "out", LIMITS)
        except ArtifactError:
            assert not (tmp_path / "out").exists()
        else:  # a byte that means nothing, a time stamp for example: then the content is the content
            assert {path.stat().st_size for path in (tmp_path / "out").iterdir()} == {20_000, 10_240}
            (tmp_path / "out").rename(tmp_path / f"fine-{place}")


@pytest.mark.parametrize(
    ("signature", "offset", "found", "put"),
    [
        (b"PK\1\2", 46, b"evil", b"\0vil"),
        (b"PK\1\2", 46, b"evil", b"/vil"),
        (b"PK\1\2", 46, b"evil", b"\xff\xfe\xfd\xfc"),
        (b"PK\1\2", 42, b"\0\0\0\0", b"\xf0\xff\xff\xff"),
        (b"PK\5\6", 16, b"", b"\xf0\xff\xff\xff"),
        (b"PK\5\6", 12, b"", b"\xf0\xff\0\0"),
    ],
    ids=["no name", "a root", "no UTF-8", "beyond the file", "a table elsewhere", "a table too long"],
)
def test_tables_that_lie_leave_nothing(tmp_path, signature, offset, found, put):
    """Names and places in the table of contents that are none: refused, whatever the standard library makes of them."""
    archive = packed(tmp_path / "a.zip", {"evil": b"x"})
    content = bytearray(archive.read_bytes())
    place = content.index(signature) + offset
    assert content[place:].startswith(found)
    content[place : place + len(put)] = put
    if "\xff" in repr(put):
        content[content.index(b"PK\1\2") + 9] |= 0x08  # the name says it is UTF-8
    archive.write_bytes(bytes(content))
    refuse(archive, tmp_path / "out")


def test_an_encrypted_archive_is_refused(tmp_path):
    """There is no password, and none is asked for."""
    archive = packed(tmp_path / "a.zip", {"evil": b"x"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(bytes(content))
    refuse(archive, tmp_path / "out", "not encrypted")


def test_other_methods_are_refused(tmp_path):
    """Stored and deflated are what GitHub makes; LZMA may take much memory for little."""
    packed_file = io.BytesIO()
    with zipfile.ZipFile(packed_file, "w", zipfile.ZIP_LZMA) as opened:
        opened.writestr("evil", b"x" * 100)
    (tmp_path / "a.zip").write_bytes(packed_file.getvalue())
    refuse(tmp_path / "a.zip", tmp_path / "out", "stored or deflated")


def test_an_archive_in_the_large_form_comes_out(tmp_path, monkeypatch):
    """More than 65,535 entries take the 64-bit records, which are found, counted and read."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)  # the standard library writes that form from here on
    archive = packed(tmp_path / "a.zip", {str(number): b"x" for number in range(9)})
    assert b"PK\6\6" in archive.read_bytes()
    refuse(archive, tmp_path / "out", "found: 9 in", ArchiveLimits(files_max=8))
    unpack(archive, tmp_path / "out", ArchiveLimits(files_max=9))
    assert len(list((tmp_path / "out").iterdir())) == 9
    # A locator that leads to no record is damage.
    archive.write_bytes(archive.read_bytes().replace(b"PK\6\6", b"evil"))
    refuse(archive, tmp_path / "other", "cannot")


def test_what_is_there_already_is_left_alone(tmp_path):
    """A folder, a file or a broken link in the way: nothing is mixed into it."""
    archive = packed(tmp_path / "a.zip", {"one": b"new"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "one").write_bytes(b"old")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("out", "link"):
        with pytest.raises(FileExistsError):
            unpack(archive, tmp_path / name, LIMITS)
    assert (tmp_path / "out" / "one").read_bytes() == b"old"
