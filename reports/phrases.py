"""How a report says things: symbols, directions, numbers with their units. One wording for page and terminal."""

from __future__ import annotations

import math

from redline.metrics import CATALOGUE
from redline.model import AccuracyComparison, Comparison, Finding, Verdict
from redline.units import format_percent, format_value

UNKNOWN = "-"

# What the fixed number of digits would print as a signed zero, or as a p of zero.
_PERCENT_SHOWN_MIN = 0.0005
_POINTS_SHOWN_MIN = 0.00005
_P_SHOWN_MIN = 0.001

# Shapes, not only colours; none of them is a pass but the first two.
SYMBOLS: dict[Finding, str] = {
    Finding.NO_WORSE: "✅",
    Finding.IMPROVED: "🚀",
    Finding.REGRESSED: "❌",
    Finding.INCONCLUSIVE: "❔",
    Finding.INVALID: "🚫",
    Finding.NO_BASELINE: "🆕",
    Finding.ERROR: "💥",
}

MEANINGS: dict[Finding, str] = {
    Finding.REGRESSED: "worse, beyond chance",
    Finding.IMPROVED: "better, beyond chance",
    Finding.NO_WORSE: "worse by less than the margin, if at all",
    Finding.INCONCLUSIVE: "too noisy to tell, not a pass",
    Finding.INVALID: "the measurement is evidence of nothing",
    Finding.NO_BASELINE: "nothing to compare with, not a pass",
    Finding.ERROR: "not measured, says nothing about the build",
}

# A sign-off's question is whether a build may be released: only a pass is a yes, and only a proven loss is a no.
RELEASE_QUESTION = "may it be released?"
RELEASE_ANSWERS: dict[Finding, str] = {
    Finding.NO_WORSE: "yes",
    Finding.IMPROVED: "yes",
    Finding.REGRESSED: "no",
    Finding.INCONCLUSIVE: "not shown",
    Finding.INVALID: "no answer",
    Finding.NO_BASELINE: "no answer",
    Finding.ERROR: "no answer",
}


def release_grounds(verdict: Verdict) -> str:
    """What the answer of a sign-off rests on: `no worse within margins of 3.0 % to 5.0 %`, `regressed`."""
    match verdict.finding:
        case Finding.NO_WORSE:
            return f"no worse{_within(verdict)}"
        case Finding.IMPROVED:
            return f"improved, and nothing worse{_within(verdict)}"
        case Finding.INCONCLUSIVE:
            return "inconclusive, which is no yes"
        case _:
            return verdict.finding.value


def _within(verdict: Verdict) -> str:
    """` within margins of 3.0 % to 5.0 %, at least 99 % of the accuracy kept`: what a pass has shown, and no more."""
    margins = sorted({found.margin for found in verdict.comparisons if found.primary})
    parts = []
    if margins:
        single = len(margins) == 1
        span = size(margins[0]) if single else f"{size(margins[0])} to {size(margins[-1])}"
        parts.append(f" within {'a margin' if single else 'margins'} of {span}")
    if verdict.accuracy:
        kept = min(found.share_min for found in verdict.accuracy)
        parts.append(f" with at least {kept * 100:g} % of the accuracy kept")
    return ",".join(parts)


def finding(value: Finding) -> str:
    """`regressed ❌`: plain words first."""
    return f"{value.value} {SYMBOLS[value]}"


def metric_label(metric_id: str) -> str:
    """The catalogue's label; the id itself for a metric that it no longer holds, so that old data still prints."""
    return CATALOGUE[metric_id].label if metric_id in CATALOGUE else metric_id


def metric_unit(metric_id: str) -> str | None:
    """The base unit of a metric's readings; None for a metric that the catalogue does not hold."""
    return CATALOGUE[metric_id].unit if metric_id in CATALOGUE else None


