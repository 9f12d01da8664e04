"""Do the answers reach what the scenario demands, whatever any other build does? MLPerf's rule, figure by figure.

A point rule, as MLPerf has it: the figure over all items against a share of the reference. Whether a build is worse
than another is a different question, answered item by item in `checks.accuracy`.
"""

from __future__ import annotations

from collections.abc import Mapping

from redline.model import AccuracyTarget, Arm, TargetReading


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
