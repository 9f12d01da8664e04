"""A suite before it is measured: what its noise can resolve, and what it will probably take and find.

Made-up suites with the noise of past rounds are judged by the shipped code. A plan decides nothing: the pair limit
that it names is the only figure that the gate itself will use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from checks.boundaries import critical_value
from checks.effects import log_from_share, metric_named, share_from_log
from checks.gate import Key, PairedReadings, judge_look_by_look, suite_pair_limit
from checks.policy import Policy
from checks.power import RESOLUTION, detectable_log
from checks.prior import NO_PRIOR, VariancePrior
from checks.simulation import Rates
from redline.metrics import Better
from redline.model import Finding, require

EFFECT_MAX = 0.95  # a throughput cannot be 100 % worse


@dataclass(frozen=True, slots=True)
class MetricPlan:
    """What is known of one primary metric before the first pair.

    `margin`: share; `round_count`: past rounds on this machine; `prior_df`: what they are worth, 0 without any.
    `pair_cv`: standard deviation of one paired log difference; `detectable`: the minimum detectable effect with
    the suite's pair limit, a share; `half_width`: how far the upper bound will lie above the estimate at the last
    look, a log. These three are None without history: nobody knows them.
    """

    scenario: str
    metric: str
    margin: float
    round_count: int
    prior_df: float
    pair_cv: float | None
    detectable: float | None
    half_width: float | None

    @property
    def key(self) -> Key:
        """(scenario, metric)."""
        return self.scenario, self.metric


@dataclass(frozen=True, slots=True)
class Outlook:
    """What becomes of a suite if one metric is `effect` worse (a share; 0: equal builds) and the others are equal.

    `margins`: the effect in margins as it was asked for, 0, 1 or 2.
    """

    margins: int
    key: Key
    effect: float
    rates: Rates


@dataclass(frozen=True, slots=True)
class SuitePlan:
    """A suite before it is measured. `assumed`: the primaries without history, whose noise is assumed.

    `looks`: the numbers of pairs after which it is judged; the last is the pair limit. `outlooks`: equal builds, then
    the metric that is hardest to resolve at its margin and at twice its margin.
    """

    looks: tuple[int, ...]
    metrics: tuple[MetricPlan, ...]
    assumed: tuple[Key, ...]
    outlooks: tuple[Outlook, ...]
    warnings: tuple[str, ...]

    @property
    def pair_limit(self) -> int:
        """The most pairs that will be measured."""
        return self.looks[-1]


def plan_suite(
    keys: Sequence[Key],
    priors: Mapping[Key, VariancePrior],
    round_counts: Mapping[Key, int],
    policy: Policy,
    *,
    seed: int,
    suite_count: int,
) -> SuitePlan:
    """The plan of a suite that reads `keys`, of which the policy's primaries count.

    Each outlook simulates `suite_count` suites; `round_counts`: past rounds behind each prior.
    Raises ValueError as `Policy.primaries`.
    """
    primaries = policy.primaries(keys)
    limit = suite_pair_limit(primaries, priors, policy)
    variances = expected_variances(priors, policy, primaries)
    metrics = tuple(_metric_plan(key, priors, round_counts, policy, limit) for key in primaries)
    hardest = max(primaries, key=lambda key: math.sqrt(variances[key]) / _margin_log(key, policy))
    outlooks = []
    for margins in (0, 1, 2):
        effect = min(margins * policy.of(hardest[1]).margin, EFFECT_MAX)
        rates = expected_pairs(
            priors, policy, primaries, {hardest: effect}, seed=seed + margins, suite_count=suite_count
        )
        outlooks.append(Outlook(margins, hardest, effect, rates))
    return SuitePlan(
        looks=policy.looks(limit),
        metrics=metrics,
        assumed=tuple(key for key in primaries if not priors.get(key, NO_PRIOR).known),
        outlooks=tuple(outlooks),
        warnings=tuple(text for metric in metrics if (text := _warning(metric, policy, limit))),
    )


def expected_variances(priors: Mapping[Key, VariancePrior], policy: Policy, keys: Sequence[Key]) -> dict[Key, float]:
    """The variance of one D per primary of `keys` that a plan counts on: the prior's.

    Without history it is unknown; what is returned is an assumption, to be named as one: the largest variance at
    which this many pairs still resolve the margin, so that the minimum detectable effect equals the margin.
    """
    primaries = policy.primaries(keys)
    limit = suite_pair_limit(primaries, priors, policy)
    found = {}
    for key in primaries:
        prior = priors.get(key, NO_PRIOR)
        found[key] = prior.variance if prior.known else _margin_log(key, policy) ** 2 * limit / RESOLUTION
    return found


def expected_pairs(
    priors: Mapping[Key, VariancePrior],
    policy: Policy,
    keys: Sequence[Key],
    effects: Mapping[Key, float],
    *,
    seed: int,
    suite_count: int,
) -> Rates:
    """How often each finding comes out, and after how many pairs, of suites whose candidate has these `effects`.

    `effects`: oriented shares, 0 where a key is missing. The noise is normal, as large as `expected_variances`, and
    independent between metrics, which is the hard case for a pass; the suites are judged by the shipped code under
    these very priors.
    """
    require(suite_count >= 1, "suite_count must be at least 1")
    primaries = policy.primaries(keys)
    limit = suite_pair_limit(primaries, priors, policy)
    variances = expected_variances(priors, policy, primaries)
    generator = np.random.default_rng(seed)
    findings: list[Finding] = []
    pair_counts: list[int] = []
    for _ in range(suite_count):
        readings = {key: _arms(key[1], variances[key], effects.get(key, 0.0), limit, generator) for key in primaries}
        finding, pair_count = _judged(readings, priors, policy)
        findings.append(finding)
        pair_counts.append(pair_count)
    return Rates(
        suite_count=suite_count,
        shares={finding: findings.count(finding) / suite_count for finding in dict.fromkeys(findings)},
        pairs_mean=sum(pair_counts) / suite_count,
        pairs_max=max(pair_counts),
    )


def _judged(
    readings: Mapping[Key, tuple[tuple[float, ...], tuple[float, ...]]],
    priors: Mapping[Key, VariancePrior],
    policy: Policy,
) -> tuple[Finding, int]:
    """(finding, pairs) of one suite, looked at as the gate would."""
    state = judge_look_by_look([PairedReadings(*key, *arms) for key, arms in readings.items()], priors, policy)
    assert state is not None  # there are as many pairs as the suite may take
    return state.finding, state.pair_count


def _arms(
    metric: str, variance: float, effect: float, count: int, generator: np.random.Generator
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Readings around 1 of both arms whose difference of logs has this variance and effect (a share)."""
    better = metric_named(metric).better
    logs = math.sqrt(variance / 2) * generator.standard_normal((2, count))
    logs[1] += log_from_share(effect, better)
    values = np.exp(logs if better is Better.LOWER else -logs)
    return tuple(values[0].tolist()), tuple(values[1].tolist())


