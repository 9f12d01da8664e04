"""`python -m benchmarks.load`: the load engine and its peers, side by side. See benchmarks/README.md."""

# ruff: noqa: T201  # a command of its own: it prints what it does

from __future__ import annotations

import argparse
import resource
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.load.driver import Place
from benchmarks.load.drivers import DRIVERS
from benchmarks.load.machine import choose_cpus, describe
from benchmarks.load.peers import ignored
from benchmarks.load.plot import svg
from benchmarks.load.suite import Row, Setting, measure, prepare, save
from benchmarks.load.table import markdown
from benchmarks.load.workload import QUICK_RATES_PER_S, RATES_PER_S, WORKLOADS, Cell

HOG_COUNTS = {"without": (0,), "with": (2,), "both": (0, 2)}
QUICK_CLIENTS = ("redline", "c", "httpx")
FILES_MAX = 65536


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--clients", default=",".join(DRIVERS), help="comma-separated, of: %(default)s")
    parser.add_argument("--rates", default=",".join(map(str, RATES_PER_S)), help="requests per second (%(default)s)")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="comma-separated, of: %(default)s")
    parser.add_argument("--hogs", choices=HOG_COUNTS, default="both", help="busy loops on the client's core")
    parser.add_argument("--load-s", type=int, default=10, help="seconds of load per cell (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="directory for the results")
    parser.add_argument(
        "--work", type=Path, default=Path(".benchmarks"), help="environments and programs (%(default)s)"
    )
    parser.add_argument(
        "--vllm-python", type=Path, help="an interpreter that has vLLM 0.32.0, instead of installing it"
    )
    parser.add_argument("--server", choices=("auto", "c", "simulator"), default="auto", help="the stand-in")
    parser.add_argument("--client-nice", type=int, default=0, help="niceness of every client; below 0 takes rights")
    parser.add_argument("--keep-files", action="store_true", help="keep what every tool wrote")
    parser.add_argument("--prepare-only", action="store_true", help="install the peers and end")
    parser.add_argument("--quick", action="store_true", help="two minutes: redline, c and httpx at three rates")
    options = parser.parse_args(arguments)
    if options.quick:
        options.clients, options.workloads, options.hogs = ",".join(QUICK_CLIENTS), "W1", "without"
        options.rates, options.load_s = ",".join(map(str, QUICK_RATES_PER_S)), 5
    for name, known in (("clients", DRIVERS), ("workloads", WORKLOADS)):
        unknown = sorted(set(getattr(options, name).split(",")) - set(known))
        if unknown:
            parser.error(f"--{name}: unknown {', '.join(unknown)}; known: {', '.join(known)}")
    return options


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """What to measure, in order: at each rate all clients one after the other, so that they share the same minutes."""
    return [
        Cell(client, WORKLOADS[workload], rate_per_s, hog_count, options.load_s)
        for workload in options.workloads.split(",")
        for hog_count in HOG_COUNTS[options.hogs]
        for rate_per_s in sorted(float(rate) for rate in options.rates.split(","))
        for client in options.clients.split(",")
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write results.json, results.md and a plot per workload."""
    options = options_of(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_MAX, hard), hard))
    python = options.vllm_python.absolute() if options.vllm_python else None
    place = Place(ignored(options.work).resolve(), python)
    drivers = {name: DRIVERS[name] for name in options.clients.split(",")}
    versions, reasons = prepare(list(drivers.values()), place, _say)
    if options.prepare_only:
        return
    cpus = choose_cpus()
    head = {
        "schema": 1,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(cpus),
        "versions": versions,
        "client_nice": options.client_nice,
    }
    setting = Setting(place, cpus, options.output, options.server, options.keep_files, options.client_nice)
    rows: list[Row] = []
    for row in measure(setting, drivers, cells_of(options), reasons, _say):
        rows.append(row)
        save(options.output / "results.json", {**head, "rows": [item.as_json() for item in rows]})
        notes = {name: driver.comparable for name, driver in drivers.items()}
        (options.output / "results.md").write_text(markdown(rows, describe(cpus), versions, notes), encoding="utf-8")
    for workload, hog_count in dict.fromkeys((row.cell.workload.name, row.cell.hog_count) for row in rows):
        some = [row for row in rows if (row.cell.workload.name, row.cell.hog_count) == (workload, hog_count)]
        name = f"{workload}-{'hogs' if hog_count else 'idle'}.svg"
        (options.output / name).write_text(
            svg(some, f"{workload}, {hog_count} busy loops beside the client"), encoding="utf-8"
        )
    _say(f"written: {options.output / 'results.md'}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
