"""The issue of one cause: its title, its page, and what is commented when something is added, ends or comes back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from redline.model import Cause, CauseKind, Symptom
from reports import build_range, phrases
from reports.markdown import Safe, code, fence, one_line, table, text

TITLE_CHARS_MAX = 200
# Source: GitHub's limit of an issue's body.
BODY_CHARS_MAX = 65_536
# Below this not even the page without its table is certain to fit.
LIMIT_MIN = 40_000

_COMMANDS_MAX = 10
_RANGES_MAX = 6
_LABEL_CHARS_MAX = 120
_CLASS_CHARS_MAX = 60
_COMMENT_ROWS_MAX = 15
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._:/-]+")

MEANINGS: dict[CauseKind, str] = {
    CauseKind.BUILD: "A gate has confirmed it: the build is worse, not the machine or the hour.",
    CauseKind.ENVIRONMENT: "A gate has shown that the build does not cost this: driver, host or a dependency outside "
    "of the build stepped.",
    CauseKind.ANSWERS: "The answers got worse than what they are compared with, or miss what they have to reach.",
    CauseKind.UNSETTLED: "A night looks too bad for chance, and no gate has settled it yet: this is no verdict.",
    CauseKind.MISSING: "What was due was not measured. Nothing is known of these nights, which is no pass.",
}


def issue_title(cause: Cause) -> str:
    """The title of a cause's issue: one plain line of at most `TITLE_CHARS_MAX` characters."""
    line = one_line(f"Redline: {cause.title}", limit=2 * TITLE_CHARS_MAX)
    return line if len(line) <= TITLE_CHARS_MAX else line[: TITLE_CHARS_MAX - 1].rstrip() + "…"


def issue_page(cause: Cause, *, marker: str, source: str, url: str, limit_chars: int = BODY_CHARS_MAX) -> str:
    """The body of a cause's issue in GitHub Markdown; it starts with `marker` and ends in one line end.

    `source`: the repository (owner/name) that builds are made from; `url`: of the workflow run that says this, or
    empty. Rows of the table are left out, the oldest first, until the page fits `limit_chars`, counted in UTF-8
    bytes, the stricter count. Raises ValueError for a limit below `LIMIT_MIN`.
    """
    if limit_chars < LIMIT_MIN:
        raise ValueError(f"limit_chars must be at least {LIMIT_MIN}, found {limit_chars}")
    context: dict[str, object] = {
        "marker": Safe(marker),
        "cause": cause,
        "meaning": MEANINGS[cause.kind],
        "facts": _facts(cause),
        "ranges": _ranges(cause, source),
        "search": _search(cause),
        "accept": _accept(cause),
        "footer": _footer(url),
    }
    count = len(cause.symptoms)
    while True:
        page = _page(context, cause, count)
        if len(page.encode()) <= limit_chars:
            return page
        if count == 0:
            raise ValueError(f"the page without its table exceeds {limit_chars} bytes")
        count //= 2


def night_words(added: Sequence[Symptom], *, url: str) -> str:
    """The comment on a night that added symptoms to a cause."""
    return _comment("A night added to this:", added, url)


def again_words(cause: Cause, *, url: str) -> str:
    """The comment on a cause that had ended and stands again."""
    return _comment("This stands again:", [each for each in cause.symptoms if not each.ended], url)


def closing_words(cause: Cause) -> str:
    """The comment on a cause that stands no longer: how each of its symptoms ended."""
    lines = ["No runner class that showed this still does in its last night:", ""]
    ends = list(dict.fromkeys((each.runner_class, each.ended) for each in cause.symptoms))
    lines += [f"- {code(runner_class)}: {text(ended or 'not said any more')}" for runner_class, ended in ends][
        :_COMMENT_ROWS_MAX
    ]
    if len(ends) > _COMMENT_ROWS_MAX:
        lines.append(f"- and {len(ends) - _COMMENT_ROWS_MAX} more, in the table above")
    return "\n".join((*lines, "", "The issue opens again by itself if the same cause comes back.", ""))


def missing_came_words() -> str:
    """The comment on something missing that the record has by now, or that nobody waits for any more."""
    return (
        "What was missing is on record by now, or is not expected any more: results that came late were merged, or "
        "service.toml has changed.\n"
    )


