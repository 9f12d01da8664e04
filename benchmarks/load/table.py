"""The results as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.load.accuracy import Spread
from benchmarks.load.suite import Row

REFERENCE = "redline"
UNDEFINED = "-"
HEAD = (
    "rate, req/s",
    "client",
    "held",
    "arrivals, % of asked",
    "slip, ms",
    "TTFT error, ms",
    "stamp error, ms",
    "gap error, ms",
    "CPU s per 1000",
    "x redline",
    "of a core",
    "memory, MB",
    "start, s",
    "others on the core",
)


def markdown(
    rows: Sequence[Row], machine: Mapping[str, object], versions: Mapping[str, str], notes: Mapping[str, str]
) -> str:
    """The whole document: what was held, then every figure, then what may be compared."""
    parts = ["# Load clients side by side", _machine_line(machine, versions), "## Highest rate held on one core"]
    parts.append(_held_table(rows))
    for workload, hog_count in _series(rows):
        beside = f", {hog_count} busy loops beside the client" if hog_count else ""
        some = [row for row in rows if (row.cell.workload.name, row.cell.hog_count) == (workload, hog_count)]
        parts += [f"## {_workload_line(some[0])}{beside}", _figures_table(some)]
        reasons = dict.fromkeys(
            f"{row.cell.client} at {row.cell.rate_per_s:g}/s: {row.reason}" for row in some if row.reason
        )
        parts += ["\n".join(f"- {reason}" for reason in reasons)] if reasons else []
    parts.append("Pairs are p50 / p99. A dash: the tool does not expose it. *: the schedule's start was fitted.")
    parts.append("## What may be compared")
    parts.append("\n".join(f"- **{client}**: {note}" for client, note in notes.items()))
    return "\n\n".join(parts) + "\n"


def highest_held(rows: Iterable[Row]) -> dict[tuple[str, int, str], float]:
    """(workload, hogs, client) -> the highest rate up to which every measured one was held; 0 if none."""
    best: dict[tuple[str, int, str], float] = {}
    broken: set[tuple[str, int, str]] = set()
    for row in sorted(rows, key=lambda row: row.cell.rate_per_s):
        key = (row.cell.workload.name, row.cell.hog_count, row.cell.client)
        best.setdefault(key, 0.0)
        if row.figures is None or not row.figures.held:
            broken.add(key)
        elif key not in broken:
            best[key] = row.cell.rate_per_s
    return best


def pair(spread: Spread | None, *, mark: str = "") -> str:
    """`p50 / p99` in milliseconds with three significant digits, or a dash."""
    if spread is None:
        return UNDEFINED
    return f"{significant(spread.p50_ms)} / {significant(spread.p99_ms)}{mark}"


def significant(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e" in text and abs(value) >= 1 else f"{value:.5f}" if "e" in text else text


def _series(rows: Iterable[Row]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((row.cell.workload.name, row.cell.hog_count) for row in rows))


def _workload_line(row: Row) -> str:
    workload = row.cell.workload
    chunks = f"{workload.chunk_count} chunks {workload.itl_s * 1e3:g} ms apart"
    return f"{workload.name}: TTFT {workload.ttft_s * 1e3:g} ms, {chunks}"


def _machine_line(machine: Mapping[str, object], versions: Mapping[str, str]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    return f"{facts}.\n\nVersions: {', '.join(f'{name} {version}' for name, version in versions.items())}."


def _held_table(rows: Sequence[Row]) -> str:
    best, series = highest_held(rows), _series(rows)
    clients = list(dict.fromkeys(row.cell.client for row in rows))
    head = ("client", *(f"{workload}{' with hogs' if hog_count else ''}, req/s" for workload, hog_count in series))
    lines = []
    for client in clients:
        cells = [client]
        for workload, hog_count in series:
            held, reference = best.get((workload, hog_count, client)), best.get((workload, hog_count, REFERENCE))
            ratio = f" (x {held / reference:.2g})" if held is not None and reference and client != REFERENCE else ""
            cells.append(UNDEFINED if held is None else f"{held:g}{ratio}")
        lines.append(cells)
    return _table(head, lines)


def _figures_table(rows: Sequence[Row]) -> str:
    reference = {row.cell.rate_per_s: row.cpu_s_per_1000 for row in rows if row.cell.client == REFERENCE}
    return _table(HEAD, [_cells(row, reference.get(row.cell.rate_per_s)) for row in rows])


def _cells(row: Row, reference_cpu_s: float | None) -> list[str]:
    figures = row.figures
    cells = [f"{row.cell.rate_per_s:g}", row.cell.client]
    if figures is None:
        cells += ["no figures", *[UNDEFINED] * 5]
    else:
        mark = "" if figures.due_is_absolute else "*"
        cells += [
            "yes" if figures.held else "no",
            f"{figures.achieved_share * 100:.1f}",
            pair(figures.slip, mark=mark),
            pair(figures.ttft_error),
            pair(figures.stamp_error),
            pair(figures.gap_error),
        ]
    ratio = row.cpu_s_per_1000 / reference_cpu_s if row.cpu_s_per_1000 and reference_cpu_s else None
    cells.append(_shown(row.cpu_s_per_1000, significant))
    cells.append(_shown(ratio, lambda value: f"{value:.2g}"))
    cells.append(_shown(row.cpu_share, lambda value: f"{value:.0%}"))
    cells.append(_shown(row.memory_mb_max, lambda value: f"{value:.0f}"))
    cells.append(_shown(row.start_s, lambda value: f"{value:.1f}"))
    cells.append(_shown(row.foreign_share, lambda value: f"{value:.0%}"))
    return cells


def _shown(value: float | None, form: Callable[[float], str]) -> str:
    return UNDEFINED if value is None else form(value)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [list(head), ["---"] * len(head), *(list(line) for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
