"""The error table as it is stored and shown: figures by name, promises beside them. Shares are 0 to 1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 1
BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One simulated world. `group`: rows of one group share their data; `problem`: why there are no figures.

    `count`: simulated suites, histories, comparisons or bisections; `effect`: how much worse the build is, a share,
    where the group says so.
    """

    section: str
    group: str
    name: str
    count: int
    effect: float | None
    figures: Mapping[str, float]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class MethodPromise:
    """A promise about one figure of a row. `value` None: not measured; `standard_error` None: not a share or rate.

    `status`: kept, broken, or in a table that is not full "not kept, within chance".
    """

    section: str
    row: str
    figure: str
    at_least: bool
    limit: float
    value: float | None
    standard_error: float | None
    status: str


@dataclass(frozen=True, slots=True)
class MethodDocument:
    """A whole error table: its seed, its size in suites, its rows and its promises, each in order."""

    seed: int
    suites: int
    rows: tuple[MethodRow, ...]
    promises: tuple[MethodPromise, ...]

    @property
    def broken(self) -> tuple[MethodPromise, ...]:
        """The promises that are broken."""
        return tuple(promise for promise in self.promises if promise.status == BROKEN)

    def of(self, section: str) -> tuple[MethodRow, ...]:
        """The rows of a section."""
        return tuple(row for row in self.rows if row.section == section)


def as_json(document: MethodDocument) -> str:
    """The document for machines, one row a line."""
    content = {"format": FORMAT, "seed": document.seed, "suites": document.suites}
    lists = {
        name: ",\n".join("  " + json.dumps(asdict(each), allow_nan=False) for each in rows)
        for name, rows in (("rows", document.rows), ("promises", document.promises))
    }
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    tail = ",\n".join(f" {json.dumps(name)}: [\n{text}\n ]" for name, text in lists.items())
    return f"{{\n{head},\n{tail}\n}}\n"


def from_json(text: str) -> MethodDocument:
    """The document of `as_json`. Raises ValueError for text of another format."""
    content: dict[str, Any] = json.loads(text)
    if content.get("format") != FORMAT:
        raise ValueError(f"expected an error table of format {FORMAT}, found {content.get('format')!r}")
    return MethodDocument(
        seed=content["seed"],
        suites=content["suites"],
        rows=tuple(MethodRow(**each) for each in content["rows"]),
        promises=tuple(MethodPromise(**each) for each in content["promises"]),
    )