def _page(context: dict[str, object], cause: Cause, count: int) -> str:
    shown, rest = cause.symptoms[:count], len(cause.symptoms) - count
    left_out = f"{rest} older rows are left out to fit the page; `redline nights` says all." if rest else ""
    template = _environment().get_template("issue.md.j2")
    page = template.render(context, table=_table(shown) if shown else Safe(""), left_out=Safe(left_out))
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """The template environment: what is not marked `Safe` is escaped as prose, what is not defined is an error."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - that would be for HTML; `finalize` escapes for Markdown
        finalize=lambda value: text(value if isinstance(value, str) else str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _facts(cause: Cause) -> tuple[Safe, ...]:
    """Since when, until when and where."""
    last = max(each.last for each in cause.symptoms)
    classes = sorted({each.runner_class for each in cause.symptoms})
    standing = sorted({each.runner_class for each in cause.symptoms if not each.ended})
    facts = [f"First said in the night of {text(cause.since)}, last in that of {text(last)}"]
    facts.append(f"Runner classes: {_listed(classes)}")
    if cause.standing and standing != classes:
        facts.append(f"It still stands on {_listed(standing)}")
    if not cause.standing:
        facts.append("It stands on none of them any more")
    return tuple(Safe(fact) for fact in facts)


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _RANGES_MAX
    return ", ".join(code(name, _CLASS_CHARS_MAX) for name in names[:_RANGES_MAX]) + (
        f" and {rest} more" if rest > 0 else ""
    )


def _table(symptoms: Sequence[Symptom]) -> Safe:
    """One row per symptom, newest first."""
    head = ("night", "runner class", "scenario", "metric", "what was found", "now")
    rows = [
        (
            each.since,
            code(each.runner_class),
            code(each.finding.scenario) if each.finding.scenario else phrases.UNKNOWN,
            phrases.metric_label(each.finding.metric) if each.finding.metric else phrases.UNKNOWN,
            each.finding.text,
            f"ended: {each.ended}" if each.ended else f"stands, last said {each.last}",
        )
        for each in symptoms
    ]
    return table(head, rows)


def _ranges(cause: Cause, source: str) -> Safe:
    """Last good and first bad build with a link that compares them, once per pair of builds; empty without any."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for each in cause.symptoms:
        finding = each.finding
        if finding.build_good and finding.build_bad and cause.kind is not CauseKind.MISSING:
            classes = pairs.setdefault((finding.build_good, finding.build_bad), [])
            classes += [each.runner_class] if each.runner_class not in classes else []
    if not pairs:
        return Safe("")
    rows = []
    for (good, bad), classes in list(pairs.items())[:_RANGES_MAX]:
        url = build_range.compare_url(source, good, bad)
        link = Safe(f"[compare]({url})") if url else Safe("no commits known")
        rows.append((Safe(_listed(classes)), code(good, _LABEL_CHARS_MAX), code(bad, _LABEL_CHARS_MAX), link))
    more = f"\n\nAnd {len(pairs) - _RANGES_MAX} more pairs." if len(pairs) > _RANGES_MAX else ""
    head = ("runner class", "last good build", "first bad build", "between them")
    return Safe(table(head, rows) + more)


def _search(cause: Cause) -> tuple[Safe, ...]:
    """How to find the build: a bisection of what lies between, of answers a gate, which a bisection cannot follow."""
    known = [each for each in cause.symptoms if each.finding.build_good and each.finding.build_bad]
    known = [each for each in known if not each.ended] or known
    if not known or cause.kind not in (CauseKind.BUILD, CauseKind.ANSWERS):
        return ()
    first = known[0]
    finding, good, bad = first.finding, first.finding.build_good, first.finding.build_bad
    if cause.kind is CauseKind.ANSWERS:
        line = build_range.gate_line(good, bad, finding.scenario, first.runner_class)
        said = "A bisection follows speed only. Compare the answers of two builds at a time, on a machine of the class:"
        return (Safe(said), fence(line, "sh")) if line else ()
    lines = build_range.bisect_lines(good, bad, finding.scenario, finding.metric, first.runner_class)
    if not lines:
        return ()
    parts = [Safe(f"On a machine of runner class {code(first.runner_class, _CLASS_CHARS_MAX)}:")]
    parts.append(fence("\n".join(lines), "sh"))
    if build_range.lists_builds(good, bad):
        said = "The first line lists the commits between, in a clone of the source; what has no build is passed over."
        parts.append(Safe(said))
    else:
        ends = f"from {code(good, _LABEL_CHARS_MAX)} to {code(bad, _LABEL_CHARS_MAX)}"
        parts.append(Safe(f"`builds.txt` has one build a line, oldest first: {ends}."))
    if build_range.has_arguments(bad):
        parts.append(Safe("Add the server arguments of the nightly to every line of `builds.txt`."))
    return tuple(parts)


def _accept(cause: Cause) -> tuple[Safe, ...]:
    """How to say that the level is right from now on."""
    standing = [each for each in cause.symptoms if not each.ended]
    if cause.kind not in (CauseKind.BUILD, CauseKind.ENVIRONMENT, CauseKind.UNSETTLED):
        return ()
    found = [
        build_range.accept_line(each.finding.scenario, each.finding.metric, each.runner_class) for each in standing
    ]
    lines = list(dict.fromkeys(line for line in found if line))
    if not lines:
        return ()
    more = f"\n# and {len(lines) - _COMMANDS_MAX} more: one per row of the table" if len(lines) > _COMMANDS_MAX else ""
    said = "If this level is right from now on, say so with a reason: on GitHub with the workflow Accept, elsewhere "
    said += "where the nights are kept. It is then owed no more, and the next nightly closes this issue:"
    return Safe(said), fence("\n".join(lines[:_COMMANDS_MAX]) + more, "sh")


def _comment(heading: str, symptoms: Sequence[Symptom], url: str) -> str:
    lines = [heading, ""]
    lines += [
        f"- {text(each.since)}, {code(each.runner_class)}: {text(each.finding.text)}"
        for each in symptoms[:_COMMENT_ROWS_MAX]
    ]
    if len(symptoms) > _COMMENT_ROWS_MAX:
        lines.append(f"- and {len(symptoms) - _COMMENT_ROWS_MAX} more, in the table above")
    return "\n".join((*lines, "", _run_link(url))).rstrip() + "\n"


def _footer(url: str) -> Safe:
    said = "Redline writes this text anew after every night; what you want to keep, write in a comment. It closes the "
    said += "issue when the cause is gone. Close it yourself and it stays closed as long as the cause stands: only new "
    said += "symptoms are then commented. If the cause ends and comes back, you are told."
    return Safe(f"{said} {_run_link(url)}".rstrip())


def _run_link(url: str) -> str:
    return f"[The run that says this]({url})" if _ADDRESS.fullmatch(url) else ""
