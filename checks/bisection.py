"""Bisection: which pair of builds to measure next, when to stop, and what may be said then. Pure.

Both ends are read first. If the gate's own rule finds them apart, each further reading goes to the build where it is
expected to cut the posterior's entropy most per second. Once one build (or a range that cannot be told apart, because
the builds inside cannot be measured) holds `SHARE_NAMED` of the probability, it is put to a gate against its parent,
and named only if that finds it regressed. Everything follows from the evidence alone: `next_step` of the same evidence
gives the same step, so a bisection that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass, field, replace

import numpy as np

from checks.culprit import LevelReading, Posterior, equal_weights, gains, posterior
from checks.effects import log_from_share, metric_named
from checks.gate import PairedReadings, judge_metric
from checks.policy import Policy
from checks.prior import NO_PRIOR, PRIOR_DF_MAX, VariancePrior
from redline.metrics import Metric
from redline.model import Comparison, Finding, require

END_PAIRS = 5
SHARE_NAMED = 0.99
READINGS_MAX = 80
CONFIRMATIONS_MAX = 3


class Purpose(enum.StrEnum):
    """Why a pair is measured: readings of the ends and of the search share build 0 as their baseline."""

    END = "end"
    SEARCH = "search"
    CONFIRMATION = "confirmation"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two builds to be measured side by side, by number: `candidate` against `baseline`."""

    baseline: int
    candidate: int
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class PairReading:
    """One measured pair: the metric's readings of both arms, positive, in its base unit."""

    pair: Pair
    baseline: float
    candidate: float

    def __post_init__(self) -> None:
        require(0 < self.baseline < float("inf"), "baseline must be positive and finite")
        require(0 < self.candidate < float("inf"), "candidate must be positive and finite")

    def difference(self, metric: Metric) -> float:
        """D in oriented logs: above 0 the candidate is worse."""
        return metric.oriented_log(self.candidate) - metric.oriented_log(self.baseline)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was learned: the readings in their order, and the builds that cannot be measured."""

    readings: tuple[PairReading, ...] = ()
    skipped: frozenset[int] = frozenset()

    def of(self, purpose: Purpose, baseline: int, candidate: int) -> tuple[PairReading, ...]:
        """The readings of one pair of builds for one purpose."""
        wanted = Pair(baseline, candidate, purpose)
        return tuple(each for each in self.readings if each.pair == wanted)

    @property
    def confirmed_pairs(self) -> tuple[tuple[int, int], ...]:
        """(parent, culprit) of every confirmation begun, in order."""
        chosen = [each.pair for each in self.readings if each.pair.purpose is Purpose.CONFIRMATION]
        return tuple(dict.fromkeys((each.baseline, each.candidate) for each in chosen))

    @property
    def reading_count(self) -> int:
        """Pairs of the ends and of the search; those of confirmations are counted apart."""
        return sum(each.pair.purpose is not Purpose.CONFIRMATION for each in self.readings)


@dataclass(frozen=True, slots=True)
class Bisection:
    """What is asked: builds 0 (good) to `last` (bad) in one scenario and metric, and how it is decided.

    `policy`: that of a confirmation; `prior`: of the variance of D; `weights`: how likely each of the builds
    1 ... last is beforehand, empty for equally; `readings_max`: bound of the readings of ends and search.
    """

    last: int
    scenario: str
    metric: str
    policy: Policy
    prior: VariancePrior = NO_PRIOR
    weights: tuple[float, ...] = ()
    readings_max: int = READINGS_MAX

    def __post_init__(self) -> None:
        require(self.last >= 1, "a bisection needs a good build and a later bad one")
        require(not self.weights or len(self.weights) == self.last, "weights must have one entry per candidate")
        require(self.readings_max >= 2 * END_PAIRS, f"readings_max must be at least {2 * END_PAIRS}: the ends' own")
        self.policy.of(self.metric)


@dataclass(frozen=True, slots=True)
class Costs:
    """Expected seconds: of one reading, and of installing each of the builds 0 ... last (0: it is there)."""

    reading_s: float
    install_s: tuple[float, ...]


class Outcome(enum.StrEnum):
    """How a bisection ends. Only NAMED names a culprit."""

    NAMED = "named"
    ENDS_EQUAL = "ends do not differ"
    GAVE_UP = "gave up"


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer. The culprit is one of `first` ... `last` (one build if they are equal); 0 and 0 if unknown.

    `comparison`: what it rests on: the culprit against its parent, or the bad end against the good one.
    """

    outcome: Outcome
    reason: str
    first: int = 0
    last: int = 0
    comparison: Comparison | None = None
    posterior: Posterior | None = field(default=None, compare=False)

    @property
    def parent(self) -> int:
        """The last good build before the culprit."""
        return max(self.first - 1, 0)


Step = Pair | Ended


