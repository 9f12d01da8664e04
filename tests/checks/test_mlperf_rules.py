"""MLPerf's rules over a window: by hand, and beside the official LoadGen's own verdict of the same events."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checks.mlperf_demands import (
    INFERRED_TOKENS,
    SAMPLES_DEMANDED,
    SAMPLES_DEMANDED_INTERACTIVE,
    family,
    queries_demanded,
    samples_demanded,
)
from checks.mlperf_rules import MlperfResult, has_result, mlperf_result
from redline.model import AccuracyTarget, Concurrency, MlperfRules, Outcome, RandomTokens
from tests.checks import loadgen_run
from tests.checks.mlperf_windows import MS, RULES, from_trace, record, scenario, steady, window

LIMITS: dict[str, Any] = {"ttft_s_p99_max": 2.0, "tpot_s_p99_max": 0.2}


def broken(result: MlperfResult) -> list[str]:
    """The names of the broken rules."""
    return [reading.rule for reading in result.readings if not reading.ok]


def reading(result: MlperfResult, rule: str) -> str:
    """What was read for a rule."""
    return next(found.reading for found in result.readings if found.rule == rule)


# --- beside the official LoadGen ------------------------------------------------------------------------------

QUICK, SLOW = [0.001, 0.003], [0.002, 0.2]
SERVER_CASE: dict[str, Any] = {"min_query_count": 600, "ttft_ns_max": 2000 * MS, "tpot_ns_max": 200 * MS}
LIVE: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "tokens, the last query slow": ({"delays_s": [QUICK] * 599 + [SLOW]}, LIMITS, True),
    "tokens, a slow query before the last": (
        {"delays_s": [QUICK] * 595 + [SLOW, QUICK], "token_counts": [5, 9, 2]},
        LIMITS,
        True,
    ),
    "tokens, TPOT beyond its limit": (
        {"delays_s": [[0.001, 0.2]], "tpot_ns_max": 10 * MS},
        {"ttft_s_p99_max": 2.0, "tpot_s_p99_max": 0.010},
        False,
    ),
    "tokens, too few for early stopping": ({"min_query_count": 400}, LIMITS | {"query_count_min": 400}, False),
    "queries": ({"use_token_latencies": False}, {"unit": "queries/s", "e2e_s_p99_max": 1.0}, True),
    "queries, too slow": (
        {"use_token_latencies": False, "e2e_ns_max": MS // 10},
        {"unit": "queries/s", "e2e_s_p99_max": 0.0001},
        False,
    ),
    "queries, not long enough": (
        {"use_token_latencies": False, "min_duration_ms": 200, "rate_per_s": 4000.0},
        {"unit": "queries/s", "e2e_s_p99_max": 1.0, "duration_s_min": 0.2},
        True,
    ),
}


@pytest.mark.parametrize("name", LIVE)
def test_server_agrees_with_loadgen(tmp_path, name):
    """LoadGen's trace, judged here, gives LoadGen's verdict, its completed rate and its percentiles."""
    case, rules, valid = LIVE[name]
    said = loadgen_run.run(SERVER_CASE | case, tmp_path)
    repeat = from_trace(loadgen_run.traced(tmp_path), case.get("token_counts", [5]))
    result = mlperf_result(scenario("Server", **({"query_count_min": 600} | rules)), repeat)
    assert (result.valid, said["result_validity"]) == (valid, "VALID" if valid else "INVALID")
    if result.unit == "queries/s":
        assert result.value == pytest.approx(said["result_completed_samples_per_sec"], rel=1e-5)
        return
    assert result.value == pytest.approx(said["result_completed_tokens_per_second"], rel=1e-5)  # six digits in the log
    for rule, key in (
        ("TTFT p99", "result_first_token_99.00_percentile_latency_ns"),
        ("TPOT p99", "result_time_per_output_token_99.00_percentile_ns"),
    ):
        assert float(reading(result, rule).split()[0]) == pytest.approx(said[key] / MS, rel=6e-3)  # three digits shown


def test_offline_agrees_with_loadgen(tmp_path):
    """All tokens over the time of the one query."""
    case = {"scenario": "Offline", "min_query_count": 50, "token_counts": [5, 7], "delays_s": [[0.001, 0.05]]}
    said = loadgen_run.run(case, tmp_path)
    repeat = from_trace(loadgen_run.traced(tmp_path), [5, 7])
    tokens = mlperf_result(scenario("Offline", query_count_min=50), repeat)
    samples = mlperf_result(scenario("Offline", query_count_min=50, unit="samples/s"), repeat)
    assert tokens.valid
    assert said["result_validity"] == "VALID"
    assert tokens.value == pytest.approx(said["result_tokens_per_second"], rel=1e-5)
    assert samples.value == pytest.approx(said["result_samples_per_second"], rel=1e-5)


@pytest.mark.parametrize(("queries", "valid"), [(63, False), (200, True)])
def test_single_stream_agrees_with_loadgen(tmp_path, queries, valid):
    """The p90 estimate of early stopping in seconds; INVALID and undefined below 64 queries."""
    case = {
        "scenario": "SingleStream",
        "use_token_latencies": False,
        "min_query_count": queries,
        "delays_s": [[0.0, 0.0003 + 0.00001 * (number % 29)] for number in range(queries)],
    }
    said = loadgen_run.run(case, tmp_path)
    repeat = from_trace(loadgen_run.traced(tmp_path), [5])
    result = mlperf_result(scenario("SingleStream", query_count_min=queries, unit="samples/s"), repeat)
    assert (result.valid, said["result_validity"]) == (valid, "VALID" if valid else "INVALID")
    assert result.unit == "s"
    assert result.value == (pytest.approx(said["early_stopping_latency_ss"] / 1e9, abs=1e-12) if valid else None)


def test_one_token_is_an_error_to_loadgen_too(tmp_path):
    """LoadGen says VALID but logs an error for each answer of one token; here the run is INVALID."""
    case = {"scenario": "Offline", "min_query_count": 20, "token_counts": [1, 5]}
    said = loadgen_run.run(case, tmp_path)
    repeat = from_trace(loadgen_run.traced(tmp_path), [1, 5])
    result = mlperf_result(scenario("Offline", query_count_min=20), repeat)
    assert (said["result_validity"], said["num_errors"]) == ("VALID", 10)
    assert broken(result) == ["answers of at least two tokens"]
    assert reading(result, "answers of at least two tokens") == "10 shorter"


# --- what MLPerf demands ----------------------------------------------------------------------------------------


def official_conf() -> dict[str, str]:
    """The `mlperf.conf` that is compiled into the official LoadGen, key by key."""
    found = importlib.util.find_spec("mlperf_loadgen")
    assert found is not None
    assert found.origin is not None
    text = Path(found.origin).read_bytes().decode("latin-1")
    return dict(re.findall(r"^([a-z0-9*][\w.*-]+) = ([\d.]+)$", text, re.MULTILINE))


def test_the_tables_are_the_official_ones():
    """Data set sizes, Offline's minimum and the inferred tokens are those in the LoadGen of today."""
    conf = official_conf()
    for name, samples in SAMPLES_DEMANDED.items():
        theirs = name.replace("llama3.", "llama3_")
        assert conf[f"{theirs}.*.performance_sample_count_override"] == str(samples)
        assert conf.get(f"{theirs}.Offline.min_query_count", str(samples)) == str(samples)
        assert conf[f"{theirs}.*.sample_concatenate_permutation"] == "1"
    inferred = {name: int(conf[f"{name}.*.token_latency_scaling_factor"]) for name in INFERRED_TOKENS}
    assert inferred == INFERRED_TOKENS
    assert {conf[f"*.{name}.min_duration"] for name in ("Offline", "Server", "SingleStream")} == {"600000"}


