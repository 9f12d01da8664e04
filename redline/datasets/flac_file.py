"""Is a FLAC file whole, and how long is it? By its stream information and its last frame; nothing is decoded.

The last frame's header says which samples it holds: they must end where the stream information ends, and the frame's
checksum must be right at the end of the file. Damage in the middle is not seen.
Source: RFC 9639: section 8 (metadata blocks), 9.1 (frame headers), 9.3 (CRC-16).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"fLaC"
STREAMINFO_BYTES = 34
SYNCS = (b"\xff\xf8", b"\xff\xf9")
"""How a frame begins, with blocks of one size and of several."""

FRAME_HEADER_BYTES_MAX = 16
RATE_BYTES = {12: 1, 13: 2, 14: 2}
"""Bytes of the sample rate after the header's numbers, by its code."""


def _crc_table(polynomial: int, bits: int) -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value >> bits - 1 else value << 1) & (1 << bits) - 1
        table.append(value)
    return tuple(table)


CRC_8, CRC_16 = _crc_table(0x07, 8), _crc_table(0x8005, 16)


@dataclass(frozen=True, slots=True)
class StreamInformation:
    """What a file says of itself: samples of each channel, samples a second, samples of a block."""

    samples: int
    rate_per_s: int
    block_samples: int


def whole_stream(content: bytes) -> StreamInformation:
    """The stream information of a file whose last frame is there, whole. Raises ValueError, which says what is not."""
    stream = _stream_information(content)
    first_frame = _after_metadata(content)
    if content[first_frame : first_frame + 2] not in SYNCS:
        raise ValueError("a FLAC file without frames")
    if not stream.samples or not stream.rate_per_s:
        return stream
    starts = (at for at in _from_the_end(content, first_frame) if _samples_end(content, at, stream) == stream.samples)
    if not any(_crc_16_is_right(content, at) for at in starts):
        raise ValueError(f"a FLAC file cut short or damaged: the last of its {stream.samples} samples are not there")
    return stream


def _stream_information(content: bytes) -> StreamInformation:
    header = content[4:8]
    if len(content) < 8 + STREAMINFO_BYTES or header[0] & 0x7F or int.from_bytes(header[1:]) != STREAMINFO_BYTES:
        raise ValueError("a FLAC file without its stream information")
    (block_samples,) = struct.unpack_from(">H", content, 10)
    packed = int.from_bytes(content[18:26])
    return StreamInformation(packed & (1 << 36) - 1, packed >> 44, block_samples)


def _after_metadata(content: bytes) -> int:
    """Where the frames begin: after the metadata block that says it is the last."""
    at, last = len(MAGIC), False
    while not last:
        if len(content) < at + 4:
            raise ValueError("a FLAC file cut short in its metadata")
        last = content[at] >= 0x80
        at += 4 + int.from_bytes(content[at + 1 : at + 4])
    return at


def _from_the_end(content: bytes, first: int) -> Iterator[int]:
    """Every place that looks like the begin of a frame, the last one first."""
    at = len(content)
    while (at := max(content.rfind(sync, first, at + 1) for sync in SYNCS)) >= 0:
        yield at
        at -= 1


def _samples_end(content: bytes, at: int, stream: StreamInformation) -> int | None:
    """How many samples the file has up to the end of the frame that begins at `at`; None if none begins there."""
    header = content[at : at + FRAME_HEADER_BYTES_MAX]
    number, used = _coded_number(header[4:])
    if number is None:
        return None
    size_code, rate_code = header[2] >> 4, header[2] & 0x0F
    size_bytes = {6: 1, 7: 2}.get(size_code, 0)
    end = 4 + used + size_bytes + RATE_BYTES.get(rate_code, 0)
    if len(header) <= end or _crc(CRC_8, 8, header[: end + 1]):
        return None
    own = int.from_bytes(header[4 + used : 4 + used + size_bytes]) + 1 if size_bytes else _block_samples(size_code)
    begin = number if header[1] & 1 else number * stream.block_samples
    return begin + own


def _coded_number(content: bytes) -> tuple[int | None, int]:
    """(the number, its bytes) as UTF-8 would code it, up to 36 bits; None if that is not what stands there."""
    if not content:
        return None, 0
    ones = f"{content[0]:08b}".find("0") if content[0] != 0xFF else 8
    if ones == 0:
        return content[0], 1
    following = content[1:ones]
    if ones in (1, 8) or len(following) != ones - 1 or any(byte >> 6 != 0b10 for byte in following):
        return None, 0
    number = content[0] & (1 << 7 - ones) - 1
    for byte in following:
        number = number << 6 | byte & 0x3F
    return number, ones


def _block_samples(code: int) -> int:
    if code == 1:
        return 192
    return 576 << code - 2 if code < 6 else 1 << code


def _crc_16_is_right(content: bytes, at: int) -> bool:
    """True if the file ends with the checksum of all from `at` on."""
    return _crc(CRC_16, 16, content[at:]) == 0


def _crc(table: tuple[int, ...], bits: int, content: bytes) -> int:
    """The remainder; 0 over content that ends with its own checksum."""
    value = 0
    for byte in content:
        value = (value << 8 ^ table[value >> bits - 8 ^ byte]) & (1 << bits) - 1
    return value
