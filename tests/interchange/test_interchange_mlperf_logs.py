"""Logs in LoadGen's format: beside the official LoadGen's own logs of the same events, and by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from checks.early_stopping import queries_needed
from redline.errors import ContentError
from redline.interchange.mlperf_logs import NOT_LOADGEN, PREFIX, accuracy_log, detail_log, summary_log
from redline.interchange.mlperf_run import STATEMENT, LoggedWindow, LogSettings, LogVerdict
from redline.load import loadgen
from redline.model import Outcome, Seeds
from tests.checks import loadgen_run
from tests.checks.mlperf_windows import MS, from_trace, record, window

SAMPLES = 1000
CASES: dict[str, dict[str, Any]] = {
    "tokens": {"min_query_count": 700, "token_counts": [5, 9, 2]},
    "tokens, too few for early stopping": {"min_query_count": 300},
    "tokens, an answer of one": {"min_query_count": 700, "token_counts": [5] * 699 + [1]},
    "whole answers": {"min_query_count": 700, "use_token_latencies": False},
    "offline": {"scenario": "Offline", "min_query_count": 50},
    "offline, whole answers": {"scenario": "Offline", "min_query_count": 50, "use_token_latencies": False},
}
NOT_MEASURED = ("loadgen_", "logger_", "get_sut_name_duration_ns", "result_token_throughput")
"""What only LoadGen can say, or says wrongly (issue 1662)."""
OWN_KEYS = {"redline_notice", "loadgen_version", "generic_message"}
OWN_WORDS = {"sut_name", "qsl_name", "test_datetime", "power_begin", "power_end", "result_invalid_reason"}
LATENCY_LIMIT_KEYS = (
    *("requested_server_target_latency_ns", "effective_target_latency_ns"),
    "result_overlatency_query_count",
)
ONE_TOKEN_KEYS = (
    "result_completed_tokens_per_second",
    *(f"result_time_to_output_token_{end}" for end in ("min", "max", "mean")),
    *(
        f"result_time_per_output_token_{share}_percentile_ns"
        for share in ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")
    ),
)
"""What LoadGen gives stray numbers for where an answer has one token, which it does not count."""


def settings_of(case: dict[str, Any], count: int) -> LogSettings:
    """A case of `loadgen_run` in the terms of the log."""
    offline = case["scenario"] == "Offline"
    due_ns = loadgen.server_offsets_ns(count + 1, case["rate_per_s"], 0)
    return LogSettings(
        scenario=case["scenario"],
        accuracy=False,
        seeds=Seeds(0, 0, 0),
        target_rate_per_s=case["rate_per_s"],
        duration_s_min=case["min_duration_ms"] / 1000,
        query_count_min=case["min_query_count"],
        sample_count=SAMPLES,
        performance_sample_count=SAMPLES,
        samples_per_query=count if offline else 1,
        items=tuple(range(count)),
        loaded=loadgen.loaded_samples(SAMPLES, 0),
        generated_query_count=1 if offline else count,
        generated_duration_ns=int(1e9 / case["rate_per_s"]) if offline else due_ns[-1],
        use_token_latencies=case["use_token_latencies"],
        equal_issue=False,
        ttft_ns_max=case["ttft_ns_max"],
        tpot_ns_max=case["tpot_ns_max"],
        latency_ns_max=case["e2e_ns_max"],
    )


def verdict_of(said: dict[str, Any], case: dict[str, Any]) -> LogVerdict:
    """LoadGen's own verdict: what is compared is how it is written down."""
    limited = ("TTFT", "TPOT") if case["use_token_latencies"] else ("E2E",)
    return LogVerdict(
        valid=said["result_validity"] == "VALID",
        min_duration_met=said["result_min_duration_met"],
        min_queries_met=said["result_min_queries_met"],
        early_stopping_met=said["early_stopping_met"],
        perf_constraints_met=said.get("result_perf_constraints_met"),
        queries_needed=dict.fromkeys(limited if case["scenario"] == "Server" else (), queries_needed(0, 0.99)),
        reasons=("too few queries",) if said["result_validity"] == "INVALID" else (),
    )


def entries(log: str) -> list[tuple[str, Any]]:
    """(key, value) of each line."""
    found = [json.loads(line.removeprefix(PREFIX)) for line in log.splitlines()]
    return [(entry["key"], entry["value"]) for entry in found]


@pytest.mark.parametrize("name", CASES)
def test_the_logs_are_as_loadgen_writes_them(tmp_path, name):
    """Of the same events: the same keys in the same order, the same settings, latencies equal to the nanosecond."""
    case = loadgen_run.DEFAULTS | CASES[name]
    said = loadgen_run.run(CASES[name], tmp_path)
    repeat = from_trace(loadgen_run.traced(tmp_path), case["token_counts"])
    logged = LoggedWindow("t", "s", repeat, settings_of(case, len(repeat.records)), verdict_of(said, case))
    theirs = entries((tmp_path / "mlperf_log_detail.txt").read_text())
    ours = entries(detail_log(logged))
    assert [key for key, _ in ours if key not in OWN_KEYS] == [
        key for key, _ in theirs if not key.startswith(NOT_MEASURED) and key not in OWN_KEYS
    ]
    found, wanted = dict(ours), {key: value for key, value in theirs if key in dict(ours)}
    for key in {*OWN_KEYS, *OWN_WORDS, *(ONE_TOKEN_KEYS if 1 in case["token_counts"] else ())}:
        found.pop(key, None)
        wanted.pop(key, None)
    if case["use_token_latencies"]:  # the limit on the whole answer does not count there, and mlperf.conf has 0
        for key in LATENCY_LIMIT_KEYS:
            found.pop(key, None)
            wanted.pop(key, None)
    rates = {key for key, value in wanted.items() if key.startswith("result_") and isinstance(value, float)}
    assert {key: found[key] for key in rates} == pytest.approx({key: wanted[key] for key in rates}, rel=2e-5)
    assert {key: found[key] for key in found.keys() - rates} == {key: wanted[key] for key in wanted.keys() - rates}


