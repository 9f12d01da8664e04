"""One metric of a runner's A/A rounds: where its noise comes from, and which margin that noise supports."""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from checks.bimodality import COUNT_MIN, two_groups
from checks.effects import log_from_share, metric_named, share_from_log
from checks.false_alarms import AARound
from checks.gate import Key, PairedReadings
from checks.policy import Policy
from checks.power import detectable_log, repeats_best
from checks.successive import Drift, LagOne, Offset, drift, lag_one, round_offset
from checks.variance_components import Component, chi_square_quantile, nested_components
from redline.metrics import Metric

VARIANCE_CONFIDENCE = 0.80  # one-sided: the noise is at most this bound in four of five such series
REFUTED_ALPHA = 0.01  # over the primaries: what refutes a margin is the lower bound of the noise, not its estimate
NARROWER = 2 / 3  # a margin that could be this much narrower is worth a word
TWO_GROUPS_FALSE = 0.02  # what `checks.bimodality` is made for
GROUPS_ALPHA = 0.05
LOG_MAX = 20.0
PAIR_DF_NAMED_MAX = 10_000


class Margin(enum.StrEnum):
    """Whether this noise supports the policy's margin; OPEN: the estimate does, its upper bound does not."""

    SUPPORTED = "supported"
    NARROWER = "could be narrower"
    NOT_SUPPORTED = "not supported"
    OPEN = "more rounds needed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class WindowReading:
    """One metric in one counted window: which system, day, pair and deployment it belongs to.

    `start_s`: of the deployment; `duration_s`: of the window; `value` in the metric's base unit, above 0.
    """

    system: str
    day: str
    pair: str
    deployment: str
    value: float
    start_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class MetricHealth:
    """One metric. Standard deviations are of logs (about shares); margins are shares; None is unknown, never 0.

    `components`: day, deployment, repeat, in this order; `difference_sd`: of one paired difference D, pooled
    within rounds with `pair_df`; `trial_sd`: of one trial within its round; `arm_correlation`: of the two
    arms of a pair, which share a time; `day_apart_sd`: of one trial against one of another day, beside
    `day_apart_declared`, what the policy declares for stored comparisons. `differences`, `levels`: order of the
    pairs' differences and of their means; `drift`: of the means, a step is a pair. `group_found_count`: how many
    of `group_count` samples (one build, one day, five trials or more) fall into two groups; `bimodal`: more than
    chance. `margin_estimated` is from the variance of D, `margin_supported` from its upper 80 % bound.
    `repeats`: windows a deployment that would spend time best, were this metric alone.
    """

    scenario: str
    metric: str
    primary: bool
    margin: float
    answer: Margin
    margin_estimated: float | None
    margin_supported: float | None
    round_count: int
    pair_count: int
    pair_df: int
    difference_sd: float | None
    trial_sd: float | None
    arm_correlation: float | None
    components: tuple[Component, ...]
    day_apart_sd: float | None
    day_apart_declared: float
    differences: LagOne | None
    levels: LagOne | None
    drift: Drift | None
    offset: Offset | None
    group_count: int
    group_found_count: int
    bimodal: bool
    repeats: int | None

    @property
    def key(self) -> Key:
        """(scenario, metric)."""
        return self.scenario, self.metric


@dataclass(frozen=True, slots=True)
class _Spread:
    """Pooled within rounds: variance of D and of one trial, correlation of the arms, and df."""

    df: int
    difference: float | None
    trial: float | None
    correlation: float | None


def metric_health(
    key: Key, rounds: Sequence[AARound], windows: Sequence[WindowReading], policy: Policy, *, primary: bool, seed: int
) -> MetricHealth:
    """The health of one metric over the rounds that have it; `windows` are of the trials in them.

    Raises ValueError for a metric that the policy or the catalogue does not know.
    """
    metric, entry = metric_named(key[1]), policy.of(key[1])
    found = [(each, item) for each in rounds if (item := each.readings(key)) is not None]
    arms = [_arms(metric, item) for _, item in found]
    differences = [candidate - baseline for baseline, candidate in arms]
    levels = [(baseline + candidate) / 2 for baseline, candidate in arms]
    spread = _spread(arms)
    refuted, estimated, supported = _margins(spread, metric, policy, REFUTED_ALPHA / policy.primary_count)
    samples = _samples([(each, pair) for (each, _), pair in zip(found, arms, strict=True)])
    gap_min = abs(log_from_share(entry.margin, metric.better)) / 2
    groups = sum(two_groups(values, gap_min) for values in samples)
    components = _components(windows)
    return MetricHealth(
        scenario=key[0],
        metric=key[1],
        primary=primary,
        margin=entry.margin,
        answer=_answer(entry.margin, refuted, supported),
        margin_estimated=estimated,
        margin_supported=supported,
        round_count=sum(len(pair[0]) >= 2 for pair in arms),
        pair_count=sum(len(pair[0]) for pair in arms),
        pair_df=spread.df,
        difference_sd=_root(spread.difference),
        trial_sd=_root(spread.trial),
        arm_correlation=spread.correlation,
        components=components,
        day_apart_sd=_day_apart(components, spread),
        day_apart_declared=entry.stored_noise_share,
        differences=lag_one(differences, seed=seed),
        levels=lag_one(levels, seed=seed),
        drift=drift(levels),
        offset=round_offset(differences),
        group_count=len(samples),
        group_found_count=groups,
        bimodal=groups > 0 and float(special.bdtrc(groups - 1, len(samples), TWO_GROUPS_FALSE)) < GROUPS_ALPHA,
        repeats=_repeats(windows),
    )


