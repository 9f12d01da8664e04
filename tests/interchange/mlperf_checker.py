"""What MLCommons' submission checker asks of a folder, for llama2-70b-99.9 in round v6.0: our own words for its checks.

The checker itself is no package that can be installed; it lies in mlcommons/inference, tools/submission. The names are
those of its checks (checks/*.py), the numbers those of its constants.py, as of the v6.0 round. Left out are the power
checks, which a folder without power logs passes, and the compliance checks, which its main program does not call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redline.mlperf import ROUND_SEEDS

SAMPLES = 24_576
TARGETS = {"rouge1": 44.4312 * 0.999, "rouge2": 22.0352 * 0.999, "rougeL": 28.6162 * 0.999}
TOKENS_PER_SAMPLE = (294.45 * 0.9, 294.45 * 1.1)
E2E_NS_MAX = 20_000_000_000
LIMITS_NS = {
    "first_token_99.00_percentile_latency": 2_000_000_000,
    "time_per_output_token_99.00_percentile": 200_000_000,
}
WEIGHT_FIELDS = ("retraining", "starting_weights_filename", "weight_data_types", "weight_transformations")
MAY_BE_EMPTY = (
    *("hw_notes", "sw_notes", "system_type_detail", "host_processor_frequency", "host_processor_caches"),
    *("host_processor_interconnect", "accelerator_frequency", "accelerator_interconnect_topology"),
    "accelerator_on-chip_memories",
)
MUST_BE_TOLD = (
    *("division", "submitter", "system_type", "status", "system_name", "number_of_nodes", "host_processor_model_name"),
    *("host_processors_per_node", "host_processor_core_count", "host_memory_capacity", "host_memory_configuration"),
    *("host_storage_capacity", "host_storage_type", "host_networking", "host_network_card_count"),
    *("host_networking_topology", "accelerators_per_node", "accelerator_model_name", "accelerator_memory_capacity"),
    *("accelerator_host_interconnect", "accelerator_memory_configuration", "accelerator_interconnect", "cooling"),
    *("framework", "operating_system", "other_software_stack"),
)


def read_detail(path: Path) -> dict[str, Any]:
    """The entries of a detail log by key, the first of each; its first line must be one."""
    lines = path.read_text().splitlines()
    assert lines[0].startswith(":::MLLOG")
    entries = [json.loads(line.removeprefix(":::MLLOG")) for line in lines]
    first = {entry["key"]: entry["value"] for entry in reversed(entries)}
    return first | {"errors": [entry for entry in entries if entry["metadata"]["is_error"]]}


def failed(folder: Path) -> dict[str, set[str]]:
    """The checks that a scenario's folder does not pass, by part; a part that crashes the checker holds `crash`."""
    *_, division, submitter, _results, system, _benchmark, scenario = folder.parts
    root = folder.parents[3]
    described = json.loads((root / "systems" / f"{system}.json").read_text())
    closed = division == "closed"
    log = read_detail(folder / "performance" / "run_1" / "mlperf_log_detail.txt")
    parts = {
        "performance": _performance(log, scenario, closed=closed),
        "accuracy": _accuracy(folder / "accuracy", closed=closed),
        "system": {
            "availability_check": described["status"] in ("available", "preview", "rdi"),
            "system_type_check": described["system_type"] in ("datacenter", "edge", "datacenter,edge"),
            "required_fields_check": all(described.get(name) for name in MUST_BE_TOLD)
            and all(name in described for name in MAY_BE_EMPTY),
            "submitter_check": described["submitter"].lower() == submitter.lower(),
            "division_check": described["division"] == division,
        },
        "measurements": _measurements(folder, root),
    }
    return {part: {name for name, ok in found.items() if not ok} for part, found in parts.items()}


def _performance(log: Mapping[str, Any], scenario: str, *, closed: bool) -> dict[str, bool]:
    offline = log["effective_scenario"] == "Offline"
    seeds = ROUND_SEEDS["v6.0"]
    names = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
    tokens = "result_tokens_per_second" if offline else "result_completed_tokens_per_second"
    return {
        "loadgen_errors_check": not log["errors"],
        "performance_sample_count_check": log["effective_performance_sample_count"] >= SAMPLES,
        "seeds_check": [log[f"effective_{n}"] for n in names] == [seeds.qsl, seeds.sample_index, seeds.schedule],
        "latency_check": offline or (log["early_stopping_met"] and log["effective_target_latency_ns"] <= E2E_NS_MAX),
        "min_query_count_check": not (offline and closed) or log["effective_samples_per_query"] >= SAMPLES,
        "min_duration_check": log["effective_min_duration_ms"] >= 600_000,
        "llm_check": log["requested_use_token_latencies"]
        and (offline or all(log[f"result_{key}_ns"] < limit for key, limit in LIMITS_NS.items())),
        "inferred_check": {"Interactive": "Server"}.get(scenario, scenario) == log["effective_scenario"],
        "get_performance_metric_check": log.get(tokens, 0) > 0,
    }


def _accuracy(folder: Path, *, closed: bool) -> dict[str, bool]:
    if not folder.is_dir():
        return {"crash": False}
    log = read_detail(folder / "mlperf_log_detail.txt")
    text = (folder / "accuracy.txt").read_text()
    found = {name: float(re.findall(rf"'{name}':\s+'?([\d.]+)", text)[0]) for name in (*TARGETS, "tokens_per_sample")}
    low, high = TOKENS_PER_SAMPLE
    good = all(found[name] >= target for name, target in TARGETS.items()) and low <= found["tokens_per_sample"] <= high
    hashed = re.search(r"^hash=[\w\d]+$", text, re.MULTILINE) is not None
    return {
        "accuracy_result_check": not closed or (good and hashed),
        "accuracy_json_check": (folder / "mlperf_log_accuracy.json").stat().st_size <= 10 * 1024,
        "loadgen_errors_check": not log["errors"],
        "dataset_check": log["effective_accuracy_sample_count"] == SAMPLES,
    }


def _measurements(folder: Path, root: Path) -> dict[str, bool]:
    told = json.loads((folder / "measurements.json").read_text())
    return {
        "directory_exist_check": (root / "src").is_dir(),
        "required_files_check": all((folder / name).stat().st_size for name in ("user.conf", "README.md")),
        "required_fields_check": all(told.get(name) for name in ("input_data_types", *WEIGHT_FIELDS)),
    }
