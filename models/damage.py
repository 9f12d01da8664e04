"""A copy of a model directory whose weights are off by seeded noise: as fast as before, and wrong more often.

    python models/damage.py SOURCE TARGET --noise 0.05 --seed 1

Every floating-point tensor of every `*.safetensors` file gets Gaussian noise of `noise` times its own standard
deviation. Names, shapes, types and file layout stay, so that a server starts it like the original; only an
accuracy scenario can tell. It edits the files with NumPy alone: no PyTorch is needed.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redline.errors import RedlineError, UsageError

HEADER_BYTES_MAX = 100_000_000  # the format's own limit. Source: safetensors, MAX_HEADER_SIZE

Floats = npt.NDArray[np.float32]


def bfloat16_to_float32(bits: npt.NDArray[np.uint16]) -> Floats:
    """The same numbers: bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def float32_to_bfloat16(values: Floats) -> npt.NDArray[np.uint16]:
    """The nearest bfloat16 of each finite value, ties to even, as 16-bit patterns."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def decode(raw: bytes, dtype: str) -> Floats | None:
    """Values of a tensor's bytes, shape (element count,); None for a type that holds no floating-point numbers."""
    match dtype:
        case "BF16":
            return bfloat16_to_float32(np.frombuffer(raw, dtype="<u2"))
        case "F16":
            return np.frombuffer(raw, dtype="<f2").astype(np.float32)
        case "F32":
            return np.frombuffer(raw, dtype="<f4").astype(np.float32)
        case _:
            return None


def encode(values: Floats, dtype: str) -> bytes:
    """The bytes of values in a type that `decode` knows."""
    if dtype == "BF16":
        return float32_to_bfloat16(values).astype("<u2").tobytes()
    return values.astype("<f2" if dtype == "F16" else "<f4").tobytes()


def damaged_file(content: bytes, noise: float, rng: np.random.RandomState, source: str) -> tuple[bytes, int]:
    """(content of the damaged file, number of weights that changed); header and layout stay byte for byte.

    Raises UsageError if `content` is no safetensors file.
    """
    header_size, header = _header(content, source)
    start = 8 + header_size
    out = bytearray(content)
    changed = 0
    for name in sorted(key for key in header if key != "__metadata__"):
        first, last = header[name]["data_offsets"]
        raw = content[start + first : start + last]
        values = decode(raw, header[name]["dtype"])
        if values is None or values.size == 0:
            continue
        moved = values + noise * values.std() * rng.standard_normal(values.size)
        written = encode(moved.astype(np.float32), header[name]["dtype"])
        out[start + first : start + last] = written
        changed += int(np.count_nonzero(values != decode(written, header[name]["dtype"])))
    return bytes(out), changed


def _header(content: bytes, source: str) -> tuple[int, dict[str, Any]]:
    """(bytes of the header, header): 8 bytes of little-endian length, then JSON. Source: the safetensors format."""
    size = int.from_bytes(content[:8], "little")
    try:
        if not 2 <= size <= min(HEADER_BYTES_MAX, len(content) - 8):
            raise ValueError(f"a header of {size} bytes in a file of {len(content)}")
        return size, json.loads(content[8 : 8 + size])
    except ValueError as error:
        raise UsageError(
            f"{source}: not a safetensors file",
            expected="a header length, a JSON header, the tensors",
            found=str(error),
            next_step="name a directory with a model's weights",
        ) from error


def damage(source: Path, target: Path, noise: float, seed: int) -> int:
    """How many weights of the copy differ from the source's; the same seed gives the same bytes.

    Raises UsageError if `target` exists, `source` holds no `*.safetensors`, or `noise` is no positive number.
    """
    _refuse_impossible(source, target, noise)
    # RandomState, not default_rng: its stream is frozen (NEP 19), so a seed means the same under every NumPy.
    rng = np.random.RandomState(seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Made beside the target and renamed: an interrupted run leaves no half model under the target's name.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
        copy = Path(folder) / target.name
        shutil.copytree(source, copy)
        changed = 0
        for path in sorted(copy.glob("*.safetensors")):
            content, changed_here = damaged_file(path.read_bytes(), noise, rng, str(source / path.name))
            path.chmod(0o644)  # the source may be read-only
            path.write_bytes(content)
            changed += changed_here
        copy.rename(target)
    return changed


def _refuse_impossible(source: Path, target: Path, noise: float) -> None:
    if not (math.isfinite(noise) and noise > 0):
        raise UsageError(
            "--noise must be a positive number",
            expected="a share of each tensor's standard deviation, such as 0.05",
            found=str(noise),
            next_step="give --noise 0.05",
        )
    if not any(source.glob("*.safetensors")):
        raise UsageError(
            f"{source}: no weights to damage",
            expected="a directory with *.safetensors",
            found="none there" if source.is_dir() else "no such directory",
            next_step="name a model directory, such as models/tiny-skill",
        )
    if target.exists() or target.is_symlink():
        raise UsageError(
            f"{target}: exists already",
            expected="a path where nothing is",
            found="a directory" if target.is_dir() else "a file",
            next_step="delete it or name another target",
        )
    if target.resolve().is_relative_to(source.resolve()):
        raise UsageError(
            f"{target}: lies inside the source",
            expected="a target elsewhere",
            found=f"source {source}",
            next_step="name another target",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 2 for a command that cannot be carried out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a model directory with *.safetensors")
    parser.add_argument("target", type=Path, help="where the damaged copy goes; must not exist")
    parser.add_argument("--noise", type=float, required=True, help="in standard deviations of each tensor")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        changed = damage(options.source, options.target, options.noise, options.seed)
    except RedlineError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    print(f"{options.target}: {changed} weights moved by {options.noise:g} standard deviations, seed {options.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
