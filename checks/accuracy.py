"""Accuracy: the same items answered by both builds, compared item by item.

The finding, of which exactly one holds, read in this order:

    invalid       an item is missing on one side, a score is outside [0, 1], or the baseline scores nothing
    regressed     the candidate is worse: worse_p < alpha
    improved      the candidate is better: better_p < alpha
    no worse      non-inferiority at share_min of the baseline passes
    inconclusive  neither worse nor proven to keep share_min: more items or runs are needed

A loss that is proven is regressed even where it stays within share_min: `share_finding` says the latter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from checks.policy import AccuracyPolicy
from checks.power import items_needed
from redline.model import AccuracyComparison, Finding, ItemScores

FLIP_SHARE_UNKNOWN = 0.02  # assumed for `items_needed` where the two arms never disagree


def compare(baseline: ItemScores, candidate: ItemScores, policy: AccuracyPolicy) -> AccuracyComparison:
    """The comparison of two builds over the items of one scenario.

    Change is candidate minus baseline with its two-sided 1 - 2 alpha interval. Never raises for odd scores:
    they make the comparison INVALID, with the reason as a warning.

    Raises:
        ValueError: the two belong to different scenarios.
    """
    if baseline.scenario != candidate.scenario:
        raise ValueError(f"scenario {baseline.scenario} is compared with {candidate.scenario}")
    problem = _problem(baseline.scores, candidate.scores)
    if problem:
        return _invalid(baseline.scenario, len(baseline.scores), policy, problem)
    keys = sorted(baseline.scores)
    before = np.array([baseline.scores[key] for key in keys])
    after = np.array([candidate.scores[key] for key in keys])
    change = after - before
    lost, gained = int((change < 0).sum()), int((change > 0).sum())
    count = len(keys)
    p_worse, p_better = worse_p(before, after), worse_p(after, before)
    share_finding = non_inferiority(before, after, policy.share_min, policy.alpha)
    finding = _finding(p_worse, p_better, share_finding, policy.alpha)
    standard_error = float(change.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    reach = -float(special.ndtri(policy.alpha)) * standard_error
    needed = None
    if finding is Finding.INCONCLUSIVE:
        flips = float(np.mean(change**2)) or FLIP_SHARE_UNKNOWN
        # `flips` is of item means, so the runs are already averaged in it.
        needed = items_needed(flips, float(before.mean()), policy.share_min, alpha=policy.alpha)
    return AccuracyComparison(
        scenario=baseline.scenario,
        finding=finding,
        item_count=count,
        baseline=float(before.mean()),
        candidate=float(after.mean()),
        change=float(change.mean()),
        change_low=float(change.mean()) - reach,
        change_high=float(change.mean()) + reach,
        lost_count=lost,
        gained_count=gained,
        worse_p=p_worse,
        alpha=policy.alpha,
        share_min=policy.share_min,
        share_finding=share_finding,
        items_needed=needed,
        warnings=_warnings(baseline, candidate, policy, finding, share_finding, count=count, lost=lost, gained=gained),
    )


def worse_p(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """One-sided p of "after is no worse than before", shape (item_count,) each, same items in the same order.

    Mid-p McNemar where every score is 0 or 1: P(more losses) + P(as many) / 2 among the items that flipped; a
    half if none did. Otherwise the paired normal test of the mean change.

    Source: Fagerland, Lydersen and Laake 2013 (doi:10.1186/1471-2288-13-91) for the mid-p form.
    """
    change = after - before
    lost, gained = int((change < 0).sum()), int((change > 0).sum())
    if np.isin(before, (0.0, 1.0)).all() and np.isin(after, (0.0, 1.0)).all():
        flips = lost + gained
        return float(stats.binom.sf(lost, flips, 0.5) + 0.5 * stats.binom.pmf(lost, flips, 0.5))
    mean = float(change.mean())
    standard_error = float(change.std(ddof=1)) / math.sqrt(len(change)) if len(change) > 1 else 0.0
    if standard_error == 0:
        return 0.5 if mean == 0 else float(mean > 0)
    return float(special.ndtr(mean / standard_error))


def non_inferiority(before: NDArray[np.float64], after: NDArray[np.float64], share_min: float, alpha: float) -> Finding:
    """Whether `after` keeps `share_min` of the accuracy of `before`: NO_WORSE, REGRESSED or INCONCLUSIVE.

    W = after - share_min * before: passes if mean - z se > 0, fails if mean + z se < 0. The variance used to
    pass is no smaller than it would be if the build sat exactly on the threshold: there, at least the slack
    m = (1 - share_min) * accuracy of the items must be lost on top of what is gained, so at least m + gained
    items flip. Without that floor a handful of items without a flip "proves" what they cannot: at 350 items a
    build on the 99 % threshold passed in 14 % of simulations instead of 2.5 %.

    Source: non-inferiority on a ratio, Laster and Johnson 2003 (Statistics in Medicine 22); a variance
    restricted to the threshold is the idea of Tango 1998 (Statistics in Medicine 17), simplified.
    """
    count = len(before)
    kept = after - share_min * before
    mean, z = float(kept.mean()), -float(special.ndtri(alpha))
    observed = float(kept.var(ddof=1)) if count > 1 else 0.0
    change = after - before
    slack = (1 - share_min) * float(before.mean())
    gained = float(np.clip(change, 0, None).mean())
    at_threshold = slack + 2 * gained - slack**2
    if mean > z * math.sqrt(max(observed, at_threshold) / count):
        return Finding.NO_WORSE
    if mean + z * math.sqrt(observed / count) < 0:
        return Finding.REGRESSED
    return Finding.INCONCLUSIVE


def _finding(p_worse: float, p_better: float, share_finding: Finding, alpha: float) -> Finding:
    if p_worse < alpha:
        return Finding.REGRESSED
    if p_better < alpha:
        return Finding.IMPROVED
    return Finding.NO_WORSE if share_finding is Finding.NO_WORSE else Finding.INCONCLUSIVE


def _problem(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Why these scores cannot be compared, in words; empty if they can."""
    if not before and not after:
        return "no items"
    lacking_after, lacking_before = len(before.keys() - after.keys()), len(after.keys() - before.keys())
    if lacking_after or lacking_before:
        return f"{lacking_after} items are missing from the candidate, {lacking_before} from the baseline"
    outside = sum(not 0 <= score <= 1 for scores in (before, after) for score in scores.values())
    if outside:  # NaN is not within either
        return f"{outside} scores are not within [0, 1]"
    if sum(before.values()) == 0:
        return "the baseline answers no item right: there is nothing to lose"
    return ""