def variance_high(variance: float, df: int) -> float:
    """The upper bound of a variance with `VARIANCE_CONFIDENCE`, by chi-square."""
    return variance * df / chi_square_quantile(df, 1 - VARIANCE_CONFIDENCE)


def pair_df_needed(ratio: float) -> int | None:
    """The df at which the bound of a standard deviation is at most `ratio` times it; None beyond what is sensible."""
    low, high = 0, PAIR_DF_NAMED_MAX
    if ratio <= 1 or variance_high(1.0, high) > ratio**2:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if variance_high(1.0, middle) <= ratio**2 else (middle, high)
    return high


def _arms(metric: Metric, item: PairedReadings) -> NDArray[np.float64]:
    """Oriented logs, shape (2, pairs): baseline, candidate."""
    return np.array([[metric.oriented_log(value) for value in arm] for arm in (item.baseline, item.candidate)])


def _spread(rounds: Sequence[NDArray[np.float64]]) -> _Spread:
    centred = [arms - arms.mean(axis=1, keepdims=True) for arms in rounds if arms.shape[1] >= 2]
    df = sum(arms.shape[1] - 1 for arms in centred)
    if df == 0:
        return _Spread(0, None, None, None)
    products = np.sum([arms @ arms.T for arms in centred], axis=0)
    own = math.sqrt(float(products[0, 0] * products[1, 1]))
    return _Spread(
        df=df,
        difference=float(products[0, 0] + products[1, 1] - 2 * products[0, 1]) / df,
        trial=float(products[0, 0] + products[1, 1]) / (2 * df),
        correlation=float(products[0, 1]) / own if own > 0 else None,
    )


def _margins(
    spread: _Spread, metric: Metric, policy: Policy, alpha: float
) -> tuple[float | None, float | None, float | None]:
    """The smallest margins that this noise resolves in the policy's pairs, as shares, from three variances.

    (from its lower bound at `alpha`, as estimated, from its upper bound): None without any spread.
    """
    if spread.difference is None:
        return None, None, None
    low = spread.difference * spread.df / chi_square_quantile(spread.df, 1 - alpha)
    variances = (low, spread.difference, variance_high(spread.difference, spread.df))
    logs = [min(detectable_log(variance, policy.pair_count_max), LOG_MAX) for variance in variances]
    refuted, estimated, supported = (share_from_log(each, metric.better) for each in logs)
    return refuted, estimated, supported


def _answer(margin: float, refuted: float | None, supported: float | None) -> Margin:
    """`refuted`: the narrowest margin that this noise may still resolve, `supported`: one that it does resolve."""
    if refuted is None or supported is None:
        return Margin.UNKNOWN
    if supported <= margin:
        return Margin.NARROWER if supported <= margin * NARROWER else Margin.SUPPORTED
    return Margin.NOT_SUPPORTED if refuted > margin else Margin.OPEN


def _samples(rounds: Sequence[tuple[AARound, NDArray[np.float64]]]) -> list[list[float]]:
    """Trials of one build on one day, both arms, where there are enough of them to look for two groups."""
    found: dict[tuple[str, str], list[float]] = {}
    for recorded, arms in rounds:
        found.setdefault((recorded.system, recorded.day), []).extend(arms.ravel().tolist())
    return [values for values in found.values() if len(values) >= COUNT_MIN]


def _components(windows: Sequence[WindowReading]) -> tuple[Component, ...]:
    if not windows:
        return tuple(Component(level, 0, unknown_because="no windows") for level in ("day", "deployment", "repeat"))
    found = nested_components(
        [math.log(each.value) for each in windows],
        [each.system for each in windows],
        [("day", [each.day for each in windows]), ("deployment", [each.deployment for each in windows])],
        "repeat",
    )
    if len({each.day for each in windows}) == 1:
        day = Component("day", 0, unknown_because="all rounds are of one day")
        return (day, *found[1:])
    return found


def _day_apart(components: Sequence[Component], spread: _Spread) -> float | None:
    """The standard deviation of the log difference between one trial and one of another day."""
    day = components[0].variance
    return None if day is None or spread.trial is None else math.sqrt(2 * day + 2 * spread.trial)


def _repeats(windows: Sequence[WindowReading]) -> int | None:
    """Windows a deployment that spend time best; None where deployments of a pair do not differ visibly.

    The deployment's share is that within pairs: what the arms of a pair have in common costs the gate nothing.
    """
    if not windows:
        return None
    _, deployment, repeat = nested_components(
        [math.log(each.value) for each in windows],
        [each.system for each in windows],
        [("pair", [each.pair for each in windows]), ("deployment", [each.deployment for each in windows])],
        "repeat",
    )
    start_s = statistics.fmean({each.deployment: each.start_s for each in windows}.values())
    duration_s = statistics.fmean(each.duration_s for each in windows)
    if not deployment.variance or not repeat.variance or duration_s <= 0 or start_s <= 0:
        return None
    return repeats_best(start_s, duration_s, deployment.variance, repeat.variance)


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(max(variance, 0.0))
