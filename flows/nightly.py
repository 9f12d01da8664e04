"""Flow `nightly`: measure tonight, look at every night before it, have a gate confirm what looks worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prefect import flow

from checks import accuracy, verdict
from checks.gate import Key
from checks.nightly import Outcome, Suspicion
from checks.policy import Policy
from flows import answer, judge, nights, steps
from flows.accept import item_scores
from flows.measure import ArmSetup
from flows.nights import Answered, Series
from flows.pairs import measure_pairs
from flows.plan import Plan
from flows.request import Judged, NightlyRequest, Session
from redline.errors import RedlineError, StoreError
from redline.metrics import reading_of
from redline.model import (
    AccuracyComparison,
    Arm,
    Comparison,
    Finding,
    ItemScores,
    Night,
    NightChange,
    NightFinding,
    NightReading,
    Scenario,
    SystemUnderTest,
    Trial,
    TrialStatus,
)
from redline.store.nights import read_nights, write_night
from redline.store.trials import read_trial


@dataclass(frozen=True, slots=True)
class _Suspected:
    """A series that looks worse, and why."""

    series: Series
    suspicion: Suspicion

    @property
    def good(self) -> Night:
        """The last good night: its build is what the gate compares with."""
        return self.series.nights[self.suspicion.last_good]


@flow(name="nightly", validate_parameters=False, persist_result=False)
def nightly_flow(request: NightlyRequest, session: Session) -> Judged:
    """Spec -> pin -> deployment -> trials -> store -> suspicions -> gate -> the night's record and verdict."""
    plan, narrator, seen = session.plan, session.narrator, session.seen
    before = read_nights(plan.workspace.nights_dir, plan.runner_class.name)
    tonight_setup = steps.measure_once(request.wanted, session)
    tonight = _night(plan, tonight_setup.sut, seen.trials, request.date)
    history = nights.history_of(before, tonight)
    expected = plan.policy.primaries(judge.speed_keys(plan)) if judge.speed_keys(plan) else ()
    findings = list(nights.gaps(history, tonight, expected))
    changes: list[NightChange] = []
    suspected: list[_Suspected] = []
    long_enough = False
    for key in expected:
        series = nights.series_of(history, key, plan.scenario_hashes[key[0]])
        if not series.nights or series.nights[-1].run_id != tonight.run_id:
            continue
        long_enough |= series.tonight >= plan.policy.nightly.nights_min
        release = plan.workspace.baseline(plan.runner_class.name, key[0])
        suspicion = nights.suspicion_of(series, plan.policy, release.pin_id if release else None)
        if suspicion is not None:
            narrator.say(f"suspected: {key[1]} in {key[0]} (z = {suspicion.z:.1f})")
            suspected.append(_Suspected(series, suspicion))
        elif (improved := nights.improvement_of(series, plan.policy)) is not None:
            findings.append(improved[0])
            changes.append(improved[1])
    settled, comparisons = _confirm(session, suspected, tonight_setup)
    answers = _answers(session, history)
    findings += [each.finding for each in settled] + _accuracy_findings(answers)
    changes += [each.change for each in settled if each.change is not None]
    write_night(plan.workspace.nights_dir, nights.with_findings(tonight, findings, changes))
    steps.ingest_trials(plan.workspace, narrator)
    return _judged(session, settled, comparisons, answers, findings, long_enough=long_enough or not expected)


def _night(plan: Plan, sut: SystemUnderTest, trials: Sequence[Trial], date: str) -> Night:
    """Tonight before anything is found: its valid readings."""
    readings = [
        NightReading(trial.scenario, trial.scenario_hash, metric, reading.value)
        for trial in trials
        if trial.status is TrialStatus.VALID
        for scenario, metric in judge.speed_keys(plan)
        if scenario == trial.scenario and plan.policy.of(metric).primary
        if (reading := reading_of(trial, metric)) is not None
    ]
    return Night(
        schema=1,
        run_id=plan.run_id,
        date=date,
        runner_class=plan.runner_class.name,
        series_id=nights.series_id_of(sut, plan.fingerprint.fingerprint_id),
        sut_id=sut.sut_id,
        sut_label=sut.label,
        pin_id=sut.pin.pin_id,
        trial_ids=tuple(trial.trial_id for trial in trials),
        notes=dict(plan.fingerprint.notes),
        readings=tuple(readings),
        findings=(),
        changes=(),
    )


def _confirm(
    session: Session, suspected: Sequence[_Suspected], tonight: ArmSetup
) -> tuple[list[Answered], tuple[Comparison, ...]]:
    """What became of every suspicion. One gate serves them all: against the earliest of their last good builds."""
    builds = [each for each in suspected if each.good.sut_id != tonight.sut.sut_id]
    found: dict[Key, Comparison] = {}
    comparisons: tuple[Comparison, ...] = ()
    problem = ""
    if builds:
        good = min((each.good for each in builds), key=lambda night: night.run_id)
        keys = [each.series.key for each in builds]
        try:
            comparisons, problem = _gate(session, good, tonight, keys)
            found = {(each.scenario, each.metric): each for each in comparisons if each.primary}
        except RedlineError as error:
            problem = error.problem
    return [
        nights.answered(
            each.series,
            each.suspicion,
            found.get(each.series.key),
            (problem or "its gate ended undecided") if each in builds and each.series.key not in found else "",
        )
        for each in suspected
    ], comparisons


