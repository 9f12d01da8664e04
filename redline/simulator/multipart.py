"""The fields of a multipart/form-data body, as an upload of audio sends them. Pure.

Source: RFC 7578 and RFC 2046 5.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

FIELD_COUNT_MAX = 100
PART_HEAD_BYTES_MAX = 8 * 1024

_BOUNDARY = re.compile(r'boundary=(?:"([^"\r\n]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(r'(?:^|;)[ \t]*name="([^"\r\n]*)"', re.IGNORECASE)
_FILENAME = re.compile(r'(?:^|;)[ \t]*filename="([^"\r\n]*)"', re.IGNORECASE)


class MultipartError(ValueError):
    """The body is no multipart/form-data."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its bytes, and the file's name if it is a file."""

    content: bytes
    filename: str | None

    @property
    def text(self) -> str:
        """The value as text."""
        return self.content.decode("utf-8", "replace").strip()


def parse_form(content_type: str, body: bytes) -> Mapping[str, Field]:
    """Fields by name, the last of each name. Raises MultipartError."""
    boundary = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/form-data") or boundary is None:
        raise MultipartError("the body is not multipart/form-data with a boundary")
    delimiter = b"\r\n--" + (boundary[1] or boundary[2]).encode("latin-1")
    # The first delimiter may stand at the very start of the body.
    parts = (b"\r\n" + body).split(delimiter, FIELD_COUNT_MAX + 2)
    if len(parts) > FIELD_COUNT_MAX + 2:
        raise MultipartError(f"more than {FIELD_COUNT_MAX} fields")
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise MultipartError("the body does not end with its boundary")
    return dict(_field(part) for part in parts[1:-1])


def _field(part: bytes) -> tuple[str, Field]:
    head, blank, content = part.partition(b"\r\n\r\n")
    if not blank or len(head) > PART_HEAD_BYTES_MAX:
        raise MultipartError("a field has no head, or one that is too long")
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() != "content-disposition":
            continue
        named, file_named = _NAME.search(value), _FILENAME.search(value)
        if named is not None:
            return named[1], Field(content, file_named[1] if file_named else None)
    raise MultipartError("a field has no name")
