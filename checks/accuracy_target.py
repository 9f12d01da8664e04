"""Do the answers reach what the scenario demands, whatever any other build does? MLPerf's rule, figure by figure.

A point rule, as MLPerf has it: the figure over all items against a share of the reference. Whether a build is worse
than another is a different question, answered item by item in `checks.accuracy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from redline.model import AccuracyComparison, AccuracyTarget, Arm, Finding, TargetReading

LEFT_TO_TARGET = (
    "not shown to be worse; too few items to show the share kept of the baseline, so the accuracy target decides"
)


def left_to_target(found: AccuracyComparison, target: AccuracyTarget | None, share_min: float) -> AccuracyComparison:
    """What the paired comparison cannot tell, left to a target that is reached and asks for as much.

    `share_min`: of the baseline, that the policy wants kept. A target that asks for less cannot stand in for it.
    """
    if found.finding is not Finding.INCONCLUSIVE or target is None or target.share_min < share_min:
        return found
    return replace(found, finding=Finding.NO_WORSE, warnings=(*found.warnings, LEFT_TO_TARGET))


def target_readings(
    scenario: str, target: AccuracyTarget, figures: Mapping[str, float], arm: Arm
) -> tuple[TargetReading, ...]:
    """One reading per figure of the target's reference, in its order."""
    return tuple(
        TargetReading(
            scenario=scenario,
            arm=arm,
            figure=figure,
            value=figures.get(figure),
            reference=reference,
            low=reference * target.share_min_of.get(figure, target.share_min),
            high=reference * target.share_max_of[figure] if figure in target.share_max_of else None,
            source=target.source,
        )
        for figure, reference in target.reference.items()
    )
