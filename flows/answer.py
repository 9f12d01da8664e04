"""From judged metrics to what the report shows: the verdict, its evidence, and what the reader can do next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from checks import accuracy, stored, verdict
from checks.accuracy_target import left_to_target
from checks.attribution import explain
from checks.fingerprints import why_incomparable
from checks.replicas import replica_readings
from checks.requirements import required, targets_decide, targets_of
from checks.validity import CLIENT_RULES
from flows import code_judge, judge
from flows.accept import item_scores
from flows.judge import SpeedState
from flows.mlperf_page import sections_of
from flows.plan import Options, Plan, Use
from flows.request import Judged, Session
from flows.workspace import Workspace
from redline.datasets import materialise
from redline.metrics import reading_of
from redline.model import (
    AccuracyComparison,
    Arm,
    Baseline,
    BuildKind,
    Comparison,
    Finding,
    ItemScores,
    Reading,
    ReplicaReading,
    RunnerFingerprint,
    Sample,
    Scenario,
    SystemUnderTest,
    Trial,
    TrialStatus,
    Verdict,
    is_closed_loop,
)
from reports.data import NextStep, ScenarioSection
from reports.telemetry import machine_sections

EXAMPLES_MAX = 3
WRONG_BUILD = "the pinned build answers"


def answers_are_worse(session: Session) -> bool:
    """True if accuracy alone makes the verdict `regressed`: valid trials, and a proven loss or a missed target."""
    trials = session.seen.trials
    if not all(trial.status is TrialStatus.VALID for trial in trials):
        return False
    use = session.options.use
    worse = any(found.finding is Finding.REGRESSED for found in _accuracy(session.plan, trials, use))
    return worse or bool(required(session.plan.scenarios, trials, release=use is Use.SIGNOFF).unmet)


def _accuracy(plan: Plan, trials: Sequence[Trial], use: Use) -> tuple[AccuracyComparison, ...]:
    decides = targets_decide(plan.scenarios, trials, release=use is Use.SIGNOFF)
    return tuple(
        _accuracy_of_arms(plan, each, trials, target_decides=decides)
        for each in plan.scenarios
        if each.measures_accuracy
    )


def of_pairs(session: Session, state: SpeedState, *, speed_measured: bool) -> Judged:
    """The gate's answer: speed and accuracy joined into one verdict."""
    plan, seen = session.plan, session.seen
    trials = seen.trials
    compared = _accuracy(plan, trials, session.options.use)
    needs = required(plan.scenarios, trials, release=session.options.use is Use.SIGNOFF)
    comparisons = state.suite.comparisons if state.suite is not None else ()
    undecided = speed_measured and not (state.finished and comparisons)
    problems = state.broken
    if undecided and not problems:
        problems = broken_rules(trials) or ("speed could not be compared: no valid pair",)
    problems = (*problems, *needs.unknown)
    warnings = (*broken_rules(trials), *_machine_warnings(plan, trials), *needs.unknown, *needs.told)
    if state.pair_limit > 0 and not speed_measured:
        warnings = (*warnings, "speed was not measured: the answers alone decide (--complete measures it all the same)")
    joined = _joined(comparisons, compared, (), trials, problems, warnings, needs.unmet)
    joined = _with_evidence(joined, _evidence(seen.baseline, seen.candidate, trials))
    return Judged(
        joined,
        trials=trials,
        sections=sections(plan, trials),
        baseline=seen.baseline,
        candidate=seen.candidate,
        next_steps=next_steps(joined),
    )


