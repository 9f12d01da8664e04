"""Items as rows of a Parquet file and back, without loss, and the digest that tells two sets apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from redline.model import AudioPrompt, ChatPrompt, Item, Prompt, TextPrompt, TokenPrompt

if TYPE_CHECKING:
    import pyarrow as pa

ITEMS_AT_ONCE = 256
Cells: TypeAlias = dict[str, Any]


def digest_of(items: Iterable[Item]) -> str:
    """16 hex digits over every item's key, prompt and reference, in their order; audio counts by its SHA-256."""
    state = hashlib.sha256()
    for item in items:
        cells = _cells(item)
        content = cells.pop("content")
        cells["content"] = None if content is None else hashlib.sha256(content).hexdigest()
        state.update(json.dumps(cells, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return state.hexdigest()[:16]


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Write the items, a row each, a few at a time. Raises OSError, and pyarrow's errors, if the disk refuses."""
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and most commands need no data set
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = _schema()
    with pq.ParquetWriter(path, schema, compression="zstd", store_schema=True) as writer:
        for batch in _batches(items):
            writer.write_table(pa.Table.from_pylist([_cells(item) for item in batch], schema=schema))


def read_items(path: Path) -> tuple[Item, ...]:
    """The items of a file that `write_items` wrote.

    Raises OSError, ValueError, KeyError or pyarrow's errors for anything else.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415

    found: list[Item] = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ITEMS_AT_ONCE):
            found += [Item(cells["key"], _prompt(cells), cells["reference"]) for cells in batch.to_pylist()]
    return tuple(found)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == ITEMS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _schema() -> pa.Schema:
    import pyarrow as pa  # noqa: PLC0415

    turn = pa.struct([("role", pa.string()), ("text", pa.string())])
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("reference", pa.string(), nullable=False),
            ("token_ids", pa.list_(pa.int32())),
            ("text", pa.string()),
            ("turns", pa.list_(turn)),
            ("image_urls", pa.list_(pa.large_string())),
            ("content", pa.large_binary()),
            ("file_name", pa.string()),
            ("media_type", pa.string()),
            ("language", pa.string()),
        ]
    )


def _cells(item: Item) -> Cells:
    """One row: the columns of the other kinds of prompt are null."""
    names = ("token_ids", "text", "turns", "image_urls", "content", "file_name", "media_type", "language")
    cells: Cells = {"key": item.key, "reference": item.reference, **dict.fromkeys(names)}
    match item.prompt:
        case TokenPrompt(token_ids=token_ids):
            return cells | {"kind": "tokens", "token_ids": list(token_ids)}
        case TextPrompt(text=text):
            return cells | {"kind": "text", "text": text}
        case ChatPrompt(turns=turns, image_urls=image_urls):
            said = [{"role": role, "text": text} for role, text in turns]
            return cells | {"kind": "chat", "turns": said, "image_urls": list(image_urls)}
        case AudioPrompt() as audio:
            named = {"file_name": audio.file_name, "media_type": audio.media_type, "language": audio.language}
            return cells | named | {"kind": "audio", "content": audio.content}


def _prompt(cells: Cells) -> Prompt:
    match cells["kind"]:
        case "tokens":
            return TokenPrompt(tuple(cells["token_ids"]))
        case "text":
            return TextPrompt(cells["text"])
        case "chat":
            turns = tuple((turn["role"], turn["text"]) for turn in cells["turns"])
            return ChatPrompt(turns, tuple(cells["image_urls"]))
        case "audio":
            return AudioPrompt(cells["content"], cells["file_name"], cells["media_type"], cells["language"])
        case kind:
            raise ValueError(f"a prompt of kind {kind!r}")
