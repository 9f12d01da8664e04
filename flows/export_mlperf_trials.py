"""Which stored trials an export in MLPerf's layout is made of: of each folder one, and why the others are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from checks.mlperf_demands import scenario_name
from checks.mlperf_rules import MlperfResult, has_result
from checks.requirements import judged_window, targets_of
from flows import code_judge
from flows.export_mlperf_window import driven_officially, log_settings
from flows.plan import groups
from flows.workload import checked_identity, work_of
from flows.workspace import Workspace
from redline.errors import ContentError, UsageError
from redline.interchange.mlperf_run import LogSettings
from redline.model import Arm, MlperfRules, Recipe, Repeat, RunnerClass, Scenario, TargetReading, Trial, TrialStatus
from redline.scoring.code_answer import Failure


@dataclass(frozen=True, slots=True)
class Measured:
    """One trial with its scenario as it was measured.

    `run_code`: programs in answers were run. `official`: MLPerf's own LoadGen drove. `unverified`: why nobody can tell
    that the scenario is still the same, empty if it is.
    """

    trial: Trial
    scenario: Scenario
    rules: MlperfRules
    settings: LogSettings
    recipe: Recipe
    runner_class: RunnerClass
    run_code: bool
    official: bool
    unverified: str

    @property
    def system(self) -> tuple[str, str, str]:
        """What was measured and on what: a folder holds nothing of another system."""
        return self.trial.sut.sut_id, self.trial.fingerprint.fingerprint_id, self.trial.runner_class

    @property
    def place(self) -> tuple[str, ...]:
        """What a performance and an accuracy run must share to stand in one folder."""
        return (*self.system, self.rules.benchmark)

    @property
    def size(self) -> tuple[bool, int]:
        """Of two scenarios for one folder, the larger of this stands there."""
        return not self.rules.shortened, self.scenario.request_count

    @property
    def targets(self) -> tuple[TargetReading, ...]:
        """Each figure with a target, as a sign-off reads it."""
        return targets_of(self.scenario, [self.trial])

    @property
    def unknown_figures(self) -> tuple[str, ...]:
        """Figures with a target of which nobody can tell whether it is reached, whatever the trial says of them."""
        return tuple(reading.figure for reading in self.targets if reading.value is None)


@dataclass(frozen=True, slots=True)
class Performance:
    """A measured trial with the window that is exported, and its result."""

    measured: Measured
    repeat: Repeat
    result: MlperfResult
    accuracy: Measured | None = None


def measured_trials(workspace: Workspace, trials: Sequence[Trial], left_out: list[str]) -> tuple[Measured, ...]:
    """Every valid trial under MLPerf's rules whose scenario is still what was measured; `left_out` says of the rest."""
    found = []
    for trial in trials:
        if trial.status is not TrialStatus.VALID:
            left_out.append(f"{_whose(trial)} is {trial.status.value}: {trial.detail}")
            continue
        try:
            each = _as_measured(workspace, trial)
        except UsageError as error:
            left_out.append(f"{_whose(trial)}: {error.problem} ({error.found})")
            continue
        if each is None:
            left_out.append(f"{_whose(trial)}: the scenario follows no rules of MLPerf")
        else:
            found.append(each)
    return tuple(found)


def performances(measured: Sequence[Measured], left_out: list[str]) -> tuple[Performance, ...]:
    """The window of each folder with the accuracy run beside it; none if nothing measures speed.

    Of the fullest scenario it is the last trial, of that the middle window by its result.
    """
    found = []
    for each in _fullest([each for each in measured if has_result(each.scenario)], left_out):
        # The arm that was asked for is the build under test here, whatever side it was on then.
        window = judged_window(each.scenario, [replace(each.trial, arm=Arm.SINGLE)])
        if window is not None:
            found.append(Performance(each, window[1], window[2]))
    scored = _fullest([each for each in measured if each.scenario.accuracy and each.trial.figures], left_out)
    accuracies = {each.place: each for each in scored}
    places = {each.measured.place for each in found}
    left_out += [
        f"{_whose(each.trial)}: no speed of the same system and benchmark is exported"
        for place, each in accuracies.items()
        if place not in places
    ]
    return tuple(replace(each, accuracy=accuracies.get(each.measured.place)) for each in found)


def _as_measured(workspace: Workspace, trial: Trial) -> Measured | None:
    """A trial with its scenario; None for one without MLPerf's rules. Raises UsageError if the scenario has changed."""
    runner_class = workspace.runner_class(trial.runner_class)
    (group,) = groups(workspace, (trial.scenario,), runner_class, ())
    (scenario,) = group.scenarios
    if scenario.mlperf is None:
        return None
    settings = log_settings(scenario)
    run_code, unverified = any(f"code_{failure}" in trial.figures for failure in Failure), ""
    identity = with_code = trial.scenario_hash
    try:
        work = work_of(workspace, scenario)
        identity = checked_identity(work, group.recipe)
        with_code = code_judge.identity_of(identity, work, is_run=True)
        run_code = trial.scenario_hash == with_code != identity
    except ContentError as error:
        unverified = error.problem
    counts = {len(repeat.records) for repeat in trial.counted_repeats}
    if trial.scenario_hash not in (identity, with_code) or counts != {scenario.request_count}:
        raise UsageError(
            "the scenario has changed since it was measured",
            found=f"hash {trial.scenario_hash} then, {identity} now",
        )
    return Measured(
        trial=trial,
        scenario=scenario,
        rules=scenario.mlperf,
        settings=settings,
        recipe=group.recipe,
        runner_class=runner_class,
        run_code=run_code,
        official=driven_officially(workspace, trial),
        unverified=unverified,
    )


def _fullest(measured: Sequence[Measured], left_out: list[str]) -> tuple[Measured, ...]:
    """One for each folder: the scenario nearest to MLPerf's size, and of that the last trial."""
    found: dict[tuple[str, ...], Measured] = {}
    for each in measured:
        name = "accuracy" if each.scenario.accuracy else scenario_name(each.scenario)
        key = (*each.place, name)
        before = found.get(key)
        if before is not None:
            lesser = each if each.size < before.size else before
            left_out.append(f"{_whose(lesser.trial)}: another one of this run stands in its folder")
        if before is None or each.size >= before.size:
            found[key] = each
    return tuple(found.values())


def _whose(trial: Trial) -> str:
    return f"trial {trial.trial_id} of {trial.scenario}"