def against_baselines(session: Session) -> Judged:
    """The answer of a run: each scenario against its accepted baseline, if there is one for this machine."""
    plan, seen = session.plan, session.seen
    comparisons: list[Comparison] = []
    answers: list[AccuracyComparison] = []
    missing: list[str] = []
    for scenario in plan.scenarios:
        trial = next(each for each in seen.trials if each.scenario == scenario.name)
        baseline = plan.workspace.baseline(plan.runner_class.name, scenario.name)
        problem = _unusable(baseline, trial)
        if trial.status is not TrialStatus.VALID:
            continue
        if baseline is None or problem:
            missing.append(f"{scenario.name} ({problem})")
        elif scenario.measures_accuracy:
            before = ItemScores(scenario.name, baseline.item_scores, len(baseline.trial_ids))
            after = ItemScores(scenario.name, item_scores([trial]), 1)
            reached = all(reading.ok for reading in targets_of(scenario, [trial]))
            answers.append(compared(plan, scenario, before, after, target_decides=reached))
        else:
            comparisons += _stored(plan, scenario, trial, baseline)
            unread = [metric for metric in scenario.metrics if metric not in baseline.readings]
            missing += [f"{scenario.name} (accepted without a reading of {metric})" for metric in unread]
    problems = broken_rules(seen.trials)
    needs = required(plan.scenarios, seen.trials, release=session.options.use is Use.SIGNOFF)
    warnings = (*problems, *_machine_warnings(plan, seen.trials), *needs.told)
    joined = _joined(comparisons, answers, missing, seen.trials, problems, warnings, needs.unmet)
    steps = (
        [accept_step(session.options, session.plan.workspace, session.plan.run_id)]
        if joined.finding is Finding.NO_BASELINE
        else []
    )
    return Judged(
        joined,
        trials=seen.trials,
        sections=sections(plan, seen.trials),
        candidate=seen.candidate,
        next_steps=(*steps, *next_steps(joined)),
    )


def sections(plan: Plan, trials: Sequence[Trial]) -> tuple[ScenarioSection, ...]:
    """What the report shows of each scenario that has a trial."""
    found = []
    for scenario in plan.scenarios:
        chosen = [trial for trial in trials if trial.scenario == scenario.name]
        if not chosen:
            continue
        counts = tuple(
            (arm, sum(trial.arm is arm for trial in chosen))
            for arm in (Arm.BASELINE, Arm.CANDIDATE, Arm.SINGLE)
            if any(trial.arm is arm for trial in chosen)
        )
        shown = [trial for trial in chosen if trial.arm in (Arm.CANDIDATE, Arm.SINGLE)]
        samples = tuple(
            Sample(scenario.name, metric, readings)
            for metric in scenario.metrics
            if (readings := _readings(shown, metric))
        )
        scenario_hash = plan.scenario_hashes[scenario.name]
        found.append(
            ScenarioSection(
                scenario.name,
                scenario.description,
                scenario_hash,
                counts,
                samples,
                _remarks(scenario, chosen),
                targets_of(scenario, chosen),
                sections_of(plan, scenario, chosen),
                replicas_of(chosen),
                machine_sections(chosen),
            )
        )
    return tuple(found)


def replicas_of(trials: Sequence[Trial]) -> tuple[tuple[Arm, tuple[ReplicaReading, ...]], ...]:
    """What each replica did, per arm over all its trials; () for servers that stand alone."""
    found = []
    for arm in (Arm.BASELINE, Arm.CANDIDATE, Arm.SINGLE):
        chosen = [trial for trial in trials if trial.arm is arm and len(trial.replicas) > 1]
        if chosen:
            counted = [repeat for trial in chosen for repeat in trial.counted_repeats or trial.repeats]
            found.append((arm, replica_readings(counted, chosen[-1].replicas)))
    return tuple(found)


def _remarks(scenario: Scenario, trials: Sequence[Trial]) -> tuple[str, ...]:
    """What a reader of these latencies must know of how they were taken."""
    if scenario.measures_accuracy:
        return tuple(dict.fromkeys(said for trial in trials for said in code_judge.remarks_of(trial.figures)))
    rules = {reading.rule: reading.reading for trial in trials for reading in trial.validity}
    said = [rules[rule] for rule in CLIENT_RULES if rule in rules]
    remarks = [f"Load client: {'; '.join(said)}."] if said else []
    if is_closed_loop(scenario.arrivals):
        remarks.append(
            "A closed loop: a stall delays the requests behind it unseen, so latencies look better than users'."
        )
    return tuple(remarks)


def _readings(trials: Sequence[Trial], metric: str) -> tuple[Reading, ...]:
    found = (reading_of(trial, metric) for trial in trials)
    return tuple(reading for reading in found if reading is not None)


