"""Records what the official LoadGen does: `golden_loadgen.json` beside this script, which test_loadgen.py reads.

    python3 -m venv /tmp/loadgen && /tmp/loadgen/bin/pip install mlcommons-loadgen==6.0.17
    /tmp/loadgen/bin/python tests/load/record_loadgen.py

Each case runs in a process of its own (LoadGen keeps static state) against a system under test that answers at
once. Samples come from the callbacks; the due times of the server scenario from LoadGen's trace, where every
sample starts at its scheduled instant in microseconds with three decimals: exact nanoseconds. Counts come from
its detail log. Server cases take as long as their schedule, all cases together about 15 s on Linux.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg  # type: ignore[import-not-found]  # recorded with it, tested without it

GOLDEN = Path(__file__).with_name("golden_loadgen.json")
CASE_S_MAX = 120.0
FIRST_COUNT = 12
V6_0 = (2465351861681999779, 14276810075590677512, 3936089224930324775)
V6_1 = (2085463073848966840, 2747215439041700203, 16159082839903944936)

DEFAULTS: dict[str, Any] = {
    "scenario": "Server",
    "mode": "performance",
    "total_count": 1000,
    "loaded_count": 1000,
    "rate_per_s": 20_000.0,
    "latency_ns_expected": 1_000_000,
    "min_duration_ms": 0,
    "min_query_count": 100,
    "selection": "with-replacement",
    "seeds": V6_1,
}
CASES: dict[str, dict[str, Any]] = {
    "server": {"min_query_count": 5000},
    "server slow": {"rate_per_s": 31.7, "min_query_count": 40, "seeds": V6_0},
    "server by duration": {"rate_per_s": 9876.5, "min_duration_ms": 700},
    "server seeds 0 1 2": {"seeds": (0, 1, 2), "min_query_count": 2500},
    "server seeds of 33 and 64 bits": {"seeds": (2**32 + 5, 2**64 - 1, 2**63), "min_query_count": 2500},
    "server some loaded": {"loaded_count": 77, "min_query_count": 1000},
    "server more loaded than there are": {"total_count": 50, "loaded_count": 80, "min_query_count": 300},
    "server one sample": {"total_count": 1, "loaded_count": 1, "selection": "equal-issue"},
    "server two samples": {"total_count": 2, "loaded_count": 2, "selection": "equal-issue"},
    "server equal issue": {"selection": "equal-issue", "total_count": 977, "loaded_count": 977},
    "server equal issue, several passes": {"selection": "equal-issue", "min_query_count": 4321, "seeds": V6_0},
    "server equal issue by duration": {"selection": "equal-issue", "rate_per_s": 8000.0, "min_duration_ms": 600},
    "server unique": {"selection": "unique", "total_count": 3001, "loaded_count": 3001},
    "server, 65535 samples": {
        "selection": "equal-issue",
        "total_count": 65535,
        "loaded_count": 65535,
        "rate_per_s": 1e5,
    },
    "server, 65536 samples": {
        "selection": "equal-issue",
        "total_count": 65536,
        "loaded_count": 65536,
        "rate_per_s": 1e5,
    },
    "server accuracy": {"mode": "accuracy", "total_count": 1300, "loaded_count": 500},
    "server accuracy, equal issue": {"mode": "accuracy", "selection": "equal-issue", "loaded_count": 333},
    "offline": {"scenario": "Offline", "rate_per_s": 103.7, "min_duration_ms": 60_000, "loaded_count": 512},
    "offline equal issue": {
        "scenario": "Offline",
        "selection": "equal-issue",
        "total_count": 13368,
        "loaded_count": 13368,
        "rate_per_s": 25.0,
        "min_duration_ms": 600_000,
        "min_query_count": 24576,
    },
    "offline unique": {"scenario": "Offline", "selection": "unique", "total_count": 640, "loaded_count": 640},
    "offline accuracy": {"scenario": "Offline", "mode": "accuracy", "loaded_count": 300},
    "offline accuracy, equal issue": {"scenario": "Offline", "mode": "accuracy", "selection": "equal-issue"},
    "single stream": {"scenario": "SingleStream", "min_query_count": 1500},
    "single stream by duration": {"scenario": "SingleStream", "latency_ns_expected": 333_333, "min_duration_ms": 150},
    "single stream equal issue": {"scenario": "SingleStream", "selection": "equal-issue", "min_query_count": 2000},
    "single stream equal issue by duration": {
        "scenario": "SingleStream",
        "selection": "equal-issue",
        "total_count": 90,
        "loaded_count": 90,
        "latency_ns_expected": 777_777,
        "min_duration_ms": 150,
    },
    "single stream accuracy": {"scenario": "SingleStream", "mode": "accuracy", "loaded_count": 251},
}


def summary(numbers: list[int]) -> dict[str, Any]:
    """A sequence as it is kept: its length, its first values, and the SHA-256 of all, in decimal, with commas."""
    text = ",".join(map(str, numbers))
    return {
        "count": len(numbers),
        "first": numbers[:FIRST_COUNT],
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def settings_of(case: dict[str, Any]) -> Any:
    """LoadGen's TestSettings of a case."""
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, case["scenario"])
    settings.mode = lg.TestMode.AccuracyOnly if case["mode"] == "accuracy" else lg.TestMode.PerformanceOnly
    settings.server_target_qps = settings.offline_expected_qps = case["rate_per_s"]
    settings.single_stream_expected_latency_ns = case["latency_ns_expected"]
    settings.min_duration_ms = case["min_duration_ms"]
    settings.min_query_count = case["min_query_count"]
    settings.sample_concatenate_permutation = case["selection"] == "equal-issue"
    settings.performance_issue_unique = case["selection"] == "unique"
    settings.qsl_rng_seed, settings.sample_index_rng_seed, settings.schedule_rng_seed = case["seeds"]
    return settings


