"""What the gate does not see: the simulation of it is its seed, and says what the method promises."""

from __future__ import annotations

import pytest

from checks.blind_spots import BlindSpot, look_for, smallest_blocked
from checks.simulation import World
from tests.checks.policies import CPU, THREE

CVS = (0.03, 0.03, 0.07)
SEED = 7


def test_a_loss_that_is_only_in_a_descriptive_metric_never_blocks_and_is_pointed_at():
    """E2E 30 % worse where E2E does not decide: every suite passes, nearly every one says "look at"."""
    spot = BlindSpot((*THREE, ("server", "e2e_s_median")), (*CVS, 0.03), (0.0, 0.0, 0.0, 0.3))
    sight = look_for(spot, CPU, seed=SEED, suite_count=100)
    assert sight.blocked == 0
    assert sight.passed >= 0.95
    assert sight.noticed >= 0.95


def test_what_is_slow_now_and_then_is_seldom_blocked():
    """One candidate deployment in ten 20 % slower: hardly ever blocked; every one slower: always."""
    effects = (0.2 / 1.2, 0.2, 0.2)
    seldom = look_for(BlindSpot(THREE, CVS, effects, slow_share=0.1), CPU, seed=SEED, suite_count=150)
    always = look_for(BlindSpot(THREE, CVS, effects), CPU, seed=SEED, suite_count=50)
    assert seldom.blocked <= 0.05
    assert seldom.passed + seldom.undecided + seldom.blocked == pytest.approx(1)
    assert always.blocked == 1


def test_a_look_is_its_seed():
    """The same seed gives the same shares, another seed other ones."""
    spot = BlindSpot(THREE, CVS, (0.06, 0.0, 0.0), history_rounds=2)
    first, again, other = (look_for(spot, CPU, seed=seed, suite_count=60) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.slow
def test_the_smallest_loss_that_is_blocked_lies_between_half_the_margin_and_the_margin():
    """Half of the suites block less than what 95 % of them block; at the CPU's margin of 10 % nearly all do."""
    world = World(THREE, CVS, (0.0, 0.0, 0.0))
    half, most = (
        smallest_blocked(world, CPU, share=share, effect_max=0.16, seed=SEED, suite_count=100) for share in (0.5, 0.95)
    )
    assert 0.05 < half < most < 0.1


def test_a_loss_that_is_never_blocked_is_refused():
    """Asked for a share that even the largest loss does not reach, the search says so instead of naming it."""
    world = World(THREE, CVS, (0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="in less than 95%"):
        smallest_blocked(world, CPU, share=0.95, effect_max=0.02, seed=SEED, suite_count=20)
