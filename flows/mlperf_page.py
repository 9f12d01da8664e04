"""What a report says of a scenario under MLPerf's rules: one window of the build under test, and what is published."""

from __future__ import annotations

from collections.abc import Sequence

from checks.published import PublishedResults, Standing, standing
from checks.requirements import judged_window
from flows.plan import Plan
from flows.workspace import CHECKOUT
from redline.content import convert, read_json
from redline.model import Scenario, Trial
from reports.mlperf import MlperfSection, PublishedRow

PUBLISHED = CHECKOUT / "mlperf" / "published.json"


def sections_of(plan: Plan, scenario: Scenario, trials: Sequence[Trial]) -> tuple[MlperfSection, ...]:
    """One section for the middle window (by its value) of the last valid trial; none where MLPerf has no result."""
    found = judged_window(scenario, trials)
    if found is None or scenario.mlperf is None:
        return ()
    trial, repeat, result = found
    published = convert(read_json(PUBLISHED), PublishedResults, str(PUBLISHED))
    standings = standing(
        published.results,
        result.benchmark,
        result.scenario,
        plan.runner_class.accelerator,
        plan.runner_class.accelerator_count,
        result.value,
        result.unit,
    )
    section = MlperfSection(
        benchmark=result.benchmark,
        round=result.round,
        scenario=result.scenario,
        valid=result.valid,
        value=result.value,
        unit=result.unit,
        readings=result.readings,
        shorter=result.shorter,
        deviations=scenario.mlperf.deviations,
        published=tuple(_row(each) for each in standings),
        whose=f"window {repeat.index + 1} of trial {trial.trial_id}" if len(trial.counted_repeats) > 1 else "",
    )
    return (section,)


def _row(found: Standing) -> PublishedRow:
    of = found.published
    return PublishedRow(
        round=of.round,
        division=of.division,
        submitter=of.submitter,
        system=of.system,
        benchmark=of.benchmark,
        software=of.software,
        value=of.value,
        unit=of.unit,
        ratio=found.ratio,
        source=of.source,
    )
