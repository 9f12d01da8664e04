"""Rows of the error table about the nightly: quiet histories, steps, odd nights, a creep."""

from __future__ import annotations

import math
from functools import partial

from checks.error_table import Figure, Figures, Promise, Row, Section, at_least, at_most
from checks.policy import Policy
from checks.simulation_nightly import NightNoise, NightRates, NightWorld, Truth, simulate_nightly

HISTORY_COUNT = 1000
STEP_NIGHTS = 70  # thirty from the step on
LONE_NIGHT = 0.15

SELDOM_PAGED = at_most(Figure.PAGES_PER_100, 0.1)


def nightly_rows(cpu: Policy, gpu: Policy) -> tuple[Row, ...]:
    """TPOT with a CV of 1 % from night to night, unless a row says otherwise, under the GPU policy."""
    return (*_quiet_rows(cpu, gpu), *_step_rows(cpu, gpu))


def _quiet_rows(cpu: Policy, gpu: Policy) -> tuple[Row, ...]:
    """Nothing is wrong with any build: every page is a false one."""

    def row(name: str, world: NightWorld, policy: Policy = gpu) -> Row:
        simulate = partial(_quiet, world, policy)
        return Row(Section.NIGHTLY, name, simulate, (SELDOM_PAGED,), count=HISTORY_COUNT, nights=world.nights)

    lone = NightWorld(0.01, Truth.ODD_NIGHT, LONE_NIGHT, nights=41)
    return (
        row("quiet", NightWorld(0.01)),
        row("quiet, t3", NightWorld(0.01, noise=NightNoise.T3)),
        row("quiet, autocorrelated .5", NightWorld(0.01, noise=NightNoise.AR)),
        row("quiet, variance known beforehand", NightWorld(0.01, with_prior=True)),
        row("environment 5 % slower from night 41 on", NightWorld(0.01, Truth.ENVIRONMENT, 0.05)),
        row("one lone night 15 % slower", NightWorld(0.01, Truth.ODD_NIGHT, LONE_NIGHT)),
        Row(
            Section.NIGHTLY,
            "one lone night 15 % slower, that night",
            partial(_paged, lone, gpu),
            (at_most(Figure.PAGED, 0.01),),
            count=HISTORY_COUNT,
        ),
        row("cpu, quiet, CV 3 %", NightWorld(0.03), cpu),
    )


def _step_rows(cpu: Policy, gpu: Policy) -> tuple[Row, ...]:
    """A build is worse from night 41 on; thirty nights to find it, sixty for the creep."""

    def row(name: str, effect: float, *promises: Promise, cv: float = 0.01, policy: Policy = gpu) -> Row:
        world = NightWorld(cv, Truth.BUILD, effect, nights=STEP_NIGHTS)
        return Row(Section.NIGHTLY, name, partial(_step, world, policy), promises, count=HISTORY_COUNT)

    creep = NightWorld(0.01, Truth.CREEP, 0.05)
    return (
        row("5 % worse", 0.05, at_most(Figure.NIGHTS_MEDIAN, 1), at_least(Figure.FOUND, 0.99)),
        row("3 % worse", 0.03, at_most(Figure.NIGHTS_MEDIAN, 3), at_least(Figure.FOUND, 0.99)),
        row("2 % worse", 0.02, at_most(Figure.NIGHTS_MEDIAN, 5)),
        row("1 % worse", 0.01),
        row("cpu, 15 % worse, CV 3 %", 0.15, cv=0.03, policy=cpu),
        Row(
            Section.NIGHTLY,
            "creep to 5 % worse within 60 nights",
            partial(_creep, creep, gpu),
            count=HISTORY_COUNT,
        ),
    )


def _quiet(world: NightWorld, policy: Policy, seed: int, count: int) -> Figures:
    rates = simulate_nightly(world, policy, seed=seed, series_count=count)
    return {
        Figure.PAGES_PER_100: rates.pages_per_100,
        Figure.SUSPICIONS_PER_100: rates.suspicions_per_100,
        Figure.ENVIRONMENT: rates.environment,
    }


def _paged(world: NightWorld, policy: Policy, seed: int, count: int) -> Figures:
    """Pages of histories that end with the odd night; the false pages of the quiet nights before are in it."""
    rates = simulate_nightly(world, policy, seed=seed, series_count=count)
    return {Figure.PAGED: rates.pages_per_100 / 100 * world.nights}


def _step(world: NightWorld, policy: Policy, seed: int, count: int) -> Figures:
    rates = simulate_nightly(world, policy, seed=seed, series_count=count)
    return {
        **_page(rates),
        Figure.NAMED_WITHIN_ONE: rates.named_within_one,
        Figure.COULD_BE_HOLDS: rates.could_be_holds,
    }


def _creep(world: NightWorld, policy: Policy, seed: int, count: int) -> Figures:
    """No first night: a creep has none to be named."""
    return _page(simulate_nightly(world, policy, seed=seed, series_count=count))


def _page(rates: NightRates) -> Figures:
    found = {Figure.FOUND: rates.found}
    if math.isnan(rates.delay_median):
        return found
    # The first bad night itself is night 1: what a reader counts.
    return {**found, Figure.NIGHTS_MEDIAN: rates.delay_median + 1, Figure.NIGHTS_P90: rates.delay_p90 + 1}