def logged(folder: Path, key: str) -> list[int]:
    """The values of one key in LoadGen's detail log: one for each loaded set."""
    lines = (folder / "mlperf_log_detail.txt").read_text().splitlines()
    return [json.loads(line.removeprefix(":::MLLOG "))["value"] for line in lines if f'"key": "{key}"' in line]


def due_ns(folder: Path) -> list[int]:
    """Scheduled instants in the order of issue, relative to the first, from LoadGen's trace.

    One event a line; as a whole the trace is no JSON, since LoadGen quotes some keys twice.
    """
    by_sequence = {}
    for line in (folder / "mlperf_log_trace.json").read_text().splitlines():
        if line.startswith('{"name":"Sample"') and '"ph":"b"' in line:
            event = json.loads(line.rstrip(","), parse_float=Decimal)
            by_sequence[event["args"]["sample_seq"]] = int(event["ts"] * 1000)
    return [by_sequence[number] - by_sequence[0] for number in sorted(by_sequence)]


def run(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One run of LoadGen, in this process, and what it did."""
    loaded: list[list[int]] = []
    order: list[int] = []

    def issue(samples: list[Any]) -> None:
        order.extend(sample.index for sample in samples)
        lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0) for sample in samples])

    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(case["total_count"], case["loaded_count"], loaded.append, lambda _: None)
    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    log_settings = lg.LogSettings()
    log_settings.log_output = output
    has_schedule = case["scenario"] == "Server" and case["mode"] == "performance"
    log_settings.enable_trace = has_schedule
    lg.StartTestWithLogSettings(sut, qsl, settings_of(case), log_settings, "")
    lg.DestroyQSL(qsl)
    lg.DestroySUT(sut)

    if case["scenario"] == "SingleStream" and case["mode"] == "performance":
        # How many it issued is a matter of speed; the minimum is certain.
        order = order[: logged(folder, "effective_min_query_count")[0]]
    recorded: dict[str, Any] = {
        key: logged(folder, key)
        for key in ("generated_query_count", "generated_samples_per_query", "generated_query_duration")
    }
    recorded["loaded"] = [summary([int(index) for index in samples]) for samples in loaded]
    recorded["order"] = summary(order)
    if has_schedule:
        recorded["due_ns"] = summary(due_ns(folder))
    return recorded


def main() -> None:
    """Record every case, or in a child process the one case given."""
    if len(sys.argv) == 3:
        folder = Path(sys.argv[2])
        (folder / "recorded.json").write_text(json.dumps(run(json.loads(sys.argv[1]), folder)))
        return
    cases = {}
    for name, changes in CASES.items():
        case = DEFAULTS | changes
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, __file__, json.dumps(case), scratch]
            subprocess.run(command, check=True, timeout=CASE_S_MAX)
            cases[name] = {"settings": case, "recorded": json.loads((Path(scratch) / "recorded.json").read_text())}
        print(name, cases[name]["recorded"]["order"]["count"])
    version = importlib.metadata.version("mlcommons-loadgen")
    made = {"made_by": "tests/load/record_loadgen.py", "mlcommons-loadgen": version, "cases": cases}
    # One line a case: a changed one shows as one changed line.
    text = json.dumps(made).replace('"cases": {', '"cases": {\n').replace("}}, ", "}},\n").replace("}}}}", "}}\n}}")
    GOLDEN.write_text(text + "\n")


if __name__ == "__main__":
    main()