def next_step(asked: Bisection, evidence: Evidence, costs: Costs) -> Step:
    """The pair to measure next, or the answer.

    Raises:
        ValueError: an end is among the skipped builds: then there is nothing to compare with.
    """
    require(not {0, asked.last} & evidence.skipped, "the good and the bad end must be measurable")
    if asked.last == 1:
        return _only_candidate(asked, evidence)
    ends = _ends(asked, evidence)
    if ends is not None:
        return ends
    found = posterior_of(asked, evidence)
    assert found is not None  # the ends have readings
    begun = _open_confirmation(asked, evidence)
    if begun is not None:
        return begun
    confirmed = _confirmed(asked, evidence)
    if confirmed is not None:
        return _named(asked, evidence, confirmed, found)
    parent, culprit = likeliest(asked, evidence, found)
    if found.between(parent, culprit) >= SHARE_NAMED:
        return _to_confirm(asked, evidence, parent, culprit, found)
    if evidence.reading_count >= asked.readings_max:
        return _gave_up(f"no build stood out after {evidence.reading_count} readings", parent, culprit, found)
    return Pair(0, _most_telling(asked, evidence, found, costs), Purpose.SEARCH)


def posterior_of(asked: Bisection, evidence: Evidence) -> Posterior | None:
    """The posterior over builds 1 ... last, from every reading; None until both ends have been read."""
    metric = metric_named(asked.metric)
    readings = [
        LevelReading(each.pair.candidate, each.difference(metric), each.pair.baseline) for each in evidence.readings
    ]
    if not {0, asked.last} <= {each.build for each in readings if each.against == 0}:
        return None
    return posterior(asked.weights or equal_weights(asked.last), readings, asked.prior, _margin_log(asked))


def likeliest(asked: Bisection, evidence: Evidence, found: Posterior) -> tuple[int, int]:
    """(parent, culprit) of the likeliest step between two neighbours among the builds that can be measured.

    The culprit is then one of parent + 1 ... culprit: one build, unless those between could not be measured.
    """
    usable = np.ones(asked.last + 1, dtype=bool)
    usable[list(evidence.skipped)] = False
    measurable = np.flatnonzero(usable)
    shares = np.add.reduceat(found.shares, measurable[:-1])  # the ends are among the measurable
    likeliest_step = int(np.argmax(shares))
    return int(measurable[likeliest_step]), int(measurable[likeliest_step + 1])


def prior_today(asked: Bisection, evidence: Evidence) -> VariancePrior:
    """The prior of the two tests: history and the good end against itself, whose true difference is nothing.

    Both are known before any pair that is tested, and the same for all of them.
    """
    metric = metric_named(asked.metric)
    own = [each.difference(metric) for each in evidence.of(Purpose.END, 0, 0)[:END_PAIRS]]
    squares = sum(value * value for value in own)
    if len(own) < END_PAIRS or squares == 0:
        return asked.prior
    df = asked.prior.df + len(own)
    return VariancePrior(min(df, PRIOR_DF_MAX), (asked.prior.df * asked.prior.variance + squares) / df)


def judged(asked: Bisection, evidence: Evidence, baseline: int, candidate: int) -> tuple[Comparison | None, bool]:
    """(the comparison of a tested pair, whether more pairs would change nothing): confirmations, and the ends.

    A finding freezes at its first conclusive look, as in the gate. None before the first look.
    """
    is_end = (baseline, candidate) == (0, asked.last) and asked.last > 1
    readings = evidence.of(Purpose.END if is_end else Purpose.CONFIRMATION, baseline, candidate)
    prior = prior_today(asked, evidence)
    limit = asked.policy.pair_count_max
    looks = tuple(range(END_PAIRS, max(limit, END_PAIRS) + 1)) if is_end else asked.policy.looks(limit)
    values = tuple((each.baseline, each.candidate) for each in readings[: looks[-1]])
    comparison = _judged(asked.scenario, asked.metric, values, prior, asked.policy, looks)
    decided = comparison is not None and comparison.finding is not Finding.INCONCLUSIVE
    return comparison, decided or len(values) >= looks[-1]


@functools.lru_cache(maxsize=256)
def _judged(
    scenario: str,
    metric: str,
    values: tuple[tuple[float, float], ...],
    prior: VariancePrior,
    policy: Policy,
    looks: tuple[int, ...],
) -> Comparison | None:
    """The comparison at the first conclusive look, else at the last one."""
    if not values or len(values) < looks[0]:
        return None
    earlier = _judged(scenario, metric, values[:-1], prior, policy, looks)
    if len(values) not in looks or (earlier is not None and earlier.finding is not Finding.INCONCLUSIVE):
        return earlier
    pairs = PairedReadings(scenario, metric, tuple(each[0] for each in values), tuple(each[1] for each in values))
    return judge_metric(pairs, prior, policy, looks=looks, primary_count=1)


def _margin_log(asked: Bisection) -> float:
    return log_from_share(asked.policy.of(asked.metric).margin, metric_named(asked.metric).better)


