"""The error table as Markdown, section by section: docs/method.md holds these texts as they are. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reports.method_data import BROKEN, MethodDocument, MethodPromise, MethodRow

Format = Callable[[float], str]


def percent(value: float) -> str:
    """A share in percent: one decimal."""
    return f"{value * 100:.1f}"


def hundredths(value: float) -> str:
    """A share or a logarithm in percent: two decimals."""
    return f"{value * 100:.2f}"


def tenths(value: float) -> str:
    """A mean or a median: one decimal."""
    return f"{value:.1f}"


def fine(value: float) -> str:
    """A rate that is mostly far below one: two decimals."""
    return f"{value:.2f}"


def whole(value: float) -> str:
    """A number that is counted."""
    return f"{value:.0f}"


@dataclass(frozen=True, slots=True)
class Column:
    """A figure by its name, its heading with the unit, and how it is written."""

    figure: str
    heading: str
    form: Format = percent


FIVE = (
    Column("regressed", "regressed %"),
    Column("passed", "passed %"),
    Column("undecided", "undecided %"),
    Column("mean pairs", "mean pairs", tenths),
    Column("most pairs", "most pairs", whole),
)
NIGHTLY_QUIET = (
    Column("pages per 100 quiet nights", "pages per 100 nights", fine),
    Column("gates for nothing per 100 quiet nights", "gates for nothing per 100 nights", fine),
    Column("environment step on record", "environment step on record %"),
)
NIGHTLY_STEP = (
    Column("found", "found %"),
    Column("median nights to the page", "median nights to the page", tenths),
    Column("90 % within nights", "90 % within nights", tenths),
    Column("first night named within one", "first night named within one %"),
    Column("first night among those it could be", "among those it could be %"),
)
PLAIN = {
    "gate": FIVE,
    "stored": FIVE,
    "sign-off": (*FIVE[:3], Column("half-width of the 95 % interval", "half-width %", hundredths)),
    "accuracy": (Column("regressed", "called worse %"),),
    "threshold": (Column("passed by the usual test", "usual test passes %"), Column("passed", "ours passes %")),
    "bisection": (
        Column("culprit named", "culprit named %"),
        Column("another named", "another named %"),
        Column("gave up", "gave up %"),
        Column("ends found equal", "ends found equal %"),
        Column("mean readings", "mean readings", tenths),
        Column("most readings", "most readings", whole),
        Column("mean pairs of the confirmation", "pairs of the confirmation", tenths),
        Column("mean builds", "builds measured", tenths),
    ),
}
"""The sections with one line a row; the others are put together below."""

TITLES = {
    "gate": "The gate",
    "stored": "One trial against a stored baseline",
    "sign-off": "The sign-off",
    "nightly": "The nightly",
    "accuracy": "Accuracy",
    "threshold": "Accuracy on the threshold",
    "bisection": "Bisection",
    "pull-requests": "Pull requests, beside the rules of others",
    "nights": "Nights, beside the rules of others",
    "promises": "Promises",
}
FORMS = {column.figure: column.form for columns in (*PLAIN.values(), NIGHTLY_QUIET, NIGHTLY_STEP) for column in columns}
SUSPICIONS = "gates for nothing per 100 quiet nights"
RATES = frozenset({"pages per 100 quiet nights"})
WITHIN = ("flagged on the first night", "flagged within 3 nights", "flagged within 7 nights")


def sections(document: MethodDocument) -> dict[str, str]:
    """The Markdown tables by section, in order; sections without a row are left out."""
    found = {}
    for section in TITLES:
        rows = document.of(section)
        if section == "promises":
            text = _promises(document.promises) if document.promises else ""
        elif not rows:
            text = ""
        elif section in PLAIN:
            text = _plain(rows, PLAIN[section])
        elif section == "nightly":
            text = _nightly(rows)
        elif section == "pull-requests":
            text = _pull_requests(rows)
        else:
            text = _nights(rows)
        if text:
            found[section] = text
    return found


def markdown(document: MethodDocument) -> str:
    """The whole table, with what was simulated at its head."""
    head = (
        f"# Error table\n\nSeed {document.seed}, {document.suites:,} suites a row (nightly histories, bisections and "
        "others scaled from there; the number of each is in error-table.json). Simulated with the code that decides.\n"
    )
    parts = [f"## {TITLES[section]}\n\n{text}" for section, text in sections(document).items()]
    return "\n".join([head, *parts])


def _plain(rows: Sequence[MethodRow], columns: Sequence[Column], what: str = "world") -> str:
    lines = [[row.name, *_cells(row, columns)] for row in rows]
    return _table([what, *(column.heading for column in columns)], lines)


def _nightly(rows: Sequence[MethodRow]) -> str:
    """Quiet histories and steps have different figures, and stand in tables of their own."""
    quiet = [row for row in rows if NIGHTLY_QUIET[0].figure in row.figures]
    steps = [row for row in rows if NIGHTLY_STEP[0].figure in row.figures]
    lone = [row for row in rows if "paged" in row.figures]
    parts = [_plain(quiet, NIGHTLY_QUIET)] if quiet else []
    parts += [_plain(lone, (Column("paged", "paged %"),))] if lone else []
    parts += [_plain(steps, NIGHTLY_STEP)] if steps else []
    return "\n".join(parts)


def _pull_requests(rows: Sequence[MethodRow]) -> str:
    """A line per rule; the share of suites it blocks in each group, and its trials where nothing is wrong."""
    groups = _groups(rows)
    lines = []
    for name in dict.fromkeys(row.name for row in rows):
        of_group = {row.group: row for row in rows if row.name == name}
        trials = [row.figures["mean trials"] for row in of_group.values() if "mean trials" in row.figures]
        shown = f"{trials[0]:.3g}" if len({round(each, 9) for each in trials}) == 1 else _range(trials)
        lines.append([name, *(_cell(of_group.get(group), "blocked", percent) for group in groups), shown])
    return _table(["rule: blocked %", *groups, "trials"], lines)


def _nights(rows: Sequence[MethodRow]) -> str:
    """Flags of quiet nights, then the chance to flag a worse build within one, three and seven nights."""
    quiet = [row for row in rows if row.effect is None]
    steps = [row for row in rows if row.effect is not None]
    parts = []
    for chosen, title in ((quiet, "rule: flags per 100 nights"), (steps, "rule: flagged within 1 / 3 / 7 nights, %")):
        groups = _groups(chosen)
        lines = []
        for name in dict.fromkeys(row.name for row in chosen):
            of_group = {row.group: row for row in chosen if row.name == name}
            lines.append([name, *(_flags(of_group.get(group)) for group in groups)])
            if any(SUSPICIONS in row.figures for row in of_group.values()):
                before = [_cell(of_group.get(group), SUSPICIONS, fine) for group in groups]
                lines.append([f"{name}, suspicions before the gate", *before])
        if chosen:
            parts.append(_table([title, *groups], lines))
    return "\n".join(parts)


def _promises(promises: Sequence[MethodPromise]) -> str:
    lines = []
    for each in promises:
        form = _form(each.figure)
        bound = f"{'>=' if each.at_least else '<='} {form(each.limit)}{_unit(each.figure)}"
        value = "not measured" if each.value is None else form(each.value)
        error = "" if each.standard_error is None else _error(each)
        lines.append(
            [each.row, each.figure, bound, value, error, f"**{each.status}**" if each.status == BROKEN else each.status]
        )
    return _table(["world", "figure", "promise", "measured", "standard error", ""], lines)


def _form(figure: str) -> Format:
    return FORMS.get(figure, percent)


def _unit(figure: str) -> str:
    return " %" if _form(figure) in (percent, hundredths) else ""


def _error(promise: MethodPromise) -> str:
    assert promise.standard_error is not None  # the caller has looked
    return f"{promise.standard_error:.3f}" if promise.figure in RATES else hundredths(promise.standard_error)


def _flags(row: MethodRow | None) -> str:
    if row is None or row.problem or row.effect is None:
        return _cell(row, "flags per 100 quiet nights", fine)
    return " / ".join(whole(100 * row.figures[figure]) for figure in WITHIN)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}" if values else ""


def _groups(rows: Sequence[MethodRow]) -> list[str]:
    return list(dict.fromkeys(row.group for row in rows))


def _cells(row: MethodRow, columns: Sequence[Column]) -> list[str]:
    return [_cell(row, column.figure, column.form) for column in columns]


def _cell(row: MethodRow | None, figure: str, form: Format) -> str:
    if row is None:
        return ""
    if row.problem:
        return f"not measured: {row.problem}"
    value = row.figures.get(figure, math.nan)
    return "" if math.isnan(value) else form(value)


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |\n" for row in (headings, *lines)]
    return "".join([rows[0], "|" + "---|" * len(headings) + "\n", *rows[1:]])
