"""`redline github collect`: the last state, every leg and reason since, fetched from GitHub and merged in one place.

The last state is an artifact like the legs are, and is merged like them: verified, once, by what is understood. Which
legs it was made from stands in its `collected.json`, so that a leg that came late, or that a job which died did not
get to, is taken by the next one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.merge import MergedFolder, ingest_all, lines_of, merged_folder, said
from flows.request import Answer
from flows.service.reasons import reasons_of, take_reason
from flows.workspace import Workspace, content_root
from redline.errors import ExitCode, RedlineError, StoreError
from redline.github.archive import ArchiveLimits
from redline.github.artifacts import Artifact, WorkflowRun, artifacts_of, fetch, runs_of
from redline.github.client import GitHub, github_of
from redline.github.environment import Environment, write_outputs
from redline.store.json_file import write_json
from redline.store.merge import COLLECTED, merge_lock
from redline.store.taking import json_object
from redline.store.untrusted_file import names_in, read_bounded

STATE = "redline-state"
LEG_PREFIX = "leg-"
EVENTS = frozenset({"schedule", "workflow_dispatch", "push"})
"""Of the runs whose legs are taken: nobody outside the repository can start one of these on its default branch."""

RUNS_MAX = 60
STATE_LIMITS = ArchiveLimits(
    archive_bytes_max=4_000_000_000,
    files_max=1_000_000,
    file_bytes_max=500_000_000,
    total_bytes_max=12_000_000_000,
)
LEG_LIMITS = ArchiveLimits(
    archive_bytes_max=500_000_000,
    files_max=10_000,
    file_bytes_max=500_000_000,
    total_bytes_max=2_000_000_000,
)
_COLLECTED_BYTES_MAX = 1_000_000
_COLLECTED_COUNT_MAX = 20_000
_FETCHED = ".collecting"


@dataclass(frozen=True, slots=True)
class Found:
    """One artifact and the run that uploaded it."""

    run: WorkflowRun
    artifact: Artifact

    @property
    def title(self) -> str:
        """`leg-cpu of run 123 (2026-11-21)`."""
        return f"{self.artifact.name} of run {self.run.id} ({self.run.created_at[:10]})"


@dataclass(slots=True)
class _Progress:
    """What was said and done so far. `collected`: artifacts that are wholly in the state, by id."""

    lines: list[str]
    collected: set[int]
    taken_count: int = 0
    refused_count: int = 0

    def note(self, merged: MergedFolder) -> None:
        """Say what became of a folder."""
        self.lines += lines_of(merged)
        self.taken_count += 1
        self.refused_count += len(merged.refused)


def collect(environment: Environment, state_dir: Path, workflow: str, legs_dir: Path | None) -> Answer:
    """Lines that say what the state is made of now; outputs `state`, `taken` and `refused`.

    Exit code 5 only if the last state could not be taken whole, or the database not be made: what would be uploaded
    then would hold less than before. A leg that is refused is named, stays at GitHub, and is tried again next time.
    Raises GitHubError if the last state or the list of runs cannot be had, StoreBusyError if another merge goes on.
    """
    with github_of(environment) as github, merge_lock(state_dir):
        scratch = state_dir / _FETCHED
        shutil.rmtree(scratch, ignore_errors=True)  # of a collect that was killed; nobody else works here
        try:
            branch = str(github.get(f"/repos/{environment.repository}")["default_branch"])
            found = _found(github, branch, workflow)
            progress = _Progress([], _read_collected(state_dir))
            restored, whole = _take_states(github, state_dir, states_of(found), progress)
            own = _take_local(state_dir, legs_dir, environment, found, progress)
            _take_legs(github, state_dir, [each for each in found if each.artifact.id not in own], progress)
            _take_reasons(github, state_dir, scratch, branch, progress)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        write_json(state_dir / COLLECTED, {"artifacts": sorted(progress.collected)[-_COLLECTED_COUNT_MAX:]})
        database_lines, ingested = ingest_all(Workspace(content_root(), state_dir))
    write_outputs(
        environment,
        {
            "state": "restored" if restored else "first",
            "taken": str(progress.taken_count),
            "refused": str(progress.refused_count),
        },
    )
    lines = (*progress.lines, *database_lines)
    return Answer(lines, ExitCode.NO_WORSE if whole and ingested else ExitCode.INFRASTRUCTURE)


# --- what there is at GitHub ----------------------------------------------------------------------------------


def _found(github: GitHub, branch: str, workflow: str) -> tuple[Found, ...]:
    """The artifacts of the workflow's last runs that nobody outside can start, newest run first."""
    runs = [run for run in runs_of(github, workflow, branch=branch, count_max=RUNS_MAX) if is_trusted(run, branch)]
    return tuple(Found(run, artifact) for run in runs for artifact in artifacts_of(github, run.id))


def is_trusted(run: WorkflowRun, default_branch: str) -> bool:
    """True if only the repository's own people and its clock start such a run, on code that was reviewed."""
    return run.event in EVENTS and run.head_branch == default_branch


