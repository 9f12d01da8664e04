"""The export to vLLM bench's result file, against numpy, a hand-worked example and a real file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline.errors import ContentError
from redline.interchange.vllm_bench import ServeSettings, to_vllm_bench
from redline.interchange.vllm_bench_import import from_vllm_bench
from redline.metrics import CATALOGUE
from redline.model import Outcome
from tests.interchange.repeat_examples import detailed, record, records, repeat_of, trial_of

ARRAYS = (
    "input_lens",
    "output_lens",
    "ttfts",
    "itls",
    "latencies",
    "start_times",
    "queue_times",
    "generated_texts",
    "errors",
)
PACED = ServeSettings("tiny", request_rate_per_s=40.0, max_concurrency=2)
EXAMPLE = repeat_of(
    record(0, 0, (100, 110, 130), lag_ms=10),
    record(1, 50, (200, 240), lag_ms=0, tokens=(1, 3)),
    record(2, 60, (90, 95), lag_ms=5, outcome=Outcome.TIMEOUT, detail="cut off"),
    record(3, 70, (170,), lag_ms=0),
)


def exported(repeat, settings=PACED):
    """The export as a reader of its JSON sees it."""
    return json.loads(json.dumps(to_vllm_bench(trial_of(repeat), repeat, settings), allow_nan=False))


def without_metadata(result):
    """The keys that vLLM itself writes, in order."""
    ours = set(to_vllm_bench(trial_of(EXAMPLE), EXAMPLE, PACED)) - set(detailed()[0])
    return [key for key in result if key not in ours | {"build", "runner"}]


def test_the_keys_are_vllms_own_in_its_order():
    """A paced, bounded export has the keys of a real file of vLLM 0.32.0 with every summary asked for."""
    assert without_metadata(exported(EXAMPLE)) == without_metadata(detailed()[0])


def test_an_unpaced_and_unbounded_run_has_no_queue_summaries():
    """Without a bound vLLM writes no queue summary, and an infinite rate as text, as in the real file."""
    result = exported(EXAMPLE, ServeSettings("tiny"))
    real = detailed()[1]
    assert result["request_rate"] == real["request_rate"] == "inf"
    assert result["max_concurrency"] is real["max_concurrency"] is None
    assert [key for key in without_metadata(result) if "e2el" not in key] == without_metadata(real)


def test_a_worked_example():
    """Two of four requests by hand: seconds in arrays, milliseconds in summaries, the failed one in its place."""
    result = exported(EXAMPLE)
    assert result["ttfts"] == pytest.approx([0.09, 0.15, 0.025, 0.1])
    assert result["itls"] == [pytest.approx([0.01, 0.02]), pytest.approx([0.04]), pytest.approx([0.005]), []]
    assert result["latencies"] == pytest.approx([0.12, 0.19, 0, 0.1])
    assert result["queue_times"] == pytest.approx([0.01, 0, 0.005, 0])
    assert result["output_lens"] == [3, 4, 0, 1]
    assert result["generated_texts"] == ["ab", "ab", "", "ab"]
    assert result["errors"] == ["", "", "timeout: cut off", ""]
    assert (result["completed"], result["failed"], result["num_prompts"]) == (3, 1, 4)
    assert result["duration"] == pytest.approx(0.241)
    assert result["output_throughput"] == pytest.approx(8 / 0.241)
    assert result["total_token_throughput"] == pytest.approx(20 / 0.241)
    assert result["median_ttft_ms"] == pytest.approx(100)
    assert result["mean_tpot_ms"] == pytest.approx((15 + 40 / 3) / 2)
    assert result["p99_itl_ms"] == pytest.approx(np.percentile([10, 20, 40], 99))
    assert result["std_e2el_ms"] == pytest.approx(np.std([120, 190, 100]))
    assert result["mean_e2el_including_client_queue_ms"] == pytest.approx((130 + 190 + 100) / 3)
    assert result["date"] == "20261121-100000"


@settings(deadline=None)
@given(st.lists(records(tokens_per_chunk_max=4), max_size=8))
def test_summaries_follow_from_the_arrays(some):
    """Every summary is numpy's, over the completed requests of the arrays; 0 where there are none."""
    result = exported(repeat_of(*some))
    assert all(len(result[name]) == len(some) for name in ARRAYS)
    done = [position for position, error in enumerate(result["errors"]) if not error]
    assert (result["completed"], result["failed"]) == (len(done), len(some) - len(done))

    def of(name):
        return [result[name][position] for position in done]

    rows = zip(of("latencies"), of("ttfts"), of("output_lens"), strict=True)
    long = [(end - first, count) for end, first, count in rows if count > 1]
    values = {
        "ttft": of("ttfts"),
        "tpot": [span / (count - 1) for span, count in long],
        "itl": [gap for gaps in of("itls") for gap in gaps],
        "e2el": of("latencies"),
        "client_queue_time": of("queue_times"),
    }
    for name, found in values.items():
        array = np.array(found or [0.0]) * 1000
        assert result[f"mean_{name}_ms"] == pytest.approx(array.mean())
        assert result[f"median_{name}_ms"] == pytest.approx(np.median(array))
        assert result[f"std_{name}_ms"] == pytest.approx(array.std(ddof=0), abs=1e-6 * array.max())
        assert result[f"p99_{name}_ms"] == pytest.approx(np.percentile(array, 99))
    assert result["total_output_tokens"] == sum(of("output_lens")) == sum(result["output_lens"])
    assert result["total_input_tokens"] == sum(of("input_lens"))


