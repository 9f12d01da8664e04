"""What a pair of deployments says in a bisection: a reading, a build not to be measured, or the machine's fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.bisection import Evidence, Outcome, Pair, PairReading, Purpose
from checks.validity import MACHINE_RULES, REAL_SERVER
from flows.bisection_flow import Deployments
from flows.bisection_work import Unmeasurable, open_record, work
from flows.pairs import INVALID_PAIRS_MAX
from redline.deploy.cluster_errors import ApiRefusalError
from redline.errors import (
    ClusterError,
    ContainerError,
    DeployError,
    ExitCode,
    InfrastructureError,
    InvalidMeasurementError,
    NoImageError,
    OutOfMemoryError,
    PodLostError,
    PortTakenError,
    ReplicaDiedError,
    ServerDiedError,
    ServerExitedError,
    ServerNotReadyError,
)
from redline.model import Arm, TrialStatus, ValidityReading
from tests.flows.test_answers import FAILED, session_of, trial_of
from tests.flows.test_bisection import World, bench, plan_of

SEARCHED = Pair(0, 5, Purpose.SEARCH)
HOT = ValidityReading("thermal throttling", "GPU-1: 40 % of the samples of repeat 2", "in no sample", ok=False)

NO_NODE = ClusterError(
    "speed-00 cannot be served as it stands",
    expected="pods that find a node",
    found="0/4 nodes are available",
    next_step="free or add nodes",
)
OF_BUILDS = (
    ServerExitedError,
    ServerNotReadyError,
    ServerDiedError,
    ReplicaDiedError,
    OutOfMemoryError,
    NoImageError,
)
OF_PLACES = (DeployError, PortTakenError, ContainerError, ClusterError, PodLostError)


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


# --- deployments that failed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [NO_NODE, *(kind("it did not start") for kind in OF_PLACES)], ids=repr)
def test_a_place_that_does_not_deploy_is_no_builds_fault(tmp_path, error):
    """Tried once more; then the bisection ends as infrastructure, whether the builds ever ran or not."""
    deployments = Bench(tmp_path).deployments
    assert deployments.failed(SEARCHED, error, Evidence()) is None
    with pytest.raises(InfrastructureError, match="says nothing about its builds") as caught:
        deployments.failed(SEARCHED, error, Evidence())
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE
    assert (caught.value.expected, caught.value.found) == (error.expected, error.found)
    assert error.problem in caught.value.problem
    assert caught.value.next_step.startswith(error.next_step)
    assert caught.value.next_step.endswith("then give the same command again: it goes on")
    assert deployments.failed(SEARCHED, error, Evidence()) is None  # the next call begins anew


@pytest.mark.parametrize("kind", OF_BUILDS)
def test_a_server_that_does_not_serve_is_its_builds(tmp_path, kind):
    """Tried once more, then the build that never ran cannot be measured."""
    deployments, error = Bench(tmp_path).deployments, kind("it ended at once")
    assert deployments.failed(SEARCHED, error, Evidence()) is None
    found = deployments.failed(SEARCHED, error, Evidence())
    assert found == Unmeasurable(SEARCHED.candidate, error)
    ran = Evidence((PairReading(SEARCHED, 1.0, 1.0),))
    assert deployments.failed(SEARCHED, error, ran) is None
    with pytest.raises(kind):
        deployments.failed(SEARCHED, error, ran)


def test_every_failed_deployment_is_somebodys():
    """A new kind of DeployError has to be put on one side: by itself it blames no build."""
    kinds, seen = [DeployError], set()
    while kinds:
        kind = kinds.pop()
        seen.add(kind)
        kinds += kind.__subclasses__()
    ours = {kind for kind in seen if kind.__module__ == "redline.errors"}
    assert ours == {*OF_BUILDS, *OF_PLACES}
    assert issubclass(ApiRefusalError, ClusterError)


def test_what_the_place_or_the_machine_did_does_not_count_against_a_build(tmp_path):
    """A build has its own second try, whatever was nobody's fault before."""
    laboratory, exited = Bench(tmp_path), ServerExitedError("it ended at once")
    deployments = laboratory.deployments
    assert deployments.failed(SEARCHED, NO_NODE, Evidence()) is None
    assert laboratory.read(HOT) is None
    assert deployments.failed(SEARCHED, exited, Evidence()) is None
    assert laboratory.read(HOT) is None
    assert isinstance(deployments.failed(SEARCHED, exited, Evidence()), Unmeasurable)


class Cluster(World):
    """Real judgement of made-up pairs: after twelve pairs no node is free for a build, as long as `is_full`."""

    def __init__(self, deployments, *, is_full):
        super().__init__(8, 5)
        self.deployments, self.is_full = deployments, is_full

    def measure(self, pair, attempt, evidence):
        if self.is_full and len(evidence.readings) >= 12:
            return self.deployments.failed(pair, NO_NODE, evidence)
        return super().measure(pair, attempt, evidence)


def test_a_full_cluster_ends_a_bisection_that_goes_on_later(tmp_path):
    """No build is skipped for it, what was read is kept, and the later call names the culprit itself, not a range."""
    request, desk, record = bench(tmp_path)
    deployments = Deployments(request, record, desk.asked.metric, session_of(tmp_path, "server-short"))
    with pytest.raises(InfrastructureError, match="cannot be served as it stands"):
        work(desk, record, Cluster(deployments, is_full=True))
    kept = open_record(plan_of(tmp_path), request)
    assert (len(kept.pairs), kept.attempt_count, kept.skipped) == (12, 13, {})
    ended, kept = work(desk, kept, Cluster(deployments, is_full=False))
    assert (ended.outcome, ended.first, ended.last) == (Outcome.NAMED, 5, 5)
    assert kept.skipped == {}


class Registry(World):
    """Real judgement of made-up pairs: the image of one build is gone."""

    def __init__(self, deployments, gone):
        super().__init__(8, 5)
        self.deployments, self.gone = deployments, gone

    def measure(self, pair, attempt, evidence):
        if self.gone in (pair.baseline, pair.candidate):
            return self.deployments.failed(pair, NoImageError("there is no such image"), evidence)
        return super().measure(pair, attempt, evidence)


def test_an_image_that_is_gone_ends_no_bisection(tmp_path):
    """Its build is skipped; next to the culprit it may be either of the two, which is the answer."""
    request, desk, record = bench(tmp_path)
    deployments = Deployments(request, record, desk.asked.metric, session_of(tmp_path, "server-short"))
    ended, kept = work(desk, record, Registry(deployments, 4))
    assert (ended.first, ended.last) == (4, 5)
    assert set(kept.skipped) == {4}
