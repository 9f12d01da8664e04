"""Speech files: what they are by their first bytes, and how long. WAV by the standard library, FLAC by its STREAMINFO.

Source: RFC 9639 (FLAC), section 8.2: 20 bits sample rate, 3 channels, 5 bits per sample, 36 total samples.
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass

STREAMINFO_BYTES = 34


@dataclass(frozen=True, slots=True)
class AudioForm:
    """The media type of an audio file, and its duration in seconds."""

    media_type: str
    duration_s: float


def form_of(content: bytes) -> AudioForm:
    """What the bytes are, checked to their end where the format allows. Raises ValueError, which says what is wrong."""
    if not content:
        raise ValueError("an empty file")
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return AudioForm("audio/wav", _wav_duration_s(content))
    if content[:4] == b"fLaC":
        return AudioForm("audio/flac", _flac_duration_s(content))
    raise ValueError(f"neither WAV nor FLAC: it begins with {content[:8]!r}")


def _wav_duration_s(content: bytes) -> float:
    try:
        with wave.open(io.BytesIO(content)) as file:
            frame_bytes, promised = file.getnchannels() * file.getsampwidth(), file.getnframes()
            held = len(file.readframes(promised)) // frame_bytes
            rate_per_s = file.getframerate()
    except (wave.Error, EOFError) as error:
        raise ValueError(f"a WAV file that cannot be read: {error}") from error
    if held < promised:
        raise ValueError(f"a WAV file cut short: {held} of {promised} samples")
    return _duration_s(held, rate_per_s)


def _flac_duration_s(content: bytes) -> float:
    header = content[4:8]
    if len(content) < 8 + STREAMINFO_BYTES or header[0] & 0x7F or int.from_bytes(header[1:]) != STREAMINFO_BYTES:
        raise ValueError("a FLAC file without its stream information")
    packed = int.from_bytes(content[18:26])
    samples, rate_per_s = packed & (1 << 36) - 1, packed >> 44
    if len(content) == 8 + STREAMINFO_BYTES:
        raise ValueError("a FLAC file without frames")
    return _duration_s(samples, rate_per_s)


def _duration_s(samples: int, rate_per_s: int) -> float:
    if not samples or not rate_per_s:
        raise ValueError(f"{samples} samples at {rate_per_s} a second")
    return samples / rate_per_s
