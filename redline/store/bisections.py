"""How far a bisection has come: one JSON file each, `<directory>/<key>.json`, replaced whole after every pair.

The trials themselves are kept like all others; this file says which pairs were measured for what, so that the same
command goes on after a crash. What is decided from them is computed anew each time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from redline.errors import StoreError
from redline.model import require
from redline.store.json_file import write_json

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class PairRecord:
    """One pair that was measured: builds by number from the good end (0), readings in the metric's base unit.

    `purpose`: end, search or confirmation; `seconds`: what the pair took, installs apart.
    """

    purpose: str
    baseline_build: int
    candidate_build: int
    baseline: float
    candidate: float
    seconds: float
    run_id: str
    pair_index: int

    def __post_init__(self) -> None:
        require(self.purpose in ("end", "search", "confirmation"), "purpose must be end, search or confirmation")
        require(self.baseline_build >= 0 and self.candidate_build >= 0, "builds are numbered from 0")
        require(0 < self.baseline < float("inf"), "baseline must be positive and finite")
        require(0 < self.candidate < float("inf"), "candidate must be positive and finite")


@dataclass(frozen=True, slots=True)
class BisectionRecord:
    """A bisection: what is asked, and everything measured so far.

    `builds`: spec and server arguments of builds 0 (good) to the last (bad); `prior_df` and `prior_variance`: of the
    difference of a pair, fixed when the bisection began; `attempt_count`: pairs begun, spoilt ones included;
    `skipped`: build -> why it cannot be measured; `pin_ids`: build -> the pin it was resolved to; `differences`:
    what differs between culprit and parent, once the culprit is named.
    """

    key: str
    created_at: str
    builds: tuple[str, ...]
    scenario: str
    scenario_hash: str
    metric: str
    runner_class: str
    fingerprint_id: str
    prior_df: float
    prior_variance: float
    attempt_count: int = 0
    pairs: tuple[PairRecord, ...] = ()
    skipped: Mapping[int, str] = field(default_factory=dict)
    pin_ids: Mapping[int, str] = field(default_factory=dict)
    differences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.builds)
        require(count >= 2, "builds must hold both ends")
        require(self.attempt_count >= len(self.pairs), "attempt_count must count every pair")
        named = [build for each in self.pairs for build in (each.baseline_build, each.candidate_build)]
        named += [*self.skipped, *self.pin_ids]
        require(all(0 <= build < count for build in named), f"a build is named that is none of the {count}")


_RECORD: pydantic.TypeAdapter[BisectionRecord] = pydantic.TypeAdapter(BisectionRecord)


def path_of(directory: Path, key: str) -> Path:
    """Where the bisection of this key lies, whether it exists or not."""
    return directory / f"{key}.json"


def write_record(directory: Path, record: BisectionRecord) -> Path:
    """The file, replaced whole or not at all. Raises StoreError if the disk refuses."""
    return write_json(path_of(directory, record.key), {"schema": SCHEMA, **asdict(record)})


def read_record(directory: Path, key: str) -> BisectionRecord | None:
    """The bisection of this key, or None. Raises StoreError, with the next step, if the file is damaged."""
    path = path_of(directory, key)
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = values.pop("schema")
        require(schema == SCHEMA, f"schema must be {SCHEMA}, found {schema}")
        record = _RECORD.validate_json(json.dumps(values))
        require(record.key == key, f"key must be {key}, found {record.key}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} cannot be read",
            expected="what `redline bisect` wrote",
            found=str(error),
            next_step="begin anew with --restart, which keeps this file under another name",
        ) from error
    return record


def set_aside(directory: Path, key: str) -> Path | None:
    """Give the file another name, `<key>.<number>.json`, so that the bisection begins anew; None if there is none.

    Raises StoreError if the disk refuses.
    """
    path = path_of(directory, key)
    number = 1
    while (kept := directory / f"{key}.{number}.json").exists():
        number += 1
    try:
        path.rename(kept)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} could not be renamed", found=str(error), next_step="look at its folder") from error
    return kept
