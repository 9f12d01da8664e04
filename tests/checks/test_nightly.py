"""The nightly's record: what is suspected, what a gate makes of it, and what stays owed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from checks.nightly import (
    Outcome,
    Suspicion,
    SuspicionKind,
    better,
    levelled,
    missing_dates,
    owed,
    settle,
    suspect,
)
from checks.simulation_nightly import NightNoise, NightWorld, Truth, simulate_nightly
from redline.model import Finding, LevelChange, LevelKind
from tests.checks.policies import GPU

NIGHTLY = GPU.nightly
MARGIN = math.log1p(0.02)
STEP = Suspicion(SuspicionKind.STEP, 40, (39, 40), 38, 0.05, 5.0)


def nights(count: int, seed: int = 3) -> np.ndarray:
    """Quiet nights of CV 1 %."""
    return np.random.default_rng(seed).normal(0.0, 0.01, count)


def suspected(values, changes=(), release=()):
    """What the shipped policy suspects."""
    return suspect(list(values), changes, NIGHTLY, margin_log=MARGIN, release=release)


def test_a_step_is_suspected_and_its_last_good_night_is_before_all_it_could_be():
    """Four nights 4 % worse: the gate goes back before the earliest night that it could have begun."""
    values = nights(44)
    values[40:] += 0.04
    found = suspected(values)
    assert found is not None
    assert found.kind is SuspicionKind.STEP
    assert abs(found.first_bad - 40) <= 1
    assert found.last_good == min(found.could_be) - 1


def test_a_recorded_change_is_suspected_no_more_and_its_end_is_no_step():
    """With the step on record the series is quiet; without it, it is not."""
    values = nights(50)
    values[40:] += 0.05
    change = LevelChange(LevelKind.REGRESSION, 40, 0.05)
    assert suspected(values) is not None
    assert suspected(values, [change]) is None
    assert levelled(values.tolist(), [change]) == pytest.approx(nights(50))


def test_a_second_regression_on_top_of_the_first_is_found():
    """What is on record hides nothing that comes later."""
    values = nights(60)
    values[40:] += 0.05
    values[55:] += 0.05
    found = suspected(values, [LevelChange(LevelKind.REGRESSION, 40, 0.05)])
    assert found is not None
    assert abs(found.first_bad - 55) <= 1


@pytest.mark.parametrize(
    ("finding", "high", "tonight", "outcome", "kind"),
    [
        (Finding.REGRESSED, 0.06, 44, Outcome.REGRESSED, LevelKind.REGRESSION),
        (Finding.NO_WORSE, 0.01, 44, Outcome.ENVIRONMENT, LevelKind.ENVIRONMENT),
        (Finding.IMPROVED, -0.01, 44, Outcome.ENVIRONMENT, LevelKind.ENVIRONMENT),
        (Finding.NO_WORSE, 0.06, 44, Outcome.UNEXPLAINED, LevelKind.UNEXPLAINED),
        (Finding.NO_WORSE, 0.01, 40, Outcome.ODD_NIGHT, None),
        (Finding.INCONCLUSIVE, 0.06, 44, Outcome.OPEN, None),
        (Finding.INVALID, 0.0, 44, Outcome.OPEN, None),
        (None, 0.0, 44, Outcome.OPEN, None),
    ],
)
def test_what_a_gate_makes_of_a_suspicion(finding, high, tonight, outcome, kind):
    """Only a regressed gate is a regression; only a gate that excludes the step blames the surroundings."""
    found, change = settle(STEP, finding, (high / 2, high), tonight)
    assert found is outcome
    assert (change.kind if change else None) is kind
    if change:
        assert (change.first, change.size) == (40, 0.05)
        assert change.excused == pytest.approx(0.05 - max(high / 2, 0) if kind is LevelKind.ENVIRONMENT else 0.0)


def test_one_odd_night_moves_nothing():
    """A lone +15 % night is suspected that night and is not on record the night after."""
    values = nights(41)
    values[40] += 0.15
    found = suspected(values)
    assert found is not None
    assert found.kind is SuspicionKind.TONIGHT
    assert settle(found, Finding.NO_WORSE, (0.0, 0.01), 40) == (Outcome.ODD_NIGHT, None)
    assert suspected([*values, *nights(5, seed=4)]) is None


def test_a_better_level_is_on_record_from_its_third_night():
    """Else the way back would not be seen as worse."""
    values = nights(50)
    values[40:] -= 0.05
    assert better(values[:41].tolist(), (), NIGHTLY) is None
    change = better(values[:44].tolist(), (), NIGHTLY)
    assert change is not None
    assert change.kind is LevelKind.IMPROVEMENT
    assert change.size == pytest.approx(-0.05, abs=0.015)
    values[47:] += 0.05
    assert suspected(values, [change]) is not None


def test_what_is_owed_to_the_release():
    """Regressions add up, improvements pay back to zero at most, acceptance settles all."""
    regressed = LevelChange(LevelKind.REGRESSION, 40, 0.05)
    improved = LevelChange(LevelKind.IMPROVEMENT, 50, -0.03)
    environment = LevelChange(LevelKind.ENVIRONMENT, 45, 0.2, 0.2)
    assert owed([regressed, environment]) == pytest.approx(0.05)
    assert owed([regressed], since=41) == 0.0
    assert owed([regressed, LevelChange(LevelKind.DRIFT, 60, 0.08)]) == pytest.approx(0.08)
    assert owed([LevelChange(LevelKind.LOOKED_INTO, 60, 0.08)]) == 0.0
    returned = LevelChange(LevelKind.IMPROVEMENT, 50, -0.25, -0.2)
    assert owed([regressed, environment, returned]) == pytest.approx(0.0)
    assert owed([regressed, improved]) == pytest.approx(0.02)
    assert owed([regressed, improved, improved]) == 0.0
    assert owed([regressed, LevelChange(LevelKind.ACCEPTED, 60, 0.0)]) == 0.0


def drifting(count: int, total: float) -> list[float]:
    """A creep that no single night shows: quiet nights around a line."""
    values = 0.2 * nights(count) + np.linspace(0.0, total, count)
    return values.tolist()


def test_a_slow_drift_is_suspected_against_the_release_though_every_step_is_absorbed():
    """Each small step went on record as unexplained; against the release they still add up."""
    values = nights(80) * 0.2
    changes = []
    for first in (30, 45, 60):
        values[first:] += 0.012
        changes.append(LevelChange(LevelKind.UNEXPLAINED, first, 0.012))
    found = suspected(values, changes, release=range(10))
    assert found is not None
    assert found.kind is SuspicionKind.DRIFT
    assert found.size == pytest.approx(0.036, abs=0.005)
    assert suspected(values, changes) is None, "without a release there is nothing to drift from"


def test_a_drift_of_the_environment_is_no_drift_of_the_build():
    """Steps that a gate has blamed on the surroundings do not count against the build."""
    values = nights(80) * 0.2
    values[30:] += 0.036
    assert suspected(values, [LevelChange(LevelKind.ENVIRONMENT, 30, 0.036, 0.036)], release=range(10)) is None


def test_a_drift_that_was_looked_into_is_suspected_again_only_when_it_has_grown():
    """The mark on record keeps the same drift from a gate every night."""
    values = nights(80) * 0.2
    values[30:] += 0.012
    values[45:] += 0.012
    steps = [LevelChange(LevelKind.UNEXPLAINED, first, 0.012) for first in (30, 45)]
    first = suspected(values, steps, release=range(10))
    assert first is not None
    _, mark = settle(first, Finding.REGRESSED, (0.02, 0.03), 79)
    assert mark is not None
    assert suspected(values, [*steps, mark], release=range(10)) is None
    accepted = LevelChange(LevelKind.ACCEPTED, 50, 0.0)
    assert suspected(values, [*steps, accepted], release=range(10)) is None


def test_what_the_environment_gives_back_is_no_improvement():
    """A slow host that recovers pays no regression back, and leaves no blind spot for a creep."""
    values = nights(50) * 0.2
    values[30:40] += 0.05
    environment = LevelChange(LevelKind.ENVIRONMENT, 30, 0.05, 0.05)
    back = better(values[:44].tolist(), [environment], NIGHTLY)
    assert back is not None
    assert back.kind is LevelKind.ENVIRONMENT
    assert abs(back.first - 40) <= 1
    assert back.excused == pytest.approx(back.size)
    assert owed([LevelChange(LevelKind.REGRESSION, 20, 0.03), environment, back]) == pytest.approx(0.03)
    values = nights(90) * 0.2
    values[30:40] += 0.05
    values[50:] += np.linspace(0, 0.045, 40)
    found = suspected(values, [environment, back], release=range(10))
    assert found is not None


def test_an_accepted_level_is_suspected_no_more():
    """The acceptance takes in what was suspected and not settled."""
    values = nights(50)
    values[40:] += 0.05
    found = suspected(values)
    assert found is not None
    accepted = LevelChange(LevelKind.ACCEPTED, found.first_bad, found.size)
    assert suspected(values, [accepted]) is None


def test_a_suspicion_that_is_open_keeps_its_good_night():
    """A gate that could not decide last night: tonight's last good night is still before the first bad one."""
    values = nights(42)
    values[40] += 0.05
    values[41] += 0.15
    found = suspect(values.tolist(), (), NIGHTLY, margin_log=MARGIN, open_since=40)
    assert found is not None
    assert found.last_good < 40


