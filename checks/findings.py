"""How a finding is read from two one-sided bounds, and how "not compared" looks: the same for gate and stored."""

from __future__ import annotations

from redline.model import Comparison, Finding


def read_finding(location: float, reach_regressed: float, reach_no_worse: float, margin_log: float) -> Finding:
    """The finding of one metric, in oriented logs; `reach_*` are the distances from estimate to bound.

    First that holds: upper bound (regressed alpha) < 0 improved; upper bound (no-worse alpha) < margin no
    worse; lower bound (regressed alpha) > 0 regressed; else inconclusive. As the regressed alpha is the
    stricter one, "regressed" implies an estimate above half the margin.
    """
    if location + reach_regressed < 0:
        return Finding.IMPROVED
    if location + reach_no_worse < margin_log:
        return Finding.NO_WORSE
    return Finding.REGRESSED if location - reach_regressed > 0 else Finding.INCONCLUSIVE


def not_compared(scenario: str, metric: str, margin: float, problem: str, *, primary: bool) -> Comparison:
    """A comparison that says nothing: INVALID, every figure zero (never NaN), p 1, the reason as its warning."""
    return Comparison(
        scenario=scenario,
        metric=metric,
        finding=Finding.INVALID,
        primary=primary,
        baseline=0.0,
        candidate=0.0,
        effect=0.0,
        effect_low=0.0,
        effect_high=0.0,
        margin=margin,
        pair_count=0,
        df=0.0,
        p_two_sided=1.0,
        effect_detectable=0.0,
        method="not compared",
        warnings=(problem,),
    )
