"""Pins on disk: one JSON file each, readable by people, refused when damaged."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pydantic

from redline.builds.lock_text import check_lock
from redline.errors import BuildError, ContentError
from redline.model import BuildPin
from redline.whole_file import write_whole

SCHEMA = 1
PIN_BYTES_MAX = 8_000_000
_RECORD_KEYS = ("schema", "pin_id")
_BUILD_PIN: pydantic.TypeAdapter[BuildPin] = pydantic.TypeAdapter(BuildPin)


def write_pin(path: Path, pin: BuildPin) -> None:
    """Write the pin's record, whole or not at all.

    Raises BuildError if the file cannot be written.
    """
    record = {"schema": SCHEMA, "pin_id": pin.pin_id, **pin.content}
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all. Raises BuildError if it cannot be written."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be written",
            expected="a directory this user may write to, with space left",
            found=str(error),
            next_step="free space, correct the permissions, or choose another state directory",
        ) from error


def read_pin(path: Path) -> BuildPin:
    """The pin of a record written by `write_pin`.

    Raises ContentError, naming file and key, if the file is missing, damaged, edited by hand, or if its lock
    holds anything but packages with hashes.
    """
    raw = _read_object(path)
    names = [item.name for item in fields(BuildPin)]
    if raw.get("schema") != SCHEMA:
        raise _wrong(path, "schema", f"schema {SCHEMA}", repr(raw.get("schema", "no such key")))
    for key in raw:
        if key not in (*names, *_RECORD_KEYS):
            raise _wrong(path, key, f"only the keys {', '.join((*_RECORD_KEYS, *names))}", "an unknown key")
    for name in names:
        if name not in raw and name != "commit":  # only where it is known
            raise _wrong(path, name, f"'{name}'", "no such key")
    try:
        pin = _BUILD_PIN.validate_json(json.dumps({name: raw[name] for name in names if name in raw}), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or next((name for name in names if name in first["msg"]), "(whole file)")
        found = repr(raw.get(key, "the whole record"))[:200]
        raise _wrong(path, key, first["msg"].removeprefix("Value error, "), found) from error
    if pin.wheel_sha256 is not None:
        try:
            check_lock(pin)
        except ValueError as error:
            raise _wrong(path, "lock", str(error), "another lock") from error
    if raw.get("pin_id") != pin.pin_id:
        raise _wrong(path, "pin_id", f"{pin.pin_id}, which is what the rest adds up to", repr(raw.get("pin_id")))
    return pin


def _read_object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > PIN_BYTES_MAX:
            raise _wrong(path, "(whole file)", f"at most {PIN_BYTES_MAX} bytes", f"{path.stat().st_size} bytes")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ContentError(
            f"{path}: no such file",
            expected="a pin's JSON record",
            found="nothing",
            next_step="check the path, or resolve the build again from its version",
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _wrong(path, "(whole file)", "JSON written by Redline", str(error)) from error
    if not isinstance(raw, dict):
        raise _wrong(path, "(whole file)", "a JSON object", type(raw).__name__)
    return raw


def _wrong(path: Path, key: str, expected: str, found: str) -> ContentError:
    return ContentError(
        f"{path}: key '{key}' is wrong: this is not a whole pin record",
        expected=expected,
        found=found,
        next_step="restore the file, or delete it and resolve the build again from its version",
    )