def _ends(asked: Bisection, evidence: Evidence) -> Step | None:
    """The next reading of an end, or the answer if the ends do not differ; None once they do."""
    good, bad = (len(evidence.of(Purpose.END, 0, end)) for end in (0, asked.last))
    if min(good, bad) < END_PAIRS:
        return Pair(0, 0 if good <= bad else asked.last, Purpose.END)
    comparison, finished = judged(asked, evidence, 0, asked.last)
    assert comparison is not None  # the first look is after END_PAIRS
    if comparison.finding is Finding.REGRESSED:
        return None
    if not finished and evidence.reading_count < asked.readings_max:
        return Pair(0, asked.last, Purpose.END)
    return _of_no_step(comparison)


def _of_no_step(comparison: Comparison) -> Ended:
    """What is said where the bad end was not found worse than the good one."""
    match comparison.finding:
        case Finding.IMPROVED:
            reason = "the ends do not differ as asked: the bad end is better than the good one"
        case Finding.NO_WORSE:
            reason = "the ends do not differ: the bad end is no worse than the good one, within the margin"
        case _:
            count = comparison.pair_count
            return Ended(Outcome.GAVE_UP, f"the ends could not be told apart in {count} pairs", comparison=comparison)
    return Ended(Outcome.ENDS_EQUAL, reason, comparison=comparison)


def _only_candidate(asked: Bisection, evidence: Evidence) -> Step:
    """One candidate: nothing to search, it is the culprit if the gate finds it regressed."""
    comparison, finished = judged(asked, evidence, 0, 1)
    if comparison is None or not finished:
        return Pair(0, 1, Purpose.CONFIRMATION)
    if comparison.finding is Finding.REGRESSED:
        return Ended(Outcome.NAMED, "the only candidate, confirmed against its parent", 1, 1, comparison)
    return _of_no_step(comparison)


def _open_confirmation(asked: Bisection, evidence: Evidence) -> Pair | None:
    """The next pair of a confirmation that is begun and not decided; one whose builds were skipped is given up."""
    for parent, culprit in evidence.confirmed_pairs:
        if not {parent, culprit} & evidence.skipped and not judged(asked, evidence, parent, culprit)[1]:
            return Pair(parent, culprit, Purpose.CONFIRMATION)
    return None


def _confirmed(asked: Bisection, evidence: Evidence) -> tuple[int, int, Comparison] | None:
    """(parent, culprit, comparison) of the confirmation that found the culprit regressed, if one did."""
    for parent, culprit in evidence.confirmed_pairs:
        comparison, finished = judged(asked, evidence, parent, culprit)
        if finished and comparison is not None and comparison.finding is Finding.REGRESSED:
            return parent, culprit, comparison
    return None


def _named(asked: Bisection, evidence: Evidence, confirmed: tuple[int, int, Comparison], found: Posterior) -> Ended:
    parent, culprit, comparison = confirmed
    reason = "confirmed against its parent"
    if culprit - parent > 1:
        reason += f"; the builds between could not be measured, so it is one of {culprit - parent}"
    whole, _ = judged(asked, evidence, 0, asked.last)
    if whole is not None and comparison.effect_high < whole.effect:
        reason += "; it explains only a part of what the ends differ by: there may be another"
    return Ended(Outcome.NAMED, reason, parent + 1, culprit, comparison, found)


def _to_confirm(asked: Bisection, evidence: Evidence, parent: int, culprit: int, found: Posterior) -> Step:
    """The first pair of a confirmation, unless this one has failed already or too many have."""
    begun = evidence.confirmed_pairs
    if (parent, culprit) == (0, asked.last):  # nothing between can be measured: the ends' own comparison is the gate
        whole, _ = judged(asked, evidence, parent, culprit)
        assert whole is not None
        return _named(asked, evidence, (parent, culprit, whole), found)
    if (parent, culprit) in begun:
        comparison, _ = judged(asked, evidence, parent, culprit)
        said = comparison.finding.value if comparison is not None else "not judged"
        reason = f"the likeliest culprit was not confirmed: against its parent it is {said}"
        return replace(_gave_up(reason, parent, culprit, found), comparison=comparison)
    if len(begun) >= CONFIRMATIONS_MAX:
        return _gave_up(f"{len(begun)} confirmations failed", parent, culprit, found)
    return Pair(parent, culprit, Purpose.CONFIRMATION)


def _gave_up(reason: str, parent: int, culprit: int, found: Posterior) -> Ended:
    return Ended(Outcome.GAVE_UP, reason, parent + 1, culprit, posterior=found)


def _most_telling(asked: Bisection, evidence: Evidence, found: Posterior, costs: Costs) -> int:
    """The build whose reading is expected to tell most per second; the earliest of equals."""
    seconds = costs.reading_s + np.asarray(costs.install_s)
    rate = gains(found) / np.maximum(seconds, 1e-9)
    rate[[0, asked.last, *evidence.skipped]] = -1.0
    return int(np.argmax(rate))