def metric_value(metric_id: str, value: float) -> str:
    """A reading with its unit."""
    if not math.isfinite(value):
        return UNKNOWN
    if metric_id not in CATALOGUE:
        return f"{value:.4g} (unit unknown)"
    return format_value(value, CATALOGUE[metric_id].unit)


def percent(share: float) -> str:
    """`+3.1 %`; `0.0 %` without a sign for what rounds to nothing, `unbounded` for an interval without an end."""
    if math.isnan(share):
        return UNKNOWN
    if math.isinf(share):
        return "unbounded"
    return format_percent(share) if abs(share) >= _PERCENT_SHOWN_MIN else "0.0 %"


def size(share: float) -> str:
    """A share without direction: `3.0 %`."""
    return percent(share).lstrip("+")


def points(share: float) -> str:
    """A difference of two shares in percentage points: `-1.80`."""
    return f"{share * 100:+.2f}" if abs(share) >= _POINTS_SHOWN_MIN else "0.00"


def p_value(p: float) -> str:
    """`p` to three digits, never as 0."""
    if math.isnan(p):
        return UNKNOWN
    return "< 0.001" if p < _P_SHOWN_MIN else f"{p:.3f}"


def effect(comparison: Comparison) -> str:
    """`8.3 % worse (+6.1 % to +10.4 %)`: the estimate in words, then its interval; + is worse."""
    interval = f"({percent(comparison.effect_low)} to {percent(comparison.effect_high)})"
    shown = percent(comparison.effect)
    if shown in (UNKNOWN, "0.0 %", "unbounded"):
        return f"{shown} {interval}"
    return f"{shown.lstrip('+-')} {'worse' if comparison.effect > 0 else 'better'} {interval}"


def change(accuracy: AccuracyComparison) -> str:
    """`1.80 points worse (-2.71 to -0.93)`: candidate minus baseline in percentage points; - is worse."""
    interval = f"({points(accuracy.change_low)} to {points(accuracy.change_high)})"
    shown = points(accuracy.change)
    if shown == "0.00":
        return f"no change {interval}"
    return f"{shown.lstrip('+-')} points {'worse' if accuracy.change < 0 else 'better'} {interval}"


def share_rule(accuracy: AccuracyComparison) -> str:
    """Whether the candidate keeps the required share of the baseline: `at least 99 %: passed`."""
    outcome = "not tested"
    match accuracy.share_finding:
        case Finding.NO_WORSE | Finding.IMPROVED:
            outcome = "passed"
        case Finding.REGRESSED:
            outcome = "failed"
        case Finding.INCONCLUSIVE:
            outcome = "could not tell"
        case Finding.INVALID | Finding.NO_BASELINE | Finding.ERROR:
            pass
    return f"at least {accuracy.share_min * 100:g} %: {outcome}"


def comparison_notes(comparison: Comparison) -> tuple[str, ...]:
    """The footnotes of one comparison: its warnings, then what its numbers mean for the reader."""
    notes = list(comparison.warnings)
    if comparison.finding is Finding.NO_WORSE and comparison.effect_low > 0:
        notes.append("worse than the baseline beyond chance, but by less than the margin: it counts as no worse")
    if comparison.finding is Finding.INCONCLUSIVE and comparison.pairs_needed is not None:
        notes.append(
            f"about {comparison.pairs_needed} pairs would decide this metric, {comparison.pair_count} were measured: "
            "measure more pairs or quieten the machine"
        )
    return tuple(notes)


def accuracy_notes(accuracy: AccuracyComparison) -> tuple[str, ...]:
    """The footnotes of one accuracy comparison."""
    notes = list(accuracy.warnings)
    if accuracy.items_needed is not None and accuracy.share_finding is Finding.INCONCLUSIVE:
        notes.append(
            f"about {accuracy.items_needed:,} items would decide the rule of {accuracy.share_min * 100:g} % of the "
            f"baseline, {accuracy.item_count:,} were asked: ask more items, or the same ones more often"
        )
    return tuple(notes)
