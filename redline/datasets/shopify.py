"""Shopify's product catalogue: a picture and a description, to be sorted into a category. MLPerf's set for Qwen3-VL.

Source: mlcommons/inference, multimodal/qwen3-vl, task.py: the two turns, the categories as Python prints a list, the
picture as a data URL. There the picture is encoded anew by Pillow; here it is sent byte for byte as it was published.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from redline.datasets.fields import Row
from redline.datasets.picture_file import PICTURE_BYTES_MAX, data_url
from redline.datasets.reading import Read, Reading
from redline.datasets.rows import rows_of
from redline.datasets.sources import bytes_of, files_of
from redline.model import ChatPrompt, Item

PATTERNS = ("data/train-*.parquet+data/test-*.parquet", "train-*.parquet+test-*.parquet", "*.parquet", "*.jsonl")


def read(reading: Reading, source: Path) -> Read:
    """The products as chats with one picture; references as JSON objects with category, brand and is_secondhand.

    The hub's Parquet files (train, then test), or JSON lines with `image` naming a file beside them. Raises
    ContentError; it names the first bad row.
    """
    system = reading.templates.fill({"schema": reading.templates.text("schema")}, "system")
    paths = files_of(source, PATTERNS)
    items: list[Item] = []
    pictures: list[Path] = []
    for path in paths:
        for row in rows_of(path):
            content, picture = _picture(row, path.parent)
            pictures += [picture] if picture else []
            items.append(_item(reading, row, system, content, len(items)))
    return Read(tuple(items), (*paths, *pictures))


def _item(reading: Reading, row: Row, system: str, picture: bytes, index: int) -> Item:
    fields = {name: _printed(row, name) for name in ("product_title", "product_description")}
    fields["potential_product_categories"] = str(row.texts("potential_product_categories"))
    try:
        url = data_url(picture)
    except ValueError as error:
        raise row.wrong("the picture is none", "a PNG, JPEG or WebP picture", str(error)) from error
    reference = {
        "category": row.text("ground_truth_category", empty=False),
        "brand": row.text("ground_truth_brand"),
        "is_secondhand": row.truth("ground_truth_is_secondhand"),
    }
    turns = (("system", system), ("user", reading.templates.fill(fields, "user")))
    return Item(row.key("id", f"{index:05d}"), ChatPrompt(turns, (url,)), json.dumps(reference))


def _printed(row: Row, name: str) -> str:
    """A text as the reference's f-string prints it: null is `None`."""
    return "None" if name in row.values and not row.has(name) else row.text(name)


def _picture(row: Row, folder: Path) -> tuple[bytes, Path | None]:
    """(the picture's bytes, its own file if it has one)."""
    value = row.values[row.name_of("product_image", "image")]
    if isinstance(value, dict):
        value = value.get("bytes")  # how the hub's Parquet files hold a picture
    if isinstance(value, bytes):
        return value, None
    if not isinstance(value, str):
        raise row.wrong("there is no picture", "its bytes, or the name of its file", value)
    name = PurePosixPath(value)
    if name.is_absolute() or ".." in name.parts or "\0" in value:
        raise row.wrong("the picture's name leads out of its folder", "a name below the file's folder", value)
    path = folder / name
    try:
        return bytes_of(path, PICTURE_BYTES_MAX), path
    except (OSError, ValueError) as error:
        raise row.wrong("the picture cannot be read", f"a file {name}", str(error)) from error
