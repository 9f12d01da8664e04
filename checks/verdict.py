"""Speed and accuracy joined into one verdict: faster and wrong is regressed.

The first row that applies is the finding ("any" is any primary metric or accuracy scenario):

| row | finding      | when                                                                          |
|-----|--------------|-------------------------------------------------------------------------------|
| 1   | invalid      | an arm is not what it should be (`arm_problems`: wrong build, changed host)   |
| 2   | regressed    | any is regressed, or a requirement is not met (`unmet`)                       |
| 3   | invalid      | any is invalid, or nothing was compared                                       |
| 4   | inconclusive | any is inconclusive                                                           |
| 5   | no baseline  | any has no baseline                                                           |
| 6   | improved     | at least one improved, the others no worse                                    |
| 7   | no worse     | otherwise                                                                     |

Why 1 comes first: nothing measured on the wrong arm says anything about the build asked for. Why 2 comes
before 3: a regression is proven on readings that are valid; what failed elsewhere does not unprove it. Why 3
comes before the rest: what could not be measured is never a pass.

Descriptive metrics never decide; they are in the evidence. ERROR is not found here: it is what the command
line says when Redline could not do its work.
"""

from __future__ import annotations

from collections.abc import Sequence

from redline.metrics import CATALOGUE
from redline.model import AccuracyComparison, Comparison, Finding, Verdict

ACCURACY_NAMED_MAX = 2
"""So many accuracy scenarios are named one by one in a passing headline; more are counted."""

PRECEDENCE = (
    Finding.REGRESSED,
    Finding.INVALID,
    Finding.INCONCLUSIVE,
    Finding.NO_BASELINE,
    Finding.IMPROVED,
    Finding.NO_WORSE,
)


def join(
    comparisons: Sequence[Comparison],
    accuracy: Sequence[AccuracyComparison] = (),
    *,
    arm_problems: Sequence[str] = (),
    missing_baselines: Sequence[str] = (),
    warnings: Sequence[str] = (),
    unmet: Sequence[str] = (),
) -> Verdict:
    """The verdict over every comparison of one candidate against one baseline.

    `arm_problems`: why an arm as a whole is evidence of nothing; `missing_baselines`: scenarios that were
    measured but have nothing to be compared with; `unmet`: what the candidate had to reach whatever the baseline does
    (an accuracy target, a latency limit) and did not. `evidence` is ranked: what decides first.
    """
    finding = _finding(comparisons, accuracy, arm_problems, missing_baselines)
    reason = _reason(finding, comparisons, accuracy, arm_problems, missing_baselines)
    if unmet and not arm_problems:
        reason = unmet[0] + _also(len(unmet) - 1) + (f". {reason}" if finding is Finding.REGRESSED else "")
        finding = Finding.REGRESSED
    return Verdict(
        finding=finding,
        reason=reason,
        comparisons=tuple(comparisons),
        accuracy=tuple(accuracy),
        evidence=(*(f"{Finding.REGRESSED.value}: {each}" for each in unmet), *_evidence(comparisons, accuracy)),
        warnings=(*arm_problems, *(f"no baseline for {name}" for name in missing_baselines), *warnings),
    )


def _finding(
    comparisons: Sequence[Comparison],
    accuracy: Sequence[AccuracyComparison],
    arm_problems: Sequence[str],
    missing_baselines: Sequence[str],
) -> Finding:
    if arm_problems:
        return Finding.INVALID
    found = [item.finding for item in comparisons if item.primary] + [item.finding for item in accuracy]
    found += [Finding.NO_BASELINE] * len(missing_baselines)
    if Finding.ERROR in found:
        raise ValueError("an error is no finding of a comparison: raise it, do not join it")
    return next((finding for finding in PRECEDENCE if finding in found), Finding.INVALID)


def speed_sentence(comparison: Comparison, *, with_scenario: bool) -> str:
    """`Output throughput 48 % worse (95 % interval 44 to 52 %), margin 10 %`: for the top line."""
    label = CATALOGUE[comparison.metric].label + (f" in {comparison.scenario}" if with_scenario else "")
    if comparison.finding is Finding.INVALID:
        return f"{label} could not be compared: {'; '.join(comparison.warnings) or 'no reason given'}"
    direction, sign = ("better", -1.0) if comparison.effect < 0 else ("worse", 1.0)
    bounds = sorted((sign * comparison.effect_low, sign * comparison.effect_high))
    return (
        f"{label} {_percent(sign * comparison.effect)} % {direction} "
        f"(95 % interval {_percent(bounds[0])} to {_percent(bounds[1])} %), margin {_percent(comparison.margin)} %"
    )


