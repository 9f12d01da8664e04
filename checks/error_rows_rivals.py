"""Rows of the error table that put Redline beside the rules that others use, on the same made-up data.

Every rule of a group is handed the same arrays: they follow from the group's seed alone. Otava's rows are in the
same groups but not made here, because Otava runs from its own package; `night_readings` has the data for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from checks.effects import log_from_share, metric_named
from checks.error_rows_gate import GPU_CV, GPU_KEYS, HISTORY
from checks.error_table import Figure, Figures, Row, Section
from checks.gate import Key, PairedReadings, SuiteState, judge_look_by_look
from checks.other_rules import NIGHTLY_RULES, SUITE_RULES, Flags, Readings, SuiteRule
from checks.policy import Policy
from checks.prior import VariancePrior, fit_prior
from checks.simulation import HISTORY_PAIRS
from checks.simulation_nightly import NightNoise, NightWorld, Truth, night_noise, simulate_nightly, truths
from redline.metrics import Better
from redline.model import Finding

OURS = "Redline"
SAME_DAY = "one run beside another of the same hour, any > 5 %"

RUN_COUNT = 10  # of each arm, in pairs; each rule takes as many from the front as it asks for
EFFECTS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07)
NIGHT_EFFECTS = (0.01, 0.02, 0.03, 0.05, 0.10)
HISTORY_COUNT = 400
QUIET_NIGHTS = 100
QUIET_FROM = 30
"""Rules are counted from the night on which every one of them has the history that it asks for."""

STEP_NIGHTS = 47
"""A step at night 41 and the six nights after it."""

WITHIN = {Figure.FLAGGED_IN_1: 1, Figure.FLAGGED_IN_3: 3, Figure.FLAGGED_IN_7: 7}


@dataclass(frozen=True, slots=True)
class NightGroup:
    """The histories that one group of nightly rules is judged on."""

    name: str
    world: NightWorld

    @property
    def quiet(self) -> bool:
        """Whether every flag is a false one."""
        return self.world.truth is Truth.QUIET


NIGHT_GROUPS = (
    NightGroup("quiet, CV 1 %", NightWorld(0.01, nights=QUIET_NIGHTS)),
    NightGroup("quiet, CV 2 %", NightWorld(0.02, nights=QUIET_NIGHTS)),
    NightGroup("quiet, CV 1 %, autocorrelated .5", NightWorld(0.01, nights=QUIET_NIGHTS, noise=NightNoise.AR)),
    NightGroup("quiet, CV 1 %, t3", NightWorld(0.01, nights=QUIET_NIGHTS, noise=NightNoise.T3)),
    *(
        NightGroup(f"{effect * 100:.0f} % worse", NightWorld(0.01, Truth.BUILD, effect, nights=STEP_NIGHTS))
        for effect in NIGHT_EFFECTS
    ),
)


# --- pull requests ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arms:
    """Oriented logs, shape (suites, metrics, runs) each, run i of both arms measured as one pair.

    `stored`: one run of the baseline from another day, shape (suites, metrics, 1).
    """

    stored: Readings
    baseline: Readings
    candidate: Readings


def arms_of(effect: float, gpu: Policy, seed: int, suite_count: int) -> Arms:
    """Six metrics with a CV of 1 %, the first of them worse by the share `effect`, and a stored run.

    The stored run differs from today's baseline by the day as the policy declares it (`stored_noise_share`), apart
    from its own noise.
    """
    generator = np.random.default_rng([seed, 0])
    shape = (suite_count, len(GPU_KEYS), RUN_COUNT)
    baseline, candidate = (GPU_CV * generator.standard_normal(shape) for _ in range(2))
    candidate[:, 0, :] += log_from_share(effect, metric_named(GPU_KEYS[0][1]).better)
    declared = np.array([gpu.of(metric).stored_noise_share for _, metric in GPU_KEYS])
    day = np.sqrt(declared**2 - GPU_CV**2)  # what is declared holds the new trial's own noise
    stored = day[None, :, None] * generator.standard_normal((*shape[:2], 1))
    return Arms(stored, baseline, candidate)


def pull_request_rows(gpu: Policy) -> tuple[Row, ...]:
    """How often each rule blocks six metrics of which one is worse by 0 to 7 %, and the trials that it takes."""
    rows = []
    for effect in EFFECTS:
        group = "equal builds" if effect == 0 else f"one metric {effect * 100:.0f} % worse"
        rules: dict[str, Callable[[int, int], Figures]] = {
            rule.name: partial(_rule_on_suites, rule, effect, gpu) for rule in SUITE_RULES
        }
        first = SUITE_RULES[0]
        rules[SAME_DAY] = partial(_rule_on_suites, SuiteRule(SAME_DAY, 1, first.flags), effect, gpu)
        rules[OURS] = partial(_ours_on_suites, effect, gpu)
        rows += [
            Row(Section.PULL_REQUESTS, name, simulate, group=group, effect=effect) for name, simulate in rules.items()
        ]
    return tuple(rows)


def _rule_on_suites(rule: SuiteRule, effect: float, gpu: Policy, seed: int, count: int) -> Figures:
    arms = arms_of(effect, gpu, seed, count)
    against_stored = rule.run_count == 1 and rule.name != SAME_DAY
    before = arms.stored if against_stored else arms.baseline[..., : rule.run_count]
    flags = rule.flags(np.exp(before), np.exp(arms.candidate[..., : rule.run_count]))
    trials = rule.run_count if against_stored else 2 * rule.run_count
    return {Figure.BLOCKED: float(flags.mean()), Figure.TRIALS_MEAN: float(trials)}


def _ours_on_suites(effect: float, gpu: Policy, seed: int, count: int) -> Figures:
    arms = arms_of(effect, gpu, seed, count)
    history = np.random.default_rng([seed, 1])
    blocked = pairs = 0
    for baseline, candidate in zip(arms.baseline, arms.candidate, strict=True):
        state = _judged(baseline, candidate, {key: _prior(history) for key in GPU_KEYS}, gpu)
        blocked += state.finding is Finding.REGRESSED
        pairs += state.pair_count
    return {Figure.BLOCKED: blocked / count, Figure.TRIALS_MEAN: 2 * pairs / count}


def _judged(baseline: Readings, candidate: Readings, priors: Mapping[Key, VariancePrior], policy: Policy) -> SuiteState:
    """The gate's last word on one suite, shape (metrics, runs) each."""
    pairs = [
        PairedReadings(*key, _tuple(key[1], before), _tuple(key[1], after))
        for key, before, after in zip(GPU_KEYS, baseline, candidate, strict=True)
    ]
    state = judge_look_by_look(pairs, priors, policy)
    assert state is not None  # there are more pairs than the policy may take
    return state


