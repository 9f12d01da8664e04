"""The figures of a sign-off, re-measured: one metric of made-up releases with a known truth, judged by shipped code.

Pure: the random numbers come from a seed that is an argument. `checks.simulation.simulate_gate` with
`policy.for_signoff()` gives the rates of whole suites and of other kinds of noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from checks.effects import log_from_share, metric_named
from checks.gate import PairedReadings, judge_suite
from checks.policy import Policy
from checks.prior import fit_prior
from checks.simulation import HISTORY_PAIRS
from redline.metrics import Better
from redline.model import Finding, require

SCENARIO = "simulated"


@dataclass(frozen=True, slots=True)
class SignoffRates:
    """Shares of simulated sign-offs of one metric, and the half-width of their 95 % interval.

    `half_width`: mean distance of the upper bound from the estimate, an oriented log. `pair_counts`: every number of
    pairs that one of them took, ascending.
    """

    suite_count: int
    half_width: float
    passed: float
    regressed: float
    inconclusive: float
    pair_counts: tuple[int, ...]


def with_margin(policy: Policy, margin: float) -> Policy:
    """The same policy with one margin (a share) for every metric."""
    metrics = tuple(
        replace(item, margin=margin, stored_margin=max(item.stored_margin, margin)) for item in policy.metrics
    )
    return replace(policy, metrics=metrics)


def simulate_signoff(
    policy: Policy,
    metric: str,
    *,
    cv: float,
    effect: float,
    history_rounds: int,
    seed: int,
    suite_count: int,
) -> SignoffRates:
    """The rates of sign-offs of one primary metric whose trials have this CV and whose candidate is `effect` worse.

    `policy`: the gate's; `effect`: an oriented share; `history_rounds` past rounds of six pairs feed the prior, drawn
    anew for each sign-off (0: none, a plain paired t).

    Raises ValueError for a metric that the policy does not know or that is not primary.
    """
    require(suite_count >= 1 and cv > 0, "suite_count must be at least 1 and cv above 0")
    judged_by = policy.for_signoff()
    better, count = metric_named(metric).better, judged_by.pair_count_max
    shift, sign = log_from_share(effect, better), 1.0 if better is Better.LOWER else -1.0
    generator = np.random.default_rng(seed)
    findings: list[Finding] = []
    reaches: list[float] = []
    pair_counts: set[int] = set()
    for _ in range(suite_count):
        history = math.sqrt(2) * cv * generator.standard_normal((history_rounds, HISTORY_PAIRS))
        prior = fit_prior((float(found.var(ddof=1)), HISTORY_PAIRS - 1.0) for found in history)
        logs = cv * generator.standard_normal((2, count))
        before, after = np.exp(sign * logs[0]), np.exp(sign * (logs[1] + shift))
        pairs = PairedReadings(SCENARIO, metric, tuple(before.tolist()), tuple(after.tolist()))
        state = judge_suite([pairs], {pairs.key: prior}, judged_by, {})
        (found,) = state.comparisons
        findings.append(state.finding)
        pair_counts.add(state.pair_count)
        reaches.append(log_from_share(found.effect_high, better) - log_from_share(found.effect, better))
    return SignoffRates(
        suite_count=suite_count,
        half_width=float(np.mean(reaches)),
        passed=sum(found in (Finding.NO_WORSE, Finding.IMPROVED) for found in findings) / suite_count,
        regressed=findings.count(Finding.REGRESSED) / suite_count,
        inconclusive=findings.count(Finding.INCONCLUSIVE) / suite_count,
        pair_counts=tuple(sorted(pair_counts)),
    )
