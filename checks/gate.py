"""The gate: paired trials of two builds, judged after every pair until the evidence is enough.

Per metric, with margin m, at each look (bounds spend their alpha over the looks, see `checks.boundaries`):

    upper bound (alpha regressed / primaries) < 0   improved
    upper bound (alpha no worse)              < m   no worse ("slower, within the margin" if lower bound > 0)
    lower bound (alpha regressed / primaries) > 0   regressed
    otherwise                                       another pair; at the last look inconclusive

A primary's finding freezes at its first conclusive look. The suite is regressed as soon as one primary is,
and no worse once all are; metrics that are not primary never decide anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from scipy import special, stats

from checks.boundaries import critical_value
from checks.effects import log_differences, log_from_share, metric_named, pairing_problem, share_from_log
from checks.estimate import Estimate, estimate, noise_multiplier
from checks.findings import not_compared, read_finding
from checks.footnotes import footnotes
from checks.policy import Policy
from checks.power import detectable_log, pair_limit, pairs_to_decide
from checks.prior import NO_PRIOR, VariancePrior
from redline.metrics import Better
from redline.model import Comparison, Finding

Key: TypeAlias = tuple[str, str]  # (scenario, metric)

CONCLUSIVE = frozenset({Finding.REGRESSED, Finding.IMPROVED, Finding.NO_WORSE, Finding.INVALID})
DESCRIPTIVE_Q = 0.10
LOOK_AT = f"look at: not a primary metric; Benjamini-Hochberg q = {DESCRIPTIVE_Q:g}"


@dataclass(frozen=True, slots=True)
class PairedReadings:
    """The readings of one metric in one scenario, one per pair and arm, in the order of measurement.

    Positive, in the metric's base unit; a missing reading is NaN. `request_count`: requests per window, so
    that a p99 can say what it rests on; `discard_count`: warm-up windows after each start that do not count;
    `dropped_count`: other windows dropped and measured again, both arms together.
    """

    scenario: str
    metric: str
    baseline: tuple[float, ...]
    candidate: tuple[float, ...]
    request_count: int | None = None
    discard_count: int = 0
    dropped_count: int = 0

    @property
    def key(self) -> Key:
        """(scenario, metric)."""
        return self.scenario, self.metric

    @property
    def pair_count(self) -> int:
        """Pairs begun: the longer arm."""
        return max(len(self.baseline), len(self.candidate))

    def first(self, count: int) -> PairedReadings:
        """The first `count` pairs alone."""
        return replace(self, baseline=self.baseline[:count], candidate=self.candidate[:count])


@dataclass(frozen=True, slots=True)
class SuiteState:
    """A suite after some pairs: `finding` is INCONCLUSIVE while `finished` is False.

    `comparisons`: primaries first, then descriptive metrics, each in the order given; `frozen`: the primaries
    that are decided, to hand to the next look unchanged; `pair_limit`: the most pairs this suite will take.
    """

    finding: Finding
    finished: bool
    pair_count: int
    pair_limit: int
    comparisons: tuple[Comparison, ...]
    frozen: Mapping[Key, Comparison]


def suite_pair_limit(keys: Sequence[Key], priors: Mapping[Key, VariancePrior], policy: Policy) -> int:
    """The most pairs a suite takes: one number for all its primaries, fixed before the first pair.

    The largest of clamp(ceil(24 variance / margin^2), 4, pair_count_max) over the primaries; pair_count_max
    if any of them has no history or the policy is fixed. It must not depend on today's readings: the bounds
    spend their error over these looks.
    """
    primaries = policy.primaries(keys)
    if policy.fixed or not all(priors.get(key, NO_PRIOR).known for key in primaries):
        return policy.pair_count_max
    floor = min(max(4, policy.pair_count_min), policy.pair_count_max)
    return max(
        pair_limit(priors[key].variance, _margin_log(key[1], policy), floor=floor, budget=policy.pair_count_max)
        for key in primaries
    )


def judge_metric(
    pairs: PairedReadings,
    prior: VariancePrior,
    policy: Policy,
    *,
    looks: tuple[int, ...],
    primary_count: int,
    multiplier: float = 1.0,
) -> Comparison:
    """The comparison of one metric at the look with this many pairs, as if it were primary.

    `effect_low` is the lower bound at alpha_regressed / primary_count, `effect_high` the upper bound at
    alpha_no_worse, both over all looks: together an interval with at least 95 % coverage.
    IMPROVED is read from the upper bound at alpha_regressed / primary_count, further out than `effect_high`.

    Raises:
        ValueError: unequal, missing, zero or negative readings; a number of pairs that is no look.
    """
    metric = metric_named(pairs.metric)
    differences = log_differences(metric, pairs.baseline, pairs.candidate)
    fit = estimate(differences, prior.scaled(multiplier))
    alpha_regressed = policy.alpha_regressed / primary_count
    reach_regressed = critical_value(alpha_regressed, looks, len(differences), fit.df) * fit.standard_error
    reach_no_worse = critical_value(policy.alpha_no_worse, looks, len(differences), fit.df) * fit.standard_error
    low, high = fit.location - reach_regressed, fit.location + reach_no_worse
    margin_log = log_from_share(policy.of(pairs.metric).margin, metric.better)
    finding = read_finding(fit.location, reach_regressed, reach_no_worse, margin_log)
    needed = None
    if finding is Finding.INCONCLUSIVE:
        needed = pairs_to_decide(
            fit.location,
            fit.variance,
            fit.pair_count,
            margin_log,
            alpha_regressed=alpha_regressed,
            alpha_no_worse=policy.alpha_no_worse,
        )
    method = (
        f"{_estimator(prior)}; look {looks.index(fit.pair_count) + 1} of {len(looks)}, lower bound at "
        f"{alpha_regressed:.2g}, upper at {policy.alpha_no_worse:.2g}, spent over the looks"
    )
    comparison = _comparison(pairs, policy, prior, fit, (low, high), looks[-1], multiplier)
    return replace(comparison, finding=finding, primary=True, pairs_needed=needed, method=method)


def judge_suite(
    pairs: Sequence[PairedReadings],
    priors: Mapping[Key, VariancePrior],
    policy: Policy,
    frozen: Mapping[Key, Comparison],
) -> SuiteState:
    """The state of a suite after the pairs measured so far. Call it after every pair with the last `frozen`.

    A primary whose readings cannot be judged makes the suite INVALID, unless another primary is regressed:
    that was proven on readings that can. Before the first look there is nothing but "unfinished".

    Raises:
        ValueError: no pairs, a key given twice, a metric the policy does not know, no or more than 6
            primaries, or more pairs than the suite's limit.
    """
    keys = [item.key for item in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a (scenario, metric) is given twice")
    primary_keys = policy.primaries(keys)
    limit = suite_pair_limit(keys, priors, policy)
    count = max(item.pair_count for item in pairs if item.key in primary_keys)
    if count > limit:
        raise ValueError(f"{count} pairs, but this suite was planned for at most {limit}")
    looks = policy.looks(limit)
    if count < looks[0]:
        return SuiteState(
            Finding.INCONCLUSIVE,
            finished=False,
            pair_count=count,
            pair_limit=limit,
            comparisons=(),
            frozen=dict(frozen),
        )
    problems = {item.key: _problem(item, count) for item in pairs}
    deciding = [item for item in pairs if item.key in primary_keys]
    multiplier = _multiplier([item for item in deciding if not problems[item.key]], priors)
    decided = dict(frozen)
    primaries = []
    for item in deciding:
        if item.key in decided:
            comparison = decided[item.key]
        elif problems[item.key]:
            comparison = _invalid(item, policy, problems[item.key], primary=True)
        else:
            prior = priors.get(item.key, NO_PRIOR)
            comparison = judge_metric(
                item, prior, policy, looks=looks, primary_count=len(deciding), multiplier=multiplier
            )
        primaries.append(comparison)
        if comparison.finding in CONCLUSIVE:
            decided[item.key] = comparison
    others = [item for item in pairs if item.key not in primary_keys]
    described = _describe(others, problems, priors, policy, limit, multiplier)
    finding = _suite_finding([comparison.finding for comparison in primaries])
    finished = finding is not Finding.INCONCLUSIVE or count == limit
    return SuiteState(finding, finished, count, limit, (*primaries, *described), decided)


def judge_look_by_look(
    pairs: Sequence[PairedReadings], priors: Mapping[Key, VariancePrior], policy: Policy
) -> SuiteState | None:
    """A suite whose pairs are all there, judged as the gate would have: after every look, until it is finished.

    None where the pairs end before that; pairs beyond the suite's limit are not looked at. Raises as `judge_suite`.
    """
    limit = suite_pair_limit([item.key for item in pairs], priors, policy)
    frozen: Mapping[Key, Comparison] = {}
    for count in policy.looks(limit):
        if count > min(item.pair_count for item in pairs):
            return None
        state = judge_suite([item.first(count) for item in pairs], priors, policy, frozen)
        if state.finished:
            return state
        frozen = state.frozen
    return None


def _multiplier(pairs: Sequence[PairedReadings], priors: Mapping[Key, VariancePrior]) -> float:
    """Today's noise relative to history, over the primaries that can be read."""
    differences = [log_differences(metric_named(item.metric), item.baseline, item.candidate) for item in pairs]
    return noise_multiplier(differences, [priors.get(item.key, NO_PRIOR) for item in pairs])


