"""How the page over all runner classes says things: one wording for Markdown and HTML, unescaped; they escape it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from redline.model import Cause, CauseKind, Finding, Symptom
from reports import phrases
from reports.answer_rows import ORDER
from reports.build_range import accept_line
from reports.overview_data import NightChanges, Overview, Trend, TrendPoint
from reports.trend import in_words, sparkline

CAUSES_MAX = 30
SYMPTOMS_MAX = 10
GONE_MAX = 10
PACKAGES_MAX = 12
LINES_MAX = 20
NONE = "-"

_KINDS = {
    CauseKind.BUILD: "the build",
    CauseKind.ENVIRONMENT: "not the build: the environment",
    CauseKind.UNSETTLED: "not settled yet",
    CauseKind.ANSWERS: "the answers",
    CauseKind.MISSING: "nothing was measured",
}
CLASS_HEAD = ("runner class", "finding", "build", "why")
READING_HEAD = (
    "scenario",
    "metric",
    "tonight",
    "last good",
    "change (+ is worse)",
    "level",
    "last nights",
    "what was found",
)
READING_RIGHT = (2, 3, 4, 5)
UNITS_NOTE = (
    "The level is what the readings scatter around, with every change of it that is on record taken along. A change "
    "compares two single nights, whose noise it has twice: what it means stands beside it. Readings are compared only "
    "on one machine, with one version of the scenario and the same server arguments."
)


@dataclass(frozen=True, slots=True)
class CauseWords:
    """One cause as it is shown: its title, its facts in one line, one line per symptom, and an address or nothing."""

    title: str
    facts: str
    symptoms: tuple[str, ...]
    link: str


@dataclass(frozen=True, slots=True)
class StepWords:
    """One thing to do now, and the command that does it, empty if there is none."""

    text: str
    command: str = ""


def headline(overview: Overview) -> str:
    """`Redline nightly of 2026-11-22: regressed ❌ on h100-1: TTFT median in ...`: the answer before anything else."""
    decisive = overview.decisive
    return (
        f"Redline nightly of {overview.date}: {phrases.finding(decisive.finding)} "
        f"on {decisive.runner_class}: {decisive.reason}"
    )


def tally(overview: Overview) -> str:
    """`3 runner classes: 1 regressed ❌, 2 no worse ✅`, the worst first."""
    counts = Counter(each.finding for each in overview.classes)
    parts = [f"{counts[finding]} {phrases.finding(finding)}" for finding in ORDER if counts[finding]]
    total = len(overview.classes)
    return f"{total} runner {'class' if total == 1 else 'classes'}: {', '.join(parts)}"


def class_rows(overview: Overview) -> tuple[tuple[str, ...], ...]:
    """One row per runner class, the worst first, in the columns of `CLASS_HEAD`."""
    ordered = sorted(overview.classes, key=lambda each: ORDER.index(each.finding))
    return tuple(
        (each.runner_class, phrases.finding(each.finding), each.build or NONE, each.reason) for each in ordered
    )


def cause_words(overview: Overview, cause: Cause) -> CauseWords:
    """A cause as it is shown."""
    facts = [_KINDS[cause.kind], f"since {cause.since}"]
    if cause.build_good or cause.build_bad:
        facts.append(f"last good build {cause.build_good or 'unknown'}, first bad build {cause.build_bad or 'unknown'}")
    facts.append(f"on {', '.join(dict.fromkeys(each.runner_class for each in cause.symptoms))}")
    shown = [_symptom(each) for each in cause.symptoms[:SYMPTOMS_MAX]]
    more = len(cause.symptoms) - SYMPTOMS_MAX
    shown += [f"and {more} more"] if more > 0 else []
    link = overview.links.get((cause.build_good, cause.build_bad), "")
    return CauseWords(cause.title, "; ".join(facts), tuple(shown), link)


def standing_and_gone(overview: Overview) -> tuple[tuple[Cause, ...], tuple[Cause, ...]]:
    """(causes that stand, causes that are gone), each newest first."""
    ordered = overview.causes_newest_first
    return tuple(each for each in ordered if each.standing), tuple(each for each in ordered if not each.standing)


def gone_line(cause: Cause) -> str:
    """A cause that is gone, in one line; of what was never settled also how it ended, which is no mending."""
    ended = f": {cause.symptoms[0].ended}" if cause.kind is CauseKind.UNSETTLED else ""
    return f"{cause.title} (from {cause.since} to {max(each.last for each in cause.symptoms)}){ended}"


def change_title(changes: NightChanges) -> str:
    """`h100-1: vllm 0.32.0 -> vllm 0.33.0, last good night 2026-11-20`."""
    if not changes.good_date:
        return f"{changes.runner_class}: {changes.build}; there is no good night before to compare with"
    builds = f"{changes.good_build} -> {changes.build}" if changes.good_build != changes.build else "the same build"
    nothing = ", and nothing else that Redline knows of changed" if changes.nothing else ""
    return f"{changes.runner_class}: {builds}, last good night {changes.good_date}{nothing}"


def change_lines(changes: NightChanges) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What changed, by kind: (its name and how many, the first of them); kinds without a change are left out."""
    groups = (
        ("packages beside the build", changes.packages, PACKAGES_MAX),
        ("machine", changes.machine, LINES_MAX),
        ("server arguments and models", changes.arguments, LINES_MAX),
        ("not known", changes.unknown, LINES_MAX),
    )
    return tuple(
        (f"{name} ({len(lines)})", (*lines[:limit], *([f"and {len(lines) - limit} more"] if lines[limit:] else [])))
        for name, lines, limit in groups
        if lines
    )


