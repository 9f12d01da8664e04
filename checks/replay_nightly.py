"""What the nightly would have said of a recorded past, night by night, knowing only what was known then.

Each night: suspect, confirm, put on record (`checks.nightly`). A past that holds no gate cannot confirm. Where a
night since the first bad one holds enough deployments of both the suspected and the last good build, their pairs are
the confirmation, then or on a later night. Where the build did not change, nothing but the environment can have.
Everything else stays suspected; so that the nights after it can be judged, it is put on record as unexplained
from its second night on.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from checks.effects import log_from_share, metric_named, share_from_log
from checks.nightly import Outcome, Suspicion, SuspicionKind, better, build_log, settle, suspect
from checks.policy import PRIMARY_COUNT_MAX, Policy
from checks.replay import BuildNight, Night, Recording, Series
from checks.replay_gate import Pairing, PastRounds, judge_recorded, paired
from redline.model import Comparison, Finding, LevelChange, LevelKind

NOTHING_KNOWN = (math.inf, math.inf)
"""What the build may cost where no gate was recorded."""


class Said(enum.StrEnum):
    """What a night's report would have said of one series."""

    REGRESSED = "regressed"
    ENVIRONMENT = "environment"
    UNEXPLAINED = "unexplained"
    ODD_NIGHT = "odd night"
    UNDECIDED = "undecided"
    SUSPECTED = "suspected"
    IMPROVED = "improved"


SETTLED = frozenset({Said.REGRESSED, Said.ENVIRONMENT, Said.UNEXPLAINED, Said.ODD_NIGHT})
OPEN = frozenset({Said.SUSPECTED, Said.UNDECIDED})
SUSPICIONS = SETTLED | OPEN


@dataclass(frozen=True, slots=True)
class NightFinding:
    """What was said of one series on one night (dates are YYYY-MM-DD).

    `effect`: how much worse the night's level is, an oriented share; `first_bad` with `earliest` and `latest`: the
    night it began, and those it could also have begun; `first_bad_build`: measured then; `build`, tonight's, against
    `last_good_build`, of the night `last_good`: what a gate would have been run between; `recorded`: the level
    moved; `same_build`: both are one build; `comparison`: the recorded gate's, of the night `gate_date`. `z` is 0
    for an improvement.
    """

    date: str
    runner: str
    scenario: str
    metric: str
    said: Said
    effect: float
    z: float
    first_bad: str
    earliest: str
    latest: str
    first_bad_build: str
    build: str
    last_good_build: str
    last_good: str
    kind: SuspicionKind | None = None
    recorded: bool = False
    same_build: bool = False
    comparison: Comparison | None = None
    gate_date: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """(runner, scenario, metric)."""
        return self.runner, self.scenario, self.metric


@dataclass(frozen=True, slots=True)
class ReplayedSeries:
    """One series after its last night: its readings (oriented logs) and the level changes on record."""

    series: Series
    readings: tuple[float, ...]
    changes: tuple[LevelChange, ...]


@dataclass(frozen=True, slots=True)
class ReplayedNights:
    """Everything the nightly would have said, in order of nights, and where it left each series."""

    findings: tuple[NightFinding, ...]
    series: tuple[ReplayedSeries, ...]


@dataclass(slots=True)
class _Walk:
    """A series on its way through the nights. `waiting`: suspicions on record that a later night may confirm;
    `undecided`: recorded gates that have not decided it and never will.
    """

    series: Series
    margin_log: float
    readings: list[float] = field(default_factory=list)
    nights: list[Night] = field(default_factory=list)
    changes: list[LevelChange] = field(default_factory=list)
    release: list[int] = field(default_factory=list)  # nights that measured the release
    waiting: list[_Case] = field(default_factory=list)
    undecided: set[Pairing] = field(default_factory=set)

    def build(self, index: int) -> BuildNight:
        """The build that the nightly took on a night."""
        return self.nights[index].taken


@dataclass(frozen=True, slots=True)
class _Case:
    """A suspicion of one series on one night. `position`: its place in the series' record, once it has one."""

    walk: _Walk
    suspicion: Suspicion
    tonight: int
    position: int | None = None

    @property
    def good(self) -> str:
        """The last good build."""
        return self.walk.build(self.suspicion.last_good).build

    @property
    def bad(self) -> str:
        """The suspected build: tonight's."""
        return self.walk.build(self.tonight).build

    @property
    def same_build(self) -> bool:
        """True if nothing but the environment can have changed."""
        return self.good == self.bad


@dataclass(frozen=True, slots=True)
class _Gate:
    """The recorded pairs that confirm a case or not: of which night, and which build against the last good one."""

    case: _Case
    night: Night
    bad: str

    @property
    def pairing(self) -> Pairing:
        """Its pairs: of which night, and of which builds."""
        return self.night.date, self.case.good, self.bad