def _prior(generator: np.random.Generator) -> VariancePrior:
    rounds = GPU_CV * np.sqrt(2) * generator.standard_normal((HISTORY, HISTORY_PAIRS))
    return fit_prior((float(each.var(ddof=1)), HISTORY_PAIRS - 1.0) for each in rounds)


def _tuple(metric: str, logs: Readings) -> tuple[float, ...]:
    sign = 1.0 if metric_named(metric).better is Better.LOWER else -1.0
    return tuple(np.exp(sign * logs).tolist())


# --- nights ---------------------------------------------------------------------------------------------------


def night_readings(group: NightGroup, seed: int, count: int) -> Readings:
    """The readings of a group, shape (histories, nights), around 1 and larger is worse.

    History i is the one that `simulate_nightly` judges with seed i of `_history_seeds`.
    """
    build, surroundings = truths(group.world)
    noise = [night_noise(group.world, np.random.default_rng(each)) for each in _history_seeds(seed, count)]
    return np.exp(np.array(noise) + build + surroundings)


def night_rows(gpu: Policy) -> tuple[Row, ...]:
    """How often each nightly rule flags a quiet night, and how soon it flags a build that is worse."""
    rows = []
    for group in NIGHT_GROUPS:
        rows += [night_row(group, rule.name, partial(_rule_on_nights, rule.flags, group)) for rule in NIGHTLY_RULES]
        rows.append(night_row(group, OURS, partial(_ours_on_nights, group, gpu)))
    return tuple(rows)


def night_row(group: NightGroup, name: str, simulate: Callable[[int, int], Figures], count: int = HISTORY_COUNT) -> Row:
    """The row of one rule in a group; with fewer histories than the others it is judged on the first of theirs."""
    nights = group.world.nights - QUIET_FROM if group.quiet else 0
    effect = None if group.quiet else group.world.effect
    return Row(Section.NIGHTS, name, simulate, group=group.name, count=count, nights=nights, effect=effect)


def figures_of_flags(group: NightGroup, flags: Flags) -> Figures:
    """What the flags of a rule, shape (histories, nights), amount to in this group."""
    if group.quiet:
        return {Figure.FLAGS_PER_100: 100 * float(flags[:, QUIET_FROM:].mean())}
    first = group.world.event_night
    return {figure: float(flags[:, first : first + nights].any(axis=1).mean()) for figure, nights in WITHIN.items()}


def _rule_on_nights(rule: Callable[[Readings], Flags], group: NightGroup, seed: int, count: int) -> Figures:
    return figures_of_flags(group, rule(night_readings(group, seed, count)))


def _ours_on_nights(group: NightGroup, gpu: Policy, seed: int, count: int) -> Figures:
    """Pages after the confirmation; of quiet histories over all their nights."""
    rates = [simulate_nightly(group.world, gpu, seed=each, series_count=1) for each in _history_seeds(seed, count)]
    if group.quiet:
        return {
            Figure.FLAGS_PER_100: sum(each.pages_per_100 for each in rates) / count,
            Figure.SUSPICIONS_PER_100: sum(each.suspicions_per_100 for each in rates) / count,
        }
    # NaN, where nothing was found, is never below.
    return {figure: sum(each.delay_median < nights for each in rates) / count for figure, nights in WITHIN.items()}


def _history_seeds(seed: int, count: int) -> list[int]:
    return [int(each) for each in np.random.SeedSequence(seed).generate_state(count, np.uint64)]
