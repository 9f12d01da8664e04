"""Content files to model values and back: validated at the door, with messages that name file, key and fix."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import pydantic

from redline.errors import ContentError
from redline.metrics import CATALOGUE
from redline.mlperf import ROUND_SEEDS
from redline.model import (
    Baseline,
    Concurrency,
    Dataset,
    DatasetItems,
    Offline,
    RandomTokens,
    Recipe,
    RunnerClass,
    Scenario,
    Server,
    SingleStream,
    SkillTasks,
    Suite,
)
from redline.whole_file import write_whole

T = TypeVar("T")

UNKNOWN_KEY = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
ARRIVALS: dict[str, type] = {
    "offline": Offline,
    "server": Server,
    "concurrency": Concurrency,
    "single-stream": SingleStream,
}
WORKLOADS: dict[str, type] = {"random-tokens": RandomTokens, "skill-tasks": SkillTasks, "dataset": DatasetItems}


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; the nearest valid name is '{close[0]}'"
    return f"; valid names: {', '.join(sorted(known))}" if known else ""


def _key_path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "(top level)"


def _known_keys(target: Any, location: tuple[int | str, ...]) -> list[str]:
    """The field names of the dataclass that a location's last key should have belonged to."""
    current: Any = target
    for part in location[:-1]:
        if isinstance(part, int):
            continue  # an element of the list that the part before it names
        hints = {item.name: item.type for item in fields(current)} if is_dataclass(current) else {}
        current = _noun_in(str(hints.get(part)))
    return [item.name for item in fields(current)] if is_dataclass(current) else []


def _noun_in(annotation: str) -> Any:
    """The noun that an annotation holds: `Limits`, `Limits | None` or `tuple[Limits, ...]`; None if there is none."""
    from redline import model  # noqa: PLC0415 - annotations are strings there; looked up by name once

    found = (getattr(model, name, None) for name in re.findall(r"[A-Z]\w+", annotation))
    return next((each for each in found if is_dataclass(each)), None)


def convert(raw: Mapping[str, Any], target: type[T], source: str) -> T:
    """A checked value of `target` (a frozen dataclass) from parsed TOML or JSON.

    Raises:
        ContentError: an unknown key, a missing key, a wrong type or an impossible value; names file and key.
    """
    adapter = _adapter(target)
    try:
        text = json.dumps(raw)
    except TypeError as error:
        raise ContentError(
            f"{source}: a value has a type that has no place here",
            expected="strings, numbers, booleans, arrays and tables",
            found=str(error),
            next_step="write dates as strings",
        ) from error
    try:
        return cast(T, adapter.validate_json(text))
    except pydantic.ValidationError as error:
        # A misspelt key is also a missing one: the misspelling is what the author must see.
        first = min(error.errors(include_url=False), key=lambda each: each["type"] not in UNKNOWN_KEY)
        location = first["loc"]
        key = _key_path(location)
        if first["type"] in UNKNOWN_KEY:
            near = _nearest(str(location[-1]), _known_keys(target, location))
            raise ContentError(
                f"{source}: unknown key '{key}'",
                expected=f"a key of {target.__name__}{near}",
                found=f"'{location[-1]}'",
                next_step=f"rename or remove '{key}'",
            ) from error
        if first["type"] in {"missing", "missing_argument"}:
            raise ContentError(
                f"{source}: key '{key}' is missing",
                expected=f"'{key}' in {target.__name__}",
                found=f"keys {', '.join(sorted(map(str, raw)))}",
                next_step=f"add '{key}'",
            ) from error
        raise ContentError(
            f"{source}: key '{key}' is wrong",
            expected=first["msg"].removeprefix("Value error, "),
            found=repr(first["input"])[:200],
            next_step=f"correct '{key}' in {source}",
        ) from error


_ADAPTERS: dict[type, pydantic.TypeAdapter[Any]] = {}


def _adapter(target: type) -> pydantic.TypeAdapter[Any]:
    """A strict validator of a frozen dataclass that also refuses unknown keys in nested ones."""
    if target not in _ADAPTERS:
        if not hasattr(target, "__pydantic_config__"):
            target.__pydantic_config__ = pydantic.ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
        _ADAPTERS[target] = pydantic.TypeAdapter(target)
    return _ADAPTERS[target]


def read_toml(path: Path) -> dict[str, Any]:
    """The parsed file. Raises ContentError if it is missing, unreadable or not TOML."""
    return cast(dict[str, Any], _parse(path, tomllib.loads, "TOML", tomllib.TOMLDecodeError))


