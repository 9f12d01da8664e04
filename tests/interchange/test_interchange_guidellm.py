"""The import of a real GuideLLM report, and of what is none."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from redline.errors import ContentError
from redline.interchange.guidellm import from_guidellm
from redline.interchange.history import Source
from tests.interchange.repeat_examples import GUIDELLM

SYNCHRONOUS, CONSTANT = 0, 1


def report():
    """The real report."""
    return json.loads(GUIDELLM.read_text())


def by_metric(run):
    """Metric -> reading."""
    return {reading.metric: reading for reading in run.readings}


def timings(benchmark, name):
    """One timing of every successful request, in seconds."""
    return np.array([one["info"]["timings"][name] for one in benchmark["requests"]["successful"]])


@pytest.mark.parametrize(("position", "due"), [(SYNCHRONOUS, "request_start"), (CONSTANT, "targeted_start")])
def test_readings_are_recomputed_from_the_requests(position, due):
    """Against numpy: from the schedule where the strategy has one; GuideLLM's inter-token latency is TPOT."""
    benchmark = report()["benchmarks"][position]
    run = from_guidellm(report())[position]
    start, first, last, end = (
        timings(benchmark, name) for name in (due, "first_token_iteration", "last_token_iteration", "request_end")
    )
    tokens = np.array([one["output_tokens"] for one in benchmark["requests"]["successful"]])
    expected = {
        "ttft_s_median": np.median(first - start),
        "ttft_s_p99": np.max(first - start),
        "tpot_s_median": np.median((last - first) / (tokens - 1)),
        "tpot_s_p99": np.max((last - first) / (tokens - 1)),
        "e2e_s_median": np.median(last - start),
        "output_tokens_per_s": tokens.sum() / (end.max() - start.min()),
        "requests_per_s": len(tokens) / (end.max() - start.min()),
    }
    assert {name: reading.value for name, reading in by_metric(run).items()} == pytest.approx(expected)
    assert {reading.source for reading in run.readings} == {Source.REQUESTS}


def test_its_itl_is_our_tpot_and_its_tpot_is_not_imported():
    """GuideLLM's own figures of each request: the TPOT read is its ITL; its TPOT, with TTFT in it, is larger."""
    requests = report()["benchmarks"][CONSTANT]["requests"]["successful"]
    found = by_metric(from_guidellm(report())[CONSTANT])["tpot_s_median"].value
    assert found == pytest.approx(np.median([one["inter_token_latency_ms"] for one in requests]) / 1000)
    assert found < min(one["time_per_output_token_ms"] for one in requests) / 1000


def test_there_is_no_itl_and_a_scheduled_ttft_needs_no_remark():
    """No time per chunk is kept, so no ITL; only what cannot be converted is remarked on."""
    synchronous, constant = (by_metric(run) for run in from_guidellm(report()))
    assert "itl_s_p99" not in synchronous
    assert synchronous["ttft_s_median"].definition == "from sending: this strategy has no schedule"
    assert constant["ttft_s_median"].definition == ""
    assert constant["tpot_s_median"].definition == "takes the first chunk to hold one token"


def test_runs_are_named_by_their_load():
    """The steps of a sweep are different loads; the date is UTC; failures are said."""
    synchronous, constant = from_guidellm(report())
    assert synchronous.workload == "tiny synchronous concurrency=1"
    assert constant.workload.startswith("tiny constant rate=78.1")
    assert synchronous.date == "2026-11-21T13:34:23+00:00"
    assert synchronous.notes == ("2 of 12 requests failed or were cut off",)


def test_benchmarks_of_one_load_are_repeats():
    """Two benchmarks with the same strategy count up."""
    raw = report()
    raw["benchmarks"].append(raw["benchmarks"][CONSTANT])
    assert [run.repeat for run in from_guidellm(raw)] == [0, 0, 1]