def test_nights_that_did_not_run_are_named():
    """Every date between the last night and tonight, none if there is no gap or no history."""
    assert missing_dates(["2026-11-17", "2026-11-18"], "2026-11-21") == ("2026-11-19", "2026-11-20")
    assert missing_dates(["2026-11-20"], "2026-11-21") == ()
    assert missing_dates(["2026-11-21"], "2026-11-21") == ()
    assert missing_dates([], "2026-11-21") == ()
    assert missing_dates(["2026-11-07"], "2026-11-28", every_days=7) == ("2026-11-14", "2026-11-21")


@pytest.mark.slow
def test_whole_histories_are_judged_as_stated():
    """Quiet, odd and environment histories: no page to speak of; a 5 % step is paged by its second night."""
    quiet = simulate_nightly(NightWorld(0.01, noise=NightNoise.T3), GPU, seed=11, series_count=60)
    assert quiet.pages_per_100 <= 0.1
    odd = simulate_nightly(NightWorld(0.01, Truth.ODD_NIGHT, 0.15, nights=60), GPU, seed=11, series_count=60)
    assert odd.pages_per_100 <= 0.1
    environment = simulate_nightly(NightWorld(0.01, Truth.ENVIRONMENT, 0.05, nights=60), GPU, seed=11, series_count=60)
    assert environment.pages_per_100 <= 0.1
    assert environment.environment >= 0.9
    step = simulate_nightly(NightWorld(0.01, Truth.BUILD, 0.05, nights=60), GPU, seed=11, series_count=60)
    assert step.found >= 0.98
    assert step.delay_median <= 1
    assert step.named_within_one >= 0.9


def test_a_simulation_is_its_seed():
    """The same seed gives the same rates."""
    world = NightWorld(0.01, Truth.CREEP, 0.05, nights=60, noise=NightNoise.AR)
    one, other, third = (simulate_nightly(world, GPU, seed=seed, series_count=5) for seed in (1, 1, 2))
    assert one == other
    assert one != third
