"""The variants of vLLM's wheels, as data: `variants.toml`. A variant that is not listed there is read from its name."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from redline.errors import ContentError

VARIANTS_PATH = Path(__file__).with_name("variants.toml")
DEFAULT = "default"
_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant; the keys are explained in `variants.toml`."""

    __pydantic_config__ = _STRICT
    platform: str
    torch_backend: str = ""
    folder: str = ""
    brings_packages: bool = False
    pythons: tuple[str, ...] = ()
    glibc_min: str = ""

    @property
    def needs(self) -> str:
        """What its wheels are built for, in words; empty if nothing is known."""
        parts = [f"Python {', '.join(self.pythons)}"] if self.pythons else []
        parts += [f"glibc {self.glibc_min} or newer"] if self.glibc_min else []
        return " and ".join(parts)


_VARIANT: pydantic.TypeAdapter[Variant] = pydantic.TypeAdapter(Variant)


def variant_named(name: str, path: Path = VARIANTS_PATH) -> Variant:
    """The variant of this name, empty for the default. Raises ContentError if the file is damaged."""
    entry = _table(path).get(name or DEFAULT)
    return _by_name(name) if entry is None else _read(entry, name or DEFAULT, path)


def variants_listed(path: Path = VARIANTS_PATH) -> tuple[str, ...]:
    """The names in the file. Raises ContentError if any entry is damaged."""
    table = _table(path)
    for name, entry in table.items():
        _read(entry, name, path)
    return tuple(table)


def _by_name(name: str) -> Variant:
    """A variant that nobody described: what its name says."""
    if re.fullmatch(r"cu\d+", name):
        return Variant(platform="cuda", torch_backend=name)
    if re.fullmatch(r"rocm\d+", name):
        return Variant(platform="rocm", folder="rocm", brings_packages=True)
    return Variant(platform=re.sub(r"\d+$", "", name) or name)


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ContentError(
            f"{path}: the variants of wheels cannot be read",
            expected="TOML with one table per variant",
            found=str(error),
            next_step="restore the file",
        ) from error


def _read(entry: object, name: str, path: Path) -> Variant:
    try:
        # Through JSON, where an array may be a tuple and nothing else is converted.
        return _VARIANT.validate_json(pydantic.TypeAdapter(object).dump_json(entry), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join([name, *map(str, first["loc"])])
        raise ContentError(
            f"{path}: key '{key}' is wrong",
            expected=str(first["msg"]),
            found=repr(entry)[:200],
            next_step="correct the variant",
        ) from error
