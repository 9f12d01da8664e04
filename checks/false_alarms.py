"""How often a policy calls two equal systems different: counted over A/A rounds, and resampled from their pairs.

Counting is honest and slow: no alarm in 299 rounds is what it takes to show that at most 1 % alarm. Resampling
judges made-up suites of the recorded pairs with the shipped code: it says what this runner's noise does to the
policy, as far as a few pairs can.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from checks.effects import log_differences, metric_named
from checks.gate import Key, PairedReadings, judge_look_by_look, suite_pair_limit
from checks.policy import Policy
from checks.prior import VariancePrior
from redline.metrics import Better
from redline.model import Finding

CONFIDENCE = 0.95
BLOCK_PAIRS = 2  # successive pairs are drawn together, so that some of what they share stays


@dataclass(frozen=True, slots=True)
class AARound:
    """One A/A gate as it was recorded: its whole valid pairs in the order of measurement.

    `day`: of its first trial; `system`: what both arms were. `pairs`: one entry per (scenario, metric), all of
    equal length. `priors`: from the rounds before this one alone, as the gate itself had them.
    """

    run_id: str
    day: str
    system: str
    pairs: tuple[PairedReadings, ...]
    priors: Mapping[Key, VariancePrior]

    @property
    def pair_count(self) -> int:
        """Whole valid pairs."""
        return max((item.pair_count for item in self.pairs), default=0)

    def readings(self, key: Key) -> PairedReadings | None:
        """The pairs of one metric; None if this round has none, or one that has no logarithm."""
        for item in self.pairs:
            if item.key == key:
                usable = all(math.isfinite(value) and value > 0 for value in (*item.baseline, *item.candidate))
                return item if usable and item.baseline else None
        return None


@dataclass(frozen=True, slots=True)
class Counted:
    """Recorded A/A gates judged again by the policy in use.

    `short_count`: gates whose recorded pairs end before this policy would have decided; they are in no other
    count. `low`, `high`: exact 95 % interval of the rate of alarms, None without a gate. `needed`: gates that
    would show a rate of at most 1 %, if no further one alarms.
    """

    gate_count: int
    alarm_count: int
    passed_count: int
    undecided_count: int
    invalid_count: int
    short_count: int
    low: float | None
    high: float | None
    needed: int


@dataclass(frozen=True, slots=True)
class Resampled:
    """Suites made up of recorded pairs, judged by the policy: shares, and the pairs they took on average.

    `alarm_low`, `alarm_high`: exact 95 % interval for the number of suites alone; that the pairs are few is not
    in it.
    """

    suite_count: int
    pair_count: int
    alarm_share: float
    alarm_low: float
    alarm_high: float
    passed_share: float
    undecided_share: float
    pairs_mean: float


def judged_again(recorded: AARound, policy: Policy) -> Finding | None:
    """What the policy says of a recorded round; None where the recorded pairs end before it has decided.

    The gate as it runs: look by look, primaries frozen at their first conclusive look. Pairs beyond the
    policy's limit are not looked at.
    """
    state = judge_look_by_look(recorded.pairs, recorded.priors, policy)
    return state.finding if state is not None else None


def count_alarms(rounds: Sequence[AARound], policy: Policy) -> Counted:
    """The findings of every round under the policy, counted."""
    findings = [judged_again(each, policy) for each in rounds]
    judged = [finding for finding in findings if finding not in (None, Finding.INVALID)]
    alarm_count = sum(finding is Finding.REGRESSED for finding in judged)
    low, high = exact_interval(alarm_count, len(judged)) if judged else (None, None)
    return Counted(
        gate_count=len(judged),
        alarm_count=alarm_count,
        passed_count=sum(finding in (Finding.NO_WORSE, Finding.IMPROVED) for finding in judged),
        undecided_count=sum(finding is Finding.INCONCLUSIVE for finding in judged),
        invalid_count=sum(finding is Finding.INVALID for finding in findings),
        short_count=sum(finding is None for finding in findings),
        low=low,
        high=high,
        needed=gates_needed(alarm_count),
    )


def exact_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a rate. Source: Clopper and Pearson 1934. Raises ValueError for a count below 1."""
    found = stats.binomtest(hits, count).proportion_ci(CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def gates_needed(alarm_count: int, rate_max: float = 0.01) -> int:
    """The fewest gates which, with so many alarms among them, show a rate of at most `rate_max` (one-sided 95 %)."""
    low, high = alarm_count, 64
    while special.bdtr(alarm_count, high, rate_max) > 1 - CONFIDENCE:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if special.bdtr(alarm_count, middle, rate_max) > 1 - CONFIDENCE else (low, middle)
    return high


def resample(
    rounds: Sequence[AARound],
    keys: Sequence[Key],
    priors: Mapping[Key, VariancePrior],
    policy: Policy,
    *,
    seed: int,
    suite_count: int,
) -> Resampled | None:
    """Suites of randomly drawn blocks of recorded pairs, judged by the policy; None without a block to draw.

    All metrics of a pair stay together. A block is two successive pairs of one round, and its sign is random:
    the arms are equal, so which of them is called candidate is chance. The differences are not centred: their
    true mean is 0, and what a round's arms differ by is noise that the gate has to live with. A difference that
    every round repeats becomes symmetric noise here; `checks.successive.round_offset` looks for it.

    `keys`: primaries of the suite; rounds that lack one of them do not take part.
    """
    blocks = [block for each in rounds for block in _blocks(each, keys)]
    if not blocks:
        return None
    generator = np.random.default_rng(seed)
    limit = suite_pair_limit(keys, priors, policy)
    outcomes = [_one_suite(blocks, keys, priors, policy, limit, generator) for _ in range(suite_count)]
    findings = [finding for finding, _ in outcomes]
    alarms = findings.count(Finding.REGRESSED)
    low, high = exact_interval(alarms, suite_count)
    passed = sum(finding in (Finding.NO_WORSE, Finding.IMPROVED) for finding in findings)
    return Resampled(
        suite_count=suite_count,
        pair_count=sum(each.pair_count for each in rounds if _complete(each, keys)),
        alarm_share=alarms / suite_count,
        alarm_low=low,
        alarm_high=high,
        passed_share=passed / suite_count,
        undecided_share=findings.count(Finding.INCONCLUSIVE) / suite_count,
        pairs_mean=sum(count for _, count in outcomes) / suite_count,
    )


def _complete(recorded: AARound, keys: Sequence[Key]) -> bool:
    return all(recorded.readings(key) is not None for key in keys)


def _blocks(recorded: AARound, keys: Sequence[Key]) -> list[NDArray[np.float64]]:
    """Successive pairs of a round, shape (metrics, BLOCK_PAIRS): overlapping, and around its end once."""
    found = [recorded.readings(key) for key in keys]
    rows = [
        log_differences(metric_named(item.metric), item.baseline, item.candidate) for item in found if item is not None
    ]
    if len(rows) < len(keys) or recorded.pair_count < BLOCK_PAIRS:
        return []
    differences = np.array(rows)
    columns = np.arange(recorded.pair_count)
    # Around the end: without it the first and the last pair would be drawn half as often as the others.
    return [differences[:, [index, (index + 1) % recorded.pair_count]] for index in columns]


def _one_suite(
    blocks: Sequence[NDArray[np.float64]],
    keys: Sequence[Key],
    priors: Mapping[Key, VariancePrior],
    policy: Policy,
    limit: int,
    generator: np.random.Generator,
) -> tuple[Finding, int]:
    drawn = generator.integers(len(blocks), size=math.ceil(limit / BLOCK_PAIRS))
    signs = generator.choice((-1.0, 1.0), size=len(drawn))
    differences = np.concatenate([blocks[index] * sign for index, sign in zip(drawn, signs, strict=True)], axis=1)
    pairs = tuple(
        PairedReadings(scenario, metric, (1.0,) * limit, _candidate(metric, row[:limit]))
        for (scenario, metric), row in zip(keys, differences, strict=True)
    )
    state = judge_look_by_look(pairs, priors, policy)
    assert state is not None  # there are as many pairs as the suite may take
    return state.finding, state.pair_count


def _candidate(metric: str, logs: NDArray[np.float64]) -> tuple[float, ...]:
    """Readings beside a baseline of 1 from oriented differences of logs."""
    sign = 1.0 if metric_named(metric).better is Better.LOWER else -1.0
    return tuple(float(value) for value in np.exp(sign * logs))
