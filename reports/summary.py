"""The answer in a few terminal lines, and as JSON for machines."""

from __future__ import annotations

import json
import math

from redline.model import AccuracyComparison, Comparison, Verdict
from reports import phrases
from reports.data import ReportKind
from reports.markdown import display_width, one_line
from reports.tables import primaries_first

# Raised when a key changes its meaning or goes; new keys may come without it.
JSON_SCHEMA = 1


def terminal_lines(verdict: Verdict, report_path: str) -> tuple[str, ...]:
    """One aligned line per comparison, then the warnings; the last two lines are the report's path and the verdict.

    Control characters of outside strings are taken out: nothing here can steer a terminal or a CI log.
    """
    rows = [_comparison_cells(found) for found in primaries_first(verdict.comparisons)]
    rows += [_accuracy_cells(found) for found in verdict.accuracy]
    widths = [max(display_width(row[column]) for row in rows) for column in range(3)] if rows else []
    lines = [
        "  ".join(
            [*(cell + " " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=False)), *row[3:]]
        )
        for row in rows
    ]
    lines += [f"note: {one_line(warning)}" for warning in _warnings(verdict)]
    return (
        *lines,
        f"report: {one_line(report_path, limit=4_096)}",
        f"verdict: {verdict.finding.value}: {one_line(verdict.reason)}",
    )


def signoff_line(verdict: Verdict) -> str:
    """A sign-off's answer in one line: `sign-off: may it be released? yes, no worse within margins of ...`."""
    return (
        f"{ReportKind.SIGNOFF.value}: {phrases.RELEASE_QUESTION} "
        f"{phrases.RELEASE_ANSWERS[verdict.finding]}, {phrases.release_grounds(verdict)}"
    )


def to_json(verdict: Verdict, report_path: str | None, exit_code: int) -> str:
    """The verdict as one JSON object. Numbers that do not exist (nan, infinity) are null.

    Keys: `schema`, `finding`, `exit_code` (what the command ends with, an error's own included), `reason`,
    `report` (path or null), `comparisons`, `accuracy`, `evidence`, `warnings`.

    An entry of `comparisons` holds the fields of `redline.model.Comparison` with the metric's `unit`: readings
    in base units, effects and margins as shares oriented so that above 0 is worse. An entry of `accuracy`
    holds those of `AccuracyComparison`: scores and changes are shares, `change` is candidate minus baseline;
    an entry of its `examples` has `item`, `expected`, `baseline`, `candidate`.
    """
    value = {
        "schema": JSON_SCHEMA,
        "finding": verdict.finding.value,
        "exit_code": exit_code,
        "reason": verdict.reason,
        "report": report_path,
        "comparisons": [_comparison_json(found) for found in verdict.comparisons],
        "accuracy": [_accuracy_json(found) for found in verdict.accuracy],
        "evidence": list(verdict.evidence),
        "warnings": list(verdict.warnings),
    }
    # ASCII only: control and direction-changing characters of outside strings stay visible escapes.
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)


def _comparison_cells(found: Comparison) -> tuple[str, ...]:
    readings = (
        f"{phrases.metric_value(found.metric, found.baseline)} -> {phrases.metric_value(found.metric, found.candidate)}"
    )
    label = one_line(phrases.metric_label(found.metric), limit=80)
    effect = f"{phrases.effect(found)}, margin {phrases.size(found.margin)}"
    effect += f", detectable {phrases.size(found.effect_detectable)}"
    kind = "" if found.primary else ", descriptive"
    return (one_line(found.scenario, limit=80), label, readings, effect, f"{found.finding.value}{kind}")


def _accuracy_cells(found: AccuracyComparison) -> tuple[str, ...]:
    readings = (
        f"{phrases.metric_value(found.metric, found.baseline)} -> {phrases.metric_value(found.metric, found.candidate)}"
    )
    flips = f"{found.lost_count} lost, {found.gained_count} gained of {found.item_count:,} items"
    scenario = one_line(found.scenario, limit=80)
    return (
        scenario,
        phrases.metric_label(found.metric),
        readings,
        f"{phrases.change(found)}, {flips}",
        found.finding.value,
    )


def _warnings(verdict: Verdict) -> tuple[str, ...]:
    own = [found.warnings for found in verdict.comparisons] + [found.warnings for found in verdict.accuracy]
    return tuple(dict.fromkeys(warning for warnings in (*own, verdict.warnings) for warning in warnings))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _comparison_json(found: Comparison) -> dict[str, object]:
    return {
        "scenario": found.scenario,
        "metric": found.metric,
        "unit": phrases.metric_unit(found.metric),
        "finding": found.finding.value,
        "primary": found.primary,
        "baseline": _number(found.baseline),
        "candidate": _number(found.candidate),
        "effect": _number(found.effect),
        "effect_low": _number(found.effect_low),
        "effect_high": _number(found.effect_high),
        "margin": _number(found.margin),
        "effect_detectable": _number(found.effect_detectable),
        "pair_count": found.pair_count,
        "pairs_needed": found.pairs_needed,
        "df": _number(found.df),
        "p_two_sided": _number(found.p_two_sided),
        "noise_multiplier": _number(found.noise_multiplier),
        "prior_df": _number(found.prior_df),
        "clipped_count": found.clipped_count,
        "method": found.method,
        "warnings": list(found.warnings),
    }


def _accuracy_json(found: AccuracyComparison) -> dict[str, object]:
    keys = ("item", "expected", "baseline", "candidate")
    return {
        "scenario": found.scenario,
        "metric": found.metric,
        "finding": found.finding.value,
        "item_count": found.item_count,
        "baseline": _number(found.baseline),
        "candidate": _number(found.candidate),
        "change": _number(found.change),
        "change_low": _number(found.change_low),
        "change_high": _number(found.change_high),
        "lost_count": found.lost_count,
        "gained_count": found.gained_count,
        "worse_p": _number(found.worse_p),
        "alpha": _number(found.alpha),
        "share_min": _number(found.share_min),
        "share_finding": found.share_finding.value,
        "items_needed": found.items_needed,
        "examples": [dict(zip(keys, example, strict=True)) for example in found.examples],
        "warnings": list(found.warnings),
    }
