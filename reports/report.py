"""The report of one run or gate: `ReportData` to Markdown for a job summary, a pull request or a release page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from redline.model import AccuracyComparison, Arm, Comparison, Finding, Sample, Verdict
from redline.units import format_duration
from reports import phrases, tables
from reports.data import NextStep, ReportData, ReportKind, ScenarioSection, TrialValidity
from reports.markdown import Safe, code, fence, text
from reports.mlperf import mlperf_part
from reports.telemetry import machine_part

__all__ = ["COMMENT_CHARS_MAX", "LIMIT_MIN", "SUMMARY_BYTES_MAX", "ReportData", "ReportKind", "render"]

# Source: GitHub's limits of an issue comment's body and of one step's job summary.
COMMENT_CHARS_MAX = 65_536
SUMMARY_BYTES_MAX = 1_048_576
# Below this not even the headline is certain to fit.
LIMIT_MIN = 10_000

# What is left out first, and what the reader is told it was called.
_CUT_ORDER = (
    ("validity", "the validity readings"),
    ("machine", "the machine's clocks, power and energy"),
    ("statistics", "the statistics"),
    ("environment", "environment and pins"),
    ("mlperf", "MLPerf's rules"),
    ("examples", "the changed answers"),
    ("evidence", "the evidence"),
    ("notes", "the notes"),
    ("tables", "the tables"),
    ("error", "the error's text"),
    ("broken", "the broken validity rules"),
    ("steps", "the next steps"),
    ("repeat", "the command that repeats it"),
)
_TRIAL_IDS_MAX = 8


@dataclass(frozen=True, slots=True)
class _Section:
    """One scenario as the template prints it."""

    scenario: ScenarioSection
    comparisons: tuple[Comparison, ...]
    accuracy: tuple[AccuracyComparison, ...]
    samples: tuple[Sample, ...]
    trials: Safe


def render(report: ReportData, limit_chars: int | None = None) -> str:
    """The report in GitHub Markdown, ending in one line end; the same data give the same text.

    With `limit_chars` details are left out, least important first, until it fits, and the report says which.
    The limit is held in UTF-8 bytes, the stricter count: a job summary is limited in bytes, a comment in
    characters. Raises ValueError for a limit below `LIMIT_MIN`.
    """
    if limit_chars is not None and limit_chars < LIMIT_MIN:
        raise ValueError(f"limit_chars must be at least {LIMIT_MIN}, found {limit_chars}")
    context = _context(report)
    for count in range(len(_CUT_ORDER) + 1):
        page = _page(context, count, limit_chars)
        if limit_chars is None or len(page.encode()) <= limit_chars:
            return page
    raise ValueError(f"the headline alone exceeds {limit_chars} bytes")


def _page(context: dict[str, object], cut_count: int, limit_chars: int | None) -> str:
    left_out = _CUT_ORDER[:cut_count]
    shown = {key: key not in dict(left_out) for key, _ in _CUT_ORDER}
    names = ", ".join(name for _, name in left_out)
    shortened = f"Shortened to fit {limit_chars:,} bytes. Left out: {names}." if left_out else ""
    page = _environment().get_template("report.md.j2").render(context, show=shown, shortened=Safe(shortened))
    return page.strip() + "\n"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """The template environment: what is not marked `Safe` is escaped as prose, what is not defined is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - that would be for HTML; `finalize` escapes for Markdown
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "text": text,
        "code": code,
        "fence": fence,
        "trial_line": _trial_line,
    }
    environment.globals |= {
        "tables": tables,
        "duration": format_duration,
        "mlperf_part": mlperf_part,
        "machine_part": machine_part,
    }
    return environment


def _printed(value: object) -> str:
    """What an expression of the template prints: everything that is not `Safe` as escaped prose."""
    return text(value if isinstance(value, str) else str(value))


