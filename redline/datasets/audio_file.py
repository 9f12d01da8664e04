"""Speech files: what they are by their first bytes, whether they are whole, and how long they are."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass

from redline.datasets import flac_file


@dataclass(frozen=True, slots=True)
class AudioForm:
    """The media type of an audio file, and its duration in seconds."""

    media_type: str
    duration_s: float


def form_of(content: bytes) -> AudioForm:
    """What the bytes are, if all of them are there. Raises ValueError, which says what is wrong."""
    if not content:
        raise ValueError("an empty file")
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return AudioForm("audio/wav", _wav_duration_s(content))
    if content[:4] == flac_file.MAGIC:
        stream = flac_file.whole_stream(content)
        return AudioForm("audio/flac", _duration_s(stream.samples, stream.rate_per_s))
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


def _duration_s(samples: int, rate_per_s: int) -> float:
    if not samples or not rate_per_s:
        raise ValueError(f"{samples} samples at {rate_per_s} a second")
    return samples / rate_per_s
