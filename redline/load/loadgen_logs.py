"""What the official LoadGen wrote about a run: its summary and detail logs as values.

Source: logging.cc and results.cc of mlcommons/inference. Durations keep LoadGen's unit, whole nanoseconds. Its rates
are printed with six digits. LoadGen judges an early stop of TTFT only if that of TPOT holds: its text is else empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from redline.errors import LoadError

SUMMARY, DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"
ACCURACY, TRACE = "mlperf_log_accuracy.json", "mlperf_log_trace.json"

PREFIX = ":::MLLOG "
TAIL_LINES = 6
_TAIL_VALUE_CHARS = 200
_NEXT_STEP = "look at the files themselves; run again if the run was ended before it was over"

_SUMMARY_END = re.compile(
    r"^(No errors encountered during test|(1 ERROR|\d+ ERRORS) encountered\. See detailed log)\.\n", re.MULTILINE
)
_LATENCY = re.compile(r"result_(\d+\.\d+)_percentile_latency_ns")
_TTFT = re.compile(r"result_first_token_(\d+\.\d+)_percentile_latency_ns")
_TPOT = re.compile(r"result_time_per_output_token_(\d+\.\d+)_percentile_ns")
_EARLY_STOPPING = {
    "latency": "early_stopping_result",
    "ttft": "early_stopping_ttft_result",
    "tpot": "early_stopping_tpot_result",
}


@dataclass(frozen=True, slots=True)
class GeneratedQueries:
    """What LoadGen made for one loaded set of samples, before it issued any of it."""

    query_count: int
    samples_per_query: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class LoadgenResult:
    """LoadGen's judgement of a performance run, in its own figures.

    `valid`: what it says, whatever was asked of it; a run of seconds can be valid. `early_stopping`: its words by what
    was tested (`latency`, or `ttft` and `tpot`). `samples_per_s`, `tokens_per_s`: of completed ones; tokens None if
    they were not counted. Latencies: percentile (50.0 to 99.9) -> nanoseconds from the scheduled instant, TPOT per
    token; empty if not measured.
    """

    valid: bool
    invalid_reason: str
    min_duration_met: bool
    min_queries_met: bool
    perf_constraints_met: bool | None
    early_stopping_met: bool
    early_stopping: Mapping[str, str]
    query_count: int
    samples_per_s: float
    tokens_per_s: float | None
    scheduled_samples_per_s: float | None
    latency_ns: Mapping[float, int]
    ttft_ns: Mapping[float, int]
    tpot_ns: Mapping[float, int]


@dataclass(frozen=True, slots=True)
class LoadgenLogs:
    """A whole run. `effective`: the settings it used, by LoadGen's names; `result` is None in accuracy mode."""

    version: str
    scenario: str
    mode: Literal["performance", "accuracy"]
    effective: Mapping[str, Any]
    generated: tuple[GeneratedQueries, ...]
    result: LoadgenResult | None
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def read_logs(log_dir: Path) -> LoadgenLogs:
    """The logs in a folder. Raises LoadError if one is missing, damaged, or ends before the run did."""
    summary = _text(log_dir / SUMMARY)
    entries = _entries(log_dir / DETAIL)
    if not _SUMMARY_END.search(summary):
        raise _incomplete(log_dir / SUMMARY, "the number of errors in its last line", "no such line")
    values = {str(entry["key"]): entry["value"] for entry in entries}  # of a key that is there twice, the last
    accuracy = _value(values, "effective_test_mode", log_dir) == "AccuracyOnly"
    result = None if accuracy else _result(values, log_dir)
    if result is not None and f"Result is : {'VALID' if result.valid else 'INVALID'}\n" not in summary:
        raise _incomplete(log_dir / SUMMARY, f"the result that {DETAIL} has", "another one, or none")
    return LoadgenLogs(
        version=str(_value(values, "loadgen_version", log_dir)),
        scenario=str(_value(values, "effective_scenario", log_dir)),
        mode="accuracy" if accuracy else "performance",
        effective={key.removeprefix("effective_"): values[key] for key in values if key.startswith("effective_")},
        generated=_generated(entries, log_dir),
        result=result,
        errors=_messages(entries, "is_error"),
        warnings=_messages(entries, "is_warning"),
    )