def replay_nights(recording: Recording, runner: str, policy: Policy, *, release: str = "") -> ReplayedNights:
    """What the nightly would have said of every series of a runner; they must be of primary metrics.

    `release`: the build that a slow drift is measured against; a series without it has its first nights for that.
    """
    confirmation = policy.for_confirmation()
    walks = {series.key: _walk(series, confirmation) for series in recording.of_runner(runner)}
    on_night: dict[str, list[tuple[_Walk, Night]]] = {}
    for walk in walks.values():
        for night in walk.series.nights:
            on_night.setdefault(night.date, []).append((walk, night))
    past = PastRounds()
    findings: list[NightFinding] = []
    for _, measured in sorted(on_night.items()):
        cases: list[_Case] = []
        for walk, night in measured:
            _take(walk, night, release)
            cases += walk.waiting
            found = _look_at(walk, policy)
            if isinstance(found, NightFinding):
                findings.append(found)
            elif found is not None:
                cases.append(found)
        findings += _settle_all(cases, confirmation, past)
    return ReplayedNights(
        tuple(findings),
        tuple(ReplayedSeries(walk.series, tuple(walk.readings), tuple(walk.changes)) for walk in walks.values()),
    )


def unsettled(findings: Sequence[NightFinding]) -> tuple[NightFinding, ...]:
    """The suspicions that nothing in the recording, then or later, could settle."""
    settled: dict[tuple[str, str, str], list[NightFinding]] = {}
    for each in findings:
        if each.said in SETTLED:
            settled.setdefault(each.key, []).append(each)
    return tuple(
        each
        for each in findings
        if each.said in OPEN
        and not any(
            later.date >= each.date
            and later.last_good < each.first_bad
            and later.first_bad <= each.date
            and (later.kind is SuspicionKind.DRIFT) == (each.kind is SuspicionKind.DRIFT)
            for later in settled.get(each.key, ())
        )
    )


# --- one night ----------------------------------------------------------------------------------------------


def _walk(series: Series, confirmation: Policy) -> _Walk:
    margin = confirmation.of(series.metric).margin
    return _Walk(series, log_from_share(margin, metric_named(series.metric).better))


def _take(walk: _Walk, night: Night, release: str) -> None:
    if release and (found := night.of(release)) is not None and found is night.taken:
        walk.release.append(len(walk.nights))
    walk.nights.append(night)
    walk.readings.append(night.taken.log)


def _look_at(walk: _Walk, policy: Policy) -> NightFinding | _Case | None:
    """Tonight's suspicion, or the improvement that is put on record, or None."""
    tonight = len(walk.readings) - 1
    release = walk.release or range(min(policy.nightly.drift_nights, len(walk.readings)))
    known = [_as_owed(change, walk.margin_log) for change in walk.changes]
    suspicion = suspect(walk.readings, known, policy.nightly, margin_log=walk.margin_log, release=release)
    if suspicion is not None:
        return _Case(walk, suspicion, tonight)
    change = better(walk.readings, walk.changes, policy.nightly)
    if change is None:
        return None
    walk.changes.append(change)
    as_suspicion = Suspicion(SuspicionKind.STEP, change.first, (change.first,), change.first - 1, change.size, 0.0)
    return replace(_finding(_Case(walk, as_suspicion, tonight), Said.IMPROVED, tonight), kind=None, recorded=True)


def _as_owed(change: LevelChange, margin_log: float) -> LevelChange:
    """A step that a gate would have settled is owed to the release: it is not suspected once more, as a drift.

    Smaller ones add up to a drift, as they would have.
    """
    if change.kind is LevelKind.UNEXPLAINED and change.size >= margin_log:
        return replace(change, kind=LevelKind.REGRESSION)
    return change


def _settle_all(cases: Sequence[_Case], confirmation: Policy, past: PastRounds) -> list[NightFinding]:
    """What becomes of tonight's suspicions, and of those waiting that tonight can settle, in the order given."""
    gates: list[_Gate] = []
    findings: list[NightFinding] = []
    for case in cases:
        gate = _gate_of(case, confirmation)
        if gate is not None:
            gates.append(gate)
        elif case.position is None:
            findings.append(_without_gate(case))
    for suite in _suites(gates):
        findings += _judge(suite, confirmation, past)
    return findings


def _gate_of(case: _Case, confirmation: Policy) -> _Gate | None:
    """The latest night, from the first that may be bad to tonight, that holds pairs; None where there is none."""
    walk, key = case.walk, (case.walk.series.scenario, case.walk.series.metric)
    if case.same_build:
        return None
    tonight = len(walk.nights) - 1
    earliest = min(case.suspicion.could_be)
    # A case that waits has been through every night before tonight.
    first = earliest if case.position is None else tonight
    nights = [night for night in walk.nights[first:] if len(night.builds) > 1]
    if not nights:
        return None
    suspected = {walk.build(index).build for index in range(earliest, case.tonight + 1)} - {case.good}
    for night in reversed(nights):
        for found in reversed(night.builds):
            if found.build not in suspected or (night.date, case.good, found.build) in walk.undecided:
                continue
            if paired(night, key, case.good, found.build, confirmation) is not None:
                return _Gate(case, night, found.build)
    return None


