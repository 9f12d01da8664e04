"""The seeds of the rounds of MLPerf Inference, which MLCommons publishes with LoadGen."""

from __future__ import annotations

from collections.abc import Mapping

from redline.model import Scenario, Seeds

ROUND_SEEDS: Mapping[str, Seeds] = {
    "v4.0": Seeds(13281865557512327830, 198141574272810017, 7575108116881280410),
    "v4.1": Seeds(3066443479025735752, 10688027786191513374, 14962580496156340209),
    "v5.0": Seeds(6023615788873153749, 15036839855038426416, 9933818062894767841),
    "v5.1": Seeds(1780908523862526354, 14771362308971278857, 18209322760996052031),
    "v6.0": Seeds(2465351861681999779, 14276810075590677512, 3936089224930324775),
    "v6.1": Seeds(2085463073848966840, 2747215439041700203, 16159082839903944936),
}
"""By round. Source: `mlperf.conf` of mlcommons/inference, keys qsl_rng_seed, sample_index_rng_seed and
schedule_rng_seed; v6.0 as in loadgen 6.0.5 to 6.0.15 and in published logs, v6.1 from loadgen 6.0.16 on."""


def seeds_of(scenario: Scenario) -> Seeds:
    """The seeds of the scenario's round; where it follows none, its own seed for all three."""
    if scenario.mlperf is not None:
        return ROUND_SEEDS[scenario.mlperf.round]
    return Seeds(scenario.seed, scenario.seed, scenario.seed)
