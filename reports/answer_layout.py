"""How the parts of an answer are put on a page of bounded size: whole parts or none, the most important first.

A page is a list of parts, each with shorter forms of itself; the first form that still fits is taken. So a page is
never cut within a table, a fence or a fold, and it always says what is not on it. Outside strings never stand inside
raw HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from redline.model import COMMIT_SHA, Finding
from reports import phrases
from reports.answer_rows import rows_of, rows_table
from reports.answer_steps import steps
from reports.answer_words import accepted, accepted_by, finding_of, headline, link, worst_first
from reports.data import Leg, PublishedAnswer
from reports.markdown import Safe, code, cut, fence, one_line, table, text
from reports.report import LIMIT_MIN, render
from reports.tables import broken_table

PAGE_BYTES_MIN = 9_500
ROWS_SHOWN_MAX = 10
_ROWS_FOLDED_MAX = 200
_LEGS_SHOWN_MAX = 60
_SHORTER = (5, 2)
_STEPS_MAX = 6
_TITLE_CHARS_MAX = 100
_NAME_CHARS_MAX = 60
_WORDS_CHARS_MAX = 160
_PROBLEM_CHARS = (4_000, 400)
_ERROR_CHARS = (1_500, 400)
_CAUSES_MAX = 4
_LEFT_OUT_MAX = 10
_FOOTER_BYTES = 700
_FOLD_BYTES = 200
_HEADLINE_CHARS_MAX = 500

Forms = Sequence[str]
"""One part of a page, the whole first, then shorter forms."""


def page(answer: PublishedAnswer, limit_bytes: int, *, with_reports: bool = True) -> str:
    """The answer in GitHub Markdown within `limit_bytes` of UTF-8, ending in one line end.

    First line: the verdict. Then what to do, what was measured, the rows, and, `with_reports`, every leg's whole
    report folded, as far as it fits. From `PAGE_BYTES_MIN` on the limit holds whatever the strings are.
    """
    budget = limit_bytes - _FOOTER_BYTES
    blocks, left_out = _fitting(_head(answer), budget)
    if with_reports:
        shown, missing = reports(answer, budget - _size(blocks))
        blocks += shown
        left_out = left_out or missing > 0
    if left_out:
        blocks.append(_footer(answer, limit_bytes))
    return "\n\n".join(blocks) + "\n"


def report_page(answer: PublishedAnswer, limit_bytes: int) -> str:
    """Only the whole reports, as on `page`."""
    blocks, missing = reports(answer, limit_bytes - _FOOTER_BYTES)
    if missing:
        blocks.append(_footer(answer, limit_bytes))
    return "\n\n".join(blocks) + "\n"


def reports(answer: PublishedAnswer, budget: int) -> tuple[list[str], int]:
    """(blocks, how many legs have none) of every leg's whole report, folded: the worst first, each an equal share.

    A report shortens itself to its share (`reports.report.render`); what one does not need the next ones may use. The
    few lines of a leg that died come before all shares.
    """
    legs = worst_first(answer.legs)
    shown: dict[int, str] = {}
    in_turn = sorted(range(len(legs)), key=lambda index: legs[index].report is not None)
    for turn, index in enumerate(in_turn):
        leg, left = legs[index], budget - _size(tuple(shown.values()))
        fair = max(left // (len(legs) - turn), LIMIT_MIN + _FOLD_BYTES)
        forms = _problem(leg) if leg.report is None else _folded(leg, min(fair, left), named=len(legs) > 1)
        fitting = next((form for form in forms if _size([form]) <= left), None)
        if fitting is not None:
            shown[index] = fitting
    return [shown[index] for index in sorted(shown)], len(legs) - len(shown)


def _folded(leg: Leg, share_bytes: int, *, named: bool) -> Forms:
    name = f"{_leg_heading(leg)}\n\n" if named else ""
    opened, closed = f"{name}<details><summary>The whole report</summary>\n\n", "\n</details>"
    room = share_bytes - _size([opened, closed])
    if leg.report is None or room < LIMIT_MIN:
        return ()
    return (opened + render(leg.report, room) + closed,)


def _problem(leg: Leg) -> Forms:
    """Why a leg left no report: the whole text, or its beginning."""
    heading = _leg_heading(leg)
    told = (f"{heading}\n\n{fence(leg.problem, limit=limit)}" for limit in _PROBLEM_CHARS)
    return (*told, heading)


def _leg_heading(leg: Leg) -> Safe:
    return Safe(f"### {code(leg.runner_class, _NAME_CHARS_MAX)}: {_found(leg)}")


def _found(leg: Leg) -> str:
    return f"no answer {phrases.SYMBOLS[Finding.ERROR]}" if leg.report is None else phrases.finding(finding_of(leg))


def _fitting(parts: Iterable[Forms], budget: int) -> tuple[list[str], bool]:
    """(blocks, whether anything was shortened or left out). The first part is never left out."""
    blocks: list[str] = []
    shortened = False
    for forms in parts:
        chosen = next((form for form in forms if _size([*blocks, form]) <= budget), "" if blocks else forms[-1])
        shortened |= chosen != forms[0]
        blocks += [chosen] if chosen else []
    return blocks, shortened


def _size(blocks: Sequence[str]) -> int:
    """Bytes of UTF-8 with the empty line behind each: the stricter of the counts that GitHub may apply."""
    return sum(len(block.encode()) + 2 for block in blocks)


def _head(answer: PublishedAnswer) -> list[Forms]:
    said = headline(answer)
    top = [f"## {said.symbol} {text(said.title, _HEADLINE_CHARS_MAX)}"]
    top += [_outdated(answer)] if answer.outdated else []
    top += [_chosen(answer)] if answer.chosen else []
    justification = accepted(answer)
    if said.accepted is not None:
        top.append(f"{text(said.lead)}: {text(said.reason)}.")
    elif justification is not None:
        top.append(f"The regression is {text(accepted_by(justification))}.")
    if justification is not None and justification.url and answer.url:
        address = link("Where it was accepted", justification.url, answer.url.partition("/actions/")[0])
        top += [address] if address.startswith("[") else []
    asked = steps(answer)
    return [
        ("\n\n".join(top),),
        *([tuple(_listed(asked[:count]) for count in (_STEPS_MAX, 1))] if asked else []),
        (_context(answer),),
        *_legs_table(answer),
        *_rows(answer),
        *_causes(answer),
    ]


def _listed(asked: Sequence[Safe]) -> str:
    if len(asked) == 1:
        return f"**Next:** {asked[0]}."
    return "\n".join(["**Next:**", "", *(f"- {step}" for step in asked)])


def _outdated(answer: PublishedAnswer) -> str:
    commit = f"commit {_commit(answer.change.head_sha)}" if answer.change is not None else "a commit"
    return f"**Outdated:** this is about {commit}; a newer one has replaced it while it was measured."


def _chosen(answer: PublishedAnswer) -> str:
    told = "**Chosen scenarios only:** this is no answer for the whole pull request, and no required check takes it."
    if not answer.left_out:
        return told
    names = ", ".join(code(name, _NAME_CHARS_MAX) for name in answer.left_out[:_LEFT_OUT_MAX])
    rest = len(answer.left_out) - _LEFT_OUT_MAX
    return f"{told} Left out: {names}{f', and {rest:,} more' if rest > 0 else ''}."


def _context(answer: PublishedAnswer) -> str:
    """What was asked, about what, where: `Gate of pull request #12 ...`, with links to the run and to all data."""
    said = [answer.kind.value.capitalize()]
    change = answer.change
    if change is not None and change.number > 0:
        title = f" ({text(change.title, _TITLE_CHARS_MAX)})" if change.title else ""
        said.append(f"of pull request #{change.number:d}{title}")
    if change is not None and change.head_sha:
        said.append(f"at {_commit(change.head_sha)}")
        said += [f"against its merge base {_commit(change.base_sha)}"] if change.base_sha else []
    said.append(_where(answer.legs))
    links = [link("the run", answer.url)] if answer.url else []
    links += [link("whole reports and all data", answer.artifacts_url)] if answer.artifacts_url else []
    return f"{' '.join(said)}.{' See ' + ' and '.join(links) + '.' if links else ''}"


def _where(legs: Sequence[Leg]) -> str:
    if len(legs) > 1:
        return f"on {len(legs)} runner classes"
    (leg,) = legs
    where = f"on {code(leg.runner_class, _NAME_CHARS_MAX)}"
    if leg.report is None or leg.report.candidate is None:
        return where
    measured = f"{where}: {code(leg.report.candidate.label, _WORDS_CHARS_MAX)}"
    if leg.report.baseline is None:
        return measured
    return f"{measured} against {code(leg.report.baseline.label, _WORDS_CHARS_MAX)}"


def _commit(sha: str) -> Safe:
    """A commit's first digits; what is no commit as code, for anybody to see."""
    return code(sha[:12] if COMMIT_SHA.fullmatch(sha) else cut(sha, 40))


