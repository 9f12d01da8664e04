"""The answer as a check run: how it ends, two fields of Markdown, annotations; and the same as workflow commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from redline.model import Annotation, CheckPage, Conclusion, Finding
from reports.answer_layout import page, report_page
from reports.answer_rows import PASSES, Row, lower_first, rows_of
from reports.answer_words import accepted, finding_of, headline, joint, worst_first
from reports.data import Leg, PublishedAnswer
from reports.markdown import clean, cut, one_line

# Source: GitHub's REST API, "Create a check run": 65,535 characters a field, 50 annotations a request.
FIELD_BYTES_MAX = 65_535
ANNOTATIONS_MAX = 50
# Source: GitHub's limits of workflow commands: 10 of each level a step.
COMMANDS_PER_LEVEL_MAX = 10

Level: TypeAlias = Literal["notice", "warning", "failure"]

_TITLE_CHARS_MAX = 200
_MESSAGE_CHARS_MAX = 1_000
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SERVICE_FILE = "service.toml"
_LEVELS: dict[Finding, Level] = {
    Finding.REGRESSED: "failure",
    Finding.ERROR: "failure",
    Finding.INVALID: "warning",
    Finding.INCONCLUSIVE: "warning",
    Finding.NO_BASELINE: "warning",
    Finding.IMPROVED: "notice",
}
_COMMANDS: dict[Level, str] = {"failure": "error", "warning": "warning", "notice": "notice"}


def conclusion(answer: PublishedAnswer) -> Conclusion:
    """How the check run ends.

    A required check lets a pull request pass on `success` and on `neutral`, so only what was shown ends so: no worse
    and improved are `success`, a regression that somebody allowed has taken with a reason is `neutral`, if nothing else
    stands against the answer. Regressed is `failure`; so is an error or a leg that died: it is not the pull request's
    fault, but nothing was measured, and whoever looks must find a job that failed. Inconclusive, invalid and no
    baseline are `action_required`: neither a pass nor a proof against the change, and somebody has to act. An answer
    about scenarios that somebody chose is never a `success`.
    """
    finding, _ = joint(answer)
    if accepted(answer) is not None:
        rest = [finding_of(leg) for leg in worst_first(answer.legs) if finding_of(leg) is not Finding.REGRESSED]
        if not rest or rest[0] in PASSES:
            return Conclusion.NEUTRAL
        finding = rest[0]
    match finding:
        case Finding.NO_WORSE | Finding.IMPROVED:
            return Conclusion.NEUTRAL if answer.chosen else Conclusion.SUCCESS
        case Finding.REGRESSED | Finding.ERROR:
            return Conclusion.FAILURE
        case _:
            return Conclusion.ACTION_REQUIRED


def check_page(answer: PublishedAnswer) -> CheckPage:
    """What the check run shows: the answer's page above, the whole reports below, at most 50 annotations."""
    said = headline(answer)
    outdated = "Outdated. " if answer.outdated else ""
    return CheckPage(
        conclusion=conclusion(answer),
        title=one_line(outdated + said.title, _TITLE_CHARS_MAX),
        summary=page(answer, FIELD_BYTES_MAX, with_reports=False),
        text=report_page(answer, FIELD_BYTES_MAX),
        annotations=_limited(remarks(answer), ANNOTATIONS_MAX),
    )


def remarks(answer: PublishedAnswer) -> tuple[Annotation, ...]:
    """Every remark, the worst first: a row that is worse, better or undecided, and a leg that said nothing by rows.

    GitHub wants a file and a line. A metric is annotated at its scenario, which defines what was measured; a leg at its
    runner class, which defines where. In a repository that does not hold them GitHub shows the remark without a line.
    """
    taken = accepted(answer) is not None
    rows = [row for row in rows_of(answer.legs) if row.decides and row.finding in _LEVELS]
    spoken = {(row.runner_class, row.finding) for row in rows}
    found = [
        _of_leg(leg)
        for leg in worst_first(answer.legs)
        if finding_of(leg) in _LEVELS and (leg.runner_class, finding_of(leg)) not in spoken
    ]
    found += [_of_row(row, taken=taken) for row in rows]
    order = tuple(_COMMANDS)
    return tuple(sorted(found, key=lambda each: order.index(each.level)))


def step_annotations(answer: PublishedAnswer) -> tuple[str, ...]:
    """The annotations as lines for a step to print: `::error title=...::...`, at most 10 of each level.

    Escaped as the runner reads them, so that no outside string ends its line or starts another command.
    Source: actions/toolkit, packages/core/src/command.ts.
    """
    found = remarks(answer)
    shown: list[Annotation] = []
    for level in _COMMANDS:
        shown += _limited([each for each in found if each.level == level], COMMANDS_PER_LEVEL_MAX)
    return tuple(f"::{_COMMANDS[each.level]} title={_property(each.title)}::{_data(each.message)}" for each in shown)


def _of_row(row: Row, *, taken: bool) -> Annotation:
    level = _LEVELS[row.finding]
    lead = row.lead or row.finding.value.capitalize()
    title = f"{lead}: {lower_first(row.metric)} in {row.scenario} on {row.runner_class}"
    told = f"{row.sentence}. Runner class {row.runner_class}."
    return _annotation(
        _path("scenarios", row.scenario), "warning" if taken and level == "failure" else level, title, told
    )


def _of_leg(leg: Leg) -> Annotation:
    finding = finding_of(leg)
    if leg.report is None:
        title, told = f"No answer from {leg.runner_class}", leg.problem
    else:
        title, told = f"{finding.value.capitalize()} on {leg.runner_class}", leg.report.verdict.reason
    return _annotation(_path("runners", leg.runner_class), _LEVELS[finding], title, told)


def _annotation(path: str, level: Level, title: str, message: str) -> Annotation:
    said = cut(clean(message), _MESSAGE_CHARS_MAX).strip() or "no reason given"
    return Annotation(path, 1, level, one_line(title, _TITLE_CHARS_MAX), said)


def _path(folder: str, name: str) -> str:
    """The content file of that name; a name that no such file can have leads to the service's own file."""
    return f"{folder}/{name}.toml" if _FILE_NAME.fullmatch(name) else _SERVICE_FILE


def _limited(found: Sequence[Annotation], limit: int) -> tuple[Annotation, ...]:
    """At most `limit`, the last one then saying how many there are besides."""
    if len(found) <= limit:
        return tuple(found)
    rest = len(found) - limit + 1
    told = f"{rest:,} more stand in the report: GitHub takes {limit} of them here."
    return (*found[: limit - 1], Annotation(_SERVICE_FILE, 1, found[limit - 1].level, f"{rest:,} more", told))


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")
