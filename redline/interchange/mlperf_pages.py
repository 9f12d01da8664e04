"""The texts of an export: a README of each scenario and benchmark, measurements.json, user.conf. Pure.

Every page says that it is MLPerf-style and not verified by MLCommons. Texts come as they are and are escaped here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from redline.interchange.mlperf_run import STATEMENT, LogSettings
from redline.markdown import Safe, code, fence, text
from redline.model import ValidityReading

_WORDS = f"{STATEMENT}. This is not a submission."
_CHARACTERS_MAX = 4_000


@dataclass(frozen=True, slots=True)
class ScenarioPage:
    """What the README of one scenario says. `scenario`: MLPerf's name; `redline_scenario`: the content file's.

    `result`: the figure with its unit, in words. `shorter`: what was shorter than MLPerf demands. `accuracy`: what is
    known of the answers, in a sentence. `logs`: who wrote the logs, in a sentence. `commands`: how to measure it again.
    """

    system: str
    benchmark: str
    round: str
    scenario: str
    redline_scenario: str
    scenario_hash: str
    trial_id: str
    run_id: str
    window: str
    measured_at: str
    build: str
    valid: bool
    result: str
    readings: tuple[ValidityReading, ...]
    shorter: tuple[str, ...]
    deviations: tuple[str, ...]
    accuracy: str
    logs: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Served:
    """How a model was served: what measurements.json and the sources' README tell.

    `system`: the name of its folder. `weights`: the checkpoint and its revision. `spread`: over which accelerators, in
    words, empty if nothing is said. `dtype`: from the server's arguments, empty if they do not say. `lock`: the file
    beside the sources' README that holds its packages, empty for somebody else's endpoint.
    """

    system: str
    recipe: str
    weights: str
    spread: str
    server_args: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    dtype: str
    inputs: str
    build: str
    pin_id: str
    lock: str = ""


def scenario_readme(page: ScenarioPage) -> str:
    """README.md of one scenario."""
    validity = "VALID" if page.valid else "INVALID"
    lines = [
        f"# {_said(page.benchmark)}, {_said(page.scenario)}",
        "",
        f"**{_WORDS}**",
        "",
        f"- Result: {_said(page.result)}, {validity} by MLPerf's rules as Redline applies them",
        f"- Round whose seeds and rules were used: {_said(page.round)}",
        f"- Measured: {_said(f'{page.measured_at}, run {page.run_id}, {page.window} of trial {page.trial_id}')}",
        f"- Scenario: {_code(page.redline_scenario)}, hash {_said(page.scenario_hash)}",
        f"- System: {_code(page.system)}",
        f"- Build: {_said(page.build)}",
        f"- Logs: {_said(page.logs)}",
        f"- Accuracy: {_said(page.accuracy)}",
        "",
        "## Shorter than MLPerf demands",
        "",
        *_listed(page.shorter, "nothing"),
        "",
        "## Deviations",
        "",
        *_listed(page.deviations, "none known beyond what is said above"),
        "",
        "## Rules",
        "",
        "| rule | found | limit | kept |",
        "|---|---|---|---|",
        *(f"| {_cells(each)} | {'yes' if each.ok else 'NO'} |" for each in page.readings),
        "",
        "## Again",
        "",
        fence("\n".join(f"$ {command}" for command in page.commands), "console", _CHARACTERS_MAX),
    ]
    return _text(lines)


def source_readme(benchmark: str, served: Sequence[Served]) -> str:
    """README.md of a benchmark's sources: what was served, and how."""
    lines = [f"# {_said(benchmark)}", "", f"**{_WORDS}**", ""]
    lines.append("The load was driven by Redline over HTTP; what it served is a vLLM server:")
    for each in served:
        pinned = f"its packages, with hashes, are in {each.lock}" if each.lock else "somebody else's endpoint"
        lines += [
            "",
            f"## Recipe {_code(each.recipe)}",
            "",
            f"- system: {_code(each.system)}",
            f"- {_said(each.build)}, pin {_said(each.pin_id)}: {pinned}",
            f"- weights: {_said(each.weights)}",
            *([f"- spread: {_said(each.spread)}"] if each.spread else []),
            f"- server arguments: {_code(shlex.join(each.server_args) or '(none)')}",
            *(f"- environment: {_code(f'{name}={value}')}" for name, value in each.environment),
        ]
    return _text(lines)


def calibration_page() -> str:
    """documentation/calibration.md: there is none to tell of."""
    return _text(
        [
            "# Calibration",
            "",
            f"**{_WORDS}**",
            "",
            "Redline quantises no model and calibrates none: a checkpoint is served as it is published, with the",
            "server's arguments under `src/`. How a quantised checkpoint was made, its publisher says.",
        ]
    )


def top_page(sentences: Sequence[str]) -> str:
    """README.md of the whole folder; `sentences`: what was left out of it and why."""
    lines = ["# Results in MLPerf Inference's submission layout", "", f"**{_WORDS}**", ""]
    lines += [
        "Written by `redline export --format mlperf` from stored trials. No figure in it was typed; fields of the",
        "system's description that were, are named in its hw_notes. Compliance tests (TEST01 and others) were not run.",
    ]
    if sentences:
        lines += ["", "## Left out", "", *_listed(sentences, "")]
    return _text(lines)


def measurements(served: Served) -> str:
    """measurements.json: the five fields that the checker wants, and whose they are."""
    content = {
        "input_data_types": served.inputs,
        "retraining": "none by Redline: the checkpoint is served as it is published",
        "starting_weights_filename": served.weights,
        "weight_data_types": served.dtype or "unknown: as the checkpoint says",
        "weight_transformations": "none by Redline; vLLM's own when it loads the checkpoint",
        "note": f"{_WORDS} Captured by Redline.",
    }
    return json.dumps(content, indent=2) + "\n"


def user_conf(settings: LogSettings) -> str:
    """user.conf: the settings that make just this run, in LoadGen's own form."""
    scenario = settings.scenario
    values: dict[str, object] = {
        "target_qps": f"{settings.target_rate_per_s:.10g}",
        "min_duration": round(settings.duration_s_min * 1000),
        "min_query_count": settings.query_count_min,
        "performance_sample_count_override": settings.performance_sample_count,
        "sample_concatenate_permutation": int(settings.equal_issue),
        "use_token_latencies": int(settings.use_token_latencies),
    }
    if not settings.offline:
        limits = {"target_latency": settings.latency_ns_max}
        if settings.use_token_latencies:
            limits = {"target_latency": 0, "ttft_latency": settings.ttft_ns_max, "tpot_latency": settings.tpot_ns_max}
        values |= {name: f"{limit_ns / 1e6:.10g}" for name, limit_ns in limits.items()}
    lines = [f"# {_WORDS} Durations and limits in milliseconds."]
    return _text([*lines, *(f"*.{scenario}.{name} = {value}" for name, value in values.items())])


def _cells(reading: ValidityReading) -> str:
    return " | ".join(_said(each) for each in (reading.rule, reading.reading, reading.limit))


def _listed(points: Sequence[str], none: str) -> list[str]:
    return [f"- {_said(point)}" for point in points] or [f"- {none}"]


def _said(value: str) -> Safe:
    return text(value, _CHARACTERS_MAX)


def _code(value: str) -> Safe:
    return code(value, _CHARACTERS_MAX)


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
