"""A prepared set is kept without loss, whole or not at all, and whatever happened to it since is noticed."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.datasets.item_table import digest_of, read_items, write_items
from redline.datasets.prepared import (
    PreparedSet,
    definition_digest,
    read_manifest,
    read_prepared,
    write_prepared,
)
from redline.errors import ContentError, StoreError
from redline.model import AudioPrompt, ChatPrompt, Item, TextPrompt, TokenPrompt
from tests.datasets.made_files import definition, png, wav

DEFINED = definition("gpt-oss", 5)
PICTURE = "data:image/png;base64," + png().hex()
ITEMS = (
    Item("a", TokenPrompt((0, 1, 2**31 - 1)), "aime:204"),
    Item("b", TextPrompt("café cafe\u0301 \u2028\r\n\t\0 \ufeff"), "é e\u0301"),
    Item("c", ChatPrompt((("system", "s"), ("user", "u")), (PICTURE, PICTURE)), "{}"),
    Item("d", ChatPrompt((("user", ""),)), ""),
    Item("e", AudioPrompt(wav(), "é.wav", "audio/wav", "de"), "guten Tag"),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def made(items=ITEMS, **changed):
    """A prepared set of these items."""
    told = {"source_files": {"a.jsonl": "1" * 64}, "tokenizer_sha256": "2" * 64}
    told |= {"name": "made-here", "definition_digest": definition_digest(DEFINED), "digest": digest_of(items)}
    return PreparedSet(items=items, **(told | changed))


def files(folder):
    """(inode, SHA-256) of every file, by name: unchanged means not even written again."""
    return {
        path.name: (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
        if path.is_file()
    }


def test_what_is_read_is_what_was_written(tmp_path):
    """Every kind of prompt, to the last byte, and everything that is known of where it comes from."""
    folder = write_prepared(tmp_path, made())
    assert read_prepared(tmp_path, "made-here", DEFINED) == made()
    assert folder == tmp_path / "made-here"
    manifest = read_manifest(tmp_path, "made-here")
    assert (manifest.item_count, manifest.digest) == (5, digest_of(ITEMS))


@given(st.lists(st.tuples(TEXTS, TEXTS, st.lists(st.integers(0, 2**31 - 1))), min_size=1, max_size=5))
def test_any_text_and_any_token_ids_survive(tmp_path_factory, drawn):
    """Whatever UTF-8 can carry comes back as it went in, and has the digest that it had."""
    path = tmp_path_factory.mktemp("items") / "items.parquet"
    items = tuple(
        item
        for key, text, token_ids in drawn
        for item in (Item(key, TextPrompt(text), text), Item(key, TokenPrompt(tuple(token_ids)), text))
    )
    write_items(path, items)
    assert read_items(path) == items
    assert digest_of(read_items(path)) == digest_of(items)


def test_the_digest_follows_keys_prompts_and_references():
    """Any change of what is asked or expected is another set; so is another order."""
    changed = [
        ITEMS[::-1],
        ITEMS[:-1],
        (replace(ITEMS[0], key="z"), *ITEMS[1:]),
        (replace(ITEMS[0], reference="aime:205"), *ITEMS[1:]),
        (replace(ITEMS[0], prompt=TokenPrompt((0, 1, 3))), *ITEMS[1:]),
        (*ITEMS[:-1], replace(ITEMS[4], prompt=replace(ITEMS[4].prompt, content=wav(0.6)))),
        (*ITEMS[:-1], replace(ITEMS[4], prompt=replace(ITEMS[4].prompt, language="en"))),
        (ITEMS[0], replace(ITEMS[1], prompt=ChatPrompt((("user", ITEMS[1].prompt.text),))), *ITEMS[2:]),
    ]
    digests = [digest_of(items) for items in (ITEMS, *changed)]
    assert len(set(digests)) == len(digests)


def test_the_definition_s_words_are_no_other_definition():
    """What decides the items counts; descriptions and licences do not."""
    same = replace(DEFINED, description="other words", licence="other", source="other", scorer="")
    other = [replace(DEFINED, prompt_tokens_max=7), replace(DEFINED, prompt="x"), replace(DEFINED, item_count=6)]
    assert definition_digest(same) == definition_digest(DEFINED)
    assert len({definition_digest(each) for each in (DEFINED, *other)}) == 4


def test_writing_the_same_again_touches_nothing(tmp_path):
    """Not even the inodes change; another source or another tokenizer does write."""
    folder = write_prepared(tmp_path, made())
    before = files(folder)
    write_prepared(tmp_path, made())
    assert files(folder) == before
    write_prepared(tmp_path, made(source_files={"b.jsonl": "3" * 64}))
    assert read_prepared(tmp_path, "made-here", DEFINED).source_files == {"b.jsonl": "3" * 64}


def test_another_set_takes_the_place_of_the_first(tmp_path):
    """Nothing of the first is left, nor of a writer that was killed."""
    folder = write_prepared(tmp_path, made())
    (folder / ".writing-1-dead").write_bytes(b"half")
    other = made(ITEMS[:2])
    write_prepared(tmp_path, other)
    assert read_prepared(tmp_path, "made-here", DEFINED) == other
    assert len(list(folder.glob("items-*.parquet"))) == 1
    assert not list(folder.glob(".writing-*"))


def test_readers_see_one_set_or_the_other_while_writers_race(tmp_path):
    """Eight writers of two sets and a reader throughout: every set that is read is whole."""
    sets = (made(), made(ITEMS[:2]))
    write_prepared(tmp_path, sets[0])

    def read(_):
        return read_prepared(tmp_path, "made-here", DEFINED)

    with ThreadPoolExecutor(4) as pool:
        written = [pool.submit(write_prepared, tmp_path, sets[number % 2]) for number in range(8)]
        seen = [pool.submit(read, number) for number in range(16)]
        assert all(each.result() in sets for each in seen)
        assert all(each.result() for each in written)


def test_what_is_not_prepared_names_the_command(tmp_path):
    """And so does what was prepared from another definition."""
    with pytest.raises(ContentError, match="is not prepared") as caught:
        read_prepared(tmp_path, "made-here", DEFINED)
    assert "redline datasets prepare made-here --from PATH" in caught.value.next_step
    assert read_manifest(tmp_path, "made-here") is None
    write_prepared(tmp_path, made())
    with pytest.raises(ContentError, match="another definition") as caught:
        read_prepared(tmp_path, "made-here", replace(DEFINED, prompt_tokens_max=9))
    assert "redline datasets prepare made-here" in caught.value.next_step


def flipped(content):
    """The content with one bit changed in its middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("items-*.parquet", flipped),
        ("items-*.parquet", lambda content: content[:-7]),
        ("items-*.parquet", lambda content: b""),
        ("items-*.parquet", None),
        ("manifest.json", lambda content: content[: len(content) // 2]),
        ("manifest.json", lambda content: b"[]"),
        ("manifest.json", lambda content: b'{"name": "made-here"}'),
        ("manifest.json", lambda content: content.replace(b"items-", b"../../items-")),
        ("manifest.json", lambda content: content.replace(b'"item_count": 5', b'"item_count": 4')),
    ],
)
def test_damage_is_noticed_and_preparing_again_mends_it(tmp_path, pattern, damage):
    """A changed bit, a cut or absent file, a manifest of something else: refused by name, then replaced."""
    folder = write_prepared(tmp_path, made())
    (path,) = folder.glob(pattern)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ContentError, match="damaged") as caught:
        read_prepared(tmp_path, "made-here", DEFINED)
    assert "redline datasets prepare made-here" in caught.value.next_step
    write_prepared(tmp_path, made())
    assert read_prepared(tmp_path, "made-here", DEFINED) == made()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "/etc", "A", "a\0b", "x" * 200])
def test_a_name_is_no_path(tmp_path, name):
    """Nothing is written or read outside of the folder of data sets."""
    folder = tmp_path / "datasets"
    with pytest.raises(ContentError, match="no name of a data set"):
        write_prepared(folder, made(name=name))
    with pytest.raises(ContentError, match="no name of a data set"):
        read_prepared(folder, name, DEFINED)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_said(tmp_path):
    """A file where the folder should be."""
    (tmp_path / "datasets").write_text("in the way")
    with pytest.raises(StoreError) as caught:
        write_prepared(tmp_path / "datasets", made())
    assert "prepare again" in caught.value.next_step
