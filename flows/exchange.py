"""Results out to other tools' formats, and in from them, as `redline export` and `redline import` do it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from flows.accept import readable_trials
from flows.workspace import Workspace, content_root
from redline.errors import ContentError, UsageError
from redline.interchange.files import ExportFormat, ExportSettings, export, import_files
from redline.interchange.history import write_history
from redline.interchange.vllm_bench import ServeSettings
from redline.model import Server, Trial, in_flight_max


def export_runs(state_dir: Path, run_ids: Sequence[str], form: str, directory: Path) -> tuple[Path, ...]:
    """The files written for every trial of these runs, partial and invalid ones included where the format can say so.

    Raises UsageError for a run that there is not, StoreError if the disk refuses.
    """
    workspace = Workspace(content_root(), state_dir)
    trials = _chosen(readable_trials(workspace.trials_dir), run_ids, workspace.trials_dir)
    return export(trials, ExportFormat(form), directory, ExportSettings(serve=_loads(workspace, trials)))


def _chosen(trials: Sequence[Trial], run_ids: Sequence[str], where: Path) -> tuple[Trial, ...]:
    known = sorted({trial.run_id for trial in trials})
    wanted = {known[-1] if run_id == "latest" and known else run_id for run_id in run_ids}
    if missing := sorted(wanted - set(known)):
        raise UsageError(
            f"no run {', '.join(missing)}",
            expected=f"'latest' or one of: {', '.join(known[-5:]) or '(there are none)'}",
            found=", ".join(missing),
            next_step=f"take a run id from a report's first lines; the trials lie in {where}",
        )
    return tuple(trial for trial in trials if trial.run_id in wanted)


def _loads(workspace: Workspace, trials: Sequence[Trial]) -> Mapping[str, ServeSettings]:
    """How vLLM would name each scenario's load; a scenario that is no longer there is left unnamed."""
    found = {}
    for name in {trial.scenario for trial in trials}:
        try:
            scenario = workspace.scenario(name)
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


def import_results(
    files: Sequence[Path], output: Path, *, build: str | None, scenario: str | None, runner: str | None
) -> Iterator[str]:
    """Write a history of what could be read; lines that say what was, and why the rest was not.

    Raises UsageError if no file gives a reading.
    """
    report = import_files(files, build=build, scenario=scenario, runner=runner)
    for problem in report.problems:
        yield f"left out: {problem.path}: {problem.message}"
    yield from report.notes
    write_history(output, report.rows)
    builds = len({row.build for row in report.rows})
    yield f"wrote {output}: {len(report.rows)} readings of {builds} builds from {len(files)} files"
