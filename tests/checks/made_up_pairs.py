"""Made-up pairs with a known truth, for properties: continuous, so that no finding hangs on the last bit.

Hypothesis draws what kind of suite it is and a seed; the readings come from the seed. Lists of its own floats
would nearly always be so noisy that every finding is "inconclusive".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from hypothesis import strategies as st

from checks.gate import Key, PairedReadings, SuiteState, judge_suite, suite_pair_limit
from checks.policy import Policy
from checks.prior import NO_PRIOR, VariancePrior
from redline.metrics import CATALOGUE, Better
from redline.model import Comparison, Finding
from tests.checks.policies import CPU, GPU

# How bad a finding of one metric is, for "worse is never judged better".
RANK = {Finding.IMPROVED: 0, Finding.NO_WORSE: 1, Finding.INCONCLUSIVE: 2, Finding.REGRESSED: 3}

CV = st.sampled_from((0.001, 0.01, 0.03, 0.1, 0.4))
EFFECT = st.one_of(st.just(0.0), st.floats(-0.7, 0.7))
# The prior's variance as a multiple of the truth; None: no history.
HISTORY = st.one_of(st.none(), st.sampled_from((0.2, 1.0, 5.0)))
SEED = st.integers(0, 2**32 - 1)
POLICY = st.sampled_from((CPU, GPU))
LATENCIES = ("tpot_s_median", "ttft_s_median")
PRIMARIES = ("output_tokens_per_s", *LATENCIES)  # of both policies
DESCRIPTIVES = ("e2e_s_p99", "ttft_s_p99", "tpot_s_p99", "itl_s_p99")  # of both policies


@dataclass(frozen=True, slots=True)
class Truth:
    """One metric: CV of a trial, how much worse the candidate is (oriented log), what history says."""

    metric: str
    cv: float
    effect: float
    history: float | None
    seed: int

    def pairs(self, scenario: str, count: int) -> PairedReadings:
        """So many pairs; the first ones are the same whatever `count` is."""
        logs = np.random.default_rng(self.seed).standard_normal((count, 2)) * self.cv
        sign = 1.0 if CATALOGUE[self.metric].better is Better.LOWER else -1.0
        before, after = np.exp(sign * logs[:, 0]), np.exp(sign * (logs[:, 1] + self.effect))
        return PairedReadings(scenario, self.metric, tuple(before.tolist()), tuple(after.tolist()))

    def prior(self) -> VariancePrior:
        """The prior of a paired difference."""
        return NO_PRIOR if self.history is None else VariancePrior(7.5, self.history * 2 * self.cv**2)


@dataclass(frozen=True, slots=True)
class MadeUpSuite:
    """A suite: scenario s0, s1, ... in order, primaries first; the pairs at any look, the priors and the policy."""

    truths: tuple[Truth, ...]
    policy: Policy

    @property
    def priors(self) -> dict[Key, VariancePrior]:
        """By (scenario, metric)."""
        return {(f"s{number}", truth.metric): truth.prior() for number, truth in enumerate(self.truths)}

    def pairs(self, count: int) -> list[PairedReadings]:
        """Every metric after so many pairs."""
        return [truth.pairs(f"s{number}", count) for number, truth in enumerate(self.truths)]

    def judge(self, count: int, frozen: Mapping[Key, Comparison] | None = None) -> SuiteState:
        """The state at one look."""
        return judge_suite(self.pairs(count), self.priors, self.policy, frozen or {})

    def without_descriptives(self) -> MadeUpSuite:
        """The primaries alone."""
        return replace(self, truths=tuple(each for each in self.truths if each.metric in PRIMARIES))


# One suite of each finding at a look of four pairs, so that no property holds only because nothing was decided.
QUIET = Truth("tpot_s_median", 0.01, 0.0, None, 11)
SLOW = Truth("tpot_s_median", 0.01, 0.4, None, 12)
FAST = Truth("output_tokens_per_s", 0.01, -0.4, None, 13)
NOISY = Truth("ttft_s_median", 0.4, 0.0, None, 14)
TAIL = Truth("ttft_s_p99", 0.05, 1.0, None, 15)
SUITE_NO_WORSE = MadeUpSuite((QUIET, replace(QUIET, seed=21), TAIL), CPU)
SUITE_REGRESSED = MadeUpSuite((QUIET, SLOW, NOISY), CPU)
SUITE_IMPROVED = MadeUpSuite((QUIET, FAST, TAIL), CPU)
SUITE_UNDECIDED = MadeUpSuite((QUIET, NOISY), CPU)


def truths(metrics: Sequence[str] = PRIMARIES) -> st.SearchStrategy[Truth]:
    """One metric."""
    return st.builds(Truth, st.sampled_from(metrics), CV, EFFECT, HISTORY, SEED)


def suites(primaries_max: int = 3, descriptives_max: int = 2) -> st.SearchStrategy[MadeUpSuite]:
    """A suite of at least one primary."""
    return st.builds(
        lambda deciding, describing, policy: MadeUpSuite((*deciding, *describing), policy),
        st.lists(truths(), min_size=1, max_size=primaries_max),
        st.lists(truths(DESCRIPTIVES), max_size=descriptives_max),
        POLICY,
    )


def shuffled(suite: MadeUpSuite, count: int, seed: int) -> list[PairedReadings]:
    """The suite's pairs at a look, in another order: the same one for every metric."""
    order = np.random.default_rng(seed).permutation(count)
    return [
        replace(
            each,
            baseline=tuple(each.baseline[index] for index in order),
            candidate=tuple(each.candidate[index] for index in order),
        )
        for each in suite.pairs(count)
    ]


def log_of(share: float, metric: str) -> float:
    """The oriented log of a share, capped as the bounds are: a hopeless bound is +-20."""
    match CATALOGUE[metric].better:
        case Better.LOWER:
            return math.log1p(share)
        case Better.HIGHER:
            return -math.log1p(-share)


def figures(comparison: Comparison) -> dict[str, float]:
    """Every number in a comparison, by field."""
    found = {}
    for field in fields(comparison):
        value = getattr(comparison, field.name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[field.name] = value
    return found


def all_finite(state: SuiteState) -> bool:
    """True if no figure of any comparison is NaN or infinite."""
    return all(math.isfinite(value) for each in state.comparisons for value in figures(each).values())


def look_of(suite: MadeUpSuite, share: float) -> int:
    """One of the suite's looks."""
    looks = suite.policy.looks(suite_pair_limit(list(suite.priors), suite.priors, suite.policy))
    return looks[min(int(share * len(looks)), len(looks) - 1)]