def _legs_table(answer: PublishedAnswer) -> list[Forms]:
    """One line per runner class, where there are several."""
    legs = worst_first(answer.legs)
    if len(legs) == 1:
        return []
    rows = [
        (
            code(leg.runner_class, _NAME_CHARS_MAX),
            Safe(_found(leg)),
            text(one_line(leg.problem if leg.report is None else leg.report.verdict.reason, _WORDS_CHARS_MAX)),
            link("log", leg.url, answer.url) if leg.url and answer.url else Safe("-"),
        )
        for leg in legs[:_LEGS_SHOWN_MAX]
    ]
    head = ("runner class", "answer", "in words", "job")
    counts = (len(rows), *(count for count in _SHORTER if count < len(rows)))
    return [tuple(_bounded(table(head, rows[:count]), len(legs) - count) for count in counts)]


def _bounded(shown: str, rest: int) -> str:
    return f"{shown}\n\nand {rest:,} more." if rest > 0 else shown


def _rows(answer: PublishedAnswer) -> list[Forms]:
    """The rows that decide, the worst first, and a fold with the rest."""
    rows = rows_of(answer.legs)
    count = min(ROWS_SHOWN_MAX, sum(row.decides for row in rows))
    deciding, rest = rows[:count], rows[count:]
    several = len(answer.legs) > 1
    found: list[Forms] = []
    if deciding:
        found.append(tuple(rows_table(deciding[:shown], with_runner=several) for shown in (count, *_SHORTER)))
    if rest:
        folded = rest[:_ROWS_FOLDED_MAX]
        summary = f"<details><summary>{len(rest):,} more: the rest of the metrics; descriptive ones never block"
        shown = _bounded(rows_table(folded, with_runner=several), len(rest) - len(folded))
        found.append((f"{summary}</summary>\n\n{shown}\n\n</details>",))
    return found


def _causes(answer: PublishedAnswer) -> list[Forms]:
    """Why a leg with a report has no answer: its error, or the rules that were broken."""
    found: list[Forms] = []
    for leg in worst_first(answer.legs)[:_CAUSES_MAX]:
        report, finding = leg.report, finding_of(leg)
        if report is None:
            continue
        where = f" on {code(leg.runner_class, _NAME_CHARS_MAX)}" if len(answer.legs) > 1 else ""
        if finding is Finding.ERROR and report.error:
            found.append(tuple(f"The error{where}:\n\n{fence(report.error, limit=limit)}" for limit in _ERROR_CHARS))
        broken = [trial for trial in report.validity if trial.broken]
        if finding is Finding.INVALID and broken:
            found.append((f"Broken validity rules{where}:\n\n{broken_table(broken)}",))
    return found


def _footer(answer: PublishedAnswer, limit_bytes: int) -> str:
    where = (
        link("with the run's artifacts", answer.artifacts_url)
        if answer.artifacts_url
        else Safe("with the run's artifacts")
    )
    return f"Shortened to fit {limit_bytes:,} bytes: what is not here, whole reports and trials, is kept {where}."
