"""From trials to a verdict: which readings are paired with which, and what the report shows beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from checks.fingerprints import may_compare
from checks.gate import Key, PairedReadings, SuiteState, judge_suite, suite_pair_limit
from checks.prior import VariancePrior, fit_prior
from checks.validity import MACHINE_RULES
from flows.plan import Plan
from redline.metrics import reading_of
from redline.model import Arm, Scenario, Trial, TrialStatus
from redline.store.database import ingest
from redline.store.history import pair_variances


@dataclass(frozen=True, slots=True)
class SpeedState:
    """How far the gate's speed comparison has come.

    `priors` are fixed before the first pair: what is learned today must not decide today.
    `pair_limit` bounds the pairs that count; a pair with an invalid trial does not. `broken`: what an arm did
    that no machine explains; it ends the gate, because measuring again would be choosing the results.
    """

    priors: dict[Key, VariancePrior]
    pair_limit: int
    suite: SuiteState | None = None
    pair_count: int = 0
    invalid_pair_count: int = 0
    broken: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """True as soon as more pairs would change nothing."""
        return self.suite is not None and self.suite.finished

    @property
    def summary(self) -> str:
        """Half a sentence for the progress display."""
        invalid = f", {self.invalid_pair_count} invalid" if self.invalid_pair_count else ""
        known = self.suite.finding.value if self.suite is not None and self.suite.finished else "not decided yet"
        return f"{known}{invalid}"


def speed_keys(plan: Plan) -> tuple[Key, ...]:
    """(scenario, metric) of every speed reading that the plan's scenarios name, in order."""
    return tuple(
        (scenario.name, metric)
        for scenario in plan.scenarios
        if not scenario.measures_accuracy
        for metric in scenario.metrics
    )


def start(plan: Plan) -> SpeedState:
    """The state before the first pair: priors from this machine's past gates, and the pair limit they allow."""
    keys = speed_keys(plan)
    if not keys:
        return SpeedState({}, 0)
    workspace = plan.workspace
    workspace.trials_dir.mkdir(parents=True, exist_ok=True)
    ingest(workspace.trials_dir, workspace.database_path)
    history: dict[Key, list[tuple[float, float]]] = {key: [] for key in keys}
    for row in pair_variances(workspace.database_path, plan.runner_class.name):
        same_series = (
            row.fingerprint_id == plan.fingerprint.fingerprint_id
            and row.scenario_hash == plan.scenario_hashes.get(row.scenario)
        )
        if same_series and (row.scenario, row.metric) in history:
            history[row.scenario, row.metric].append((row.variance, row.pair_count - 1.0))
    priors = {key: fit_prior(rounds) for key, rounds in history.items()}
    return SpeedState(priors, suite_pair_limit(keys, priors, plan.policy))


def speed(plan: Plan, trials: Sequence[Trial], state: SpeedState) -> SpeedState:
    """The state after the pairs measured so far: every valid pair judged, conclusive metrics frozen."""
    scenarios = [scenario for scenario in plan.scenarios if not scenario.measures_accuracy]
    measured = sorted({trial.pair_index for trial in trials if trial.scenario in {each.name for each in scenarios}})
    valid = [index for index in measured if _valid_pair(trials, scenarios, index)]
    pairs = [_paired(trials, scenario, metric, valid) for scenario in scenarios for metric in scenario.metrics]
    frozen = state.suite.frozen if state.suite is not None else {}
    suite = judge_suite(pairs, state.priors, plan.policy, frozen) if valid else None
    broken = tuple(dict.fromkeys(problem for index in measured for problem in _arm_faults(trials, scenarios, index)))
    return SpeedState(state.priors, state.pair_limit, suite, len(valid), len(measured) - len(valid), broken)


def _arm_faults(trials: Sequence[Trial], scenarios: Sequence[Scenario], pair_index: int) -> list[str]:
    """What makes a pair invalid and no machine explains: failed requests, a wrong build, a missing reading."""
    found = []
    for scenario in scenarios:
        for arm in (Arm.BASELINE, Arm.CANDIDATE):
            trial = _trial_of(trials, scenario.name, arm, pair_index)
            if trial is None or not trial.counted_repeats:
                continue
            where = f"{scenario.name} ({arm.value}, pair {pair_index + 1})"
            found += [
                f"{where}: {reading.rule}, read {reading.reading}, limit {reading.limit}"
                for reading in trial.validity
                if not reading.ok and reading.rule not in MACHINE_RULES
            ]
            found += [f"{where}: no reading of {name}" for name in scenario.metrics if reading_of(trial, name) is None]
    return found


def _trial_of(trials: Sequence[Trial], scenario: str, arm: Arm, pair_index: int) -> Trial | None:
    return next(
        (each for each in trials if (each.scenario, each.arm, each.pair_index) == (scenario, arm, pair_index)), None
    )


def _valid_pair(trials: Sequence[Trial], scenarios: Sequence[Scenario], pair_index: int) -> bool:
    """True if both arms have a valid trial of every scenario, with a reading of each of its metrics.

    And both on machines that may be compared: a power cap that changed in between, or pods on other nodes, would be
    taken for the build's doing. Such a pair is measured again, as one that a busy machine spoilt.
    """
    for scenario in scenarios:
        both = [_trial_of(trials, scenario.name, arm, pair_index) for arm in (Arm.BASELINE, Arm.CANDIDATE)]
        machines = [trial.fingerprint for trial in both if trial is not None]
        if len(machines) == 2 and not may_compare(*machines):
            return False
        for arm in (Arm.BASELINE, Arm.CANDIDATE):
            trial = _trial_of(trials, scenario.name, arm, pair_index)
            if trial is None or trial.status is not TrialStatus.VALID:
                return False
            if any(reading_of(trial, metric) is None for metric in scenario.metrics):
                return False
    return True


def _paired(trials: Sequence[Trial], scenario: Scenario, metric: str, pair_indices: Sequence[int]) -> PairedReadings:
    arms: dict[Arm, tuple[float, ...]] = {}
    dropped = 0
    for arm in (Arm.BASELINE, Arm.CANDIDATE):
        chosen = [_trial_of(trials, scenario.name, arm, index) for index in pair_indices]
        readings = [reading_of(trial, metric) if trial is not None else None for trial in chosen]
        arms[arm] = tuple(math.nan if reading is None else reading.value for reading in readings)
        dropped += sum(trial.dropped_count - scenario.discard_count for trial in chosen if trial is not None)
    return PairedReadings(
        scenario=scenario.name,
        metric=metric,
        baseline=arms[Arm.BASELINE],
        candidate=arms[Arm.CANDIDATE],
        request_count=scenario.request_count,
        discard_count=scenario.discard_count,
        dropped_count=dropped,
    )