def _accuracy_of_arms(
    plan: Plan, scenario: Scenario, trials: Sequence[Trial], *, target_decides: bool
) -> AccuracyComparison:
    arms = {
        arm: [each for each in trials if each.scenario == scenario.name and each.arm is arm]
        for arm in (Arm.BASELINE, Arm.CANDIDATE)
    }
    before, after = (
        ItemScores(scenario.name, item_scores(arms[arm]), len(arms[arm])) for arm in (Arm.BASELINE, Arm.CANDIDATE)
    )
    paired = compared(plan, scenario, before, after, target_decides=target_decides)
    problems = broken_rules([*arms[Arm.BASELINE], *arms[Arm.CANDIDATE]])
    if problems:
        return replace(paired, finding=Finding.INVALID, warnings=problems)
    return replace(paired, examples=_examples(plan, scenario, arms[Arm.BASELINE], arms[Arm.CANDIDATE]))


def compared(
    plan: Plan, scenario: Scenario, before: ItemScores, after: ItemScores, *, target_decides: bool = True
) -> AccuracyComparison:
    """The paired comparison, and what a target decides where it cannot tell."""
    found = replace(accuracy.compare(before, after, plan.policy.accuracy), metric=scenario.metrics[0])
    return left_to_target(found, scenario.accuracy, plan.policy.accuracy.share_min) if target_decides else found


def _examples(
    plan: Plan, scenario: Scenario, baseline: Sequence[Trial], candidate: Sequence[Trial]
) -> tuple[tuple[str, str, str, str], ...]:
    """(item, expected, baseline answer, candidate answer) of the first items that were lost."""
    before, after = _answers(baseline), _answers(candidate)
    lost = [index for index in before if index in after and before[index][1] > after[index][1]]
    work = plan.works[scenario.name]
    asked = work.requests(0, salt="") if lost else ()
    keys = [item.key for item in work.items] if work.items else [materialise.item_key(each) for each in asked]
    return tuple(
        (keys[index], asked[index].expected or "", before[index][0], after[index][0]) for index in lost[:EXAMPLES_MAX]
    )


def _answers(trials: Sequence[Trial]) -> Mapping[int, tuple[str, float]]:
    return {
        record.index: (record.output_text, record.score)
        for trial in trials[:1]
        for repeat in trial.counted_repeats[:1]
        for record in repeat.records
        if record.score is not None
    }


def _stored(plan: Plan, scenario: Scenario, trial: Trial, baseline: Baseline) -> list[Comparison]:
    found = []
    primary_count = max(1, sum(plan.policy.of(metric).primary for _, metric in judge.speed_keys(plan)))
    for metric in scenario.metrics:
        reading = reading_of(trial, metric)
        value = math.nan if reading is None else reading.value  # the comparison then says that it is invalid
        if metric in baseline.readings:
            found.append(
                stored.compare_stored(
                    scenario.name,
                    metric,
                    baseline.readings[metric],
                    value,
                    plan.policy,
                    primary_count=primary_count,
                    request_count=scenario.request_count,
                )
            )
    return found


def _unusable(baseline: Baseline | None, trial: Trial) -> str:
    """Why a baseline cannot serve this trial; empty if it can."""
    if baseline is None:
        return "none accepted yet"
    if baseline.scenario_hash != trial.scenario_hash:
        return "accepted for another version of the scenario"
    changed = why_incomparable(RunnerFingerprint(baseline.fingerprint), trial.fingerprint)
    pin = trial.sut.pin
    if pin.kind is BuildKind.ENDPOINT and baseline.build.get("url") != pin.url:
        return "accepted for a server in another place"
    if changed:
        return f"accepted on another machine: {changed}"
    return ""


def broken_rules(trials: Sequence[Trial], rule: str | None = None) -> tuple[str, ...]:
    """The broken validity rules (or the one named) of invalid trials, each once, in words."""
    found = dict.fromkeys(
        f"{trial.scenario} ({trial.arm.value}): {reading.rule}, read {reading.reading}, limit {reading.limit}"
        for trial in trials
        if trial.status is TrialStatus.INVALID
        for reading in trial.validity
        if not reading.ok and rule in (None, reading.rule)
    )
    return tuple(found)


