"""What of a run can become a baseline: a run's own trials, and the candidate's of a sign-off that said yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.sign import says_yes
from flows.workspace import Workspace
from redline.content import read_json
from redline.errors import ContentError, InvalidMeasurementError, StoreError, UsageError
from redline.model import Arm, Trial, TrialStatus
from redline.store.trials import list_trials, read_trial
from reports.data import ReportKind


def acceptable_trials(workspace: Workspace, run_id: str) -> tuple[Trial, ...]:
    """The trials of a run that a baseline can be made of; `latest` is the newest run or sign-off.

    Of a sign-off those of its candidate, of pairs whose trials are both valid: the ones that its answer rests on.

    Raises:
        UsageError: no such run, or one that compared two builds for another end, a gate.
        InvalidMeasurementError: a trial of a run is not valid, or a sign-off did not say yes.
    """
    trials = readable_trials(workspace.trials_dir)
    singles = {trial.run_id for trial in trials if trial.arm is Arm.SINGLE}
    signoffs = {
        run: record
        for run in sorted({trial.run_id for trial in trials if trial.arm is Arm.CANDIDATE} - singles)
        if (record := _record(workspace, run)).get("kind") == ReportKind.SIGNOFF.value
    }
    known = sorted(singles | signoffs.keys())
    wanted = known[-1] if run_id == "latest" and known else run_id
    chosen = [trial for trial in trials if trial.run_id == wanted]
    if wanted not in known:
        raise _no_run(workspace, run_id, known, is_other=bool(chosen))
    if wanted in signoffs:
        return _of_signoff(chosen, wanted, signoffs[wanted])
    return _of_run([trial for trial in chosen if trial.arm is Arm.SINGLE], wanted)


def readable_trials(trials_dir: Path) -> tuple[Trial, ...]:
    """Every trial in a directory that can be read, in order of name; none if there is no such directory."""
    return tuple(trial for path in list_trials(trials_dir) if (trial := _readable(path)) is not None)


def _readable(path: Path) -> Trial | None:
    """A trial, or None for a damaged one: it is nobody's baseline, and `redline db` names it."""
    try:
        return read_trial(path)
    except StoreError:
        return None


def _record(workspace: Workspace, run_id: str) -> Mapping[str, Any]:
    """The verdict that was kept of a run; empty without one, or if it cannot be read."""
    try:
        return read_json(workspace.report_path(run_id).with_suffix(".json"))
    except ContentError:
        return {}


def _no_run(workspace: Workspace, run_id: str, known: Sequence[str], *, is_other: bool) -> UsageError:
    if is_other:
        return UsageError(
            f"run {run_id} is nothing to accept",
            expected="a run, a night, or a sign-off whose report is on record",
            found="trials of a gate, or of a sign-off without a report",
            next_step="take the run id of another one, or sign off: redline signoff",
        )
    if not known:
        return UsageError(
            "there is no run to accept",
            expected=f"trials of a `redline run` or a sign-off in {workspace.trials_dir}",
            found="none",
            next_step="measure first: redline run",
        )
    return UsageError(
        f"no run '{run_id}'",
        expected=f"'latest' or one of: {', '.join(known[-5:])}",
        found=f"'{run_id}'",
        next_step="take the run id from the report's first lines",
    )


def _of_run(chosen: Sequence[Trial], run_id: str) -> tuple[Trial, ...]:
    broken = [trial for trial in chosen if trial.status is not TrialStatus.VALID]
    if broken:
        raise InvalidMeasurementError(
            f"run {run_id} cannot be a baseline",
            expected="valid trials only",
            found="; ".join(f"{trial.scenario}: {trial.status.value}, {trial.detail}" for trial in broken),
            next_step="mend what the report's validity table names and run again",
        )
    return tuple(chosen)


def _of_signoff(chosen: Sequence[Trial], run_id: str, record: Mapping[str, Any]) -> tuple[Trial, ...]:
    if not says_yes(record):
        raise InvalidMeasurementError(
            f"sign-off {run_id} cannot be a baseline",
            expected="an answer of yes: no worse, or improved",
            found=f"{record.get('finding')}: {record.get('reason')}",
            next_step="read its report; a release that was not signed off is nothing to be held against",
        )
    valid = {
        (trial.scenario, trial.pair_index, trial.arm)
        for trial in chosen
        if trial.status is TrialStatus.VALID and trial.arm is not Arm.PROBE
    }
    counted = tuple(
        trial
        for trial in chosen
        if all((trial.scenario, trial.pair_index, arm) in valid for arm in (Arm.BASELINE, Arm.CANDIDATE))
        and trial.arm is Arm.CANDIDATE
    )
    if not counted:
        raise InvalidMeasurementError(
            f"sign-off {run_id} cannot be a baseline",
            expected="pairs of valid trials",
            found="none on record",
            next_step="merge its trials first: redline merge",
        )
    return counted
