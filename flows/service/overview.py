"""`redline overview`: one page over every runner class of a night, as Markdown for a job summary and as HTML.

A runner class that should have measured and did not is a finding of its own: what is missing is never a pass.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from checks.causes import causes_of, finished
from checks.night_series import SETTLED_SUFFIX, measured_again, whole
from flows.report_file import SUFFIX, read_report
from flows.request import Answer
from flows.service.changes import cause_links, changes_of
from flows.service.telling import log_line
from flows.service.trends import trends_of
from flows.session import EXIT_CODES
from flows.workspace import Workspace, content_root
from redline.errors import StoreError, UsageError
from redline.github.environment import read_environment, write_outputs, write_summary
from redline.model import Finding, Night
from redline.store.nights import read_nights
from redline.whole_file import write_whole
from reports import overview_words
from reports.data import ReportData, ReportKind
from reports.overview import markdown
from reports.overview_data import ClassNight, Overview
from reports.overview_html import html

MARKDOWN_NAME = "overview.md"
HTML_NAME = "index.html"
CLASSES_NAMED_MAX = 10
WAITED_DAYS_MAX = 3
"""So many days after its date a night may begin that had to wait for its machine."""

_DATE_OPTION = re.compile(r"\s--date[ =](?P<date>\d{4}-\d{2}-\d{2})(?:\s|$)")
_WORSE_KINDS = frozenset({"regressed", "owed", "target"})


@dataclass(frozen=True, slots=True)
class Records:
    """The nights of every runner class, oldest first, none after the date: all of them whole, and the finished ones.

    `cut_short`: run ids of nights whose second half is missing; `again`: nights that were measured once more, which do
    not count; `damaged`: runner class -> why it cannot be read.
    """

    nights: Mapping[str, tuple[Night, ...]]
    finished: Mapping[str, tuple[Night, ...]]
    cut_short: frozenset[str]
    again: tuple[Night, ...]
    damaged: Mapping[str, str]


def overview(state_dir: Path, output: Path, date: str | None) -> Answer:
    """Write `output`/overview.md and `output`/index.html for the night of `date` (UTC, YYYY-MM-DD).

    None: the last night on record, or today if that is older than yesterday: nights that never came are no pass. Empty:
    today, for a job whose plan died before it could say. In a job of GitHub's runner the page is also the job's
    summary, and output `newest` says whether no later night is on record. The exit code is that of the worst runner
    class; without any, that of nothing to say.

    Raises:
        UsageError: `date` is no date.
        ContentError: service.toml cannot be read.
        StoreError: the pages cannot be written.
    """
    workspace = Workspace(content_root(), state_dir)
    data = read_overview(workspace, date, today=datetime.now(UTC).date())
    if data is None:
        words = "no runner class of service.toml has a nightly, and none measured that night: there is nothing to show"
        if os.environ.get("GITHUB_STEP_SUMMARY"):
            write_outputs(read_environment(os.environ), {"newest": "false"})
        return Answer((words,), EXIT_CODES[Finding.NO_WORSE])
    paths = (output / MARKDOWN_NAME, output / HTML_NAME)
    page = markdown(data, whole_name=HTML_NAME)
    try:
        write_whole(paths[0], page)
        write_whole(paths[1], html(data))
        if os.environ.get("GITHUB_STEP_SUMMARY"):
            environment = read_environment(os.environ)
            write_summary(environment, page)
            write_outputs(environment, {"newest": "true" if _is_newest(workspace, data) else "false"})
    except OSError as error:
        raise StoreError(
            f"the overview cannot be written to {output}",
            expected="a directory this user may write to, with space left",
            found=str(error),
            next_step="name another directory with --output",
        ) from error
    lines = (
        *(f"{each.runner_class}: {each.finding.value}: {each.reason}" for each in data.classes),
        f"wrote {paths[0]}",
        f"wrote {paths[1]}",
        overview_words.headline(data),
    )
    return Answer(tuple(map(log_line, lines)), EXIT_CODES[data.finding])


def read_overview(workspace: Workspace, wanted: str | None, *, today: date) -> Overview | None:
    """Everything the page says of one night; None if nobody waits for one and none was measured.

    `today` (UTC) names the night if there is none on record at all.

    Raises UsageError and ContentError as `overview`.
    """
    service = workspace.service()
    expected = tuple(leg.runner for leg in service.legs if leg.nightly)
    records = _read(workspace, expected)
    of_date = _date(wanted, records, today)
    records = Records(
        {name: tuple(each for each in nights if each.date <= of_date) for name, nights in records.nights.items()},
        records.finished,
        records.cut_short,
        tuple(each for each in records.again if each.date == of_date),
        records.damaged,
    )
    tonight = {name: _of_date(nights, of_date) for name, nights in records.nights.items()}
    shown = [name for name in records.nights if name in expected or name in records.damaged or tonight[name]]
    if not shown:
        return None
    causes = causes_of(
        {name: records.finished[name] for name in shown if name not in records.damaged},
        tuple(name for name in expected if name not in records.damaged),
        of_date,
    )
    every_night = [night for name in shown for night in records.nights[name]]
    return Overview(
        date=of_date,
        classes=tuple(each for name in shown for each in _classes(workspace, records, name, of_date, name in expected)),
        causes=causes,
        changes=tuple(
            changes_of(records.nights[name], night, workspace.trials_dir, service.source)
            for name in shown
            for night in tonight[name]
        ),
        trends=tuple(trend for name in shown for trend in trends_of(name, records.nights[name], of_date)),
        links=cause_links(causes, every_night, workspace.trials_dir, service.source),
        notes=_notes(wanted, of_date, records, shown),
    )


def _read(workspace: Workspace, expected: Sequence[str]) -> Records:
    directory = workspace.nights_dir
    there = sorted(path.name for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []
    nights: dict[str, tuple[Night, ...]] = {}
    complete: dict[str, tuple[Night, ...]] = {}
    damaged: dict[str, str] = {}
    cut_short: set[str] = set()
    again: list[Night] = []
    for name in dict.fromkeys((*expected, *there)):
        try:
            recorded = read_nights(directory, name)
        except StoreError as error:
            nights[name], damaged[name] = (), f"{error.problem}: {error.next_step or error.found}"
            continue
        halves = {each.run_id for each in recorded}
        odd = next((each for each in recorded if each.runner_class != name or not _is_date(each.date)), None)
        if odd is not None:
            nights[name], damaged[name] = (
                (),
                f"night {odd.run_id} is of {odd.runner_class} and {odd.date}: move it away",
            )
            continue
        nights[name], complete[name] = whole(recorded), finished(recorded)
        again += measured_again(recorded)
        cut_short |= {
            each.run_id for each in nights[name] if _measured(each) and each.run_id + SETTLED_SUFFIX not in halves
        }
    return Records(nights, complete, frozenset(cut_short), tuple(again), damaged)


def _is_newest(workspace: Workspace, data: Overview) -> bool:
    """False if a later night is on record: this page must not take the place of that one's."""
    nights = _read(workspace, ()).nights.values()
    latest = (datetime.now(UTC).date() + timedelta(days=1)).isoformat()  # a wrong clock is no night
    return not any(data.date < night.date <= latest for every in nights for night in every if _measured(night))