@pytest.mark.parametrize("name", ["tokens", "offline, whole answers"])
def test_the_summary_is_as_loadgen_writes_it(tmp_path, name):
    """Line by line, but for the notice, the system's name and the limit that does not count."""
    case = loadgen_run.DEFAULTS | CASES[name]
    said = loadgen_run.run(CASES[name], tmp_path)
    repeat = from_trace(loadgen_run.traced(tmp_path), case["token_counts"])
    settings = settings_of(case, len(repeat.records))
    logged = LoggedWindow("t", "PySUT", repeat, settings, verdict_of(said, case))
    notice, *ours = summary_log(logged).splitlines()
    assert notice == logged.notice
    theirs = (tmp_path / "mlperf_log_summary.txt").read_text().splitlines()
    assert [line for line in ours if " per second" not in line] == [
        line for line in theirs if " per second" not in line
    ]


# --- by hand --------------------------------------------------------------------------------------------------


def logged_by_hand(*records: Any, **changes: Any) -> LoggedWindow:
    """A Server window of these records, INVALID."""
    case = loadgen_run.DEFAULTS | {"min_query_count": len(records)}
    verdict = LogVerdict(
        valid=False, min_duration_met=True, min_queries_met=True, early_stopping_met=False, reasons=("one failed",)
    )
    settings = settings_of(case, len(records))
    return replace(LoggedWindow("trial-7", "vllm 0.32.0", window(*records), settings, verdict), **changes)


GOOD = [record(number, number * MS, ((number + 5) * MS, (number + 25) * MS), 5) for number in range(3)]


def test_every_log_says_first_that_loadgen_did_not_write_it():
    """The notice is the first entry, so that the parsers of MLCommons still read the file."""
    logged = logged_by_hand(*GOOD)
    found = entries(detail_log(logged))
    assert found[0] == ("redline_notice", logged.notice)
    assert dict(found)["loadgen_version"] == NOT_LOADGEN
    assert "trial-7" in logged.notice
    assert STATEMENT in logged.notice


def test_a_failed_request_is_an_error_and_no_latency():
    """LoadGen cannot see a failure; the log tells it as an error, and no latency is made up for it."""
    lost = record(3, 3 * MS, (), 0, Outcome.HTTP_ERROR, done_ns=90 * MS)
    found = entries(detail_log(logged_by_hand(*GOOD, lost)))
    errors = [value for key, value in found if key == "error_runtime"]
    assert len(errors) == 1
    assert "Request 3 failed: http-error" in errors[0]
    values = dict(found)
    assert values["num_errors"] == 1
    assert values["result_query_count"] == 4
    assert values["result_max_latency_ns"] == 25 * MS
    assert values["result_invalid_reason"] == "one failed"
    assert summary_log(logged_by_hand(*GOOD, lost)).endswith("1 ERROR encountered. See detailed log.\n")


def test_a_window_in_which_everything_failed_has_no_figures():
    """No completed rate and no percentile, not zeros; at which rate it was asked is still known."""
    lost = [record(number, number * MS, (), 0, Outcome.TIMEOUT, done_ns=90 * MS) for number in range(3)]
    keys = {key for key, _ in entries(detail_log(logged_by_hand(*lost))) if key.startswith("result_")}
    assert not any("completed" in key or "percentile" in key for key in keys)
    assert "result_scheduled_samples_per_sec" in keys


def test_the_accuracy_log_holds_every_answer_in_the_order_of_issue():
    """Text in UTF-8 as hex digits, the item asked, and the tokens; half a surrogate pair is no crash."""
    records = [replace(GOOD[0], output_text="grün"), replace(GOOD[1], output_text="\ud83d")]
    settings = replace(settings_of(loadgen_run.DEFAULTS, 2), accuracy=True, items=(7, 4))
    rows = json.loads(accuracy_log(LoggedWindow("t", "s", window(*reversed(records)), settings, None)))
    assert [(row["seq_id"], row["qsl_idx"], row["token_count"]) for row in rows] == [(0, 7, 5), (1, 4, 5)]
    assert bytes.fromhex(rows[0]["data"]).decode() == "grün"


def test_another_number_of_requests_is_refused():
    """Settings of another scenario than the window's would tell figures that were not measured."""
    with pytest.raises(ValueError, match="3 records of 2 requests"):
        LoggedWindow("t", "s", window(*GOOD), settings_of(loadgen_run.DEFAULTS, 2), None)


def test_a_start_that_is_no_date_is_refused():
    """The log's times are the window's."""
    logged = logged_by_hand(*GOOD)
    with pytest.raises(ContentError, match="no date"):
        detail_log(replace(logged, repeat=replace(logged.repeat, started_at="yesterday")))