@pytest.mark.parametrize(
    ("benchmark", "expected"),
    [
        ("llama2-70b-99.9", "llama2-70b"),
        ("llama2-70b-interactive-99", "llama2-70b"),
        ("gptj-99/99.9", "gptj"),
        ("whisper", "whisper"),
        ("llama3.1-8b-edge", "llama3.1-8b-edge"),
        ("llama3.1-8b-interactive", "llama3.1-8b"),
    ],
)
def test_a_family_has_no_target(benchmark, expected):
    """Accuracy target and `interactive` are no part of the model's name."""
    assert family(benchmark) == expected


def test_what_is_demanded():
    """Offline wants the data set (v4.0: 24,576), Server one pass, SingleStream 1024; Qwen's Interactive has its own."""
    gptj = MlperfRules(**(RULES | {"benchmark": "gptj-99", "round": "v4.0"}))
    assert queries_demanded(gptj, "Offline") == 24_576
    assert queries_demanded(gptj, "Server") == 13_368
    assert queries_demanded(replace(gptj, round="v4.1"), "Offline") == 13_368
    assert queries_demanded(gptj, "SingleStream") == 1024
    qwen = MlperfRules(**(RULES | {"benchmark": "qwen3-vl-235b-a22b", "interactive": True}))
    assert samples_demanded(qwen) == SAMPLES_DEMANDED_INTERACTIVE["qwen3-vl-235b-a22b"] == 8000
    assert samples_demanded(replace(qwen, interactive=False)) == 48_289
    unknown = MlperfRules(**(RULES | {"benchmark": "a-new-one", "sample_count": 77}))
    assert samples_demanded(unknown) == 77


