"""Redline's schedule and order are the official LoadGen's, run here and now; recordings are in test_loadgen.py.

Each run is a process of its own: LoadGen keeps static state. It is answered at once, so it takes as long as its
schedule.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redline.load import loadgen
from redline.load.loadgen_settings import LoadgenSettings, planned_issue
from redline.mlperf import ROUND_SEEDS
from tests.load import record_loadgen

pytestmark = pytest.mark.slow

RUN_S_MAX = 60.0
ROUNDS = ("v5.1", "v6.0", "v6.1")
SERVER = LoadgenSettings(
    scenario="Server",
    mode="performance",
    seeds=ROUND_SEEDS["v6.1"],
    target_rate_per_s=4000.0,
    duration_s_min=0.0,
    query_count_min=400,
    sample_count=150,
    performance_sample_count=150,
    ttft_ns_max=10**9,
    tpot_ns_max=10**9,
)
OFFLINE = replace(SERVER, scenario="Offline", target_rate_per_s=250.0, duration_s_min=1.5)
CASES = {
    **{f"server {name}": replace(SERVER, seeds=ROUND_SEEDS[name]) for name in ROUNDS},
    **{f"server {name}, unequal": replace(SERVER, seeds=ROUND_SEEDS[name], equal_issue=False) for name in ROUNDS},
    **{f"offline {name}": replace(OFFLINE, seeds=ROUND_SEEDS[name]) for name in ROUNDS},
    "offline, unequal": replace(OFFLINE, equal_issue=False, query_count_min=700),
    "offline, of a rate that divides no second": replace(OFFLINE, target_rate_per_s=297.3),
    "offline accuracy": replace(OFFLINE, mode="accuracy"),
    "offline accuracy, unequal": replace(OFFLINE, mode="accuracy", equal_issue=False, seeds=ROUND_SEEDS["v6.0"]),
    "server by duration": replace(SERVER, query_count_min=100, duration_s_min=0.21),
    "server by duration, unequal": replace(SERVER, query_count_min=100, duration_s_min=0.21, equal_issue=False),
    "server accuracy": replace(SERVER, mode="accuracy"),
    "server accuracy, unequal": replace(SERVER, mode="accuracy", equal_issue=False, seeds=ROUND_SEEDS["v5.1"]),
    "server, some loaded": replace(SERVER, performance_sample_count=47),
    "server, one sample": replace(SERVER, sample_count=1, performance_sample_count=1, query_count_min=5),
    "server, three samples": replace(SERVER, sample_count=3, performance_sample_count=3, query_count_min=20),
}


def official(settings: LoadgenSettings, folder: Path) -> dict[str, Any]:
    """What the official LoadGen did with the same settings, in a process of its own."""
    seeds = settings.seeds
    case = record_loadgen.DEFAULTS | {
        "scenario": settings.scenario,
        "mode": settings.mode,
        "total_count": settings.sample_count,
        "loaded_count": settings.performance_sample_count,
        "rate_per_s": settings.target_rate_per_s,
        "min_duration_ms": round(settings.duration_s_min * 1000),
        "min_query_count": settings.query_count_min,
        "selection": "equal-issue" if settings.equal_issue else "with-replacement",
        "seeds": (seeds.qsl, seeds.sample_index, seeds.schedule),
    }
    command = [sys.executable, record_loadgen.__file__, json.dumps(case), str(folder)]
    subprocess.run(command, check=True, timeout=RUN_S_MAX)
    recorded: dict[str, Any] = json.loads((folder / "recorded.json").read_text())
    return recorded


@pytest.mark.parametrize("name", CASES)
def test_the_official_loadgen_issues_just_what_is_planned(name: str, tmp_path: Path) -> None:
    """Samples loaded, samples issued in order, due times, count of queries and length of the schedule are the same."""
    settings = CASES[name]
    recorded = official(settings, tmp_path)
    planned = planned_issue(settings)
    assert recorded["order"] == record_loadgen.summary(list(planned.items))
    assert recorded["generated_query_count"] == [planned.query_count]
    assert recorded["generated_query_duration"] == [planned.query_duration_ns]
    loaded = loadgen.loaded_samples(settings.loaded_count, settings.seeds.qsl)
    assert recorded["loaded"] == [record_loadgen.summary(list(loaded))]
    if "due_ns" in recorded:  # Server in performance mode
        assert recorded["due_ns"] == record_loadgen.summary(list(planned.offsets_ns))


def test_rounds_differ_in_every_seed_and_in_what_is_issued() -> None:
    """No two of the rounds share a seed, an order or a schedule: equal traces would prove little."""
    seeds = [ROUND_SEEDS[name] for name in ROUNDS]
    for kind in ("qsl", "sample_index", "schedule"):
        assert len({getattr(each, kind) for each in seeds}) == len(ROUNDS)
    planned = [planned_issue(replace(SERVER, seeds=each)) for each in seeds]
    assert len({each.items for each in planned}) == len(ROUNDS)
    assert len({each.offsets_ns for each in planned}) == len(ROUNDS)


def test_the_seeds_of_v6_1_are_those_compiled_into_loadgen(tmp_path: Path) -> None:
    """LoadGen 6.0.17 carries its round's mlperf.conf: its seeds are the ones that Redline has for v6.1."""
    conf = tmp_path / "user.conf"
    conf.write_text("*.Server.target_qps = 5\n")
    code = (
        "import sys, mlperf_loadgen as lg\n"
        "settings = lg.TestSettings()\n"
        "settings.FromConfig(sys.argv[1], 'llama2-70b', 'Server', 1)\n"
        "print(settings.qsl_rng_seed, settings.sample_index_rng_seed, settings.schedule_rng_seed)\n"
    )
    command = [sys.executable, "-c", code, str(conf)]
    said = subprocess.run(command, check=True, timeout=RUN_S_MAX, capture_output=True, text=True, cwd=tmp_path).stdout
    seeds = ROUND_SEEDS["v6.1"]
    assert said.split() == [str(seeds.qsl), str(seeds.sample_index), str(seeds.schedule)]