def _suites(gates: Iterable[_Gate]) -> list[list[_Gate]]:
    """Suspected metrics that one gate confirms: the same builds on the same night, at most six, the surest first."""
    suites: dict[Pairing, list[list[_Gate]]] = {}
    for gate in sorted(gates, key=lambda each: -each.case.suspicion.z):
        of_builds = suites.setdefault(gate.pairing, [])
        for suite in of_builds:
            if len(suite) < PRIMARY_COUNT_MAX and all(each.case.walk is not gate.case.walk for each in suite):
                suite.append(gate)
                break
        else:
            of_builds.append([gate])
    return [suite for of_builds in suites.values() for suite in of_builds]


def _judge(suite: Sequence[_Gate], confirmation: Policy, past: PastRounds) -> list[NightFinding]:
    pairs = []
    for gate in suite:
        key = (gate.case.walk.series.scenario, gate.case.walk.series.metric)
        found = paired(gate.night, key, gate.case.good, gate.bad, confirmation)
        assert found is not None  # `_gate_of` has looked
        pairs.append(found)
    runner = suite[0].case.walk.series.runner
    pairing = suite[0].pairing
    priors = past.priors(runner, [item.key for item in pairs], pairing)
    state, _ = judge_recorded(pairs, priors, confirmation, until_all_decided=True)
    past.note(runner, pairs, pairing)
    comparisons = {(each.scenario, each.metric): each for each in (state.comparisons if state is not None else ())}
    findings = []
    for gate, item in zip(suite, pairs, strict=True):
        findings += _with_gate(gate, comparisons.get(item.key))
    return findings


def _with_gate(gate: _Gate, comparison: Comparison | None) -> list[NightFinding]:
    """What is said after a recorded gate; nothing of a case that still waits, if the gate does not decide."""
    case, walk = gate.case, gate.case.walk
    cost, verdict = NOTHING_KNOWN, None
    if comparison is not None and comparison.finding is not Finding.INVALID:
        verdict, cost = comparison.finding, build_log(comparison)
    outcome, change = settle(case.suspicion, verdict, cost, case.tonight)
    if outcome is Outcome.OPEN:
        walk.undecided.add(gate.pairing)
    if case.position is not None:
        if outcome is Outcome.OPEN:
            return []
        assert change is not None  # what is on record has lasted
        walk.changes[case.position] = change
        walk.waiting = [each for each in walk.waiting if each is not case]
    elif change is not None:
        walk.changes.append(change)
    said = Said.UNDECIDED if outcome is Outcome.OPEN else Said(outcome.value)
    found = _finding(case, said, len(walk.nights) - 1)
    return [
        replace(found, build=gate.bad, recorded=change is not None, comparison=comparison, gate_date=gate.night.date)
    ]


def _without_gate(case: _Case) -> NightFinding:
    """What is said where nothing was recorded that could confirm: the level moves from the second night on."""
    walk = case.walk
    # As if a gate had found the build no worse: with certainty for one build, without any for two.
    cost = (0.0, 0.0) if case.same_build else NOTHING_KNOWN
    outcome, change = settle(case.suspicion, Finding.NO_WORSE, cost, case.tonight)
    if change is not None:
        walk.changes.append(change)
        if not case.same_build:
            walk.waiting.append(replace(case, position=len(walk.changes) - 1))
    said = Said(outcome.value) if case.same_build else Said.SUSPECTED
    return replace(_finding(case, said, case.tonight), recorded=change is not None)


def _finding(case: _Case, said: Said, tonight: int) -> NightFinding:
    walk, suspicion = case.walk, case.suspicion
    size = min(max(suspicion.size, -20.0), 20.0)
    return NightFinding(
        date=walk.nights[tonight].date,
        runner=walk.series.runner,
        scenario=walk.series.scenario,
        metric=walk.series.metric,
        said=said,
        effect=share_from_log(size, metric_named(walk.series.metric).better),
        z=suspicion.z,
        first_bad=walk.nights[suspicion.first_bad].date,
        earliest=walk.nights[min(suspicion.could_be)].date,
        latest=walk.nights[max(suspicion.could_be)].date,
        first_bad_build=walk.build(suspicion.first_bad).build,
        build=case.bad,
        last_good_build=case.good,
        last_good=walk.nights[suspicion.last_good].date,
        kind=suspicion.kind,
        same_build=case.same_build,
    )