# --- by hand ----------------------------------------------------------------------------------------------------


def test_server_by_hand():
    """600 queries every 10 ms, the last due after 5.99 s and answered 25 ms later; five tokens each."""
    result = mlperf_result(scenario("Server", **LIMITS), steady(600))
    assert result.valid
    assert result.value == pytest.approx(3000 / 6.015)
    assert (result.benchmark, result.round, result.scenario, result.unit) == (
        "llama2-70b-99.9",
        "v6.0",
        "Server",
        "tokens/s",
    )
    assert reading(result, "TTFT p99") == "5 ms"
    assert reading(result, "TPOT p99") == "5 ms"  # 20 ms over four further tokens
    assert reading(result, "minimum duration") == "last query due after 6.0 s"


def test_server_divides_by_the_end_of_the_last_query():
    """The query issued last decides, not the one that ended last: LoadGen's completed tokens a second."""
    first = record(0, 0, (MS, 4000 * MS), 10)
    last = record(1, 1000 * MS, (1500 * MS, 2000 * MS), 10)
    assert mlperf_result(scenario("Server", **LIMITS), window(first, last)).value == pytest.approx(10.0)
    assert mlperf_result(scenario("Server", **LIMITS), window(last, first)).value == pytest.approx(10.0)


def test_v4_0_reports_the_scheduled_rate():
    """In v4.0 a Server result in samples/s was what was asked for; later rounds report what was completed."""
    rules = {"benchmark": "gptj-99", "unit": "samples/s", "e2e_s_p99_max": 20.0}
    assert mlperf_result(scenario("Server", round="v4.0", **rules), steady(600)).value == pytest.approx(599 / 5.99)
    assert mlperf_result(scenario("Server", round="v5.0", **rules), steady(600)).value == pytest.approx(599 / 6.015)


def test_gptj_infers_its_tokens():
    """From v4.1 on GPT-J's tokens/s are 69 a sample, whatever was generated, and answers of one token are no error."""
    rules = {"benchmark": "gptj-99.9", "round": "v4.1"}
    result = mlperf_result(scenario("Offline", **rules), steady(10, gap_ms=0, tokens=1))
    assert result.value == pytest.approx(10 * 69 / 0.025)
    assert result.valid


def test_a_failed_request_makes_it_invalid():
    """LoadGen would see a completion; here the run is INVALID, and the request is over every limit."""
    records = list(steady(700).records)
    records[3] = replace(records[3], outcome=Outcome.HTTP_ERROR, chunk_ns=(), chunk_tokens=(), output_tokens=0)
    result = mlperf_result(scenario("Server", **LIMITS), window(*records))
    assert broken(result) == ["no request failed"]
    assert reading(result, "no request failed") == "1 of 700 failed"
    told = next(found for found in result.readings if found.rule == "early stopping, TTFT")
    assert told.limit == "at least 662 with 1 over the limit"


def test_many_failures_are_beyond_every_limit():
    """With more than one in a hundred failed the p99 is never reached: no smaller number may stand there."""
    records = [replace(each, outcome=Outcome.TIMEOUT) if each.index % 20 == 0 else each for each in steady(700).records]
    result = mlperf_result(scenario("Server", **LIMITS), window(*records))
    assert reading(result, "TTFT p99") == "never: too many failed"
    assert {"no request failed", "TTFT p99", "TPOT p99", "early stopping, TTFT", "early stopping, TPOT"} <= set(
        broken(result)
    )


def test_ttft_and_tpot_are_tested_one_by_one():
    """Four slow first tokens of 700 break early stopping of TTFT, not of TPOT; its p99 alone would have passed."""
    slow = {
        number: record(number, number * MS, (number * MS + 3000 * MS, number * MS + 3020 * MS), 5)
        for number in range(4)
    }
    records = [slow.get(each.index, each) for each in steady(700, gap_ms=1).records]
    result = mlperf_result(scenario("Server", **LIMITS), window(*records))
    assert broken(result) == ["early stopping, TTFT"]