def _systems(report: ReportData) -> Safe:
    """What was measured, against what."""
    match report.candidate, report.baseline:
        case None, _:
            return Safe("The build under test was never resolved")
        case candidate, None:
            return Safe(f"Measured {code(candidate.label)}, no baseline")
        case candidate, baseline:
            other = "the last release" if report.kind is ReportKind.SIGNOFF else "baseline"
            return Safe(f"Candidate {code(candidate.label)} against {other} {code(baseline.label)}")


def _answer(report: ReportData) -> Safe:
    """What the first line says before the reason: the finding, or a sign-off's answer to its question."""
    finding = report.verdict.finding
    symbol = phrases.SYMBOLS[finding]
    if report.kind is not ReportKind.SIGNOFF:
        return Safe(f"**{finding.value}** {symbol}")
    answer, grounds = phrases.RELEASE_ANSWERS[finding], phrases.release_grounds(report.verdict)
    return Safe(f"{phrases.RELEASE_QUESTION} **{answer}** {symbol}, {text(grounds)}")


def _design(report: ReportData) -> Safe:
    """What a sign-off's numbers are, where there are any."""
    if report.kind is not ReportKind.SIGNOFF or not report.verdict.comparisons:
        return Safe("")
    return Safe("The number of pairs was fixed beforehand and judged once, with both arms measured to the end.")


def _context(report: ReportData) -> dict[str, object]:
    verdict = report.verdict
    sections = _sections(report)
    descriptive = any(not found.primary for found in verdict.comparisons)
    return {
        "report": report,
        "verdict": verdict,
        "sections": sections,
        "notes": notes_of(verdict),
        "answer": _answer(report),
        "systems": _systems(report),
        "design": _design(report),
        "counts": Safe(_counts(verdict) + _target_counts(report)),
        "sensitivity": Safe(_sensitivity(verdict)),
        "steps": tuple(_step(step) for step in report.next_steps),
        "broken": any(trial.broken for trial in report.validity),
        "validity": (validity := _validity_shown(report)),
        "validity_left": len(report.validity) - len(validity),
        "descriptive": Safe(" Descriptive metrics never block." if descriptive else ""),
        "compared": bool(verdict.comparisons),
        "trial_ids": _trial_ids(report.trial_ids),
        "dropped_count": sum(found.count for found in report.dropped),
        "meanings": "; ".join(f"{finding.value}: {meaning}" for finding, meaning in phrases.MEANINGS.items()),
    }


def _validity_shown(report: ReportData) -> tuple[TrialValidity, ...]:
    """Every trial; on the page of a sign-off the last of each arm and scenario, and all that broke a rule."""
    if report.kind is not ReportKind.SIGNOFF:
        return report.validity
    last = {(trial.scenario, trial.arm): trial.trial_id for trial in report.validity}
    return tuple(trial for trial in report.validity if trial.broken or trial.trial_id in last.values())


def notes_of(verdict: Verdict) -> tuple[str, ...]:
    """Every distinct footnote of a verdict once, in the order of first appearance: note 1 is the first."""
    found: list[str] = []
    for comparison in tables.primaries_first(verdict.comparisons):
        found += phrases.comparison_notes(comparison)
    for accuracy in verdict.accuracy:
        found += phrases.accuracy_notes(accuracy)
    return tuple(dict.fromkeys([*found, *verdict.warnings]))


def _sections(report: ReportData) -> tuple[_Section, ...]:
    """The scenarios in order; comparisons of a scenario that has no section of its own get one, so none is lost."""
    verdict = report.verdict
    known = {section.name for section in report.scenarios}
    used = [found.scenario for found in verdict.comparisons] + [found.scenario for found in verdict.accuracy]
    missing = dict.fromkeys(name for name in used if name not in known)
    sections = [*report.scenarios, *(ScenarioSection(name, "", "", ()) for name in missing)]
    return tuple(_section(section, verdict) for section in sections)


