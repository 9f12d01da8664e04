"""Runs inside Otava's environment: series as JSON on stdin, change points as JSON on stdout.

Must not import redline: it is not there. Everything is as Otava ships it: its default options, its way of filling
missing readings, its analysis. In: `{"series": [[reading or null, ...], ...], "nightly": true or false}`. Out:
`{"version": ..., "options": {...}, "found": [...]}` where `found` has, per series, the change points of the whole
series, or with "nightly" a list of them after each night; a change point is `[index, mean before, mean after]`.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Sequence

from otava.analysis import compute_change_points, fill_missing  # type: ignore[import-not-found]
from otava.series import AnalysisOptions  # type: ignore[import-not-found]

OPTIONS = AnalysisOptions()


def found_in(readings: Sequence[float | None]) -> list[tuple[int, float, float]]:
    """(index, mean before, mean after) of every change point, in order; none where there is no reading at all."""
    # A list of its own: Otava fills it in place, and looks at a whole array where it should look at a window.
    values = list(readings)
    fill_missing(values)
    if values[0] is None:
        return []
    points, _ = compute_change_points(
        values,
        window_len=OPTIONS.window_len,
        max_pvalue=OPTIONS.max_pvalue,
        min_magnitude=OPTIONS.min_magnitude,
    )
    return [(int(point.index), float(point.stats.mean_1), float(point.stats.mean_2)) for point in points]


def main() -> None:
    """Answer one question."""
    question = json.load(sys.stdin)
    if question["nightly"]:
        found: list[object] = [
            [found_in(readings[: night + 1]) for night in range(len(readings))] for readings in question["series"]
        ]
    else:
        found = [found_in(readings) for readings in question["series"]]
    options = OPTIONS.to_json()
    json.dump({"version": importlib.metadata.version("apache-otava"), "options": options, "found": found}, sys.stdout)


if __name__ == "__main__":
    main()