def test_tpot_counts_tokens_not_chunks():
    """MLPerf divides by all tokens but one, also where the first chunk held several."""
    many = replace(record(0, 0, (10 * MS, 50 * MS), 5), chunk_tokens=(3, 2))
    assert reading(mlperf_result(scenario("Server", **LIMITS), window(many)), "TPOT p99") == "10 ms"


def test_interactive_is_server_by_another_name():
    """The rules say so; the limits are the scenario's."""
    limits = {"ttft_s_p99_max": 0.45, "tpot_s_p99_max": 0.004, "interactive": True}
    result = mlperf_result(scenario("Server", **limits), steady(600))
    assert result.scenario == "Interactive"
    assert broken(result) == ["TPOT p99", "early stopping, TPOT"]


def test_the_settings_of_the_run_decide_validity():
    """A minimum duration and number that the run does not reach make it INVALID."""
    rules = LIMITS | {"duration_s_min": 6.0, "query_count_min": 601}
    assert broken(mlperf_result(scenario("Server", **rules), steady(600))) == ["minimum duration", "minimum queries"]
    assert mlperf_result(scenario("Server", **(rules | {"query_count_min": 602})), steady(602)).valid


def test_server_without_a_limit_is_invalid():
    """A Server scenario whose rules name no latency has nothing to pass."""
    assert broken(mlperf_result(scenario("Server"), steady(600))) == ["latency limit"]


@pytest.mark.parametrize("arrivals", ["Offline", "Server", "SingleStream"])
def test_an_empty_window_is_invalid(arrivals):
    """No records: no value, and no rule passes by default."""
    result = mlperf_result(scenario(arrivals, **LIMITS), window())
    assert not result.valid
    assert result.value is None
    assert {"no request failed", "minimum duration", "minimum queries"} <= set(broken(result))


def test_a_short_form_has_its_own_minima():
    """The rules stay MLPerf's; a variant that says it is shortened is VALID on its own terms, and short in words."""
    full = LIMITS | {"duration_s_min": 600.0, "query_count_min": 24_576, "sample_count": 600}
    whole = mlperf_result(scenario("Server", **full), steady(600))
    assert broken(whole) == ["minimum duration", "minimum queries"]
    short_form = replace(scenario("Server", **full, shortened="a minute for CI"), request_count=600)
    result = mlperf_result(short_form, steady(600))
    assert result.valid
    assert result.shorter == (
        "a minute for CI",
        "lasted 6.0 s; MLPerf demands 600 s",
        "600 queries; MLPerf demands 24576",
        "600 items of the data set; MLPerf demands all 24576",
    )
    assert broken(mlperf_result(short_form, window(*steady(600).records[:599]))) == ["minimum queries"]


def test_a_run_of_full_size_is_not_shorter():
    """Whole data set, ten minutes, the settings of the rules."""
    rules = {"benchmark": "whisper", "sample_count": 1633, "query_count_min": 1633, "duration_s_min": 600.0}
    full = steady(1633, gap_ms=0, last_ms=600_000)
    result = mlperf_result(scenario("Offline", **rules), full)
    assert result.valid
    assert result.shorter == ()
    asked_less = mlperf_result(scenario("Offline", **(rules | {"duration_s_min": 60.0})), full)
    assert asked_less.shorter == ("asked for 60 s only; MLPerf demands 600 s",)


def test_made_up_prompts_are_no_data_set():
    """Random tokens are not the benchmark's items."""
    result = mlperf_result(scenario("Server", RandomTokens(8, 8, 0, 10), **LIMITS), steady(600))
    assert result.shorter[-1] == "made-up prompts; MLPerf demands its data set of 24576 items"


def test_scenarios_without_a_result_are_refused():
    """No rules, a closed loop of several requests, or answers that are scored; one can ask before."""
    ruled = scenario("Server")
    target = AccuracyTarget({"rouge1": 44.4312}, 0.999, "MLPerf")
    for changes, reason in (
        ({"mlperf": None}, "names no MLPerf rules"),
        ({"arrivals": Concurrency(4)}, "MLPerf has no such scenario"),
        ({"accuracy": target}, "scores its answers"),
    ):
        other = replace(ruled, **changes)
        assert not has_result(other)
        with pytest.raises(ValueError, match=reason):
            mlperf_result(other, steady(3))
    assert has_result(ruled)
