"""A machine that is not itself spoils a pair, which is measured again; it never ends a gate as an arm's fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.validity import MACHINE_RULES
from flows import judge
from flows.pairs import INVALID_PAIRS_MAX
from redline.model import Arm, Finding, ValidityReading
from tests.flows.test_answers import FAILED, gate, session_of, trial_of


def broken(rule: str) -> ValidityReading:
    """A rule that was read and is not kept."""
    return ValidityReading(rule, "GPU-1: 40 % of the samples of repeat 2", "in no sample", ok=False)


@pytest.mark.parametrize("rule", sorted(MACHINE_RULES))
@pytest.mark.parametrize("arm", [Arm.BASELINE, Arm.CANDIDATE])
def test_a_pair_that_the_machine_spoilt_blames_no_arm(tmp_path: Path, rule: str, arm: Arm) -> None:
    """Whichever rule of the machine and whichever arm: the pair does not count, and the gate goes on."""
    session = session_of(tmp_path, "offline-short")
    for each in (Arm.BASELINE, Arm.CANDIDATE):
        rules = (broken(rule),) if each is arm else ()
        session.seen.add(trial_of(session, each, 0, 700, *rules))
    state = judge.speed(session.plan, session.seen.trials, judge.start(session.plan))
    assert (state.pair_count, state.invalid_pair_count, state.broken) == (0, 1, ())


def test_one_throttled_window_costs_a_pair_and_no_verdict(tmp_path: Path) -> None:
    """A gate of equal arms with one hot window ends as it would have, a pair later; a loss is found all the same."""
    hot = broken("thermal throttling")
    for factor, finding in ((1.0, Finding.NO_WORSE), (0.5, Finding.REGRESSED)):
        session = session_of(tmp_path / str(factor), "offline-short")
        spoilt = {(Arm.CANDIDATE, 0): trial_of(session, Arm.CANDIDATE, 0, 700, hot)}
        clean_pairs = gate(session_of(tmp_path / f"clean-{factor}", "offline-short"), factor)[1]
        found, pairs = gate(session, factor, spoilt)
        assert found is finding
        assert pairs > clean_pairs


def test_a_machine_that_throttles_in_every_pair_is_no_pass(tmp_path: Path) -> None:
    """The gate gives up after the pairs it may measure again, as invalid."""
    session = session_of(tmp_path, "offline-short")
    count = INVALID_PAIRS_MAX + 1
    spoilt = {
        (Arm.CANDIDATE, pair): trial_of(session, Arm.CANDIDATE, pair, 700, broken("power cap")) for pair in range(count)
    }
    assert gate(session, 1.0, spoilt) == (Finding.INVALID, count)


def test_requests_that_failed_on_a_hot_machine_are_not_measured_again(tmp_path: Path) -> None:
    """Measuring again until they are answered would be choosing the results: the gate ends, as invalid."""
    session = session_of(tmp_path, "offline-short")
    rules = (broken("thermal throttling"), FAILED)
    spoilt = {(Arm.CANDIDATE, 0): trial_of(session, Arm.CANDIDATE, 0, 700, *rules)}
    assert gate(session, 1.0, spoilt) == (Finding.INVALID, 1)
