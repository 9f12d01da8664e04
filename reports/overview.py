"""The page over all runner classes of a night, as Markdown for a job summary: within GitHub's limit, whole or cut."""

from __future__ import annotations

from collections.abc import Sequence

from redline.model import Cause
from reports import overview_words as words
from reports.markdown import Safe, code, fence, table, text
from reports.overview_data import NightChanges, Overview, Trend
from reports.trend import in_words, mermaid

SUMMARY_BYTES_MAX = 1024 * 1024
"""GitHub drops a job summary above 1 MiB whole. Source: GitHub's documentation of workflow commands."""

CHARTS_MAX = 8
ROWS_MAX = 500
_CHART_CHARS_MAX = 6_000


def markdown(overview: Overview, *, bytes_max: int = SUMMARY_BYTES_MAX, whole_name: str = "index.html") -> str:
    """The page, at most `bytes_max` bytes of UTF-8: the answer first, then causes, changes, readings and charts.

    What does not fit is left out by whole sections from the end on, and the page says so and names `whole_name`, which
    has everything. Raises ValueError if `bytes_max` is too small for the answer itself.
    """
    sections = [
        _head(overview),
        _causes(overview),
        _changes(overview),
        *_readings(overview),
        *_charts(overview),
        _notes(overview),
    ]
    return _within([each for each in sections if each], bytes_max, whole_name)


def _within(sections: Sequence[str], bytes_max: int, whole_name: str) -> str:
    page = "\n\n".join(sections) + "\n"
    if len(page.encode()) <= bytes_max:
        return page
    kept: list[str] = []
    note = f"**This page was cut: it would be too long for GitHub. All of it is in {code(whole_name)}.**"
    room = bytes_max - len(note.encode()) - 4
    for section in sections:
        size = len(section.encode()) + 2
        if size > room:
            continue
        kept.append(section)
        room -= size
    if not kept or kept[0] != sections[0]:
        raise ValueError(f"bytes_max is {bytes_max}, too small for the answer itself")
    return "\n\n".join((kept[0], note, *kept[1:])) + "\n"


def _head(overview: Overview) -> str:
    blocks = [f"# {text(words.headline(overview), limit=600)}", f"{text(words.tally(overview))}."]
    todo = words.steps(overview)
    if todo:
        lines = [
            f"- {text(each.text, limit=600)}" + (f": {code(each.command)}" if each.command else "") for each in todo
        ]
        blocks.append("**Next:**\n\n" + "\n".join(lines))
    rows = [
        (code(runner), found, text(build, limit=120), text(why, limit=600))
        for runner, found, build, why in words.class_rows(overview)
    ]
    blocks.append(table(words.CLASS_HEAD, rows))
    return "\n\n".join(blocks)


def _causes(overview: Overview) -> str:
    standing, gone = words.standing_and_gone(overview)
    blocks = ["## What was found, the newest first"]
    if not standing:
        blocks.append("Nothing stands against this night.")
    blocks += [_cause(overview, cause) for cause in standing[: words.CAUSES_MAX]]
    if len(standing) > words.CAUSES_MAX:
        blocks.append(f"and {len(standing) - words.CAUSES_MAX} more causes.")
    if gone:
        lines = [f"- {text(words.gone_line(cause))}" for cause in gone[: words.GONE_MAX]]
        more = len(gone) - words.GONE_MAX
        lines += [f"- and {more} more"] if more > 0 else []
        blocks.append("Gone:\n\n" + "\n".join(lines))
    return "\n\n".join(blocks)


def _cause(overview: Overview, cause: Cause) -> str:
    shown = words.cause_words(overview, cause)
    compare = f" [Compare the two]({shown.link})." if shown.link else ""
    return "\n\n".join(
        (
            f"### {text(shown.title)}",
            f"{text(shown.facts, limit=600)}.{compare}",
            "\n".join(f"- {text(each, limit=600)}" for each in shown.symptoms),
        )
    )


def _changes(overview: Overview) -> str:
    if not overview.changes:
        return ""
    return "\n\n".join(("## What changed since the last good night", *map(_change, overview.changes)))


def _change(changes: NightChanges) -> str:
    link = f" [Compare {code(changes.refs)}]({changes.link})." if changes.link else ""
    lines = [f"**{text(words.change_title(changes))}.**{link}"]
    lines += [f"- {name}: {_listed(each)}" for name, each in words.change_lines(changes)]
    return lines[0] if len(lines) == 1 else lines[0] + "\n\n" + "\n".join(lines[1:])


def _listed(lines: Sequence[str]) -> str:
    return "; ".join(text(each, limit=200) for each in lines)


def _readings(overview: Overview) -> list[str]:
    """A section per runner class, those with findings first: a page that is cut loses quiet ones."""
    trends = words.trends_in_order(overview)
    sections = []
    for runner_class in dict.fromkeys(trend.runner_class for trend in trends):
        rows = [words.reading_row(trend) for trend in trends if trend.runner_class == runner_class]
        shown = table(words.READING_HEAD, [(code(row[0]), *row[1:]) for row in rows[:ROWS_MAX]], words.READING_RIGHT)
        more = f"\n\nThe first {ROWS_MAX} of {len(rows)} series." if len(rows) > ROWS_MAX else ""
        sections.append(f"## Readings of {code(runner_class)}\n\n{shown}{more}")
    return [*sections, words.UNITS_NOTE] if sections else []


def _charts(overview: Overview) -> list[str]:
    chosen = [trend for trend in words.trends_in_order(overview) if len(trend.points) > 1][:CHARTS_MAX]
    if not chosen:
        return []
    total = len(overview.trends)
    said = f"{len(chosen)} of {total} series, those with findings first. " if len(chosen) < total else ""
    head = f"## Trends\n\n{said}The second line is the level; one step across is one night that has a reading."
    return [head, *map(_chart, chosen)]


def _chart(trend: Trend) -> str:
    title = Safe(f"**{code(trend.runner_class)}, {code(trend.scenario)}**: {text(in_words(trend))}.")
    marks = [
        f"- {point.date}: {text('; '.join((*point.changes, *point.findings)))}"
        for point in trend.points
        if point.changes or point.findings
    ]
    blocks = [title, fence(mermaid(trend), "mermaid", limit=_CHART_CHARS_MAX)]
    return "\n\n".join((*blocks, "\n".join(marks[-words.LINES_MAX :])) if marks else blocks)


def _notes(overview: Overview) -> str:
    return "\n".join(("## Notes", "", *(f"- {text(each)}" for each in overview.notes))) if overview.notes else ""
