"""`redline db`: SQL over everything that was ever measured, as aligned text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.workspace import Workspace, content_root
from redline.store.database import ingest, query
from redline.store.history import noise

WAIT_S = 15.0
CELL_CHARS_MAX = 60
NAMED = {
    "tables": "SELECT table_name AS name, table_type AS type FROM information_schema.tables ORDER BY 2, 1",
}


def answer(state_dir: Path, text: str) -> Iterator[str]:
    """The rows of a query, or of a named one, as lines; the database is brought up to date first.

    Raises:
        UsageError: the SQL is wrong.
        StoreBusyError: another process holds the database for longer than the wait.
    """
    workspace = Workspace(content_root(), state_dir)
    if text == "rebuild":
        workspace.database_path.unlink(missing_ok=True)
    workspace.trials_dir.mkdir(parents=True, exist_ok=True)
    report = ingest(workspace.trials_dir, workspace.database_path, justifications_dir=workspace.justifications_dir)
    for each in report.damaged:
        yield f"damaged, left out: {each.path.name}: {each.problem}"
    if text == "rebuild":
        yield f"rebuilt {workspace.database_path} from {report.added} trials"
        return
    if text == "noise":
        yield from _noise(workspace.database_path)
        # Only this question needs the content, and what reads it takes longer to import than a query takes.
        from flows.priors import lines_of_priors  # noqa: PLC0415

        yield ""
        yield from lines_of_priors(workspace)
        return
    columns, rows = query(workspace.database_path, NAMED.get(text, text), wait_s=WAIT_S)
    yield from table(columns, rows)


def _noise(database_path: Path) -> Iterator[str]:
    """How much each metric of each system varies between deployments and between repeats of one."""
    columns = ("runner", "scenario", "metric", "system", "trials", "mean", "CV between trials %", "CV within a trial %")
    rows = [
        (
            row.runner_class,
            row.scenario,
            row.metric,
            row.sut_label,
            row.trial_count,
            row.mean,
            None if row.cv_between is None else row.cv_between * 100,
            None if row.cv_within is None else row.cv_within * 100,
        )
        for row in noise(database_path, wait_s=WAIT_S)
    ]
    yield from table(columns, rows)


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = text.replace("\n", " ")
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Lines of an aligned table with a count of rows at its end."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(column), *(len(row[index]) for row in cells), 0) for index, column in enumerate(columns)]
    yield "  ".join(column.ljust(width) for column, width in zip(columns, widths, strict=True)).rstrip()
    yield "  ".join("-" * width for width in widths)
    for row in cells:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
    yield f"({len(rows)} row{'' if len(rows) == 1 else 's'})"