def _section(scenario: ScenarioSection, verdict: Verdict) -> _Section:
    comparisons = tuple(found for found in verdict.comparisons if found.scenario == scenario.name)
    accuracy = tuple(found for found in verdict.accuracy if found.scenario == scenario.name)
    compared = {found.metric for found in comparisons} | {found.metric for found in accuracy}
    samples = tuple(sample for sample in scenario.samples if sample.metric not in compared and sample.readings)
    trials = ", ".join(
        str(count) if arm is Arm.SINGLE else f"{arm.value} {count}" for arm, count in scenario.trial_counts
    )
    return _Section(scenario, comparisons, accuracy, samples, Safe(f"Trials: {trials}." if trials else ""))


def _counts(verdict: Verdict) -> Safe:
    """` 4 primary metrics: 1 regressed, 3 no worse. Accuracy in 1 scenario: 1 no worse.`"""
    primaries = [found.finding for found in verdict.comparisons if found.primary]
    accuracy = [found.finding for found in verdict.accuracy]
    parts = [""]
    if primaries:
        parts.append(f"{_plural(len(primaries), 'primary metric')}: {_tally(primaries)}.")
    if accuracy:
        parts.append(f"Accuracy in {_plural(len(accuracy), 'scenario')}: {_tally(accuracy)}.")
    return Safe(" ".join(parts))


def _target_counts(report: ReportData) -> str:
    """` Accuracy targets: 1 not reached, 2 reached.` of the build under test; empty where there are none."""
    judged = [
        each.ok for section in report.scenarios for each in section.targets if each.arm in (Arm.CANDIDATE, Arm.SINGLE)
    ]
    if not judged:
        return ""
    missed = judged.count(False)
    parts = ([f"{missed} not reached"] if missed else []) + ([f"{len(judged) - missed} reached"] if any(judged) else [])
    return f" Accuracy targets: {', '.join(parts)}."


def _tally(findings: Sequence[Finding]) -> str:
    """`1 regressed, 3 no worse`, worst first."""
    counts = Counter(findings)
    order = (Finding.ERROR, Finding.INVALID, Finding.REGRESSED, Finding.INCONCLUSIVE, Finding.NO_BASELINE)
    return ", ".join(
        f"{counts[finding]} {finding.value}"
        for finding in (*order, Finding.NO_WORSE, Finding.IMPROVED)
        if counts[finding]
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _sensitivity(verdict: Verdict) -> str:
    """The smallest margins that this noise and this many pairs can resolve: a pass says no more than that."""
    primaries = sorted(
        (found for found in verdict.comparisons if found.primary), key=lambda found: found.effect_detectable
    )
    if not primaries:
        return ""
    best, worst = primaries[0], primaries[-1]
    span = _detectable(best) + (f" to {_detectable(worst)}" if len(primaries) > 1 else "")
    passed = verdict.finding in (Finding.NO_WORSE, Finding.IMPROVED)
    tail = " A pass rules out a loss of a metric's margin or more, not a smaller one." if passed else ""
    return f"Smallest margin that this measurement could resolve: {span}.{tail}"


def _detectable(found: Comparison) -> str:
    label = text(phrases.metric_label(found.metric))
    return f"{phrases.size(found.effect_detectable)} ({label}, {code(found.scenario)})"


def _step(step: NextStep) -> Safe:
    return Safe(f"{text(step.text)}: {code(step.command, limit=1_000)}" if step.command else text(step.text))


def _trial_line(trial: TrialValidity) -> Safe:
    """`**valid**: baseline trial ... of ...`: the line above a trial's rules."""
    arm = "" if trial.arm is Arm.SINGLE else f"{trial.arm.value} "
    detail = f": {text(trial.detail)}" if trial.detail else ""
    return Safe(f"**{trial.status.value}**: {arm}trial {code(trial.trial_id)} of {code(trial.scenario)}{detail}")


def _trial_ids(trial_ids: Sequence[str]) -> Safe:
    shown = ", ".join(code(trial_id) for trial_id in trial_ids[:_TRIAL_IDS_MAX])
    rest = len(trial_ids) - _TRIAL_IDS_MAX
    return Safe(f"{shown} and {rest} more" if rest > 0 else shown)