@settings(deadline=None)
@given(st.lists(records(outcomes=(Outcome.OK, Outcome.OK, Outcome.TIMEOUT)), max_size=6))
def test_peaks_are_counted_in_seconds_since_the_first_request(some):
    """Against a slow count: chunks and open requests in each second, completed requests only."""
    result = exported(repeat_of(*some))
    done = [one for one in some if one.outcome is Outcome.OK]
    start = min((one.send_ns for one in done), default=0)
    chunks = [(at - start) // 10**9 for one in done for at in one.chunk_ns or (one.send_ns,)]
    spans = [
        (one.send_ns - start) // 10**9
        <= second
        <= ((one.chunk_ns[-1] if one.chunk_ns else one.done_ns) - start) // 10**9
        for second in {(one.send_ns - start) // 10**9 for one in done}
        for one in done
    ]
    by_second = [sum(spans[at : at + len(done)]) for at in range(0, len(spans), max(1, len(done)))]
    assert result["max_output_tokens_per_s"] == max((chunks.count(second) for second in chunks), default=0)
    assert result["max_concurrent_requests"] == max(by_second, default=0)


@settings(deadline=None)
@given(st.lists(records(outcomes=(Outcome.OK,) * 3 + tuple(Outcome)), min_size=1, max_size=8))
def test_a_round_trip_keeps_every_reading(some):
    """With one token a chunk the imported readings are Redline's own; the window ends up to 1 ms earlier."""
    repeat = repeat_of(*some)
    run = from_vllm_bench(exported(repeat))
    found = {reading.metric: reading.value for reading in run.readings}
    own = {name: value for name, metric in CATALOGUE.items() if (value := metric.formula(repeat))}
    own.pop("exact_match", None)
    for name in ("ttft_s_median", "ttft_s_p99", "tpot_s_median", "tpot_s_p99", "itl_s_p99"):
        assert found.get(name, 0.0) == pytest.approx(own.get(name, 0.0), rel=1e-6), name
    if all(one.chunk_ns for one in some if one.outcome is Outcome.OK):
        assert found.get("e2e_s_median", 0.0) == pytest.approx(own.get("e2e_s_median", 0.0), rel=1e-6)
    assert found.keys() - own.keys() <= {"e2e_s_median", "output_tokens_per_s", "requests_per_s"}


def test_a_round_trip_states_what_it_cannot_convert():
    """TTFT comes back as it was; TPOT and ITL say that chunks of several tokens were taken for one each."""
    run = from_vllm_bench(exported(EXAMPLE))
    found = {reading.metric: reading for reading in run.readings}
    assert found["ttft_s_median"].value == pytest.approx(CATALOGUE["ttft_s_median"].formula(EXAMPLE))
    assert found["ttft_s_median"].definition == found["e2e_s_median"].definition == ""
    assert found["tpot_s_median"].definition == "takes the first chunk to hold one token"
    assert found["itl_s_p99"].definition == "gaps between chunks, not divided by their tokens"
    window_s = 0.24  # without the millisecond between the last chunk and the end of the answer
    assert found["output_tokens_per_s"].value == pytest.approx(8 / window_s)
    assert "last token" in found["output_tokens_per_s"].definition
    assert (run.scenario, run.runner, run.deployment, run.repeat) == ("offline-short", "cpu", "t1", 1)
    assert run.build == trial_of(EXAMPLE).sut.label
    assert run.date == EXAMPLE.started_at
    assert run.notes == ("1 of 4 requests failed",)


def test_an_answer_that_was_not_streamed_is_complete_and_has_no_first_token():
    """A completed record without chunks: latency to its end, TTFT 0 as vLLM has it, and undefined on import."""
    result = exported(repeat_of(record(0, 0, ())))
    assert (result["completed"], result["ttfts"], result["latencies"]) == (1, [0.0], [0.001])
    found = {reading.metric: reading.value for reading in from_vllm_bench(result).readings}
    assert found == {"e2e_s_median": 0.001, "requests_per_s": pytest.approx(1000)}


@pytest.mark.parametrize("some", [(), (record(0, 0, (5,), outcome=Outcome.HTTP_ERROR),)])
def test_a_repeat_without_a_completed_request_has_zeros_and_no_readings(some):
    """Like vLLM the export saves zeros; unlike vLLM's users the import takes them for nothing."""
    result = exported(repeat_of(*some))
    assert (result["completed"], result["median_ttft_ms"], result["output_throughput"]) == (0, 0.0, 0.0)
    run = from_vllm_bench(result)
    assert run.readings == ()
    assert run.notes[-1] == "no completed request: vLLM saves zeros then and ends with success"


def test_a_dropped_repeat_or_an_invalid_trial_has_no_readings():
    """What Redline itself does not count does not come back as a reading."""
    dropped = repeat_of(record(0, 0, (5, 6)), drop_reason="warm-up")
    assert from_vllm_bench(exported(dropped)).notes == ("Redline dropped this repeat: warm-up",)
    result = exported(repeat_of(record(0, 0, (5, 6)))) | {"status": "invalid"}
    assert from_vllm_bench(result).readings == ()


def test_speculative_decoding_is_vllms_arithmetic():
    """Acceptance in percent of draft tokens, length as one plus accepted per draft; no keys without drafts."""
    counters = {
        "vllm:spec_decode_num_drafts_total": 10.0,
        "vllm:spec_decode_num_draft_tokens_total": 30.0,
        "vllm:spec_decode_num_accepted_tokens_total": 15.0,
    }
    result = exported(repeat_of(record(0, 0, (5,)), server_counters=counters))
    assert result["spec_decode_acceptance_rate"] == 50.0
    assert result["spec_decode_acceptance_length"] == 2.5
    assert (result["spec_decode_num_drafts"], result["spec_decode_accepted_tokens"]) == (10, 15)
    assert not any(key.startswith("spec_decode") for key in exported(EXAMPLE))


def test_a_repeat_without_a_date_is_refused():
    """vLLM's date cannot be made up."""
    broken = repeat_of(started_at="yesterday")
    with pytest.raises(ContentError, match="started_at is no date"):
        to_vllm_bench(trial_of(broken), broken)


def test_settings_default_to_no_pacing():
    """What nobody said: no rate, no bound, an unknown model."""
    assert math.isinf(ServeSettings().request_rate_per_s)
    assert to_vllm_bench(trial_of(EXAMPLE), EXAMPLE)["model_id"] == "unknown"
