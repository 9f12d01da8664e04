"""Flow `nightly`: measure tonight, look at every night before it, have a gate confirm what looks worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prefect import flow

from checks import night_findings, night_series, verdict
from checks.gate import Key
from checks.night_findings import Answered
from checks.night_series import Series
from checks.nightly import Suspicion
from checks.requirements import missed, targets_of
from flows import answer, judge, steps
from flows.accept import item_scores
from flows.bench import ArmSetup
from flows.machine import measured_on
from flows.pairs import measure_pairs
from flows.plan import Plan
from flows.request import Judged, NightlyRequest, Session
from redline.errors import RedlineError, StoreError
from redline.metrics import CATALOGUE, reading_of
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


@dataclass(slots=True)
class _Said:
    """What a night has to say so far. `unjudged`: what there is no history to judge by."""

    findings: list[NightFinding]
    changes: list[NightChange]
    unjudged: list[str]
    evidence: list[str]


@flow(name="nightly", validate_parameters=False, persist_result=False)
def nightly_flow(request: NightlyRequest, session: Session) -> Judged:
    """Spec -> pin -> deployment -> trials -> store -> suspicions -> gate -> the night's record and verdict.

    The readings go on record before anything is confirmed: a night that is cut short is not lost.
    """
    plan, narrator, seen = session.plan, session.narrator, session.seen
    before = night_series.whole(read_nights(plan.workspace.nights_dir, plan.runner_class.name))
    night_series.history_of(before, _night(plan, request, None, ()))  # refused before anything is measured
    setup = steps.measure_once(request.wanted, session)
    tonight = _night(plan, request, setup.sut, seen.trials)
    history = night_series.history_of(before, tonight)
    write_night(plan.workspace.nights_dir, tonight)
    keys = judge.speed_keys(plan)
    expected = plan.policy.primaries(keys) if keys else ()
    said = _Said(list(night_findings.gaps(history, tonight, expected)), [], [], [])
    suspected = _look(session, history, expected, said)
    settled, comparisons = _confirm(session, suspected, setup, said)
    answers = _answers(session, history, said)
    said.findings += [each.finding for each in settled] + _accuracy_findings(answers)
    said.findings += [
        NightFinding("target", each.scenario, "", each.sentence) for each in missed(plan.scenarios, seen.trials)
    ]
    said.changes += [each.change for each in settled if each.change is not None]
    write_night(plan.workspace.nights_dir, night_findings.settled_half(tonight, said.findings, said.changes))
    steps.ingest_trials(plan.workspace, narrator)
    return _judged(session, settled, comparisons, answers, said)


def _look(session: Session, history: Sequence[Night], expected: Sequence[Key], said: _Said) -> list[_Suspected]:
    """The series that look worse tonight; what is better, still owed, or too young to judge is said."""
    plan = session.plan
    suspected = []
    for key in expected:
        series = night_series.series_of(history, key, plan.scenario_hashes[key[0]])
        if not series.nights or series.nights[-1].run_id != plan.run_id:
            continue
        label = f"{CATALOGUE[key[1]].label} in {key[0]}"
        if series.tonight < plan.policy.nightly.nights_min:
            said.unjudged.append(
                f"{label} ({series.tonight} of {plan.policy.nightly.nights_min} nights before tonight)"
            )
            continue
        baseline = plan.workspace.baseline(plan.runner_class.name, key[0])
        release = baseline.pin_id if baseline is not None else None
        debt = night_findings.still_owed(series, plan.policy, release)
        said.findings += [debt] if debt is not None else []
        suspicion = night_series.suspicion_of(series, plan.policy, release)
        if suspicion is not None:
            session.narrator.say(f"suspected: {label} (z = {suspicion.z:.1f})")
            suspected.append(_Suspected(series, suspicion))
        elif (improved := night_findings.improvement_of(series, plan.policy)) is not None:
            said.findings.append(improved[0])
            said.changes.append(improved[1])
    return suspected


def _night(plan: Plan, request: NightlyRequest, sut: SystemUnderTest | None, trials: Sequence[Trial]) -> Night:
    """Tonight before anything is found: its valid readings. Without a system under test: before it is resolved."""
    readings = [
        NightReading(trial.scenario, trial.scenario_hash, metric, reading.value)
        for trial in trials
        if trial.status is TrialStatus.VALID
        for scenario, metric in judge.speed_keys(plan)
        if scenario == trial.scenario and plan.policy.of(metric).primary
        if (reading := reading_of(trial, metric)) is not None
    ]
    wanted, fingerprint = request.wanted, measured_on(plan.fingerprint, trials)
    return Night(
        schema=1,
        run_id=plan.run_id,
        date=request.date,
        runner_class=plan.runner_class.name,
        series_id=night_series.series_id_of(wanted.extra_args, wanted.models, fingerprint.fingerprint_id),
        sut_id=sut.sut_id if sut is not None else "",
        sut_label=sut.label if sut is not None else wanted.spec,
        pin_id=sut.pin.pin_id if sut is not None else "",
        trial_ids=tuple(trial.trial_id for trial in trials),
        notes=dict(fingerprint.notes),
        readings=tuple(readings),
        findings=(),
        changes=(),
    )


def _confirm(
    session: Session, suspected: Sequence[_Suspected], tonight: ArmSetup, said: _Said
) -> tuple[list[Answered], tuple[Comparison, ...]]:
    """What became of every suspicion: one gate per good build, on the metrics suspected against it alone."""
    answers: list[Answered] = []
    comparisons: list[Comparison] = []
    builds: dict[str, list[_Suspected]] = {}
    for each in suspected:
        if night_series.one_build(each.series, each.suspicion):
            answers.append(night_findings.answered(each.series, each.suspicion, None))
        elif problem := night_series.went_back(each.series, each.suspicion):
            answers.append(night_findings.answered(each.series, each.suspicion, None, problem=problem))
        else:
            builds.setdefault(each.good.sut_id, []).append(each)
    for number, group in enumerate(builds.values(), start=1):
        against, problem = group[0].good.sut_label, ""
        found: dict[Key, Comparison] = {}
        run_id = f"{session.plan.run_id}-gate{number}"
        try:
            judged, problem = _gate(session, group[0].good, tonight, [each.series.key for each in group], run_id)
            found = {(each.scenario, each.metric): each for each in judged}
            comparisons += judged
        except RedlineError as error:
            problem = error.problem
        said.evidence += answer.evidence_of(session, run_id)
        for each in group:
            comparison = found.get(each.series.key)
            why = "" if comparison is not None else problem or "its gate ended before it was decided"
            answers.append(
                night_findings.answered(each.series, each.suspicion, comparison, against=against, problem=why)
            )
    return answers, tuple(comparisons)


def _gate(
    session: Session, good: Night, tonight: ArmSetup, keys: Sequence[Key], run_id: str
) -> tuple[tuple[Comparison, ...], str]:
    """(comparisons, why there are none) of tonight's build against a good night's, on these metrics alone.

    `run_id`: the gate's own, so that it is a round by itself in the history of noise.
    """
    plan, narrator, seen = session.plan, session.narrator, session.seen
    baseline = _sut_of(plan, good)
    seen.baseline = baseline
    groups = []
    for group in plan.groups:
        scenarios = [
            replace(each, metrics=tuple(metric for metric in each.metrics if (each.name, metric) in keys))
            for each in group.scenarios
            if any(name == each.name for name, _ in keys)
        ]
        groups += [replace(group, scenarios=tuple(scenarios))] if scenarios else []
    plan.workspace.log_dir(run_id).mkdir(parents=True, exist_ok=True)
    confirmation = replace(plan, run_id=run_id, policy=plan.policy.for_confirmation(), groups=tuple(groups))
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


def _sut_of(plan: Plan, night: Night) -> SystemUnderTest:
    """What a night measured, from its trials. Raises StoreError if none of them can be read."""
    for trial_id in night.trial_ids:
        try:
            return read_trial(plan.workspace.trials_dir / trial_id).sut
        except StoreError:
            continue
    raise StoreError(f"the trials of the night of {night.date} cannot be read: its build is not known")


def _answers(session: Session, history: Sequence[Night], said: _Said) -> tuple[AccuracyComparison, ...]:
    """Accuracy against the accepted baseline, or the first night: what is given up slowly is never taken in."""
    plan = session.plan
    found = []
    for scenario in plan.scenarios:
        if not scenario.measures_accuracy:
            continue
        trials = [each for each in session.seen.trials if each.scenario == scenario.name and each.arm is Arm.SINGLE]
        before = _reference_scores(plan, scenario, history)
        if before is None:
            said.unjudged.append(f"the answers of {scenario.name} (none on record before tonight)")
        elif trials and trials[0].status is TrialStatus.VALID:
            after = ItemScores(scenario.name, item_scores(trials), 1)
            reached = all(each.ok for each in targets_of(scenario, trials))
            found.append(answer.compared(plan, scenario, before, after, target_decides=reached))
        else:
            words = f"The answers of {scenario.name} have no valid trial tonight"
            said.findings.append(NightFinding("missing", scenario.name, "", words))
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


ANSWERS = {Finding.REGRESSED: "accuracy", Finding.IMPROVED: "improvement", Finding.NO_WORSE: ""}
"""What a comparison of answers is on record as; whatever else was found leaves them unsettled."""


def _accuracy_findings(answers: Sequence[AccuracyComparison]) -> list[NightFinding]:
    return [
        NightFinding(kind, each.scenario, each.metric, verdict.accuracy_sentence(each))
        for each in answers
        if (kind := ANSWERS.get(each.finding, "answers unsettled"))
    ]


def _judged(
    session: Session,
    settled: Sequence[Answered],
    comparisons: Sequence[Comparison],
    answers: Sequence[AccuracyComparison],
    said: _Said,
) -> Judged:
    """The night's verdict: what is worse first, then what could not be measured, settled or judged."""
    plan, seen = session.plan, session.seen
    broken = answer.broken_rules([trial for trial in seen.trials if trial.arm is Arm.SINGLE])
    finding, reason = night_findings.finding_of(settled, answers, broken, said.findings, said.unjudged)
    missing = tuple(each.text for each in said.findings if each.kind in ("missing", "owed"))
    unjudged = tuple(f"not judged: {each}" for each in said.unjudged)
    joined = verdict.join(comparisons, answers, warnings=(*missing, *unjudged, *broken))
    evidence = (*(each.text for each in said.findings), *said.evidence)
    joined = replace(joined, finding=finding, reason=reason, evidence=evidence)
    return Judged(
        joined,
        trials=seen.trials,
        sections=answer.sections(plan, seen.trials),
        baseline=seen.baseline,
        candidate=seen.candidate,
        next_steps=answer.next_steps(joined),
    )