def _warnings(
    baseline: ItemScores,
    candidate: ItemScores,
    policy: AccuracyPolicy,
    finding: Finding,
    share_finding: Finding,
    *,
    count: int,
    lost: int,
    gained: int,
) -> tuple[str, ...]:
    notes = []
    if finding is Finding.REGRESSED and share_finding is Finding.NO_WORSE:
        notes.append(f"worse beyond doubt, though still above {policy.share_min:.1%} of the baseline")
    if lost + gained == 0:
        notes.append(f"the scores of all {count} items are identical")
    runs = min(baseline.run_count, candidate.run_count)
    if runs < policy.run_count:
        notes.append(f"{runs} of {policy.run_count} runs per build")
    return tuple(notes)


def _invalid(scenario: str, item_count: int, policy: AccuracyPolicy, problem: str) -> AccuracyComparison:
    """A comparison that says nothing: every figure is zero (never NaN), p is 1, the reason is its warning."""
    return AccuracyComparison(
        scenario=scenario,
        finding=Finding.INVALID,
        item_count=item_count,
        baseline=0.0,
        candidate=0.0,
        change=0.0,
        change_low=0.0,
        change_high=0.0,
        lost_count=0,
        gained_count=0,
        worse_p=1.0,
        alpha=policy.alpha,
        share_min=policy.share_min,
        share_finding=Finding.INVALID,
        items_needed=None,
        warnings=(problem,),
    )
