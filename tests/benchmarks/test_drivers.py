"""How the peers' reports are read: small reports in the form that each tool writes."""

import json

import numpy as np
import pytest

from benchmarks.load.driver import CHECKOUT, WallClock
from benchmarks.load.drivers import DRIVERS, aiperf, guidellm, inference_perf, vllm_bench

DUE_NS = np.array([10_000_000, 20_000_000, 30_000_000], dtype=np.int64)


def test_vllm_bench(tmp_path):
    """Stamps are start + TTFT + gaps; a request with an error is counted and left out."""
    result = {
        "errors": ["", "refused", ""],
        "start_times": [1.0, 1.01, 1.02],
        "ttfts": [0.05, 0.0, 0.06],
        "itls": [[0.01, 0.02], [], [0.01, 0.01]],
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    report = vllm_bench.read_result(tmp_path / "result.json", DUE_NS)
    assert report.keys == ("r0", "r2")
    assert report.failed_count == 1
    assert report.due_ns is not None
    assert report.due_ns.tolist() == [10_000_000, 30_000_000]
    assert report.chunk_ns is not None
    assert report.chunk_ns[0] == pytest.approx([1_050_000_000, 1_060_000_000, 1_080_000_000], abs=2)


def test_guidellm(tmp_path):
    """Wall clock times come back to CLOCK_MONOTONIC; a missing TTFT is undefined; incomplete requests have failed."""
    timings = {"targeted_start": 1000.5}
    good = {"response_id": "cmpl-7", "info": {"timings": timings}, "time_to_first_token_ms": 51.5}
    mute = {"response_id": "cmpl-8", "info": {"timings": timings}, "time_to_first_token_ms": None}
    requests = {"successful": [good, mute], "errored": [], "incomplete": [{}]}
    (tmp_path / "result.json").write_text(json.dumps({"benchmarks": [{"requests": requests}]}))
    report = guidellm.read_result(tmp_path / "result.json", WallClock(offset_ns=1_000_000_000_000))
    assert report.keys == ("cmpl-7", "cmpl-8")
    assert report.failed_count == 1
    assert report.due_ns is not None
    assert report.due_ns[0] == pytest.approx(500_000_000, abs=200)
    assert report.ttft_ns[0] == pytest.approx(51_500_000)
    assert np.isnan(report.ttft_ns[1])
    assert report.reported_gaps_ns is None


def test_aiperf(tmp_path):
    """The due time is that of the prompt's index, whatever the order of the records; one without TTFT has failed."""
    conversations = [{"session_id": name, "payloads": [{"prompt": f"rid={n} abc"}]} for n, name in enumerate("abc")]
    (tmp_path / "inputs.json").write_text(json.dumps({"data": conversations}))
    metrics = {"time_to_first_token": {"value": 52.0}, "inter_chunk_latency": {"value": [10.0, 11.0]}}
    records = [
        {"metadata": {"x_request_id": "u2", "conversation_id": "c"}, "metrics": metrics},
        {"metadata": {"x_request_id": "u0", "conversation_id": "a"}, "metrics": metrics},
        {"metadata": {"x_request_id": "u1", "conversation_id": "b"}, "metrics": {}, "error": {"code": 500}},
    ]
    (tmp_path / "profile_export.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    report = aiperf.read_artifacts(tmp_path, DUE_NS)
    assert report.keys == ("u2", "u0")
    assert report.due_ns is not None
    assert report.due_ns.tolist() == [30_000_000, 10_000_000]
    assert report.ttft_ns.tolist() == [52_000_000, 52_000_000]
    assert report.gaps_ns is not None
    assert report.gaps_ns[0].tolist() == [10_000_000, 11_000_000]
    assert report.failed_count == 1


def test_inference_perf(tmp_path):
    """Records are put in the order of their starts, matched by the answer's id; without stamps a request has failed."""
    records = [
        {
            "start_time": start_s,
            "response": f'data: {{"id":"cmpl-{name}","object":"text_completion"}}',
            "info": {"response_metrics": {"output_token_times": times}},
            "error": None,
        }
        for start_s, name, times in ((2.0, "b", [2.05, 2.06]), (1.0, "a", [1.05, 1.07]), (3.0, "c", []))
    ]
    (tmp_path / "report.json").write_text(json.dumps(records))
    report = inference_perf.read_report(tmp_path / "report.json", DUE_NS)
    assert report.keys == ("cmpl-a", "cmpl-b")
    assert report.due_ns is not None
    assert report.due_ns.tolist() == [10_000_000, 20_000_000]
    assert report.ttft_ns == pytest.approx([50_000_000, 50_000_000], abs=2)
    assert report.reported_gaps_ns is not None
    assert report.reported_gaps_ns[0] == pytest.approx([20_000_000], abs=2)
    assert report.failed_count == 1


def test_the_trace_keeps_microseconds(tmp_path):
    """inference-perf reads six digits of a second: what it replays is the schedule to the microsecond."""
    inference_perf.write_trace(tmp_path / "trace.csv", [0.0000125, 61.5], 4)
    lines = (tmp_path / "trace.csv").read_text().splitlines()
    assert lines[0] == "TIMESTAMP,ContextTokens,GeneratedTokens"
    assert lines[1].startswith("2026-01-01 00:00:00.000012,")
    assert lines[2] == "2026-01-01 00:01:01.500000,20,4"


def test_the_readme_explains_every_client():
    """Whoever is in the table is in the README's table of what may be compared."""
    text = (CHECKOUT / "benchmarks" / "README.md").read_text()
    assert all(f"\n| {name} " in text for name in DRIVERS)