def _suite_finding(findings: Sequence[Finding]) -> Finding:
    """One finding over the primaries: the first of this order that any of them has; improved needs one."""
    for finding in (Finding.REGRESSED, Finding.INVALID, Finding.INCONCLUSIVE, Finding.IMPROVED):
        if finding in findings:
            return finding
    return Finding.NO_WORSE


def _describe(
    pairs: Sequence[PairedReadings],
    problems: Mapping[Key, str],
    priors: Mapping[Key, VariancePrior],
    policy: Policy,
    limit: int,
    multiplier: float,
) -> list[Comparison]:
    """Descriptive metrics: plain 95 % intervals, a direction only where Benjamini-Hochberg finds one.

    Source: Benjamini and Hochberg 1995. The interval and p are those of this look alone.
    """
    fits = {
        item.key: estimate(
            log_differences(metric_named(item.metric), item.baseline, item.candidate),
            priors.get(item.key, NO_PRIOR).scaled(multiplier),
        )
        for item in pairs
        if not problems[item.key]
    }
    if fits:
        adjusted = stats.false_discovery_control([fit.p_two_sided for fit in fits.values()], method="bh")
        noticed = {key: float(p) <= DESCRIPTIVE_Q for key, p in zip(fits, np.atleast_1d(adjusted), strict=True)}
    else:
        noticed = {}
    described = []
    for item in pairs:
        if problems[item.key]:
            described.append(_invalid(item, policy, problems[item.key], primary=False))
            continue
        fit, prior = fits[item.key], priors.get(item.key, NO_PRIOR)
        reach = -float(special.stdtrit(fit.df, 0.025)) * fit.standard_error
        interval = (fit.location - reach, fit.location + reach)
        comparison = _comparison(item, policy, prior, fit, interval, limit, multiplier)
        finding = Finding.INCONCLUSIVE
        if noticed[item.key] and fit.location < 0:
            finding = Finding.IMPROVED
        elif interval[1] < _margin_log(item.metric, policy):
            finding = Finding.NO_WORSE
        elif noticed[item.key]:
            finding = Finding.REGRESSED
        described.append(
            replace(
                comparison,
                finding=finding,
                primary=False,
                method=f"{_estimator(prior)}; descriptive, 95 % interval of this look alone",
                warnings=(*((LOOK_AT,) if noticed[item.key] else ()), *comparison.warnings),
            )
        )
    return described