def test_a_report_without_all_requests_gives_its_summaries():
    """Requests that were sampled do not stand for the run: milliseconds of the summaries, with their remarks."""
    raw = report()
    benchmark = raw["benchmarks"][CONSTANT]
    benchmark["requests"]["successful"] = benchmark["requests"]["successful"][:3]
    run = from_guidellm(raw)[CONSTANT]
    found, metrics = by_metric(run), benchmark["metrics"]
    assert {reading.source for reading in run.readings} == {Source.SUMMARY}
    assert "summaries were taken" in run.notes[0]
    assert found["ttft_s_median"].value == metrics["time_to_first_token_ms"]["successful"]["median"] / 1000
    itl = metrics["inter_token_latency_ms"]["successful"]
    assert found["tpot_s_p99"].value == pytest.approx(itl["percentiles"]["p99"] / 1000)
    assert "over tokens, not over requests" in found["tpot_s_p99"].definition
    assert found["requests_per_s"].value == metrics["requests_per_second"]["successful"]["mean"]
    assert "itl_s_p99" not in found


def test_requests_of_the_warm_up_are_left_out():
    """A report holds every request; those that ended before the measured window do not count."""
    raw = report()
    benchmark = raw["benchmarks"][SYNCHRONOUS]
    ends = sorted(timings(benchmark, "request_end"))
    benchmark["start_time"] = ends[4] + 1e-4
    benchmark["metrics"]["request_totals"]["successful"] = len(ends) - 5
    found = by_metric(from_guidellm(raw)[SYNCHRONOUS])
    late = timings(benchmark, "request_end") > benchmark["start_time"]
    ttft = (timings(benchmark, "first_token_iteration") - timings(benchmark, "request_start"))[late]
    assert found["ttft_s_median"].value == pytest.approx(np.median(ttft))
    assert found["ttft_s_median"].source is Source.REQUESTS


def test_an_answer_without_a_first_token_is_left_out_of_latencies_only():
    """A successful request that was not streamed still counts for throughput."""
    raw = report()
    first = raw["benchmarks"][SYNCHRONOUS]["requests"]["successful"][0]
    first["info"]["timings"] |= {"first_token_iteration": None, "last_token_iteration": None, "token_iterations": 0}
    before, after = (by_metric(from_guidellm(one)[SYNCHRONOUS]) for one in (report(), raw))
    assert after["requests_per_s"].value == before["requests_per_s"].value
    assert after["ttft_s_median"].value != before["ttft_s_median"].value


def test_a_benchmark_without_success_has_no_readings():
    """Nothing is made of failures."""
    raw = report()
    benchmark = raw["benchmarks"][SYNCHRONOUS]
    benchmark["requests"]["successful"] = []
    benchmark["metrics"]["request_totals"] |= {"successful": 0, "errored": 12}
    run = from_guidellm(raw)[SYNCHRONOUS]
    assert run.readings == ()
    assert run.notes[-1] == "no successful request"


@pytest.mark.parametrize("version", [1, 3, "2", None, True])
def test_another_version_is_refused(version):
    """Only report version 2 is read; the message says what to run instead."""
    raw = report()
    raw["metadata"]["version"] = version
    with pytest.raises(ContentError, match="another version") as caught:
        from_guidellm(raw)
    assert caught.value.expected == "metadata.version 2"
    assert "GuideLLM" in caught.value.next_step


def broken(*path, value):
    """The real report with one key replaced, or taken away by `...`."""
    raw = report()
    place = raw
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("benchmarks", 0, "metrics"), ...),
        (("benchmarks", 0, "start_time"), math.inf),
        (("benchmarks", 1, "metrics", "request_totals", "successful"), "10"),
        (("benchmarks", 0, "requests", "successful", 2, "info", "timings", "request_end"), "late"),
        (("benchmarks", 0, "config", "strategy"), []),
        (("benchmarks", 0, "metrics", "time_to_first_token_ms", "successful", "percentiles", "p99"), ...),
    ],
)
def test_what_is_no_report_is_refused_by_its_key(path, value):
    """The message names the key by its whole path."""
    with pytest.raises(ContentError, match="not a GuideLLM report") as caught:
        from_guidellm(broken(*path, value=value))
    assert caught.value.problem.endswith(".".join(map(str, path)))


def test_a_time_outside_the_calendar_is_refused():
    """The start of a benchmark is its date."""
    raw = broken("benchmarks", 0, "start_time", value=1e300)
    raw["benchmarks"][0]["metrics"]["request_totals"]["successful"] = 0
    with pytest.raises(ContentError, match="start_time"):
        from_guidellm(raw)
