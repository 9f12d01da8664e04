"""Pictures: what they are by their first bytes, and as the data URL that a chat carries."""

from __future__ import annotations

import base64

PICTURE_BYTES_MAX = 50_000_000


def media_type_of(content: bytes) -> str:
    """`image/png`, `image/jpeg` or `image/webp`. Raises ValueError for anything else, and for a cut PNG."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        if b"IEND" not in content:
            raise ValueError("a PNG cut short: it has no end")
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    raise ValueError(f"neither PNG, JPEG nor WebP: it begins with {content[:8]!r}")


def data_url(content: bytes) -> str:
    """The picture as a data URL, byte for byte. Raises ValueError if it is no picture, empty or too large."""
    if len(content) > PICTURE_BYTES_MAX:
        raise ValueError(f"{len(content)} bytes, more than {PICTURE_BYTES_MAX}")
    return f"data:{media_type_of(content)};base64,{base64.b64encode(content).decode('ascii')}"
