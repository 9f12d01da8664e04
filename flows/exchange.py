"""Results out to other tools' formats, and in from them, as `redline export` and `redline import` do it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flows.acceptable import readable_trials
from flows.workspace import Workspace, content_root
from redline.errors import ContentError, UsageError
from redline.interchange.files import ExportFormat, ExportSettings, export, import_files
from redline.interchange.history import write_history
from redline.interchange.pytorch_hud import HudJob
from redline.interchange.vllm_bench import ServeSettings
from redline.model import Arm, Scenario, Server, Trial, in_flight_max

LEFT_OUT = "left out: "
"""How the line of a file begins that could not be imported: the command then ends with exit code 2."""

_COMPARED_FORMATS = (ExportFormat.PYTORCH_HUD, ExportFormat.GITHUB_ACTION_BENCHMARK)
"""Formats that a dashboard draws as one line: windows of a rate search, each at another rate, have no place there."""


def export_runs(
    state_dir: Path, run_ids: Sequence[str], form: str, directory: Path, arm: str | None = None
) -> tuple[Path, ...]:
    """The files written for every trial of these runs, partial and invalid ones included where the format can say so.

    `arm`: only the trials of this arm.

    Raises UsageError for a run that there is not, StoreError if the disk refuses.
    """
    workspace = Workspace(content_root(), state_dir)
    trials = chosen_trials(workspace.trials_dir, run_ids)
    if ExportFormat(form) in _COMPARED_FORMATS:
        trials = tuple(trial for trial in trials if trial.arm is not Arm.PROBE)
    if arm is not None:
        trials = tuple(trial for trial in trials if trial.arm is Arm(arm))
    serve = _loads(workspace, trials)
    job = HudJob(int(time.time()), models={name: load.model_id for name, load in serve.items()})
    return export(trials, ExportFormat(form), directory, ExportSettings(serve=serve, job=job))


def chosen_trials(trials_dir: Path, run_ids: Sequence[str]) -> tuple[Trial, ...]:
    """Every readable trial of these runs (`latest` is the last one). Raises UsageError for a run that there is not."""
    trials = readable_trials(trials_dir)
    known = sorted({trial.run_id for trial in trials})
    wanted = {known[-1] if run_id == "latest" and known else run_id for run_id in run_ids}
    if missing := sorted(wanted - set(known)):
        raise UsageError(
            f"no run {', '.join(missing)}",
            expected=f"'latest' or one of: {', '.join(known[-5:]) or '(there are none)'}",
            found=", ".join(missing),
            next_step=f"take a run id from a report's first lines; the trials lie in {trials_dir}",
        )
    return tuple(trial for trial in trials if trial.run_id in wanted)


def _loads(workspace: Workspace, trials: Sequence[Trial]) -> Mapping[str, ServeSettings]:
    """How vLLM would name each scenario's load; a scenario that is no longer there is left unnamed."""
    found = {}
    for name in {trial.scenario for trial in trials}:
        try:
            scenario = _scenario_of(workspace, name)
            model = workspace.recipe(scenario.recipe).served_model_name
        except ContentError:
            continue
        bound = in_flight_max(scenario.arrivals)
        if isinstance(scenario.arrivals, Server):
            found[name] = ServeSettings(
                model_id=model,
                request_rate_per_s=scenario.arrivals.rate_per_s,
                burstiness=scenario.arrivals.burstiness,
            )
        else:
            found[name] = ServeSettings(model_id=model, max_concurrency=bound)
    return found


def _scenario_of(workspace: Workspace, name: str) -> Scenario:
    """The scenario of a name; of a rate search's window (`server-short@24.00`), at its rate. Raises ContentError."""
    base, _, rate = name.partition("@")
    scenario = workspace.scenario(base)
    if rate and isinstance(scenario.arrivals, Server):
        return replace(scenario, arrivals=replace(scenario.arrivals, rate_per_s=float(rate)))
    return scenario


def import_results(
    files: Sequence[Path], output: Path, *, build: str | None, scenario: str | None, runner: str | None
) -> Iterator[str]:
    """Write a history of what could be read; lines that say what was, and why the rest was not.

    Raises UsageError if no file gives a reading, or if `output` exists and is none of the files.
    """
    if output.exists() and not any(path.exists() and path.samefile(output) for path in files):
        raise UsageError(
            f"{output} exists",
            expected="a new file, or the history among the files to import",
            found="a file that would be replaced",
            next_step=f"add it to what it holds: redline import {output} FILE... --output {output}",
        )
    report = import_files(files, build=build, scenario=scenario, runner=runner)
    for problem in report.problems:
        yield f"{LEFT_OUT}{problem.path}: {problem.message}"
    yield from report.notes
    write_history(output, report.rows)
    builds = len({row.build for row in report.rows})
    yield f"wrote {output}: {len(report.rows)} readings of {builds} builds from {len(files)} files"