def read_json(path: Path) -> dict[str, Any]:
    """The parsed file. Raises ContentError if it is missing, unreadable or not a JSON object."""
    value = _parse(path, json.loads, "JSON", json.JSONDecodeError)
    if not isinstance(value, dict):
        raise ContentError(
            f"{path}: not a JSON object", expected="an object", found=type(value).__name__, next_step="correct the file"
        )
    return value


def _parse(path: Path, parse: Any, form: str, failure: type[Exception]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        siblings = sorted(item.stem for item in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
        raise ContentError(
            f"{path}: no such file",
            expected=f"a {form} file" + (_nearest(path.stem, siblings) if siblings else ""),
            found="nothing",
            next_step=f"list them: ls {path.parent}",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ContentError(
            f"{path}: cannot be read",
            expected=f"a readable {form} file in UTF-8",
            found=str(error),
            next_step="mend the file",
        ) from error
    except failure as error:
        raise ContentError(
            f"{path}: not {form}", expected=form, found=str(error), next_step="correct the line named above"
        ) from error


def _tagged(raw: dict[str, Any], key: str, kinds: dict[str, type], source: str) -> Any:
    table = raw.get(key)
    if not isinstance(table, dict) or "kind" not in table:
        raise ContentError(
            f"{source}: table '{key}' with its 'kind' is missing",
            expected=f"[{key}] with kind = one of {', '.join(sorted(kinds))}",
            found=repr(table)[:200],
            next_step=f"add [{key}] with a kind",
        )
    kind = str(table["kind"])
    if kind not in kinds:
        raise ContentError(
            f"{source}: key '{key}.kind' is wrong",
            expected=f"one of {', '.join(sorted(kinds))}{_nearest(kind, list(kinds))}",
            found=repr(kind),
            next_step=f"correct '{key}.kind'",
        )
    try:
        return convert(table, kinds[kind], source)
    except ContentError as error:
        error.problem = error.problem.replace("key '", f"key '{key}.")
        raise


def scenario(path: Path) -> Scenario:
    """The scenario of a TOML file; its name is the file's. Raises ContentError."""
    raw = read_toml(path)
    source = str(path)
    arrivals = _tagged(raw, "arrivals", ARRIVALS, source)
    workload = _tagged(raw, "workload", WORKLOADS, source)
    named = raw.get("metrics", [])
    unknown = [name for name in named if name not in CATALOGUE] if isinstance(named, list) else []
    if unknown:
        raise ContentError(
            f"{source}: key 'metrics' names an unknown metric",
            expected=f"metric ids{_nearest(str(unknown[0]), list(CATALOGUE))}",
            found=repr(unknown[0]),
            next_step="correct 'metrics'",
        )
    checked = dict(raw, name=path.stem, arrivals=asdict(arrivals), workload=asdict(workload))
    found = convert(checked, Scenario, source)
    if found.mlperf is not None and found.mlperf.round not in ROUND_SEEDS:
        raise ContentError(
            f"{source}: key 'mlperf.round' names an unknown round",
            expected=f"one of {', '.join(ROUND_SEEDS)}",
            found=repr(found.mlperf.round),
            next_step="correct 'mlperf.round'",
        )
    return found


def recipe(path: Path) -> Recipe:
    """The recipe of a TOML file; its name is the file's. Raises ContentError."""
    return convert(dict(read_toml(path), name=path.stem), Recipe, str(path))


def runner_class(path: Path) -> RunnerClass:
    """The runner class of a TOML file; its name is the file's. Raises ContentError."""
    return convert(dict(read_toml(path), name=path.stem), RunnerClass, str(path))


def dataset(path: Path) -> Dataset:
    """The definition of a data set from a TOML file; its name is the file's. Raises ContentError."""
    return convert(dict(read_toml(path), name=path.stem), Dataset, str(path))


def suite(path: Path) -> Suite:
    """The suite of a TOML file; its name is the file's. Raises ContentError."""
    return convert(dict(read_toml(path), name=path.stem), Suite, str(path))


def load(path: Path, target: type[T]) -> T:
    """Any other frozen dataclass from a TOML file. Raises ContentError."""
    return convert(read_toml(path), target, str(path))


def read_baseline(path: Path) -> Baseline:
    """A reviewed baseline. Raises ContentError."""
    return convert(read_json(path), Baseline, str(path))


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline, whole, in a form that diffs well (sorted keys, one value a line). Raises OSError."""
    write_whole(path, json.dumps(asdict(baseline), indent=1, sort_keys=True) + "\n")
