"""Flow `bisect`: pairs of real deployments for a bisection."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from prefect import flow

from checks.attribution import difference_statements
from checks.bisection import Bisection, Costs, Ended, Evidence, Outcome, Pair, PairReading
from checks.fingerprints import why_incomparable
from checks.validity import REAL_SERVER, is_spoilt
from flows import steps
from flows.bench import ArmSetup
from flows.bisection_work import BisectRequest, Desk, Measured, Unmeasurable, saver, work
from flows.pairs import INVALID_PAIRS_MAX
from flows.plan import INSTALL_EXPECTED_S, Wanted
from flows.request import Session
from redline.builds.install import InstalledBuild, list_installed
from redline.errors import (
    BuildError,
    DeployError,
    InfrastructureError,
    InvalidMeasurementError,
    NoBuildError,
    NoImageError,
    OutOfMemoryError,
    PodLostError,
    RedlineError,
    ServerDiedError,
    ServerExitedError,
    ServerNotReadyError,
)
from redline.metrics import reading_of
from redline.model import Arm, SystemUnderTest, Trial
from redline.store.bisections import BisectionRecord

OF_THE_BUILD = (ServerExitedError, ServerNotReadyError, ServerDiedError, OutOfMemoryError, NoImageError)
"""Failed deployments that speak of the build: its server was started and did not serve, or its image is none. Every
other one speaks of the place: a cluster without a node, an engine that refuses, a port that is taken, a router that is
not the pinned one."""

OF_THE_PLACE = (PodLostError,)
"""Those among them that speak of the place all the same: a server that ended because its pod was taken away."""

Fault = Literal["build", "machine", "place"]


@flow(name="bisect", validate_parameters=False, persist_result=False)
def bisect_flow(
    request: BisectRequest, asked: Bisection, record: BisectionRecord, session: Session
) -> tuple[Ended, BisectionRecord]:
    """The answer and the state it rests on, written after every pair.

    Raises as `flows.bisection_work.work`; the trials measured until then are in the store.
    """
    plan, narrator = session.plan, session.narrator
    if record.attempt_count:
        narrator.say(f"going on with the bisection begun {record.created_at}: {len(record.pairs)} pairs are measured")
    desk = Desk(asked, plan.run_id, lambda build: _name(request, build), saver(plan), narrator)
    laboratory = Deployments(request, record, asked.metric, session)
    try:
        ended, record = work(desk, record, laboratory)
    except RedlineError:
        steps.ingest_trials(plan.workspace, narrator)
        narrator.say("what was learned is kept: the same command goes on from here")
        raise
    steps.ingest_trials(plan.workspace, narrator)
    if ended.outcome is Outcome.NAMED:
        before, after = (laboratory.sut(build) for build in (ended.parent, ended.last))
        record = replace(record, differences=tuple(difference_statements(before, after)))
        desk.save(record)
    return ended, record


def _name(request: BisectRequest, build: int) -> str:
    line = request.builds[build]
    return f"build {line.number} ({line.text})"


class Deployments:
    """A laboratory of fresh deployments: both builds of a pair up on this machine, measured side by side."""

    def __init__(self, request: BisectRequest, record: BisectionRecord, metric: str, session: Session) -> None:
        self._request = request
        self._metric = metric
        self._session = session
        self._suts: dict[int, SystemUnderTest] = {}
        self._installed: dict[str, InstalledBuild | None] = {}
        self._present = {build.pin.spec for build in list_installed(session.plan.workspace.state_dir)}
        self._pair_s = [each.seconds for each in record.pairs]
        self._install_s: list[float] = []
        self._failed: list[tuple[Pair, Fault]] = []  # the same pair, tried again and again, and whose fault it was

    def costs(self) -> Costs:
        """Seconds as they turned out so far; before that, what a plan expects."""
        plan = self._session.plan
        pair_s = statistics.fmean(self._pair_s) if self._pair_s else plan.expected_s(plan.groups[0], 2)
        install_s = statistics.fmean(self._install_s) if self._install_s else INSTALL_EXPECTED_S
        self._session.narrator.plan(pair_s * _pairs_left(len(self._request.builds) - 1, len(self._pair_s)))
        present = self._present | set(self._installed)
        return Costs(pair_s, tuple(0.0 if line.spec in present else install_s for line in self._request.builds))

    def sut(self, build: int) -> SystemUnderTest:
        """The system under test of a build, resolved once. Raises as `redline.builds.resolve.resolve`."""
        if build not in self._suts:
            line = self._request.builds[build]
            arm = Arm.CANDIDATE if build else Arm.BASELINE
            wanted = Wanted(arm, line.spec, line.extra_args)
            self._suts[build] = steps.resolve(wanted, self._session.plan, self._session.narrator)
        return self._suts[build]

    def measure(self, pair: Pair, attempt: int, evidence: Evidence) -> Measured | Unmeasurable | None:
        """One pair of deployments. One that failed is tried once more before a build is blamed.

        Raises InvalidMeasurementError if the machine spoils a pair too often, InfrastructureError if the place twice
        did not deploy it, DeployError if builds that ran before no longer do, and what is no build's fault.
        """
        arms: list[ArmSetup] = []
        for arm, build in ((Arm.BASELINE, pair.baseline), (Arm.CANDIDATE, pair.candidate)):
            try:
                arms.append(self._setup(arm, build))
            except NoBuildError as error:
                return Unmeasurable(build, error)  # nobody made it: nothing failed, so no second try
            except BuildError as error:
                return None if self._again(pair, "build", error.problem) else Unmeasurable(build, error)
        plan = self._session.plan
        trials: list[Trial] = []

        def note(trial: Trial) -> None:
            trials.append(trial)
            self._session.seen.add(trial)

        begin_s = time.monotonic()
        try:
            round_ = plan.round_of(plan.groups[0], (arms[0], arms[1]), attempt, note)
            steps.measure_round(round_, self._session.narrator)
        except DeployError as error:
            return self.failed(pair, error, evidence)
        found = self.read(pair, trials)
        if isinstance(found, PairReading):
            self._failed.clear()
            seconds = time.monotonic() - begin_s
            self._pair_s.append(seconds)
            pins = {build: self.sut(build).pin.pin_id for build in (pair.baseline, pair.candidate)}
            return Measured(found, seconds, pins)
        return found

    def _setup(self, arm: Arm, build: int) -> ArmSetup:
        """One arm, its build installed once. Raises BuildError."""
        sut, spec = self.sut(build), self._request.builds[build].spec
        if spec not in self._installed:
            installed = steps.install(sut.pin, self._session.plan.workspace, self._session.narrator)
            self._installed[spec] = installed
            if installed is not None and not installed.cached:
                self._install_s.append(installed.seconds)
        return ArmSetup(arm, sut, self._installed[spec])

    def _again(self, pair: Pair, whose: Fault, why: str, count_max: int = 1) -> bool:
        """True if this pair may be tried once more; says why. What was another's fault does not count against it."""
        self._failed = [*(each for each in self._failed if each[0] == pair), (pair, whose)]
        if self._failed.count((pair, whose)) > count_max:
            self._failed.clear()
            return False
        self._session.narrator.say(f"{why}: tried again")
        return True

    def failed(self, pair: Pair, error: DeployError, evidence: Evidence) -> Unmeasurable | None:
        """What a failed deployment says: the build that does not start, or None if the pair is tried once more.

        The build is the one that never ran, the candidate first. Raises InfrastructureError where the place failed
        twice, and `error` if both builds ran before.
        """
        if not isinstance(error, OF_THE_BUILD) or isinstance(error, OF_THE_PLACE):
            if self._again(pair, "place", error.problem):
                return None
            raise _not_deployed(error) from error
        if self._again(pair, "build", error.problem):
            return None
        ran = {build for each in evidence.readings for build in (each.pair.baseline, each.pair.candidate)}
        for build in (pair.candidate, pair.baseline):
            if build not in ran:
                return Unmeasurable(build, error)
        raise error

    def read(self, pair: Pair, trials: Sequence[Trial]) -> PairReading | Unmeasurable | None:
        """The reading of two trials; None if the machine spoilt one of them and they may be measured again.

        A build is blamed by a trial only in which the machine and the client kept their rules: a card that throttles
        can fail requests too. Raises InvalidMeasurementError if a pair was spoilt too often, or by a stand-in.
        """
        values: dict[Arm, float] = {}
        spoilt = ""
        for trial in trials:
            broken = [reading for reading in trial.validity if not reading.ok]
            said = "; ".join(f"{reading.rule}, read {reading.reading}" for reading in broken)
            reading = reading_of(trial, self._metric)
            values[trial.arm] = math.nan if reading is None else reading.value
            if any(each.rule == REAL_SERVER for each in broken):
                raise _not_measured(said, "bisect real builds: a stand-in says nothing about any")
            if is_spoilt(trial):
                spoilt = spoilt or said or "no repeat counts"
            elif broken or reading is None:
                build = pair.baseline if trial.arm is Arm.BASELINE else pair.candidate
                return Unmeasurable(build, _not_measured(said or "no reading", "look at the server's log"))
        spoilt = spoilt or _on_two_machines(trials)
        if not spoilt:
            return PairReading(pair, values[Arm.BASELINE], values[Arm.CANDIDATE])
        if self._again(pair, "machine", f"the machine spoilt this pair: {spoilt}", INVALID_PAIRS_MAX):
            return None
        raise _not_measured(
            spoilt, "free or mend the machine (see `redline doctor`) and give the same command again: it goes on"
        )


def _on_two_machines(trials: Sequence[Trial]) -> str:
    """What differs between the machines of a pair, in words; empty if they may be compared."""
    differs = why_incomparable(trials[0].fingerprint, trials[-1].fingerprint)
    return f"the builds were served by different machines: {differs}" if differs else ""


def _not_deployed(error: DeployError) -> InfrastructureError:
    """What the place did to a pair, said as such, so that nobody reads a build into it."""
    return InfrastructureError(
        f"a pair could not be deployed, which says nothing about its builds: {error.problem}",
        expected=error.expected,
        found=error.found,
        next_step="; ".join(filter(None, (error.next_step, "then give the same command again: it goes on"))),
    )


def _not_measured(found: str, next_step: str) -> InvalidMeasurementError:
    return InvalidMeasurementError(
        "the pair is evidence of nothing", expected="two valid trials", found=found, next_step=next_step
    )


def _pairs_left(candidate_count: int, done: int) -> float:
    """Pairs still expected, for the progress display only: fitted to simulations of a step of three sd of a trial."""
    return max(20 + 2.6 * math.log2(candidate_count) - done, 3.0)