def _gate(session: Session, good: Night, tonight: ArmSetup, keys: Sequence[Key]) -> tuple[tuple[Comparison, ...], str]:
    """(comparisons, why there are none) of tonight's build against a good night's, on the suspected metrics alone."""
    plan, narrator, seen = session.plan, session.narrator, session.seen
    baseline = _sut_of(plan, good)
    names = {scenario for scenario, _ in keys}
    groups = [
        replace(group, scenarios=tuple(each for each in group.scenarios if each.name in names))
        for group in plan.groups
        if any(each.name in names for each in group.scenarios)
    ]
    policy = _only_primary(plan.policy.for_confirmation(), {metric for _, metric in keys})
    confirmation = replace(plan, policy=policy, groups=tuple(groups))
    seen.baseline = baseline
    arms = (
        steps.arm_setup(Arm.BASELINE, baseline, plan.workspace, narrator),
        replace(tonight, arm=Arm.CANDIDATE),
    )
    state = judge.start(confirmation)
    narrator.say(f"confirming against {baseline.label}: at most {state.pair_limit} pairs")
    state = measure_pairs(confirmation, groups, arms, state, narrator, seen.add)
    if state.suite is None or not state.suite.comparisons or state.broken:
        return (), "; ".join(state.broken[:2]) or "no valid pair"
    return state.suite.comparisons, ""


def _only_primary(policy: Policy, metrics: set[str]) -> Policy:
    """The same policy with only these metrics deciding."""
    return replace(policy, metrics=tuple(replace(item, primary=item.metric in metrics) for item in policy.metrics))


def _sut_of(plan: Plan, night: Night) -> SystemUnderTest:
    """What a night measured, from its trials. Raises StoreError if none of them can be read."""
    for trial_id in night.trial_ids:
        try:
            return read_trial(plan.workspace.trials_dir / trial_id).sut
        except StoreError:
            continue
    raise StoreError(f"the trials of the night of {night.date} cannot be read: its build is not known")


def _answers(session: Session, history: Sequence[Night]) -> tuple[AccuracyComparison, ...]:
    """Accuracy against the accepted baseline, or the first night: what is given up slowly is never taken in."""
    plan = session.plan
    found = []
    for scenario in plan.scenarios:
        if not scenario.measures_accuracy:
            continue
        trials = [each for each in session.seen.trials if each.scenario == scenario.name and each.arm is Arm.SINGLE]
        before = _reference_scores(plan, scenario, history)
        if before is not None and trials and trials[0].status is TrialStatus.VALID:
            after = ItemScores(scenario.name, item_scores(trials), 1)
            found.append(accuracy.compare(before, after, plan.policy.accuracy))
    return tuple(found)


def _reference_scores(plan: Plan, scenario: Scenario, history: Sequence[Night]) -> ItemScores | None:
    scenario_hash = plan.scenario_hashes[scenario.name]
    baseline = plan.workspace.baseline(plan.runner_class.name, scenario.name)
    if baseline is not None and baseline.scenario_hash == scenario_hash and baseline.item_scores:
        return ItemScores(scenario.name, baseline.item_scores, len(baseline.trial_ids))
    for night in history[:-1]:
        for trial_id in night.trial_ids:
            try:
                trial = read_trial(plan.workspace.trials_dir / trial_id)
            except StoreError:
                continue
            if (trial.scenario_hash, trial.arm, trial.status) == (scenario_hash, Arm.SINGLE, TrialStatus.VALID):
                return ItemScores(scenario.name, item_scores([trial]), 1)
    return None


def _accuracy_findings(answers: Sequence[AccuracyComparison]) -> list[NightFinding]:
    return [
        NightFinding("accuracy", each.scenario, "exact_match", verdict.accuracy_sentence(each))
        for each in answers
        if each.finding is not Finding.NO_WORSE
    ]


def _judged(
    session: Session,
    settled: Sequence[Answered],
    comparisons: Sequence[Comparison],
    answers: Sequence[AccuracyComparison],
    findings: Sequence[NightFinding],
    *,
    long_enough: bool,
) -> Judged:
    """The night's verdict: confirmed regressions and lost answers first, then what could not be measured or settled."""
    plan, seen = session.plan, session.seen
    broken = answer.broken_rules([trial for trial in seen.trials if trial.arm is Arm.SINGLE])
    finding, reason = _finding(settled, answers, broken, findings, long_enough=long_enough)
    missing = tuple(each.text for each in findings if each.kind == "missing")
    joined = verdict.join(comparisons, answers, warnings=(*missing, *broken))
    evidence = (*(each.text for each in findings), *answer.evidence_of(session))
    joined = replace(joined, finding=finding, reason=reason, evidence=evidence)
    return Judged(
        joined,
        trials=seen.trials,
        sections=answer.sections(plan, seen.trials),
        baseline=seen.baseline,
        candidate=seen.candidate,
        next_steps=answer.next_steps(joined),
    )


def _finding(
    settled: Sequence[Answered],
    answers: Sequence[AccuracyComparison],
    broken: Sequence[str],
    findings: Sequence[NightFinding],
    *,
    long_enough: bool,
) -> tuple[Finding, str]:
    """(finding, one sentence): the first that holds."""
    wrong = [verdict.accuracy_sentence(each) for each in answers if each.finding is Finding.REGRESSED]
    regressed = [each.finding.text for each in settled if each.outcome is Outcome.REGRESSED]
    opened = [each.finding.text for each in settled if each.outcome is Outcome.OPEN]
    opened += [verdict.accuracy_sentence(each) for each in answers if each.finding is Finding.INCONCLUSIVE]
    if wrong or regressed:
        return Finding.REGRESSED, [*wrong, *regressed][0]
    if broken:
        return Finding.INVALID, "; ".join(broken[:2])
    if opened:
        return Finding.INCONCLUSIVE, opened[0]
    if not long_enough:
        return Finding.NO_BASELINE, "Too few nights on record to judge tonight by; it is on record now"
    quiet = "nothing is worse than the nights before"
    said = [each.text for each in findings]
    return Finding.NO_WORSE, f"Tonight {quiet}" + (f". {said[0]}" if said else "")
