"""`--driver loadgen`: MLPerf's own LoadGen says when a request is sent, over the same client, as a cross-check."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Literal, TypeAlias

from flows.workload import Work
from redline.errors import UsageError
from redline.load.client import LoadPlan
from redline.load.loadgen_driver import run_loadgen
from redline.load.loadgen_settings import LoadgenSettings, planned_issue, settings_of
from redline.load.worker import Window
from redline.model import DatasetItems

Driver: TypeAlias = Literal["native", "loadgen"]


def official_settings(work: Work) -> LoadgenSettings:
    """What LoadGen is asked to do for a scenario. Raises UsageError for one that it cannot drive."""
    try:
        return settings_of(work.scenario)
    except ValueError as error:
        raise UsageError(
            f"LoadGen cannot drive scenario {work.scenario.name}",
            expected='offline, or server with process = "loadgen", and whole passes over the data set',
            found=str(error),
            next_step="leave --driver loadgen out, or name other scenarios",
        ) from error


def drive_officially(work: Work, plan: LoadPlan, log_dir: Path, cpu_ids: tuple[int, ...]) -> tuple[Window, float]:
    """(the window, CPU seconds of LoadGen's process, which is gone by then); its logs stay in `log_dir`.

    Raises LoadError as `run_loadgen`, also if LoadGen issues another sample than the scenario says.
    """
    settings, workload = official_settings(work), work.scenario.workload
    ordered = isinstance(workload, DatasetItems) and workload.order == "loadgen"
    # In another order, or without items, LoadGen's samples only number the requests: `settings_of`.
    items = work.sample_indices if ordered else planned_issue(settings).items
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    window = run_loadgen(plan, items, settings, log_dir, cpu_ids)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return window, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
