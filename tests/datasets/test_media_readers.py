"""Speech and pictures: sent byte for byte, told by their bytes, refused by row and reason."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace

import pytest

from redline.datasets.audio_file import form_of
from redline.datasets.picture_file import data_url
from tests.datasets.made_files import (
    definition,
    flac,
    jpeg,
    json_lines,
    parquet,
    png,
    prepare,
    product,
    refused,
    speech_folder,
    wav,
)

LIBSNDFILE_FLAC = (
    "ZkxhQwAAACIQABAAAAAMAAAMA+gA8AAAAApEEBhSUghFdwW/CajuPBCThAAAKCAAAAByZWZlcmVuY2Ug"
    "bGliRkxBQyAxLjQuMyAyMDIzMDYyMwAAAAD/+GUIAAnKAAAAz5A="
)
PILLOW_WEBP = "UklGRjwAAABXRUJQVlA4IDAAAADQAQCdASoCAAIAAUAmJaACdLoB+AADsAD+9hNf/izkYjs83/4E78Cd+BO/8AAAAAA="
SPEECH = definition("librispeech", 2)
SHOPIFY = definition("shopify", 3, prompt="qwen3-vl")


# --- speech ---------------------------------------------------------------------------------------------------------


def test_speech_is_uploaded_byte_for_byte(tmp_path):
    """WAV and FLAC with their media types and transcripts, wherever the manifest's machine had them."""
    contents = {"a_0.wav": wav(), "deep/b_1.flac": flac(1.25)}
    folder = speech_folder(tmp_path / "set", contents)
    made = prepare(SPEECH, folder)
    assert [item.prompt.content for item in made.items] == list(contents.values())
    assert [item.prompt.media_type for item in made.items] == ["audio/wav", "audio/flac"]
    assert [(item.key, item.prompt.file_name) for item in made.items] == [("a_0", "a_0.wav"), ("b_1", "b_1.flac")]
    assert made.items[0].reference == "what a_0 says"
    assert set(made.source_files) == {"dev-all-repack.json", "a_0.wav", "b_1.flac"}
    entries = json.loads((folder / "dev-all-repack.json").read_text())
    entries[0]["files"][0]["fname"] = "/data/dev-all-repack/a_0.wav"
    entries[1]["files"][0]["fname"] = "data/deep/b_1.flac"
    (folder / "dev-all-repack.json").write_text(json.dumps(entries))
    assert prepare(SPEECH, folder / "dev-all-repack.json").digest == made.digest


def test_every_missing_audio_file_is_named(tmp_path):
    """All of them in one message, not one a run."""
    folder = speech_folder(tmp_path, {f"{n}.wav": wav(0.01) for n in range(4)})
    for name in ("1.wav", "3.wav"):
        (folder / name).unlink()
    refused(replace(SPEECH, item_count=4), folder, "2 of 4", "1.wav, 3.wav", "unpack")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "an empty file"),
        (b"I am a text, whatever my name is", "neither WAV nor FLAC"),
        (wav()[:-100], "cut short"),
        (wav()[:30], "cannot be read"),
        (wav(0), "0 samples"),
        (flac()[:20], "stream information"),
        (flac(0), "0 samples"),
        (flac()[:42], "without frames"),
        (flac()[:43], "without frames"),
        (flac(10)[:-1], "cut short or damaged: the last of its 160000 samples are not there"),
        (flac(10)[:300], "cut short or damaged"),
        (flac(10) + b"more", "cut short or damaged"),
        (flac()[:4] + b"\0" + flac()[5:42] + b"\x81\0\1\0", "without frames"),
        (flac()[:4] + b"\0" + flac()[5:42] + b"\0\0", "cut short in its metadata"),
        (wav(30.1, 4000), "30.10 s"),
        (flac(31), "31.00 s"),
        (png(), "neither WAV nor FLAC"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_speech_is_refused(tmp_path, content, told):
    """By its bytes, not by its name."""
    refused(SPEECH, speech_folder(tmp_path, {"a.wav": wav(), "b.wav": content}), "row 2", "b.wav", told)


@pytest.mark.parametrize("name", ["../secret.wav", "a/../../secret.wav", "\0.wav", "..", "x" * 300 + ".wav"])
def test_a_manifest_leads_nowhere_else(tmp_path, name):
    """No file outside the manifest's folder is read, whatever it names."""
    (tmp_path / "secret.wav").write_bytes(wav())
    folder = speech_folder(tmp_path / "set", {"a.wav": wav(), "b.wav": wav()})
    entries = json.loads((folder / "dev-all-repack.json").read_text())
    entries[1]["files"][0]["fname"] = name
    (folder / "dev-all-repack.json").write_text(json.dumps(entries))
    refused(SPEECH, folder)


def test_another_recording_or_an_absolute_path_is_refused(tmp_path):
    """A duration that the manifest states is the file's; an absolute name is looked for in the folder only."""
    folder = speech_folder(tmp_path / "set", {"a.wav": wav(), "b.wav": wav()}, original_duration=0.5)
    assert prepare(SPEECH, folder).items
    refused(SPEECH, speech_folder(tmp_path / "o", {"a.wav": wav(), "b.wav": wav(0.7)}, original_duration=0.5), "b.wav")
    (tmp_path / "secret.wav").write_bytes(wav())
    entries = json.loads((folder / "dev-all-repack.json").read_text())
    entries[1]["files"][0]["fname"] = str(tmp_path / "secret.wav")
    (folder / "dev-all-repack.json").write_text(json.dumps(entries))
    refused(SPEECH, folder, "1 of 2", "missing")


def test_durations_are_the_files_own():
    """Seconds from the headers of WAV and FLAC, at any rate."""
    assert form_of(wav(1.5, 8000)).duration_s == 1.5
    assert form_of(flac(12.34, 44100)).duration_s == pytest.approx(12.34, abs=1e-4)


def test_a_flac_of_another_encoder_is_whole_until_a_byte_is_missing():
    """Ten samples as libsndfile 1.2.2 writes them, with a block of metadata between."""
    content = base64.b64decode(LIBSNDFILE_FLAC)
    assert form_of(content).duration_s == 10 / 16000
    for end in range(len(content)):
        with pytest.raises(ValueError, match=r"FLAC|empty"):
            form_of(content[:end])


@pytest.mark.parametrize("samples", [1, 4095, 4096, 4097, 4096 * 130])
def test_every_length_of_flac_is_seen_whole(samples):
    """Block by block up to frame numbers of two bytes; without its last frame it is refused."""
    content = flac(samples / 16000)
    assert form_of(content).duration_s == samples / 16000
    last = content.rindex(b"\xff\xf8\x70")
    with pytest.raises(ValueError, match=f"the last of its {samples} samples|without frames"):
        form_of(content[:last])


# --- pictures -------------------------------------------------------------------------------------------------------


def test_products_are_asked_as_mlperf_asks(tmp_path):
    """Train before test, schema and categories as MLPerf prints them, the picture's own bytes, the truths as JSON."""
    parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [product(2)])
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [product(0), product(1)])
    made = prepare(SHOPIFY, tmp_path)
    for number, item in enumerate(made.items):
        (_, system), (_, user) = item.prompt.turns
        assert f"```text\nMug {number}\n```" in user
        assert "A {schema} mug" in user
        assert """```json\n['Home > Kitchen > Mugs', "Home > Kid's"]\n```""" in user
        schema = json.loads(system.split("```json")[-1].split("```")[0])
        assert schema["required"] == ["category", "brand", "is_secondhand"]
        head, _, content = item.prompt.image_urls[0].partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(content) == png(grey=number)
        truths = {"category": "Home > Kitchen > Mugs", "brand": "acme", "is_secondhand": number == 1}
        assert json.loads(item.reference) == truths