def _date(wanted: str | None, records: Records, today: date) -> str:
    if wanted == "":
        return today.isoformat()
    if wanted is None:
        near = [(today + timedelta(days=days)).isoformat() for days in (-1, 0, 1)]  # a wrong clock is no night
        dates = {night.date for nights in records.nights.values() for night in nights if _measured(night)}
        return max(dates.intersection(near), default=today.isoformat())
    try:
        return date.fromisoformat(wanted).isoformat()
    except ValueError as error:
        raise UsageError(
            "the date of the night is no date", expected="YYYY-MM-DD, such as 2026-11-21", found=repr(wanted)
        ) from error


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _measured(night: Night) -> bool:
    """True for a night; False for an acceptance, which only puts something on record."""
    return bool(night.readings or night.trial_ids)


def _of_date(nights: Sequence[Night], of_date: str) -> tuple[Night, ...]:
    return tuple(night for night in nights if night.date == of_date and _measured(night))


def _classes(
    workspace: Workspace, records: Records, runner_class: str, of_date: str, is_expected: bool
) -> list[ClassNight]:
    """What a runner class says of the night: one entry, or one per machine or set of arguments that measured it."""
    nights = records.nights[runner_class]
    if runner_class in records.damaged:
        return [ClassNight(runner_class, Finding.ERROR, records.damaged[runner_class], expected=is_expected)]
    tonight = _of_date(nights, of_date)
    if tonight:
        return [_class_night(workspace, night, records, is_expected) for night in tonight]
    last = max((night.date for night in nights if _measured(night)), default="")
    why = _reason_without_night(workspace, runner_class, of_date) or "the job did not run or died"
    known = f"the last one on record is of {last}" if last else "there never was one"
    reason = f"no night of {of_date}: {why}; {known}"
    return [ClassNight(runner_class, Finding.ERROR, reason, last_date=last, expected=is_expected)]


