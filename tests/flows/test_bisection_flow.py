"""What a pair of deployments says in a bisection: a reading, a build not to be measured, or the machine's fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.bisection import Pair, PairReading, Purpose
from checks.validity import MACHINE_RULES, REAL_SERVER
from flows.bisection_flow import Deployments
from flows.bisection_work import Unmeasurable
from flows.pairs import INVALID_PAIRS_MAX
from redline.errors import InvalidMeasurementError
from redline.model import Arm, TrialStatus, ValidityReading
from tests.flows.test_answers import FAILED, session_of, trial_of
from tests.flows.test_bisection import bench

SEARCHED = Pair(0, 5, Purpose.SEARCH)
HOT = ValidityReading("thermal throttling", "GPU-1: 40 % of the samples of repeat 2", "in no sample", ok=False)


class Bench:
    """Deployments whose trials are given instead of measured: both arms at 700 tokens a second."""

    def __init__(self, tmp_path):
        self.session = session_of(tmp_path, "offline-short")
        request, _, record = bench(tmp_path)
        self.deployments = Deployments(request, record, "output_tokens_per_s", self.session)

    def trial(self, arm, *rules, tokens_per_s=700):
        return trial_of(self.session, arm, 0, tokens_per_s, *rules)

    def read(self, *rules, candidate=None):
        """What a clean baseline and this candidate, or one with these rules, say."""
        second = candidate or self.trial(Arm.CANDIDATE, *rules)
        return self.deployments.read(SEARCHED, [self.trial(Arm.BASELINE), second])


@pytest.mark.parametrize("rule", sorted(MACHINE_RULES))
def test_a_machine_that_breaks_its_rules_is_not_a_builds_fault(tmp_path, rule):
    """The pair is measured again; if the machine never keeps them, that is said, and no build is skipped."""
    broken, laboratory = replace(HOT, rule=rule), Bench(tmp_path)
    for _ in range(INVALID_PAIRS_MAX):
        assert laboratory.read(broken) is None
    with pytest.raises(InvalidMeasurementError, match="evidence of nothing") as caught:
        laboratory.read(broken)
    assert f"{rule}, read GPU-1" in caught.value.found
    assert "redline doctor" in caught.value.next_step
    assert isinstance(laboratory.read(), PairReading)


def test_failed_requests_blame_a_build_only_on_a_machine_that_is_itself(tmp_path):
    """A card that throttles may fail requests too, and windows that were all dropped hold none."""
    laboratory = Bench(tmp_path)
    found = laboratory.read(FAILED)
    assert isinstance(found, Unmeasurable)
    assert found.build == SEARCHED.candidate
    assert laboratory.read(HOT, FAILED) is None
    none_answered = replace(FAILED, reading="none of 0")
    dropped = laboratory.trial(Arm.CANDIDATE, none_answered)
    dropped = replace(dropped, repeats=tuple(replace(each, drop_reason="foreign CPU") for each in dropped.repeats))
    assert laboratory.read(candidate=dropped) is None


def test_builds_on_two_machines_are_not_compared(tmp_path):
    """A power cap that was changed between the two is nobody's regression: measured again."""
    laboratory = Bench(tmp_path)
    slower = laboratory.trial(Arm.CANDIDATE, tokens_per_s=400)
    elsewhere = replace(slower.fingerprint, facts={**slower.fingerprint.facts, "gpu_power_cap_w": "500"})
    assert slower.status is TrialStatus.VALID
    assert isinstance(laboratory.read(candidate=slower), PairReading)
    assert laboratory.read(candidate=replace(slower, fingerprint=elsewhere)) is None


def test_a_stand_in_blames_nobody_and_is_not_tried_again(tmp_path):
    """Even where the machine broke a rule as well."""
    with pytest.raises(InvalidMeasurementError) as caught:
        Bench(tmp_path).read(HOT, replace(HOT, rule=REAL_SERVER))
    assert "bisect real builds" in caught.value.next_step