def log_tail(log_dir: Path) -> str:
    """The last things LoadGen said in a folder, whatever state its logs are in: for an error message."""
    try:
        lines = (log_dir / DETAIL).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"no detail log: {error}"
    said = []
    for line in lines[-TAIL_LINES:]:
        found = re.search(r'"key": "([^"]*)", "value": (.*?)(?:, "time_ms"|$)', line)
        said.append(f"{found[1]}: {found[2][:_TAIL_VALUE_CHARS]}" if found else line[:_TAIL_VALUE_CHARS])
    return "; ".join(said) or "an empty detail log"


# --- reading ------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(
            f"a log of LoadGen cannot be read: {path.name}",
            expected=f"{SUMMARY} and {DETAIL} in {path.parent}",
            found=str(error),
            next_step=_NEXT_STEP,
        ) from error


def _entries(path: Path) -> list[dict[str, Any]]:
    """The entries of a detail log. Raises LoadError at the first line that is none."""
    entries = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line:
            continue
        try:
            entry = json.loads(line.removeprefix(PREFIX)) if line.startswith(PREFIX) else None
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or not {"key", "value", "metadata"} <= entry.keys():
            raise _incomplete(path, f"{PREFIX}{{...}} in every line", f"line {number}: {line[:_TAIL_VALUE_CHARS]}")
        entries.append(entry)
    return entries


def _incomplete(path: Path, expected: str, found: str) -> LoadError:
    return LoadError(
        f"a log of LoadGen is incomplete: {path.name}", expected=expected, found=found, next_step=_NEXT_STEP
    )


def _value(values: Mapping[str, Any], key: str, log_dir: Path) -> Any:
    if key not in values:
        raise _incomplete(log_dir / DETAIL, f"an entry {key}", f"{len(values)} other entries")
    return values[key]


def _messages(entries: Sequence[dict[str, Any]], kind: str) -> tuple[str, ...]:
    return tuple(f"{entry['key']}: {entry['value']}" for entry in entries if entry["metadata"].get(kind))


def _generated(entries: Sequence[dict[str, Any]], log_dir: Path) -> tuple[GeneratedQueries, ...]:
    """One for each loaded set, in order."""
    keys = ("generated_query_count", "generated_samples_per_query", "generated_query_duration")
    columns = [[entry["value"] for entry in entries if entry["key"] == key] for key in keys]
    if not columns[0] or len({len(column) for column in columns}) != 1:
        raise _incomplete(log_dir / DETAIL, "what was generated", "some of it is missing")
    return tuple(GeneratedQueries(*row) for row in zip(*columns, strict=True))


def _result(values: Mapping[str, Any], log_dir: Path) -> LoadgenResult:
    def of(key: str) -> Any:
        return _value(values, key, log_dir)

    offline = of("effective_scenario") == "Offline"
    if not offline and of("effective_scenario") != "Server":
        raise LoadError(
            "the logs of this scenario of LoadGen are not read here",
            expected="Server or Offline",
            found=str(of("effective_scenario")),
            next_step="read mlperf_log_summary.txt",
        )
    of("num_errors")  # the last entry of a performance run
    return LoadgenResult(
        valid=of("result_validity") == "VALID",
        invalid_reason=str(values.get("result_invalid_reason", "")).strip(),
        min_duration_met=of("result_min_duration_met"),
        min_queries_met=of("result_min_queries_met"),
        perf_constraints_met=values.get("result_perf_constraints_met"),
        early_stopping_met=of("early_stopping_met"),
        early_stopping={
            name: " ".join(str(values[key]).split()) for name, key in _EARLY_STOPPING.items() if key in values
        },
        query_count=of("result_query_count"),
        samples_per_s=of("result_samples_per_second" if offline else "result_completed_samples_per_sec"),
        tokens_per_s=values.get("result_tokens_per_second" if offline else "result_completed_tokens_per_second"),
        scheduled_samples_per_s=values.get("result_scheduled_samples_per_sec"),
        latency_ns=_percentiles(values, _LATENCY),
        ttft_ns=_percentiles(values, _TTFT),
        tpot_ns=_percentiles(values, _TPOT),
    )


def _percentiles(values: Mapping[str, Any], key: re.Pattern[str]) -> dict[float, int]:
    return {float(found[1]): value for name, value in values.items() if (found := key.fullmatch(name))}
