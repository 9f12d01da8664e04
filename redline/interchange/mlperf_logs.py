"""Logs in LoadGen's format, written from a trial; the first line of each says that LoadGen did not write it. Pure.

Keys, their order and the form of values are those of mlcommons-loadgen 6.0.17. Left out is what only LoadGen can say:
how it was built, its source files' hashes, and how its own logger did.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from redline.errors import ContentError
from redline.interchange.mlperf_results import (
    PERCENTILES,
    Entry,
    Figures,
    error_entries,
    figures_of,
    in_order,
    percentile_ns,
    result_entries,
    stopping_words,
)
from redline.interchange.mlperf_run import LoggedWindow, LogSettings, LogVerdict

PREFIX = ":::MLLOG "
NOT_LOADGEN = "none: written by Redline, not by LoadGen"
_RULE = "=" * 48
_NS_PER_MS = 1_000_000


def detail_log(window: LoggedWindow) -> str:
    """mlperf_log_detail.txt: one entry a line. Raises ContentError for a window whose start is no date."""
    errors = error_entries(window)
    entries = [*_head(window), *_requested(window.settings), *_effective(window.settings), *_generated(window)]
    entries += errors
    begin = _started(window)
    end = begin + timedelta(microseconds=window.repeat.duration_ns / 1000)
    entries += [Entry("power_begin", _clock(begin)), Entry("power_end", _clock(end))]
    done_ms = window.repeat.duration_ns / _NS_PER_MS
    lines = [_line(entry, 0.0) for entry in entries]
    if window.verdict is not None:
        results = result_entries(window, figures_of(window), window.verdict)
        lines += [_line(entry, done_ms) for entry in (*results, Entry("num_errors", len(errors)))]
    return "".join(f"{line}\n" for line in lines)


def _line(entry: Entry, time_ms: float) -> str:
    content = {
        "key": entry.key,
        "value": entry.value,
        "time_ms": time_ms,
        "namespace": "mlperf::logging",
        "event_type": "POINT_IN_TIME",
        "metadata": {
            "is_error": entry.is_error,
            "is_warning": False,
            "file": "redline",
            "line_no": 0,
            "pid": 0,
            "tid": 0,
        },
    }
    return PREFIX + json.dumps(content, allow_nan=False)


def _started(window: LoggedWindow) -> datetime:
    try:
        return datetime.fromisoformat(window.repeat.started_at).astimezone(UTC)
    except ValueError as error:
        raise ContentError("a window's started_at is no date", expected="ISO 8601", found=str(error)) from error


def _clock(instant: datetime) -> str:
    return f"{instant:%m-%d-%Y %H:%M:%S}.{instant.microsecond // 1000:03d}"


# --- settings -------------------------------------------------------------------------------------------------


def _head(window: LoggedWindow) -> list[Entry]:
    settings = window.settings
    return [
        Entry("redline_notice", window.notice),
        Entry("loadgen_version", NOT_LOADGEN),
        Entry("test_datetime", f"{_started(window):%Y-%m-%dT%H:%M:%SZ}"),
        Entry("sut_name", window.system_name),
        Entry("qsl_name", "Redline"),
        Entry("qsl_reported_total_count", settings.sample_count),
        Entry("qsl_reported_performance_count", settings.performance_sample_count),
    ]


def _shared(settings: LogSettings) -> dict[str, object]:
    """What follows the number of queries, requested and effective alike."""
    return {
        "qsl_rng_seed": settings.seeds.qsl,
        "sample_index_rng_seed": settings.seeds.sample_index,
        "schedule_rng_seed": settings.seeds.schedule,
        "accuracy_log_rng_seed": 0,
        "accuracy_log_probability": 0,
        "accuracy_log_sampling_target": 0,
        "print_timestamps": False,
        "performance_issue_unique": False,
        "performance_issue_same": False,
        "performance_issue_same_index": 0,
    }


def _mode(settings: LogSettings) -> str:
    return "AccuracyOnly" if settings.accuracy else "PerformanceOnly"


def _latency_ns_max(settings: LogSettings) -> int:
    """The limit on the whole latency: none where TTFT and TPOT are judged, as `mlperf.conf` has it, nor in Offline."""
    return 0 if settings.offline or settings.use_token_latencies else settings.latency_ns_max


def _number(value: float) -> float | int:
    """LoadGen prints a whole number without a point."""
    return int(value) if value == int(value) else value


def _requested(settings: LogSettings) -> list[Entry]:
    if settings.offline:
        own: dict[str, object] = {"offline_expected_qps": _number(settings.target_rate_per_s)}
    else:
        own = {
            "server_target_qps": _number(settings.target_rate_per_s),
            "server_target_latency_ns": _latency_ns_max(settings),
            "server_target_latency_percentile": 0.99,
            "server_coalesce_queries": False,
            "server_find_peak_qps_decimals_of_precision": 1,
            "server_find_peak_qps_boundary_step_size": 1,
            "server_max_async_queries": 0,
            "server_num_issue_query_threads": 0,
        }
    asked: dict[str, object] = {
        "scenario": settings.scenario,
        "test_mode": _mode(settings),
        **own,
        "min_duration_ms": round(settings.duration_s_min * 1000),
        "max_duration_ms": 0,
        "min_query_count": settings.query_count_min,
        "max_query_count": 0,
        **_shared(settings),
        "performance_sample_count_override": 0,
        "accuracy_sample_count_override": 0,
        "sample_concatenate_permutation": settings.equal_issue,
    }
    if settings.use_token_latencies:
        asked["use_token_latencies"] = True
    if settings.use_token_latencies and not settings.offline:
        asked |= {"server_ttft_latency": settings.ttft_ns_max, "server_tpot_latency": settings.tpot_ns_max}
    return [Entry(f"requested_{key}", value) for key, value in asked.items()]


def _effective(settings: LogSettings) -> list[Entry]:
    duration_ms = round(settings.duration_s_min * 1000)
    used: dict[str, object] = {
        "scenario": settings.scenario,
        "test_mode": _mode(settings),
        "samples_per_query": settings.samples_per_query,
        "target_qps": _number(settings.target_rate_per_s),
        "target_latency_ns": _latency_ns_max(settings),
        "target_latency_percentile": 0.99,
        "max_async_queries": 1 if settings.offline else 0,
        "target_duration_ms": 0 if settings.offline else duration_ms,
        "min_duration_ms": duration_ms,
        "max_duration_ms": 0,
        "min_query_count": 1 if settings.offline else settings.query_count_min,
        "max_query_count": 0,
        "min_sample_count": settings.samples_per_query if settings.offline else settings.query_count_min,
        **_shared(settings),
        "performance_sample_count": settings.performance_sample_count,
        "accuracy_sample_count": settings.sample_count,
        "sample_concatenate_permutation": settings.equal_issue,
    }
    return [Entry(f"effective_{key}", value) for key, value in used.items()]


def _generated(window: LoggedWindow) -> list[Entry]:
    settings = window.settings
    return [
        Entry("generic_message", f"Starting {'accuracy' if settings.accuracy else 'performance'} mode"),
        Entry("loaded_qsl_set", list(settings.loaded)),
        Entry("generated_query_count", settings.generated_query_count),
        Entry("generated_samples_per_query", len(settings.items) if settings.offline else 1),
        Entry("generated_query_duration", settings.generated_duration_ns),
    ]


# --- summary --------------------------------------------------------------------------------------------------


def summary_log(window: LoggedWindow) -> str:
    """mlperf_log_summary.txt. In accuracy mode LoadGen writes no figures."""
    errors = len(error_entries(window))
    lines = [window.notice]
    if window.verdict is not None:
        lines += _summary(window, figures_of(window), window.verdict)
    counted = {0: "No errors encountered during test.", 1: "1 ERROR encountered. See detailed log."}
    lines += [
        "",
        "No warnings encountered during test.",
        "",
        counted.get(errors, f"{errors} ERRORS encountered. See detailed log."),
    ]
    return "".join(f"{line}\n" for line in lines)


def _summary(window: LoggedWindow, figures: Figures, verdict: LogVerdict) -> list[str]:
    settings = window.settings
    met = [("Performance constraints satisfied :", verdict.perf_constraints_met)]
    met += [
        ("Min duration satisfied :", verdict.min_duration_met),
        ("Min queries satisfied :", verdict.min_queries_met),
    ]
    met += [("Early stopping satisfied:", verdict.early_stopping_met)]
    lines = [
        *(_RULE, "MLPerf Results Summary", _RULE),
        f"SUT name : {window.system_name}",
        f"Scenario : {settings.scenario}",
        "Mode     : PerformanceOnly",
        *_rate_lines(settings, figures),
        f"Result is : {'VALID' if verdict.valid else 'INVALID'}",
        *(f"  {words} {'Yes' if held else 'NO'}" for words, held in met if held is not None),
    ]
    if not verdict.valid:
        lines.append("Recommendations:")
    if not settings.offline:
        for key, said in stopping_words(window, verdict).items():
            label = {"early_stopping_ttft": "TTFT ", "early_stopping_tpot": "TPOT "}.get(key, "")
            lines += [f"{label}Early Stopping Result:", *(said or ("",))]
    lines += ["", _RULE, "Additional Stats", _RULE]
    if figures.scheduled_samples_per_s is not None:
        lines.append(f"Scheduled samples per second : {figures.scheduled_samples_per_s:.2f}")
    lines += _spread_lines("latency (ns)", "percentile latency (ns)  ", figures.latency_ns, 32)
    if settings.use_token_latencies:
        lines.append("")
    if not settings.offline and figures.tokens_per_s is not None:
        lines.append(f"{'Completed tokens per second':<44}: {figures.tokens_per_s:.2f}")
    lines += _spread_lines("First Token latency (ns)", "percentile first token latency (ns)  ", figures.ttft_ns, 44)
    if figures.tpot_ns:
        lines.append("")
        lines += _spread_lines(
            "Time per Output Token (ns)", "percentile time to output token (ns)  ", figures.tpot_ns, 46
        )
    return [*lines, "", _RULE, "Test Parameters Used", _RULE, *_parameters(settings)]


def _rate_lines(settings: LogSettings, figures: Figures) -> list[str]:
    rates = [figures.samples_per_s, figures.tokens_per_s, figures.inferred_tokens_per_s]
    if settings.offline:
        names = ["Samples per second: ", "Tokens per second: ", "Tokens per second (inferred): "]
        return [f"{name}{rate:.6g}" for name, rate in zip(names, rates, strict=True) if rate is not None]
    names = ["Completed samples per second    : ", "Completed tokens per second: "]
    names.append("Completed tokens per second (inferred): ")
    return [f"{name}{rate:.2f}" for name, rate in zip(names, rates, strict=True) if rate is not None]


def _spread_lines(name: str, percentile_name: str, values: Sequence[int], width: int) -> list[str]:
    if not values:
        return []
    ends = {"Min": values[0], "Max": values[-1], "Mean": sum(values) // len(values)}
    lines = [f"{f'{word} {name}':<{width}}: {value}" for word, value in ends.items()]
    return lines + [f"{share * 100:.2f} {percentile_name} : {percentile_ns(values, share)}" for share in PERCENTILES]


def _parameters(settings: LogSettings) -> list[str]:
    used = {entry.key.removeprefix("effective_"): entry.value for entry in _effective(settings)}
    limits = {"target_latency (ns)": used["target_latency_ns"]}
    if settings.use_token_latencies:
        limits = {"ttft_latency (ns)": settings.ttft_ns_max, "tpot_latency (ns)": settings.tpot_ns_max}
    shown = {"samples_per_query": used["samples_per_query"], "target_qps": used["target_qps"], **limits}
    shown["max_async_queries"] = used["max_async_queries"]
    shown["min_duration (ms)"] = used["min_duration_ms"]
    shown["max_duration (ms)"] = used["max_duration_ms"]
    names = ("min_query_count", "max_query_count", *_shared(settings), "performance_sample_count")
    shown |= {name: used[name] for name in (*names, "accuracy_sample_count")}
    lines = [
        f"{name}{': ' if name.endswith(')') else ' : '}{int(value) if isinstance(value, bool) else value}"
        for name, value in shown.items()
    ]
    if settings.equal_issue:
        lines += [
            "WARNING: sample_concatenate_permutation was set to true. ",
            "Generated samples per query might be different as the one in the setting.",
            "Check the generated_samples_per_query line in the detailed log for the real",
            "samples_per_query value",
        ]
    return lines


# --- answers --------------------------------------------------------------------------------------------------


def accuracy_log(window: LoggedWindow) -> str:
    """mlperf_log_accuracy.json: each answer's text in UTF-8 as hex digits, and its tokens, in the order of issue.

    LoadGen's submitters log token ids there; Redline keeps texts.
    """
    rows = [
        f'{{ "seq_id" : {place}, "qsl_idx" : {window.settings.items[record.index]}, '
        f'"data" : "{record.output_text.encode("utf-8", "surrogatepass").hex().upper()}", '
        f'"token_count" : {record.output_tokens} }}'
        for place, record in enumerate(in_order(window))
    ]
    return "[\n" + ",\n".join(rows) + "\n]\n"
