"""How long measuring is expected to take: for the progress display and for plans, never for a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from redline.model import Recipe, Scenario, Server

START_EXPECTED_S = 28.0


def expected_round_s(recipe: Recipe, recipe_scenarios: Sequence[Scenario], arm_count: int, resident: int) -> float:
    """Seconds that one round of a recipe's scenarios is expected to take."""
    starts = START_EXPECTED_S * (1.25 if resident >= 2 and arm_count == 2 else arm_count)
    return starts + sum(expected_scenario_s(recipe, scenario) * arm_count for scenario in recipe_scenarios)


def expected_scenario_s(recipe: Recipe, scenario: Scenario) -> float:
    """Seconds of one scenario on one arm, by the rate that is known of its arrivals or placement; else a guess."""
    windows = scenario.repeat_count + scenario.discard_count
    known = [each.rate_per_s for each in recipe.placements if each.rate_per_s]
    if isinstance(scenario.arrivals, Server):
        window_s = scenario.request_count / scenario.arrivals.rate_per_s + 0.6
    elif known:
        window_s = scenario.request_count / known[0]
    elif scenario.mlperf is not None and not scenario.mlperf.shortened and not scenario.measures_accuracy:
        window_s = scenario.mlperf.duration_s_min
    elif scenario.measures_accuracy:
        window_s = 6.0 * max(1.0, scenario.request_count / 1000)
    else:
        window_s = 2.5 * max(1.0, scenario.request_count / 200)
    return windows * window_s
