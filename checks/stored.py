"""One new trial against an accepted baseline of another day: a prediction interval, and its weakness said.

There are no pairs, so drift between the days is part of the difference and nothing measured today can tell it
from the build. It is therefore declared, per metric, in the policy; the error rates hold only as far as that
declaration does. For a decision that blocks, run a gate.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from checks.bimodality import two_groups
from checks.effects import log_from_share, metric_named, problem_with, share_from_log
from checks.findings import not_compared, read_finding
from checks.footnotes import BIMODAL, SLOWER_WITHIN, tail_note
from checks.policy import Policy
from redline.metrics import Better
from redline.model import Comparison

OWN_SPREAD_COUNT_MIN = 3


@dataclass(frozen=True, slots=True)
class PredictionError:
    """Standard error of ln(new trial / baseline) between days, and its degrees of freedom."""

    standard_error: float
    df: float
    spread_exceeds_declared: bool


def prediction_error(baseline_logs: Sequence[float], noise_share: float, noise_df: float) -> PredictionError:
    """The declared noise, widened by the baseline's own spread where it holds three readings or more.

    se^2 = max(declared^2, s^2) + s^2 / n, df after Welch and Satterthwaite. The own spread only ever widens:
    readings taken on one day agree better than readings of different days, so a tight baseline earns nothing.
    The declaration already covers a baseline of a single trial.

    Source: prediction interval of one new observation, e.g. Hahn and Meeker, Statistical Intervals, ch. 4.
    """
    declared = noise_share**2
    count = len(baseline_logs)
    if count < OWN_SPREAD_COUNT_MIN:
        return PredictionError(noise_share, noise_df, spread_exceeds_declared=False)
    own = statistics.variance(baseline_logs)
    exceeds = own > declared
    day, day_df = (own, count - 1.0) if exceeds else (declared, noise_df)
    variance = day + own / count
    df = variance**2 / (day**2 / day_df + (own / count) ** 2 / (count - 1))
    return PredictionError(math.sqrt(variance), df, exceeds)


def compare_stored(
    scenario: str,
    metric_id: str,
    baseline: Sequence[float],
    candidate: float,
    policy: Policy,
    *,
    primary_count: int,
    request_count: int | None = None,
) -> Comparison:
    """The comparison of one new reading with the readings of an accepted baseline, at the stored margin.

    Readings that cannot be judged give INVALID with every figure zero. Findings are read as in `checks.gate`:
    improved, no worse, regressed, inconclusive. `pair_count` is 0: there are no pairs; `pairs_needed` is
    None: more trials against the same stored readings would not help, a gate would.

    Raises:
        ValueError: a metric unknown to the catalogue or the policy; primary_count below 1.
    """
    metric, rule = metric_named(metric_id), policy.of(metric_id)
    if primary_count < 1:
        raise ValueError("primary_count must be at least 1")
    problem = _problem(baseline, candidate)
    if problem:
        return not_compared(scenario, metric_id, rule.stored_margin, problem, primary=rule.primary)
    logs = [metric.oriented_log(value) for value in baseline]
    error = prediction_error(logs, rule.stored_noise_share, policy.stored.noise_df)
    location = metric.oriented_log(candidate) - statistics.fmean(logs)
    alpha_regressed = policy.stored.alpha_regressed / primary_count
    reach_regressed = -float(special.stdtrit(error.df, alpha_regressed)) * error.standard_error
    reach_no_worse = -float(special.stdtrit(error.df, policy.stored.alpha_no_worse)) * error.standard_error
    low, high = location - reach_regressed, location + reach_no_worse
    margin_log = log_from_share(rule.stored_margin, metric.better)
    finding = read_finding(location, reach_regressed, reach_no_worse, margin_log)
    # Smallest margin at which an equal build passes in 95 of 100 comparisons.
    detectable_log = reach_no_worse - float(special.ndtri(0.05)) * error.standard_error
    return Comparison(
        scenario=scenario,
        metric=metric_id,
        finding=finding,
        primary=rule.primary,
        baseline=statistics.median(baseline),
        candidate=candidate,
        effect=share_from_log(location, metric.better),
        effect_low=share_from_log(low, metric.better),
        effect_high=share_from_log(high, metric.better),
        margin=rule.stored_margin,
        pair_count=0,
        df=error.df,
        p_two_sided=float(2 * special.stdtr(error.df, -abs(location) / error.standard_error)),
        effect_detectable=share_from_log(detectable_log, metric.better),
        method=(
            f"prediction interval of one trial against {len(baseline)} stored; declared noise between days "
            f"{rule.stored_noise_share:.0%}; lower bound at {alpha_regressed:.2g}, upper at "
            f"{policy.stored.alpha_no_worse:.2g}"
        ),
        warnings=_warnings(logs, error, policy, metric_id, request_count, slower=low > 0 and high < margin_log),
    )


def _warnings(
    logs: Sequence[float],
    error: PredictionError,
    policy: Policy,
    metric_id: str,
    request_count: int | None,
    *,
    slower: bool,
) -> tuple[str, ...]:
    rule = policy.of(metric_id)
    notes = [SLOWER_WITHIN] if slower else []
    false_alarm, false_pass = policy.stored.alpha_regressed, policy.stored.alpha_no_worse
    notes.append(
        "one trial against a stored baseline is weaker than a gate: it calls "
        f"{false_alarm:.0%} of equal suites regressed and passes {false_pass:.0%} of builds worse by the margin, "
        f"and both only if days differ by no more than the declared {rule.stored_noise_share:.0%}"
    )
    if error.spread_exceeds_declared:
        notes.append(
            f"the baseline's own readings spread by {statistics.stdev(logs):.1%}, more than declared: used instead"
        )
    margin_log = abs(log_from_share(rule.stored_margin, Better.LOWER))
    if two_groups(logs, margin_log / 2):
        notes.append(f"{BIMODAL}: baseline")
    if (note := tail_note(metric_id, request_count)) is not None:
        notes.append(note)
    return tuple(notes)


def _problem(baseline: Sequence[float], candidate: float) -> str:
    if problem := problem_with(baseline):
        return f"baseline: {problem}"
    if problem := problem_with([candidate]):
        return f"candidate: {problem}"
    return ""
