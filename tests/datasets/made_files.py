"""Real small files for tests of data sets: speech, pictures, Parquet, a tokenizer, definitions."""

from __future__ import annotations

import io
import json
import struct
import wave
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from redline.datasets.prepare import prepared_from
from redline.datasets.prepared import PreparedSet
from redline.datasets.templates import Templates, read_templates
from redline.datasets.tokenization import PromptTokenizer, read_tokenizer
from redline.errors import ContentError
from redline.model import Dataset

ROOT = Path(__file__).parents[2]
PROMPTS = ROOT / "datasets" / "prompts.json"
TEXTS = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
ARTICLES = [
    {"id": f"story-{number}", "article": text[:400] + " {question} naïve café", "highlights": text[:40]}
    for number, text in enumerate(TEXTS)
]


def definition(form: str, item_count: int, **changed: Any) -> Dataset:
    """A definition of some form, for as many items as a test has."""
    told = {"name": "made-here", "description": "d", "licence": "ours", "source": "this test", "scorer": "rouge"}
    return Dataset(**(told | {"form": form, "item_count": item_count} | changed))


def templates(family: str) -> Templates:
    """Redline's own templates of a family."""
    return read_templates(PROMPTS, family)


def prepare(defined: Dataset, source: Path, tokenizer: PromptTokenizer | None = None) -> PreparedSet:
    """The data set of these files, with Redline's own templates."""
    return prepared_from(defined, source, templates(defined.prompt), tokenizer)


def tokenizer_file(folder: Path, *, begin_token: bool) -> Path:
    """A byte-level tokenizer trained on this repository's documents, with or without a begin token."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    if begin_token:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made.enable_padding(length=64)
    made.enable_truncation(16)
    path = folder / "tokenizer.json"
    made.save(str(path))
    return path


def tokenizer(folder: Path, *, begin_token: bool = False) -> PromptTokenizer:
    """Such a tokenizer, read as Redline reads it."""
    return read_tokenizer(tokenizer_file(folder, begin_token=begin_token))


def wav(duration_s: float = 0.5, rate_per_s: int = 16000) -> bytes:
    """A mono WAV of a rising tone."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_per_s)
        count = round(duration_s * rate_per_s)
        file.writeframes(b"".join(struct.pack("<h", (n * n) % 3000) for n in range(count)))
    return buffer.getvalue()


def flac(duration_s: float = 0.5, rate_per_s: int = 16000) -> bytes:
    """A mono FLAC of a constant: stream information, then frames of up to 4096 samples, with their checksums."""
    samples = round(duration_s * rate_per_s)
    packed = rate_per_s << 44 | 0 << 41 | 15 << 36 | samples
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    blocks = [min(4096, samples - begin) for begin in range(0, samples, 4096)] or [4096]
    frames = b"".join(_flac_frame(number, size) for number, size in enumerate(blocks))
    return b"fLaC" + b"\x80\x00\x00\x22" + info + frames


def _flac_frame(number: int, samples: int) -> bytes:
    header = b"\xff\xf8\x70\x08" + chr(number).encode() + struct.pack(">H", samples - 1)
    frame = header + bytes([remainder(header, 0x07, 8)]) + b"\x00" + struct.pack(">h", 1234)
    return frame + struct.pack(">H", remainder(frame, 0x8005, 16))


def remainder(content: bytes, polynomial: int, bits: int) -> int:
    """A cyclic redundancy check, bit by bit, most significant first, from 0."""
    value = 0
    for bit in (byte >> shift & 1 for byte in content for shift in range(7, -1, -1)):
        carry = value >> bits - 1 ^ bit
        value = (value << 1 ^ carry * polynomial) & (1 << bits) - 1
    return value


def jpeg() -> bytes:
    """The segments of a JPEG: one with a whole thumbnail in it, a fill byte, and a scan with its end."""
    thumbnail = b"\xff\xd8\xff\xda\x00\x02\x01\xff\xd9"
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    return b"\xff\xd8" + segment + b"\xff\xff\xda\x00\x02" + b"\x12\xff\x00\x34" + b"\xff\xd9"


def png(side: int = 4, grey: int = 128) -> bytes:
    """A grey square."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress((b"\0" + bytes([grey]) * side) * side)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """The rows as a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def json_lines(path: Path, rows: Sequence[object]) -> Path:
    """The rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def speech_folder(folder: Path, contents: Mapping[str, bytes], **changed: object) -> Path:
    """A folder in MLPerf's form: dev-all-repack.json and the audio files it names."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, content in contents.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        entries.append({"transcript": f"what {target.stem} says", "files": [{"fname": name, "speed": 1}]} | changed)
    (folder / "dev-all-repack.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder


def product(number: int = 0, **changed: Any) -> dict[str, Any]:
    """A row of the product catalogue, as the hub's Parquet files hold it."""
    return {
        "product_title": f"Mug {number}",
        "product_description": "<b>A {schema} mug</b>",
        "product_image": {"bytes": png(grey=number), "path": None},
        "potential_product_categories": ["Home > Kitchen > Mugs", "Home > Kid's"],
        "ground_truth_category": "Home > Kitchen > Mugs",
        "ground_truth_brand": "acme",
        "ground_truth_is_secondhand": number % 2 == 1,
    } | changed


def refused(defined: Dataset, source: Path, *told: str, tokens: PromptTokenizer | None = None) -> str:
    """The message with which a source is refused; it names each thing that is told."""
    with pytest.raises(ContentError) as caught:
        prepare(defined, source, tokens)
    message = str(caught.value)
    for text in told:
        assert text in message, message
    assert caught.value.next_step
    return message