def _joined(
    comparisons: Sequence[Comparison],
    compared: Sequence[AccuracyComparison],
    missing: Sequence[str],
    trials: Sequence[Trial],
    problems: Sequence[str],
    warnings: Sequence[str],
    missed: Sequence[str],
) -> Verdict:
    """The verdict by the precedence of `checks.verdict`: what could not be measured never hides a proven loss.

    Only a wrong build makes everything invalid; other problems do unless something is regressed.
    """
    wrong_build = broken_rules(trials, rule=WRONG_BUILD)
    joined = verdict.join(
        comparisons,
        compared,
        arm_problems=wrong_build,
        missing_baselines=missing,
        warnings=tuple(warnings),
        unmet=missed,
    )
    if problems and joined.finding not in (Finding.REGRESSED, Finding.INVALID):
        return replace(joined, finding=Finding.INVALID, reason="; ".join(list(problems)[:2]))
    if problems and not comparisons and not compared:
        return replace(joined, reason="; ".join(list(problems)[:2]))
    return joined


def evidence_of(session: Session, run_id: str) -> tuple[str, ...]:
    """What moved and what differs between the arms of one gate of a flow; nothing where it measured no pair."""
    seen = session.seen
    trials = [trial for trial in seen.trials if trial.run_id == run_id]
    return _evidence(seen.baseline, seen.candidate, trials) if trials else ()


def _with_evidence(joined: Verdict, statements: tuple[str, ...]) -> Verdict:
    return replace(joined, evidence=(*joined.evidence, *statements))


def _evidence(
    baseline: SystemUnderTest | None, candidate: SystemUnderTest | None, trials: Sequence[Trial]
) -> tuple[str, ...]:
    arms = [[each for each in trials if each.arm is arm] for arm in (Arm.BASELINE, Arm.CANDIDATE)]
    return tuple(each.text for each in explain(arms[0], arms[1], baseline=baseline, candidate=candidate))


def _machine_warnings(plan: Plan, trials: Sequence[Trial]) -> tuple[str, ...]:
    """What the reader must know of the machine: was it one, and what was dropped beyond the planned warm-up."""
    found = _other_machines(trials)
    planned = {scenario.name: scenario.discard_count for scenario in plan.scenarios}
    dropped = sum(trial.dropped_count - planned.get(trial.scenario, 0) for trial in trials)
    if dropped <= 0:
        return found
    windows = "1 window was" if dropped == 1 else f"{dropped} windows were"
    said = f"{windows} dropped because of other work on this machine, and measured again while retries were left"
    return (*found, said)


def _other_machines(trials: Sequence[Trial]) -> tuple[str, ...]:
    """A warning if arms of a pair were not served by the same machine: such pairs do not count."""
    machines = {
        (trial.pair_index, trial.scenario, trial.arm): trial.fingerprint
        for trial in trials
        if trial.arm in (Arm.BASELINE, Arm.CANDIDATE)
    }
    facts = dict.fromkeys(
        words
        for (pair, scenario, arm), machine in machines.items()
        if arm is Arm.BASELINE and (other := machines.get((pair, scenario, Arm.CANDIDATE))) is not None
        if (words := why_incomparable(machine, other))
    )
    return (f"pairs whose arms were served by different machines do not count: {'; '.join(facts)}",) if facts else ()


def accept_step(options: Options, workspace: Workspace, run_id: str) -> NextStep:
    """How to make a run the baseline: by hand, or from a job of GitHub Actions by the workflow that proposes it."""
    if options.in_job:
        how = f"start the workflow promote.yml with the run {run_id} and a reason"
        return NextStep(f"To accept this run as the baseline, {how}: it opens a pull request")
    words = [options.program, "baseline", "accept", run_id, "--reason", "first baseline"]
    if workspace.state_dir != workspace.root / ".redline":
        words += ["--state-dir", str(workspace.state_dir)]
    return NextStep("Accept this run as the baseline, and commit the file it writes", shlex.join(words))


def next_steps(joined: Verdict) -> tuple[NextStep, ...]:
    """What the reader can do about a finding."""
    match joined.finding:
        case Finding.REGRESSED:
            return (NextStep("Look at the evidence below for the stage that moved and what differs between the arms"),)
        case Finding.INCONCLUSIVE:
            return (NextStep("Run the gate again: what it measured today makes the next one shorter"),)
        case Finding.INVALID:
            told = "windows that other programs disturbed do not count, and `redline doctor` names those programs"
            return (NextStep(f"Mend what the broken validity rules name, and run again: {told}"),)
        case _:
            return ()