def _metric_plan(
    key: Key, priors: Mapping[Key, VariancePrior], round_counts: Mapping[Key, int], policy: Policy, limit: int
) -> MetricPlan:
    prior, margin = priors.get(key, NO_PRIOR), policy.of(key[1]).margin
    if not prior.known:
        return MetricPlan(*key, margin, round_counts.get(key, 0), 0.0, None, None, None)
    reach = critical_value(policy.alpha_no_worse, policy.looks(limit), limit, prior.df + limit - 1)
    return MetricPlan(
        *key,
        margin=margin,
        round_count=round_counts.get(key, 0),
        prior_df=prior.df,
        pair_cv=math.sqrt(prior.variance),
        detectable=share_from_log(detectable_log(prior.variance, limit), metric_named(key[1]).better),
        half_width=reach * math.sqrt(prior.variance / limit),
    )


def _warning(metric: MetricPlan, policy: Policy, limit: int) -> str:
    """What a reader must know if this metric's noise is too large for its margin; empty if it is not."""
    if metric.detectable is None or metric.pair_cv is None or metric.detectable <= metric.margin:
        return ""
    margin_log = _margin_log(metric.key, policy)
    pairs = math.ceil(RESOLUTION * metric.pair_cv**2 / margin_log**2)
    quiet = margin_log / math.sqrt(RESOLUTION / limit)
    setting = "[signoff] pair_count" if policy.fixed else "pair_count_max"
    return (
        f"{metric_named(metric.metric).label} of {metric.scenario}: {limit} pairs resolve "
        f"{_percent(metric.detectable)}, the margin is {_percent(metric.margin)}: it may well end undecided. "
        f"What would help: about {pairs} pairs "
        f"({setting} of the policy), a quieter machine (a CV of a pair of {_percent(quiet)}, now "
        f"{_percent(metric.pair_cv)}), or a margin of {_percent(metric.detectable)}"
    )


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _margin_log(key: Key, policy: Policy) -> float:
    return log_from_share(policy.of(key[1]).margin, metric_named(key[1]).better)
