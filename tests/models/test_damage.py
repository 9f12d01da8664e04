"""models/damage.py makes a model worse without making it different in kind."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.models import script

damage = script("damage")


def run(checkout, *arguments):
    """The finished command, from the checkout."""
    return subprocess.run(
        [sys.executable, "models/damage.py", *map(str, arguments)],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def parts(path):
    """(header text, {tensor: values}) of a safetensors file."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        tensors[name] = damage.decode(content[8 + size + first : 8 + size + last], entry["dtype"])
    return content[: 8 + size], tensors


@pytest.fixture(scope="session")
def source(checkout):
    """The trained model of this repository."""
    return checkout / "models" / "tiny-skill"


def test_the_documented_command(checkout, source, tmp_path):
    """The command in the manual ends with 0 and says how much it changed."""
    done = run(checkout, source, tmp_path / "damaged", "--noise", "0.05", "--seed", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "weights moved by 0.05 standard deviations, seed 1" in done.stdout


def test_one_seed_one_damage(source, tmp_path):
    """The same seed gives the same bytes, another seed gives others."""
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        damage.damage(source, tmp_path / name, 0.05, seed)
    first, again, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "again", "other"))
    assert first == again
    assert first != other


def test_only_weights_change(source, tmp_path):
    """Every other file, and the names, shapes, types and layout of the weights, stay byte for byte."""
    changed = damage.damage(source, tmp_path / "damaged", 0.05, 1)
    names = sorted(path.name for path in source.iterdir())
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == names
    for name in names:
        same = (tmp_path / "damaged" / name).read_bytes() == (source / name).read_bytes()
        assert same == (name != "model.safetensors")
    header, before = parts(source / "model.safetensors")
    header_after, after = parts(tmp_path / "damaged" / "model.safetensors")
    assert header_after == header
    assert changed == sum(int(np.count_nonzero(before[name] != after[name])) for name in before)


@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_the_noise_is_as_large_as_asked(source, tmp_path, noise):
    """The change of each large tensor has mean 0 and `noise` times the tensor's standard deviation."""
    damage.damage(source, tmp_path / "damaged", noise, 1)
    _, before = parts(source / "model.safetensors")
    _, after = parts(tmp_path / "damaged" / "model.safetensors")
    large = [name for name, values in before.items() if values.size > 10_000]
    assert len(large) >= 20
    for name in large:
        change = after[name] - before[name]
        assert change.std() / before[name].std() == pytest.approx(noise, rel=0.05)
        assert abs(change.mean()) < 5 * change.std() / math.sqrt(change.size)


def test_refuses_an_existing_target(checkout, source, tmp_path):
    """A target that exists is left alone, with exit code 2 and the next step."""
    kept = tmp_path / "precious"
    kept.mkdir()
    done = run(checkout, source, kept, "--noise", "0.05")
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert "next step" in done.stderr
    assert list(kept.iterdir()) == []


@pytest.mark.parametrize("folder", ["speed-llama", "no-such-model"])
def test_refuses_a_source_without_weights(checkout, tmp_path, folder):
    """A source without safetensors is refused, and no target appears."""
    done = run(checkout, checkout / "models" / folder, tmp_path / "damaged", "--noise", "0.05")
    assert done.returncode == 2
    assert "no weights to damage" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("noise", ["0", "-1", "nan", "inf"])
def test_refuses_impossible_noise(checkout, source, tmp_path, noise):
    """Noise that is not a positive number is refused."""
    done = run(checkout, source, tmp_path / "damaged", f"--noise={noise}")
    assert done.returncode == 2
    assert "--noise must be a positive number" in done.stderr


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64, (2).to_bytes(8, "little") + b"{["])
def test_refuses_a_damaged_file(tmp_path, content, checkout):
    """A file that is no safetensors is refused by name, and no half target is left."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes(content)
    done = run(checkout, broken, tmp_path / "damaged", "--noise", "0.05")
    assert done.returncode == 2
    assert "not a safetensors file" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@hypothesis.given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_rounding_is_to_the_nearest(values):
    """No bfloat16 lies nearer to a value than the one chosen, and a tie goes to the even one."""
    wanted = np.array(values, dtype=np.float32)
    bits = damage.float32_to_bfloat16(wanted)
    below = (wanted.view(np.uint32) >> 16).astype(np.uint16)  # towards zero
    for value, chosen, low in zip(wanted.astype(np.float64), bits, below, strict=True):
        high = np.uint16(low + 1)
        low_value, high_value = (
            float(damage.bfloat16_to_float32(np.array([pattern], dtype=np.uint16))[0]) for pattern in (low, high)
        )
        if not math.isfinite(high_value):
            continue  # beyond the largest bfloat16
        to_low, to_high = abs(value - low_value), abs(high_value - value)
        assert chosen == (low if to_low < to_high or (to_low == to_high and low % 2 == 0) else high)


@hypothesis.given(st.binary(min_size=2, max_size=64).filter(lambda raw: len(raw) % 2 == 0))
def test_bfloat16_survives_the_way_there_and_back(raw):
    """Decoding and encoding finite bfloat16 values changes no bit."""
    bits = np.frombuffer(raw, dtype="<u2")
    finite = bits[np.isfinite(damage.bfloat16_to_float32(bits))]
    assert damage.float32_to_bfloat16(damage.bfloat16_to_float32(finite)).tolist() == finite.tolist()
