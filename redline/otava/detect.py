"""Change points as Otava finds them, and the nights on which a team that uses it would be told of a new one.

Readings are plain, one per night, and larger is worse (a throughput goes in as its inverse); NaN is a night without
a reading, which Otava fills with the reading before.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redline.errors import InfrastructureError

PROGRAM = Path(__file__).with_name("program.py")
LOCK = Path(__file__).with_name("requirements.lock")
"""Otava and all that it needs, with hashes, for every Python that Redline runs on."""

START_S_MAX = 60.0
ANALYSIS_S_MAX = 0.02
"""Per analysis of up to 100 nights, over twenty times the .8 ms that one took; in proportion beyond that."""

SAME_WITHIN_NIGHTS = 5
FOUND_CHARACTERS_MAX = 1500


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """`index`: the first night of the new level; the means are those of the levels before and after it."""

    index: int
    mean_before: float
    mean_after: float

    @property
    def worse(self) -> bool:
        """Whether the level rose."""
        return self.mean_after > self.mean_before


def change_points(series: Sequence[Sequence[float]], *, python: Path) -> tuple[tuple[ChangePoint, ...], ...]:
    """Per series, the change points of the whole series, in order, at Otava's defaults.

    `python` is the interpreter of an environment that holds `LOCK`. One process for all series: .8 ms for one of 100
    nights.

    Raises:
        ValueError: an infinite reading, or a series without nights.
        InfrastructureError: Otava does not run, does not answer in time, or answers something else.
    """
    analysis_count = len(series)
    return tuple(_points(found) for found in _ask(series, python, nightly=False, analysis_count=analysis_count))


def flagged_nights(
    series: Sequence[Sequence[float]], *, python: Path, same_within_nights: int = SAME_WITHIN_NIGHTS
) -> NDArray[np.bool_]:
    """Shape (series, nights): the nights on which a worsening change point appears that was not reported before.

    After every night the whole series up to it is analysed anew, as `otava analyze` does. A change point may move
    as nights are added; within `same_within_nights` of one that was reported it is the same one (0: any move is a
    new report). Series must be equally long. 200 series of 60 nights are 12,000 analyses: 4.5 s of one CPU, which is
    why nothing is cut off or kept from night to night.

    Raises as `change_points` does, and ValueError for series of different lengths.
    """
    lengths = {len(readings) for readings in series}
    if len(lengths) > 1:
        raise ValueError(f"series must be equally long, found {sorted(lengths)} nights")
    found = _ask(series, python, nightly=True, analysis_count=sum(map(len, series)))
    return np.array(
        [new_worsenings([_points(night) for night in nights], same_within_nights) for nights in found], dtype=np.bool_
    ).reshape(len(series), lengths.pop() if lengths else 0)


def new_worsenings(nights: Sequence[Sequence[ChangePoint]], same_within_nights: int) -> list[bool]:
    """Per night, whether a worsening change point is there that is not within so many nights of one reported before.

    A report follows its change point: when that moves a little every night, it stays the same one.
    """
    reported: set[int] = set()
    flags = []
    for points in nights:
        indices = {point.index for point in points if point.worse}
        new = {index for index in indices if not _near(index, reported, same_within_nights)}
        reported |= indices
        flags.append(bool(new))
    return flags


def _near(index: int, others: set[int], distance: int) -> bool:
    return any(abs(index - other) <= distance for other in others)


def _points(found: Sequence[tuple[int, float, float]]) -> tuple[ChangePoint, ...]:
    return tuple(ChangePoint(int(index), float(before), float(after)) for index, before, after in found)


def _ask(series: Sequence[Sequence[float]], python: Path, *, nightly: bool, analysis_count: int) -> list[Any]:
    """What the program found, one entry per series."""
    rows = [[None if math.isnan(value) else float(value) for value in readings] for readings in series]
    if any(not row or any(value is not None and math.isinf(value) for value in row) for row in rows):
        raise ValueError("every series needs a night, and no reading may be infinite")
    longest = max(map(len, rows), default=0)
    timeout_s = START_S_MAX + ANALYSIS_S_MAX * analysis_count * max(1.0, longest / 100)
    try:
        done = subprocess.run(
            [str(python), "-I", str(PROGRAM)],
            input=json.dumps({"series": rows, "nightly": nightly}),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=True,
            # The matrices are 50 by 50: threads of numpy only get in each other's way.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        found = json.loads(done.stdout)["found"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        said = str(error.stderr or "").strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise InfrastructureError(
            "Otava did not analyse the series",
            expected=f"change points of {len(rows)} series within {timeout_s:.0f} s",
            found=f"{type(error).__name__}: {said[-FOUND_CHARACTERS_MAX:]}",
            next_step=f"hand over fewer series at once, or delete {python.parents[1]}: it is installed again",
        ) from error
    if len(found) != len(rows):
        raise InfrastructureError(
            "Otava did not analyse every series", expected=f"{len(rows)} series", found=f"{len(found)}"
        )
    return list(found)