def accuracy_sentence(comparison: AccuracyComparison) -> str:
    """`Accuracy in skill fell from 95.4 % to 90.1 % (19 items lost, 0 gained of 360, p = 0.0001)`."""
    if comparison.finding is Finding.INVALID:
        reason = "; ".join(comparison.warnings) or "no reason given"
        return f"Accuracy in {comparison.scenario} could not be compared: {reason}"
    flips = f"{comparison.lost_count} items lost, {comparison.gained_count} gained of {comparison.item_count}"
    if comparison.change == 0:
        return f"Accuracy in {comparison.scenario} unchanged at {comparison.baseline:.1%} ({flips})".replace("%", " %")
    verb = "fell" if comparison.change < 0 else "rose"
    p = "p < 0.0001" if comparison.worse_p < 1e-4 else f"p = {comparison.worse_p:.2g}"
    return (
        f"Accuracy in {comparison.scenario} {verb} from {comparison.baseline * 100:.1f} % to "
        f"{comparison.candidate * 100:.1f} % ({flips}, {p} for worse)"
    )


def _reason(
    finding: Finding,
    comparisons: Sequence[Comparison],
    accuracy: Sequence[AccuracyComparison],
    arm_problems: Sequence[str],
    missing_baselines: Sequence[str],
) -> str:
    """One sentence for the top line."""
    if arm_problems:
        return arm_problems[0]
    primaries = [item for item in comparisons if item.primary]
    several = len({item.scenario for item in primaries}) > 1
    speed = sorted((item for item in primaries if item.finding is finding), key=_weight)
    answers = [item for item in accuracy if item.finding is finding]
    sentences = [accuracy_sentence(item) for item in answers]
    sentences += [speed_sentence(item, with_scenario=several) for item in speed]
    match finding:
        case Finding.REGRESSED | Finding.IMPROVED:
            return sentences[0] + _also(len(sentences) - 1)
        case Finding.INCONCLUSIVE:
            return f"Undecided: {sentences[0]}{_needed(speed, answers)}{_also(len(sentences) - 1)}"
        case Finding.INVALID:
            return sentences[0] + _also(len(sentences) - 1) if sentences else "Nothing was compared"
        case Finding.NO_BASELINE:
            names = [*missing_baselines, *(item.scenario for item in speed), *(item.scenario for item in answers)]
            return f"No baseline for {', '.join(dict.fromkeys(names))}"
        case _:
            return _quiet(primaries, accuracy, with_scenario=several)


def _quiet(primaries: Sequence[Comparison], accuracy: Sequence[AccuracyComparison], *, with_scenario: bool) -> str:
    """What a pass says: how many, and the nearest to its margin."""
    parts = []
    if primaries:
        nearest = max(primaries, key=lambda item: item.effect_high / item.margin)
        noun = "metric" if len(primaries) == 1 else "metrics"
        sentence = speed_sentence(nearest, with_scenario=with_scenario)
        parts.append(f"{len(primaries)} primary {noun} no worse; nearest its margin: {sentence}")
    parts += [accuracy_sentence(item) for item in accuracy] if len(accuracy) <= ACCURACY_NAMED_MAX else []
    if len(accuracy) > ACCURACY_NAMED_MAX:
        unchanged = sum(item.change == 0 for item in accuracy)
        parts.append(f"Accuracy in {len(accuracy)} scenarios no worse, {unchanged} of them unchanged")
    return ". ".join(parts)


def _needed(speed: Sequence[Comparison], answers: Sequence[AccuracyComparison]) -> str:
    if answers:
        return f"; about {answers[0].items_needed} items would decide it" if answers[0].items_needed else ""
    pairs = [item.pairs_needed for item in speed if item.pairs_needed]
    return f"; about {pairs[0]} pairs would decide it" if pairs else ""


def _also(count: int) -> str:
    return f", and {count} more" if count > 0 else ""


def _evidence(comparisons: Sequence[Comparison], accuracy: Sequence[AccuracyComparison]) -> tuple[str, ...]:
    """One sentence per comparison: by what the finding weighs, primaries and accuracy before descriptive metrics."""
    ranked: list[tuple[bool, int, float, str]] = []
    for item in accuracy:
        text = f"{item.finding.value}: {accuracy_sentence(item)}"
        ranked.append((False, PRECEDENCE.index(item.finding), -1e9, text))
    for metric in comparisons:
        text = f"{metric.finding.value}: {speed_sentence(metric, with_scenario=True)}"
        note = "" if metric.primary else " (descriptive)"
        ranked.append((not metric.primary, PRECEDENCE.index(metric.finding), _weight(metric), text + note))
    return tuple(text for *_, text in sorted(ranked))


def _weight(comparison: Comparison) -> float:
    """Smaller comes first: the effect in margins, the worst first; improvements the largest first."""
    weight = comparison.effect / comparison.margin
    return weight if comparison.finding is Finding.IMPROVED else -weight


def _percent(share: float) -> str:
    """A share as a percentage with one digit below ten and none above: `3.1`, `48`."""
    value = share * 100
    text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
    return "0" if text in {"0.0", "-0.0"} else text.removesuffix(".0")
