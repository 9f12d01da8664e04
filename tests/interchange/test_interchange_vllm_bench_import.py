"""The import of vLLM bench's result files: real ones, older ones and broken ones."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest

from redline.errors import ContentError
from redline.interchange.history import Source
from redline.interchange.vllm_bench_import import from_vllm_bench
from tests.interchange.repeat_examples import SUMMARY, detailed


def by_metric(run):
    """Metric -> reading."""
    return {reading.metric: reading for reading in run.readings}


def loadgen_p99(values):
    """sorted[int(0.99 n)], the slow way."""
    return sorted(values)[min(math.floor(0.99 * len(values)), len(values) - 1)]


@pytest.mark.parametrize("position", [0, 1])
def test_a_real_detailed_result_is_recomputed_from_its_requests(position):
    """Readings of a real vLLM 0.32.0 file against numpy over its arrays, failed requests left out."""
    raw = detailed()[position]
    ok = np.array([not error for error in raw["errors"]])
    assert 0 < ok.sum() < len(ok)
    ttft, latency, queue = (np.array(raw[name])[ok] for name in ("ttfts", "latencies", "queue_times"))
    tokens, start = (np.array(raw[name])[ok] for name in ("output_lens", "start_times"))
    gaps = [gap for gaps, good in zip(raw["itls"], ok, strict=True) if good for gap in gaps]
    window_s = (start + latency).max() - (start - queue).min()
    run = from_vllm_bench(raw)
    found = by_metric(run)
    assert {reading.source for reading in run.readings} == {Source.REQUESTS}
    expected = {
        "ttft_s_median": np.median(ttft + queue),
        "ttft_s_p99": loadgen_p99(ttft + queue),
        "tpot_s_median": np.median((latency - ttft) / (tokens - 1)),
        "tpot_s_p99": loadgen_p99((latency - ttft) / (tokens - 1)),
        "itl_s_p99": loadgen_p99(gaps),
        "e2e_s_median": np.median(latency + queue),
        "output_tokens_per_s": tokens.sum() / window_s,
        "requests_per_s": ok.sum() / window_s,
    }
    assert {metric: reading.value for metric, reading in found.items()} == pytest.approx(expected)
    assert "dispatch" in found["ttft_s_median"].definition
    assert (run.build, run.runner, run.scenario, run.repeat) == ("0.32.0", "laptop", "", None)
    assert run.date.startswith("2026-11-21T13:35:")


def test_the_load_is_named_in_vllms_words():
    """Runs of different loads do not fall into one scenario."""
    assert [from_vllm_bench(raw).workload for raw in detailed()] == [
        "tiny rate=40 concurrency=2 prompts=8",
        "tiny rate=inf prompts=8",
    ]


def test_a_real_summary_is_taken_in_base_units_with_its_definitions():
    """Without --save-detailed: milliseconds to seconds, only E2E from the latencies that vLLM always keeps."""
    raw = json.loads(SUMMARY.read_text())
    found = by_metric(from_vllm_bench(raw))
    assert found["ttft_s_median"].value == pytest.approx(raw["median_ttft_ms"] / 1000)
    assert found["itl_s_p99"].value == pytest.approx(raw["p99_itl_ms"] / 1000)
    assert found["output_tokens_per_s"].value == raw["output_throughput"]
    assert found["output_tokens_per_s"].definition == "the window includes failed requests"
    assert found["ttft_s_p99"].definition == "from sending, not from the schedule; interpolated percentile"
    assert {name for name, reading in found.items() if reading.source is Source.REQUESTS} == {"e2e_s_median"}
    latencies = np.array(raw["latencies"]) + np.array(raw["queue_times"])
    assert found["e2e_s_median"].value == pytest.approx(np.median(latencies[np.array(raw["latencies"]) > 0]))


def test_an_older_file_without_latencies_and_queues_is_read():
    """vLLM before 0.32 keeps neither: latency is TTFT and the gaps, throughput the summary's, and both say so."""
    raw = detailed()[0]
    latencies = {name: raw.pop(name) for name in ("latencies", "queue_times", "start_times")}["latencies"]
    found = by_metric(from_vllm_bench(raw))
    assert found["e2e_s_median"].value == pytest.approx(np.median([one for one in latencies if one > 0]))
    assert found["ttft_s_median"].definition == "from sending, not from the schedule"
    assert found["requests_per_s"].source is Source.SUMMARY


def test_a_chunk_per_token_needs_no_remark():
    """If every gap is one token, vLLM's TPOT and ITL are Redline's."""
    raw = detailed()[0]
    raw["output_lens"] = [len(gaps) + 1 if gaps else 0 for gaps in raw["itls"]]
    found = by_metric(from_vllm_bench(raw))
    assert found["tpot_s_median"].definition == found["itl_s_p99"].definition == ""


def test_an_answer_in_one_chunk_has_no_tpot():
    """vLLM counts a TPOT of 0 for it; here it is undefined and pulls no median down."""
    raw = detailed()[1]
    before = by_metric(from_vllm_bench(raw))["tpot_s_p99"].value
    raw["itls"][0] = []
    raw["latencies"][0] = raw["ttfts"][0]
    found = by_metric(from_vllm_bench(raw))
    assert found["tpot_s_median"].value > 0.5 * before


def changed(**values):
    """The real detailed result with some keys replaced."""
    return copy.deepcopy(detailed()[0]) | values


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (changed(completed=3), "contradicts itself"),
        (changed(ttfts=[0.1]), "ttfts"),
        (changed(itls=[[0.1]] * 9), "itls"),
        (changed(errors=[1] * 8), "errors.0"),
        (changed(duration="1 s"), "duration"),
        (changed(output_throughput=math.nan), "output_throughput"),
        (changed(ttfts=[math.nan] * 8), "ttfts.0"),
        (changed(output_lens=[10**400] * 8), "output_lens.0"),
        (changed(completed=True), "completed"),
        ({"duration": 1.0}, "completed"),
        ([], "the whole"),
    ],
)
def test_what_is_no_result_is_refused_by_its_key(raw, message):
    """The message names the key, what it should be and what it is."""
    with pytest.raises(ContentError, match="not a result of vllm bench serve") as caught:
        from_vllm_bench(raw)
    assert message in caught.value.problem
    assert caught.value.expected
    assert caught.value.found


def test_a_failed_run_of_zeros_has_no_readings():
    """vLLM saves zeros and ends with success if every request failed: that is no measurement."""
    raw = detailed()[0]
    raw |= {"completed": 0, "failed": 8, "latencies": [0.0] * 8, "errors": ["refused"] * 8, "output_throughput": 0.0}
    run = from_vllm_bench(raw)
    assert run.readings == ()
    assert run.notes[0] == "8 of 8 requests failed"