def _class_night(workspace: Workspace, night: Night, records: Records, is_expected: bool) -> ClassNight:
    report = _report(workspace.report_path(night.run_id).with_suffix(SUFFIX), night.runner_class)
    if report is not None and report.run_id == night.run_id:
        finding, reason = report.verdict.finding, report.verdict.reason
    else:
        worse = [each.text for each in night.findings if each.kind in _WORSE_KINDS]
        how = (
            "it was cut short before anything was confirmed"
            if night.run_id in records.cut_short
            else "the report did not arrive, or is damaged"
        )
        finding = Finding.REGRESSED if worse else Finding.ERROR
        reason = f"{worse[0]} ({how})" if worse else f"the night has readings, but no report: {how}"
    return ClassNight(
        night.runner_class, finding, reason, night.run_id, night.sut_label, night.date, expected=is_expected
    )


def _report(path: Path, runner_class: str) -> ReportData | None:
    """The nightly report of a runner class at a path; None if there is none, or it is of something else."""
    try:
        report = read_report(path)
    except StoreError:
        return None
    right = report.kind is ReportKind.NIGHTLY and report.runner_class == runner_class
    return report if right else None


def _reason_without_night(workspace: Workspace, runner_class: str, of_date: str) -> str:
    """What a job that ended before its night was on record had to say of that night; empty if it said nothing.

    It may have waited for its machine: the night is the one that its command names, else the day on which it began.
    """
    first = date.fromisoformat(of_date)
    days = [(first + timedelta(days=days)).strftime("%Y%m%d") for days in range(WAITED_DAYS_MAX + 1)]
    reports = workspace.report_path(f"{days[0]}T").parent
    for path in sorted((each for day in days for each in reports.glob(f"{day}T*{SUFFIX}")), reverse=True):
        report = _report(path, runner_class)
        if report is not None and _night_of(report) == of_date:
            return report.verdict.reason
    return ""


def _night_of(report: ReportData) -> str:
    """The night (YYYY-MM-DD) that a nightly's report is about: from its command, else from its run id."""
    named = _DATE_OPTION.search(report.repeat_command)
    day = report.run_id[:8]
    return named["date"] if named is not None else f"{day[:4]}-{day[4:6]}-{day[6:]}"


def _notes(wanted: str | None, of_date: str, records: Records, shown: Sequence[str]) -> tuple[str, ...]:
    """What a reader should know of the page itself."""
    notes = []
    last = max((each.date for nights in records.nights.values() for each in nights if _measured(each)), default="")
    if wanted is None and last < of_date:
        known = f"the last night on record is of {last}: --date {last} shows it" if last else "no night is on record"
        notes.append(f"This is about {of_date}, today (UTC), since nothing newer ran; {known}.")
    if records.again:
        names = [f"{each.runner_class} in run {each.run_id}" for each in records.again]
        more = f" and {len(names) - CLASSES_NAMED_MAX} more" if len(names) > CLASSES_NAMED_MAX else ""
        named = ", ".join(names[:CLASSES_NAMED_MAX])
        notes.append(f"Measured again, which does not count, the first finished night of a date does: {named}{more}.")
    others = [name for name in records.nights if name not in shown and records.nights[name]]
    if others:
        more = f" and {len(others) - CLASSES_NAMED_MAX} more" if len(others) > CLASSES_NAMED_MAX else ""
        named = ", ".join(others[:CLASSES_NAMED_MAX])
        notes.append(f"Not in service.toml's nightly and without a night of {of_date}: {named}{more}.")
    return tuple(notes)