def test_a_catalogue_of_json_lines_names_its_pictures(tmp_path):
    """Files beside it, and among what the set was made of; a name that leads elsewhere is refused."""
    rows = [product(n, id=f"p{n}", image=f"pictures/{n}.png") for n in range(3)]
    (tmp_path / "pictures").mkdir()
    for number, row in enumerate(rows):
        del row["product_image"]
        (tmp_path / "pictures" / f"{number}.png").write_bytes(png(grey=number))
    made = prepare(SHOPIFY, json_lines(tmp_path / "products.jsonl", rows))
    assert [item.key for item in made.items] == ["p0", "p1", "p2"]
    assert {"products.jsonl", "0.png", "2.png"} < set(made.source_files)
    for name, told in (("../x.png", "leads out"), ("/etc/hostname", "leads out"), ("pictures/9.png", "cannot be read")):
        rows[2]["image"] = name
        refused(SHOPIFY, json_lines(tmp_path / "products.jsonl", rows), "row 3", told)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"product_image": {"bytes": b"<svg/>", "path": None}}, "neither PNG, JPEG nor WebP"),
        ({"product_image": {"bytes": png()[:-14], "path": None}}, "cut short"),
        ({"product_image": {"bytes": b"", "path": None}}, "neither PNG"),
        ({"product_image": None}, "'product_image'"),
        ({"potential_product_categories": []}, "no list of texts"),
        ({"ground_truth_category": ""}, "is empty"),
        ({"ground_truth_is_secondhand": None}, "'ground_truth_is_secondhand'"),
    ],
)
def test_a_product_that_cannot_be_asked_or_scored_is_refused(tmp_path, changed, told):
    """By row, before anything is sent."""
    rows = [product(0), product(1), product(2, **changed)]
    refused(SHOPIFY, parquet(tmp_path / "a.parquet", rows), "row 3", told)


def test_picture_forms_are_told_by_their_bytes():
    """PNG, JPEG and WebP, with bytes after their end or without."""
    pictures = {"png": png(), "jpeg": jpeg(), "webp": base64.b64decode(PILLOW_WEBP)}
    for form, content in pictures.items():
        for each in (content, content + b"\0\0"):
            assert data_url(each).startswith(f"data:image/{form};base64,")


@pytest.mark.parametrize("content", [png(), jpeg(), base64.b64decode(PILLOW_WEBP)], ids=["png", "jpeg", "webp"])
def test_a_picture_without_its_end_is_none(content):
    """Wherever it is cut, in a JPEG also behind the end of its thumbnail."""
    for end in range(len(content)):
        with pytest.raises(ValueError, match=r"cut short|neither PNG"):
            data_url(content[:end])
    with pytest.raises(ValueError, match="cut short"):
        data_url(b"RIFF\0\0\0\0WEBPVP8 ")


def test_a_picture_that_could_be_read_for_ever_is_refused_unread(tmp_path):
    """A pipe, a folder, and a file of a terabyte, of which no byte is read."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    for name, told in (
        ("pipe.png", "no plain file"),
        ("folder.png", "no plain file"),
        ("huge.png", "more than 50000000"),
    ):
        row = {key: value for key, value in product().items() if key != "product_image"} | {"image": name}
        source = json_lines(tmp_path / "products.jsonl", [row])
        refused(replace(SHOPIFY, item_count=1), source, "row 1", told)


def test_a_recording_of_a_terabyte_is_refused_unread(tmp_path):
    """By its size, before a byte is read."""
    folder = speech_folder(tmp_path, {"a.wav": wav(), "b.wav": wav()})
    with (folder / "b.wav").open("wb") as file:
        file.truncate(1 << 40)
    refused(SPEECH, folder, "row 2", "b.wav", "more than 16000000")