def states_of(found: Iterable[Found]) -> tuple[Found, ...]:
    """The states to start from: the newest, and a larger older one if there is any.

    A state only grows. One that is smaller than one before it was cut or forged: both are merged, and nothing is lost.
    """
    states = [each for each in found if each.artifact.name == STATE and not each.artifact.expired]
    if not states:
        return ()
    newest = max(states, key=lambda each: each.artifact.id)
    largest = max(states, key=lambda each: (each.artifact.size_bytes, each.artifact.id))
    return (newest,) if largest is newest else (newest, largest)


# --- taking it ------------------------------------------------------------------------------------------------


def _take_states(github: GitHub, state_dir: Path, states: Sequence[Found], progress: _Progress) -> tuple[bool, bool]:
    """(a state was restored, all of it was taken)."""
    if not states:
        progress.lines.append("no state yet: this is the first, or the last one expired")
        return False, True
    whole = True
    for each in states:
        folder = _fetched(github, state_dir, each, STATE_LIMITS)
        merged = merged_folder(folder, state_dir, each.title)
        progress.note(merged)
        progress.collected |= _read_collected(folder)
        shutil.rmtree(folder)
        if merged.refused:
            whole = False
            progress.lines.append(
                f"  the state was not taken whole: mend it, or delete artifact {each.artifact.id} of run {each.run.id},"
                " and the one before it is used"
            )
    return True, whole


def _take_local(
    state_dir: Path,
    legs_dir: Path | None,
    environment: Environment,
    found: Iterable[Found],
    progress: _Progress,
) -> frozenset[int]:
    """Take the folders of this run's legs; the artifacts that they were downloaded from."""
    if legs_dir is None:
        return frozenset()
    folders = _leg_folders(legs_dir)
    if not folders:
        progress.lines.append("no leg of this run: none of its jobs came so far as to upload one")
    of_run = [each.artifact for each in found if each.run.id == environment.run_id]
    own: set[int] = set()
    for folder in folders:
        merged = merged_folder(folder, state_dir, f"{folder.name} of this run")
        progress.note(merged)
        same = [artifact.id for artifact in of_run if artifact.name == folder.name]
        if len(same) == 1 and not merged.refused:  # of two with one name, nobody knows which was downloaded
            own |= set(same)
    progress.collected |= own
    return frozenset(own)


def _leg_folders(legs_dir: Path) -> tuple[Path, ...]:
    """The folders of legs in a directory; a single artifact may have been unpacked right into it."""
    try:
        names = names_in(legs_dir)
    except StoreError:
        return ()
    if "leg.json" in names or "trials" in names:
        return (legs_dir,)
    return tuple(legs_dir / name for name in names)


def _take_legs(github: GitHub, state_dir: Path, found: Iterable[Found], progress: _Progress) -> None:
    """Take every leg that is not in the state yet, oldest first; one that cannot be had is named and left for later."""
    legs = [each for each in found if each.artifact.name.startswith(LEG_PREFIX)]
    for each in sorted(legs, key=lambda each: each.artifact.id):
        if each.artifact.id in progress.collected:
            continue
        if each.artifact.expired:
            progress.lines.append(f"expired before it was collected: {said(each.title)}")
            continue
        try:
            folder = _fetched(github, state_dir, each, LEG_LIMITS)
        except (RedlineError, OSError) as error:
            progress.lines.append(f"not collected: {said(each.title)}: {said(str(error))}")
            progress.refused_count += 1
            continue
        merged = merged_folder(folder, state_dir, each.title)
        progress.note(merged)
        shutil.rmtree(folder)
        if not merged.refused:
            progress.collected.add(each.artifact.id)


def _take_reasons(github: GitHub, state_dir: Path, scratch: Path, branch: str, progress: _Progress) -> None:
    """Take the justifications that the gate left since; one that cannot be had is named and left for later."""
    for found in reasons_of(github, branch, progress.collected):
        merged = take_reason(github, state_dir, scratch, found)
        if isinstance(merged, str):
            progress.lines.append(merged)
            progress.refused_count += 1
        else:
            if merged.items:
                progress.note(merged)
            if not merged.refused:
                progress.collected.add(found[1].id)


def _fetched(github: GitHub, state_dir: Path, found: Found, limits: ArchiveLimits) -> Path:
    folder = state_dir / _FETCHED / str(found.artifact.id)
    folder.parent.mkdir(exist_ok=True)
    fetch(github, found.artifact, folder, limits=limits)
    return folder


def _read_collected(folder: Path) -> set[int]:
    """The artifacts that a state was made from; none if it does not say. What is taken twice is taken once."""
    try:
        listed = json_object(read_bounded(folder / COLLECTED, _COLLECTED_BYTES_MAX), COLLECTED).get("artifacts")
    except StoreError:
        return set()
    return {each for each in listed if isinstance(each, int)} if isinstance(listed, list) else set()
