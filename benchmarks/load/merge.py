"""`python -m benchmarks.load.merge RESULTS.json ... --output DIR`: one table and plot of several runs on one machine.

A full run takes two hours; rates may be measured in runs of their own, each with its clients side by side.
"""

# ruff: noqa: T201  # a command of its own: it prints what it does

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.load.drivers import DRIVERS
from benchmarks.load.plot import svg
from benchmarks.load.suite import Row
from benchmarks.load.table import markdown


def main(arguments: Sequence[str] | None = None) -> None:
    """Write results.md, one plot per workload and number of hogs, and the merged results.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.merge", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="results.json of runs on one machine")
    parser.add_argument("--output", type=Path, required=True, help="directory to write to")
    options = parser.parse_args(arguments)
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in options.results]
    machines = {json.dumps(run["machine"] | {"load_average_before": None}, sort_keys=True) for run in runs}
    if len(machines) > 1:
        parser.error("these runs are of several machines, whose figures may not stand in one table")
    adapter = TypeAdapter(list[Row])
    rows = sorted(
        (row for run in runs for row in adapter.validate_python(run["rows"])), key=lambda row: row.cell.rate_per_s
    )
    versions = {name: version for run in runs for name, version in run["versions"].items()}
    notes = {client: DRIVERS[client].comparable for client in dict.fromkeys(row.cell.client for row in rows)}
    options.output.mkdir(parents=True, exist_ok=True)
    text = markdown(rows, runs[0]["machine"], versions, notes)
    (options.output / "results.md").write_text(text, encoding="utf-8")
    merged = runs[0] | {"versions": versions, "rows": [row for run in runs for row in run["rows"]]}
    (options.output / "results.json").write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
    for workload, hogs in dict.fromkeys((row.cell.workload.name, row.cell.hog_count) for row in rows):
        some = [row for row in rows if (row.cell.workload.name, row.cell.hog_count) == (workload, hogs)]
        name = f"{workload}-{'hogs' if hogs else 'idle'}"
        (options.output / f"{name}.svg").write_text(svg(some, name), encoding="utf-8")
    print(f"written: {options.output}")


if __name__ == "__main__":
    main()
