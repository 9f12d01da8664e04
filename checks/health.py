"""Do a runner's A/A rounds support the policy in use? And if not, which margins do they support?

A policy is supported if every primary's margin is one that this runner's noise can resolve in the policy's
pairs, with the noise at the upper end of what the rounds allow, and if nothing in them says that the method's
assumptions fail here: more alarms than the policy grants, pairs that depend on the ones before them, rounds
whose arms lie further apart than their pairs explain. Anything less is "not enough data", never "supported".
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import special

from checks.effects import log_from_share, metric_named
from checks.false_alarms import AARound, Counted, Resampled, count_alarms, resample
from checks.gate import Key
from checks.metric_health import (
    Margin,
    MetricHealth,
    WindowReading,
    metric_health,
    pair_df_needed,
)
from checks.policy import Policy
from checks.prior import VariancePrior

ROUNDS_MIN = 5
PAIR_DF_MIN = 10  # below it the upper bound of the variance is over 1.6 times the estimate
ROUNDS_NAMED_MAX = 100
SUITE_COUNT = 300
ALPHA = 0.01  # of each check that can refuse a policy, over its primaries
WARNING_ALPHA = 0.05  # of each warning, over the primaries
PASSED_SHARE_MIN = 0.8


class Support(enum.StrEnum):
    """Whether the rounds support the policy."""

    SUPPORTED = "supports the policy"
    NOT_SUPPORTED = "does not support the policy"
    NOT_ENOUGH = "not enough data"


def together(found: Sequence[Support]) -> Support:
    """What series that answer the same question say together: refuted by one of them, else supported by one.

    The same suite on other machines, or on other nodes of a cluster: a stray round on one of them takes nothing from
    what the others support. NOT_ENOUGH without a series.
    """
    for each in (Support.NOT_SUPPORTED, Support.SUPPORTED):
        if each in found:
            return each
    return Support.NOT_ENOUGH


@dataclass(frozen=True, slots=True)
class SuiteHealth:
    """The answer about one series of A/A rounds: one machine, one set of scenarios in one version each.

    `reasons`: what decided, in words; `warnings`: what did not decide and should be known. `rounds_wanted`:
    about how many more rounds would decide; None where that is not the problem, or nobody would wait for it.
    """

    support: Support
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    rounds_wanted: int | None
    round_count: int
    day_count: int
    system_count: int
    pair_count: int
    metrics: tuple[MetricHealth, ...]
    counted: Counted
    resampled: Resampled | None


def suite_health(
    rounds: Sequence[AARound],
    windows: Mapping[Key, Sequence[WindowReading]],
    keys: Sequence[Key],
    priors: Mapping[Key, VariancePrior],
    policy: Policy,
    *,
    seed: int,
    suite_count: int = SUITE_COUNT,
) -> SuiteHealth:
    """The health of one series.

    `rounds`: oldest first; `windows`: of the trials in them, by metric; `keys`: every metric of the suite;
    `priors`: from all recorded rounds, as the next gate would have them; `seed`: of all resampling.

    Raises:
        ValueError: a metric that the policy does not know, no primary or more than 6.
    """
    primaries = policy.primaries(keys)
    metrics = tuple(
        metric_health(key, rounds, windows.get(key, ()), policy, primary=key in primaries, seed=seed) for key in keys
    )
    judged = [each for each in rounds if any(item.key in primaries for item in each.pairs)]
    counted = count_alarms(judged, policy)
    resampled = resample(rounds, primaries, priors, policy, seed=seed, suite_count=suite_count)
    deciding = [each for each in metrics if each.primary]
    against = _against(deciding, counted, resampled, policy)
    missing = _missing(deciding)
    wanted = _rounds_wanted(deciding)
    if missing and not _alarms_refute(counted, policy):
        support, reasons = Support.NOT_ENOUGH, missing
    elif against:
        support, reasons = Support.NOT_SUPPORTED, against
    else:
        open_ = _open(deciding)
        support, reasons = (Support.NOT_ENOUGH, open_) if open_ else (Support.SUPPORTED, _for(deciding))
    return SuiteHealth(
        support=support,
        reasons=reasons,
        warnings=_warnings(metrics, counted, resampled),
        rounds_wanted=wanted if support is Support.NOT_ENOUGH else None,
        round_count=len(rounds),
        day_count=len({each.day for each in rounds}),
        system_count=len({each.system for each in rounds}),
        pair_count=sum(each.pair_count for each in rounds),
        metrics=metrics,
        counted=counted,
        resampled=resampled,
    )


def _name(metric: MetricHealth) -> str:
    return f"{metric.scenario} {metric.metric}"


def _open(deciding: Sequence[MetricHealth]) -> tuple[str, ...]:
    """Which margins these rounds neither support nor refute."""
    return tuple(
        f"{_name(each)} may support its margin of {_percent(each.margin)} or not: its {each.round_count} rounds allow "
        f"for {_percent(each.margin_supported)}"
        for each in deciding
        if each.answer is Margin.OPEN and each.margin_supported is not None
    )


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _missing(deciding: Sequence[MetricHealth]) -> tuple[str, ...]:
    """Why nothing can be said yet."""
    found = min(each.round_count for each in deciding)
    if found < ROUNDS_MIN:
        return (f"{found} A/A round{'' if found == 1 else 's'}, at least {ROUNDS_MIN} needed",)
    thin = min(deciding, key=lambda each: each.pair_df)
    if thin.pair_df < PAIR_DF_MIN:
        return (f"{_name(thin)} has {thin.pair_df} degrees of freedom, at least {PAIR_DF_MIN} needed",)
    return ()


def _against(
    deciding: Sequence[MetricHealth], counted: Counted, resampled: Resampled | None, policy: Policy
) -> tuple[str, ...]:
    """What refutes that the policy fits."""
    found = [
        f"{_name(each)} supports a margin of {_percent(each.margin_supported)}, the policy's is {_percent(each.margin)}"
        for each in deciding
        if each.answer is Margin.NOT_SUPPORTED and each.margin_supported is not None
    ]
    if _alarms_refute(counted, policy):
        found.append(
            f"{counted.alarm_count} of {counted.gate_count} A/A gates are regressed, "
            f"the policy grants {_percent(policy.alpha_regressed)}"
        )
    if resampled is not None and resampled.alarm_low > policy.alpha_regressed:
        found.append(
            f"{_percent(resampled.alarm_share)} of suites made of the recorded pairs are regressed, "
            f"the policy grants {_percent(policy.alpha_regressed)}"
        )
    for each in deciding:
        if each.differences is not None and each.differences.p_high < ALPHA / len(deciding):
            found.append(
                f"{_name(each)}: successive pairs are correlated ({each.differences.correlation:+.2f}), "
                "so they are worth fewer pairs than there are"
            )
        if each.offset is not None and each.offset.p_high < ALPHA / len(deciding):
            found.append(
                f"{_name(each)}: the arms of whole rounds differ by more than their pairs explain "
                f"({each.offset.ratio:.1f} times the variance)"
            )
    return tuple(found)


def _alarms_refute(counted: Counted, policy: Policy) -> bool:
    """True if so many alarms have a chance below 1 % at the rate that the policy grants."""
    if counted.alarm_count == 0:
        return False
    return float(special.bdtrc(counted.alarm_count - 1, counted.gate_count, policy.alpha_regressed)) < ALPHA


def _for(deciding: Sequence[MetricHealth]) -> tuple[str, ...]:
    return tuple(
        f"{_name(each)} supports {_percent(each.margin_supported)}, the margin is {_percent(each.margin)}"
        for each in deciding
        if each.margin_supported is not None
    )


def _rounds_wanted(deciding: Sequence[MetricHealth]) -> int | None:
    """About how many more rounds of the usual length would decide; None for more than anybody would measure."""
    most = 0
    for each in deciding:
        more = ROUNDS_MIN - each.round_count
        df_a_round = max(each.pair_df / each.round_count, 1.0) if each.round_count else 2.0
        more = max(more, math.ceil((PAIR_DF_MIN - each.pair_df) / df_a_round))
        if each.answer is Margin.OPEN and each.margin_estimated is not None:
            better = metric_named(each.metric).better
            ratio = log_from_share(each.margin, better) / log_from_share(each.margin_estimated, better)
            needed = pair_df_needed(ratio)
            if needed is None:
                return None
            more = max(more, math.ceil((needed - each.pair_df) / df_a_round))
        most = max(most, more)
    return most if most <= ROUNDS_NAMED_MAX else None


def _warnings(metrics: Sequence[MetricHealth], counted: Counted, resampled: Resampled | None) -> tuple[str, ...]:
    found = []
    alpha = WARNING_ALPHA / sum(each.primary for each in metrics)
    for each in metrics:
        if each.bimodal:
            found.append(
                f"{_name(each)}: deployments of one build fall into two groups on {each.group_found_count} of "
                f"{each.group_count} days (each build apart)"
            )
        if not each.primary:
            continue
        order = each.differences
        if order is not None and 2 * min(order.p_low, order.p_high) < alpha:
            found.append(f"{_name(each)}: the order of pairs matters (lag-1 correlation {order.correlation:+.2f})")
        if each.drift is not None and each.drift.p_two_sided < alpha:
            found.append(
                f"{_name(each)}: the machine drifts by {each.drift.per_step * 100:+.2f} % a pair; pairs cancel it"
            )
        if each.day_apart_sd is not None and each.day_apart_sd > each.day_apart_declared:
            found.append(
                f"{_name(each)}: trials of two days differ by {_percent(each.day_apart_sd)} (standard deviation), the "
                f"policy declares {_percent(each.day_apart_declared)} for stored comparisons"
            )
    if counted.short_count:
        found.append(
            f"{counted.short_count} recorded rounds end before this policy would decide: not in the counted rate"
        )
    if counted.invalid_count:
        found.append(f"{counted.invalid_count} recorded rounds cannot be judged")
    if resampled is not None and resampled.passed_share < PASSED_SHARE_MIN:
        found.append(f"only {_percent(resampled.passed_share)} of suites made of the recorded pairs pass")
    return tuple(found)
