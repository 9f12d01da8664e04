"""What the gate would have said: pairs of deployments of two builds that a recorded night holds.

On each night that measured two builds or more, each build is compared with its predecessor of that night (builds in
the order in which the runner first measured them), the first deployment of one with the first of the other and so on.
Look by look as the gate does, with what earlier gates of the recording taught about the noise.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from checks.effects import log_differences, metric_named, pairing_problem
from checks.gate import Key, PairedReadings, SuiteState, judge_suite, suite_pair_limit
from checks.policy import PRIMARY_COUNT_MAX, Policy
from checks.prior import VariancePrior, fit_prior
from checks.replay import Night, Recording
from redline.model import Comparison, Finding

Pairing: TypeAlias = tuple[str, str, str]  # night, baseline, candidate


@dataclass(slots=True)
class PastRounds:
    """What the gates so far say about the noise of D, per runner and (scenario, metric)."""

    rounds: dict[tuple[str, Key], dict[Pairing, tuple[float, float]]] = field(default_factory=dict)

    def priors(self, runner: str, keys: Sequence[Key], pairing: Pairing) -> dict[Key, VariancePrior]:
        """The variance priors of a suite from all other pairings that were judged before it."""
        return {
            key: fit_prior(found for other, found in self.rounds.get((runner, key), {}).items() if other != pairing)
            for key in keys
        }

    def note(self, runner: str, pairs: Sequence[PairedReadings], pairing: Pairing) -> None:
        """Learn from a judged suite: the variance of D around its own mean. What cannot be paired teaches nothing."""
        for item in pairs:
            if item.pair_count < 2 or pairing_problem(item.baseline, item.candidate):
                continue
            differences = log_differences(metric_named(item.metric), item.baseline, item.candidate)
            variance = statistics.variance(differences)
            self.rounds.setdefault((runner, item.key), {})[pairing] = (variance, len(differences) - 1.0)


@dataclass(frozen=True, slots=True)
class ReplayedGate:
    """One gate as it would have gone. `pair_count`: where it stopped, of `pairs_recorded` and at most `pair_limit`.

    `left_out`: (scenario, metric) keys with too few deployments of one of the builds on that night.
    """

    runner: str
    date: str
    baseline: str
    candidate: str
    finding: Finding
    pair_count: int
    pairs_recorded: int
    pair_limit: int
    comparisons: tuple[Comparison, ...]
    left_out: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class TooManyPrimaries:
    """A pair of builds that no gate can judge as a whole: more primary metrics than error rates are stated for."""

    runner: str
    date: str
    primaries: tuple[Key, ...]


def paired(night: Night, key: Key, baseline: str, candidate: str, policy: Policy) -> PairedReadings | None:
    """The pairs of two builds on one night, in order of deployment; None below the policy's first look."""
    before, after = night.of(baseline), night.of(candidate)
    if before is None or after is None:
        return None
    count = min(len(before.readings), len(after.readings))
    if count < policy.pair_count_min:
        return None
    return PairedReadings(*key, before.readings[:count], after.readings[:count])


def judge_recorded(
    pairs: Sequence[PairedReadings],
    priors: Mapping[Key, VariancePrior],
    policy: Policy,
    *,
    until_all_decided: bool = False,
) -> tuple[SuiteState | None, Mapping[Key, int]]:
    """(the suite's last state, per primary the pairs it was decided after) of recorded pairs, judged look by look.

    It stops where the gate would, or, with `until_all_decided`, once every primary is decided. The looks are those
    of the policy, however many pairs were recorded: a recording that is itself of gates that stopped early stays
    honest. None if the recording ends before the first look. Unequal numbers of pairs are cut to the smallest.

    Raises:
        ValueError: as `checks.gate.judge_suite`.
    """
    keys = [item.key for item in pairs]
    limit = suite_pair_limit(keys, priors, policy)
    recorded = min(item.pair_count for item in pairs)
    state: SuiteState | None = None
    frozen: Mapping[Key, Comparison] = {}
    decided: dict[Key, int] = {}
    primaries = policy.primaries(keys)
    for count in policy.looks(limit):
        if count > recorded:
            break
        state = judge_suite([_first(item, count) for item in pairs], priors, policy, frozen)
        frozen = state.frozen
        decided |= {key: count for key in frozen if key not in decided}
        if len(decided) == len(primaries) or (state.finished and not until_all_decided):
            break
    return state, decided


def replay_gates(
    recording: Recording, runner: str, policy: Policy
) -> tuple[tuple[ReplayedGate, ...], TooManyPrimaries | None]:
    """(every gate of a runner in order of nights, the first that has too many primaries or None).

    Without any primary there is nothing to judge, and no gate.
    """
    past = PastRounds()
    found: list[ReplayedGate] = []
    order = {build: index for index, build in enumerate(recording.builds.get(runner, ()))}
    legs = {
        (series.scenario, series.metric): {night.date: night for night in series.nights}
        for series in recording.of_runner(runner)
    }
    for date in recording.dates(runner):
        nights = {key: of_key[date] for key, of_key in legs.items() if date in of_key}
        measured = {each.build for night in nights.values() for each in night.builds}
        enough = sorted(
            {build for build in measured if any(_deployments(night, build, policy) for night in nights.values())},
            key=order.__getitem__,
        )
        for baseline, candidate in itertools.pairwise(enough):
            pairs = {key: paired(night, key, baseline, candidate, policy) for key, night in nights.items()}
            usable = [item for item in pairs.values() if item is not None]
            primaries = tuple(item.key for item in usable if policy.of(item.metric).primary)
            if len(primaries) > PRIMARY_COUNT_MAX:
                return tuple(found), TooManyPrimaries(runner, date, primaries)
            if not primaries:
                continue
            left_out = tuple(
                key
                for key, item in pairs.items()
                if item is None and (nights[key].of(baseline) or nights[key].of(candidate))
            )
            found.append(_gate(runner, date, (baseline, candidate), usable, past, policy, left_out))
    return tuple(found), None


def _gate(
    runner: str,
    date: str,
    builds: tuple[str, str],
    pairs: Sequence[PairedReadings],
    past: PastRounds,
    policy: Policy,
    left_out: tuple[Key, ...],
) -> ReplayedGate:
    keys = [item.key for item in pairs]
    pairing = (date, *builds)
    priors = past.priors(runner, keys, pairing)
    state, _ = judge_recorded(pairs, priors, policy)
    recorded = min(item.pair_count for item in pairs)
    judged = 0 if state is None else state.pair_count
    past.note(runner, [_first(item, judged) for item in pairs], pairing)
    return ReplayedGate(
        runner=runner,
        date=date,
        baseline=builds[0],
        candidate=builds[1],
        finding=Finding.INCONCLUSIVE if state is None else state.finding,
        pair_count=judged,
        pairs_recorded=recorded,
        pair_limit=suite_pair_limit(keys, priors, policy),
        comparisons=() if state is None else state.comparisons,
        left_out=left_out,
    )


def _deployments(night: Night, build: str, policy: Policy) -> bool:
    found = night.of(build)
    return found is not None and len(found.readings) >= policy.pair_count_min


def _first(item: PairedReadings, count: int) -> PairedReadings:
    return PairedReadings(item.scenario, item.metric, item.baseline[:count], item.candidate[:count])
