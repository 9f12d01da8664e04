"""Where a result stands beside those that MLCommons published for the same hardware. Pure.

The rows are data, `mlperf/published.json`. Compared is only what can be: the same benchmark (its accuracy target may
differ, and is shown), scenario, unit, accelerator and number of accelerators. A unit is never converted: Whisper's
published tokens/s were once labelled samples/s, and samples/s of one benchmark say nothing of another's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from checks.mlperf_demands import ScenarioName, family
from redline.model import require

_BOARD = re.compile(r"(?<![A-Z0-9])(MI\d{3}[A-Z]?|G?[ABHL]\d{1,3}S?)(?![A-Z0-9])")
_SEVERAL_FORMS = frozenset({"A100", "H100", "H200"})
_FORM = re.compile(r"PCIE|NVL")


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """One published result. `value` is in `unit`, as its logs have it; `samples_per_s` the same run in samples/s.

    `accelerator` as the submitter names it. `accuracy`: figures as published, empty where they are not at hand.
    `source`: who submitted it, and the repository that holds it.
    """

    round: str
    division: Literal["closed", "open"]
    submitter: str
    system: str
    accelerator: str
    accelerator_count: int
    benchmark: str
    scenario: ScenarioName
    value: float
    unit: Literal["tokens/s", "samples/s", "queries/s"]
    samples_per_s: float | None
    software: str
    precision: str
    accuracy: str
    source: str

    def __post_init__(self) -> None:
        require(self.value > 0, "value must be positive")
        require(self.accelerator_count >= 1, "accelerator_count must be at least 1")
        require(self.samples_per_s is None or self.samples_per_s > 0, "samples_per_s must be positive")
        require(bool(self.source.strip()), "source must say where it is published")


@dataclass(frozen=True, slots=True)
class PublishedResults:
    """The file `mlperf/published.json`: what it holds, as of which day, and the results."""

    description: str
    as_of: str
    results: tuple[PublishedResult, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """A run beside one published result: `ratio` is the run's value over the published one, same unit."""

    published: PublishedResult
    ratio: float


def standing(
    results: Sequence[PublishedResult],
    benchmark: str,
    scenario: ScenarioName,
    accelerator: str,
    accelerator_count: int,
    value: float | None,
    unit: str,
) -> tuple[Standing, ...]:
    """The published results of the same benchmark, scenario, unit and hardware, in the order of the file.

    None where the hardware or the unit is another, and for a value that is undefined.
    `accelerator`: a name as runner classes, drivers or submitters write it (`board`).
    """
    if value is None or value <= 0:
        return ()
    wanted = (family(benchmark), scenario, unit, board(accelerator), accelerator_count)
    return tuple(
        Standing(each, value / each.value)
        for each in results
        if (family(each.benchmark), each.scenario, each.unit, board(each.accelerator), each.accelerator_count) == wanted
    )


def board(accelerator: str) -> str:
    """One name for a kind of accelerator: `H100`, `H100 PCIE`, `MI350X`; the cleaned name where none is known.

    Maker, memory size and `SXM` are dropped. Where a chip comes in several forms, PCIe and NVL are other boards:
    NVIDIA's drivers name these two and leave out SXM (`NVIDIA H100 80GB HBM3`).
    """
    name = " ".join(accelerator.upper().replace("-", " ").split())
    found = _BOARD.search(name)
    if found is None:
        return name
    form = _FORM.search(name) if found[1] in _SEVERAL_FORMS else None
    return f"{found[1]} {form[0]}" if form else found[1]
