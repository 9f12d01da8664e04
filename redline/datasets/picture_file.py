"""Pictures: what they are by their bytes, whether their end is there, and as the data URL that a chat carries.

Nothing is decoded: damage in the middle is not seen. Sources: PNG (W3C), 5.6: IEND ends the file; ITU-T T.81, B.1:
markers from SOI to EOI, a 0xFF among the data is followed by 0; WebP (RFC 9649), 2.4: RIFF's size.
"""

from __future__ import annotations

import base64

PICTURE_BYTES_MAX = 50_000_000
PNG_BEGIN, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
JPEG_BEGIN, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
JPEG_SCAN = 0xDA
JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers that nothing belongs to; every other one is followed by its length."""


def media_type_of(content: bytes) -> str:
    """`image/png`, `image/jpeg` or `image/webp`. Raises ValueError for anything else, and for a picture cut short."""
    if content.startswith(PNG_BEGIN):
        return _if_whole(content.find(PNG_END) > 0, "PNG")
    if content.startswith(JPEG_BEGIN):
        scan = _jpeg_scan(content)
        return _if_whole(scan > 0 and content.find(JPEG_END, scan) > 0, "JPEG")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        promised = int.from_bytes(content[4:8], "little")
        return _if_whole(12 < 8 + promised <= len(content), "WebP")
    raise ValueError(f"neither PNG, JPEG nor WebP: it begins with {content[:8]!r}")


def data_url(content: bytes) -> str:
    """The picture as a data URL, byte for byte. Raises ValueError if it is no picture, cut short or too large."""
    if len(content) > PICTURE_BYTES_MAX:
        raise ValueError(f"{len(content)} bytes, more than {PICTURE_BYTES_MAX}")
    return f"data:{media_type_of(content)};base64,{base64.b64encode(content).decode('ascii')}"


def _if_whole(is_whole: bool, form: str) -> str:
    if not is_whole:
        raise ValueError(f"a {form} cut short: it has no end")
    return f"image/{form.lower()}"


def _jpeg_scan(content: bytes) -> int:
    """Where the first scan begins, beyond thumbnails, which are whole pictures in a segment; 0 if there is none."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == JPEG_SCAN:
            return at
        if marker == 0xFF:  # a fill byte
            at += 1
        else:
            at += 2 if marker in JPEG_ALONE else 2 + int.from_bytes(content[at + 2 : at + 4])
    return 0