def trends_in_order(overview: Overview) -> tuple[Trend, ...]:
    """The series with a finding first, otherwise in their order: what is looked at first."""
    return tuple(sorted(overview.trends, key=lambda trend: not trend.found))


def reading_row(trend: Trend) -> tuple[str, ...]:
    """A series in the columns of `READING_HEAD`."""
    values = [point.value for point in trend.points]
    return (
        trend.scenario,
        phrases.metric_label(trend.metric),
        phrases.metric_value(trend.metric, trend.tonight.value) if trend.tonight is not None else "no valid reading",
        f"{phrases.metric_value(trend.metric, trend.good.value)} ({trend.good.date})" if trend.good else NONE,
        phrases.percent(trend.change) if trend.change is not None else NONE,
        phrases.metric_value(trend.metric, trend.points[-1].level),
        sparkline(values),
        ", ".join(dict.fromkeys(kind for kind, _ in trend.found)) or "nothing",
    )


def point_words(trend: Trend, point: TrendPoint) -> str:
    """`2026-11-20: 4531 tok/s, vllm 0.33.0; regression +5.1 %`: what a point of a plot stands for."""
    said = "; ".join((*point.changes, *point.findings))
    return f"{point.date}: {phrases.metric_value(trend.metric, point.value)}, {point.build}" + (
        f"; {said}" if said else ""
    )


def caption(trend: Trend) -> str:
    """What a plot shows, in words, and what it leaves out."""
    older = f"; {trend.omitted} older nights are not shown" if trend.omitted else ""
    said = "; ".join(text for _, text in trend.found)
    return in_words(trend) + older + (f". Tonight: {said}" if said else "")


def steps(overview: Overview) -> tuple[StepWords, ...]:
    """What to do now: one thing per kind of cause that stands, that of the newest."""
    found: dict[CauseKind, StepWords] = {}
    for cause in standing_and_gone(overview)[0]:
        if cause.kind not in found:
            found[cause.kind] = _step(cause)
    if not found and overview.finding is Finding.ERROR:
        found[CauseKind.MISSING] = StepWords(
            f"Look at the log of the job on {overview.decisive.runner_class}, then start that job again"
        )
    return tuple(found.values())


def _step(cause: Cause) -> StepWords:
    symptom = next((each for each in cause.symptoms if not each.ended), cause.symptoms[0])
    finding = symptom.finding
    match cause.kind:
        case CauseKind.BUILD:
            words = f"Mend it, or find the commit with redline bisect: {cause.title}. If it is right, accept it"
            accept = accept_line(finding.scenario, finding.metric, symptom.runner_class)
            return StepWords(words if accept else words.rpartition(". ")[0], accept)
        case CauseKind.ENVIRONMENT:
            return StepWords(f"Look at what changed on the machine of {symptom.runner_class}: {cause.title}")
        case CauseKind.UNSETTLED:
            return StepWords(f"It comes back with the next night; to know sooner compare with a gate: {cause.title}")
        case CauseKind.ANSWERS:
            return StepWords(f"Look at the answers in the report of {symptom.runner_class}: {cause.title}")
        case CauseKind.MISSING:
            return StepWords(f"Look at the job's log, then start that job again the same day: {cause.title}")


def _symptom(symptom: Symptom) -> str:
    nights = symptom.since if symptom.since == symptom.last else f"{symptom.since} to {symptom.last}"
    ended = f" Ended: {symptom.ended}" if symptom.ended else ""
    return f"{symptom.runner_class}, {nights}: {symptom.finding.text}{ended}"