def _comparison(
    pairs: PairedReadings,
    policy: Policy,
    prior: VariancePrior,
    fit: Estimate,
    interval: tuple[float, float],
    limit: int,
    multiplier: float,
) -> Comparison:
    """Everything but the finding: shares from logs, medians of the arms, warnings."""
    better = metric_named(pairs.metric).better
    margin = policy.of(pairs.metric).margin
    detectable = _share_bounded(detectable_log(fit.variance, limit), better)
    comparison = Comparison(
        scenario=pairs.scenario,
        metric=pairs.metric,
        finding=Finding.INCONCLUSIVE,
        primary=True,
        baseline=float(np.median(pairs.baseline)),
        candidate=float(np.median(pairs.candidate)),
        effect=share_from_log(fit.location, better),
        effect_low=_share_bounded(interval[0], better),
        effect_high=_share_bounded(interval[1], better),
        margin=margin,
        pair_count=fit.pair_count,
        df=fit.df,
        p_two_sided=fit.p_two_sided,
        effect_detectable=detectable,
        method="",
        noise_multiplier=multiplier if prior.known else 1.0,
        prior_df=fit.prior_df,
        clipped_count=fit.clipped_count,
    )
    notes = footnotes(
        comparison,
        prior_known=prior.known,
        arms=(pairs.baseline, pairs.candidate),
        request_count=pairs.request_count,
        discard_count=pairs.discard_count,
        dropped_count=pairs.dropped_count,
    )
    return replace(comparison, warnings=notes)


def _invalid(pairs: PairedReadings, policy: Policy, problem: str, *, primary: bool) -> Comparison:
    return not_compared(pairs.scenario, pairs.metric, policy.of(pairs.metric).margin, problem, primary=primary)


def _problem(pairs: PairedReadings, pair_count: int) -> str:
    problem = pairing_problem(pairs.baseline, pairs.candidate)
    if not problem and len(pairs.baseline) != pair_count:
        problem = f"readings of {pair_count - len(pairs.baseline)} of {pair_count} pairs are missing"
        if len(pairs.baseline) > pair_count:
            problem = f"readings of {len(pairs.baseline)} pairs where the primaries have {pair_count}"
    return problem


def _margin_log(metric: str, policy: Policy) -> float:
    return log_from_share(policy.of(metric).margin, metric_named(metric).better)


def _share_bounded(difference: float, better: Better) -> float:
    """A bound as a share; logs are capped at +-20 so that a hopeless interval stays a finite number."""
    return share_from_log(min(max(difference, -20.0), 20.0), better)


def _estimator(prior: VariancePrior) -> str:
    return "Huber location of paired log differences, moderated variance" if prior.known else "paired t on logs"
