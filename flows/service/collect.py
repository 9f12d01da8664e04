"""`redline github collect`: the last state, every leg and reason since, fetched from GitHub and merged in one place.

The last state is an artifact like the legs are, and is merged like them: verified, once, by what is understood. Which
legs it was made from stands in its `collected.json`, so that a leg that came late, or that a job which died did not
get to, is taken by the next one. Which artifact is a state, and not a leg's invention: `kept_states`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.merge import MergedFolder, ingest_all, lines_of, merged_folder, said
from flows.request import Answer
from flows.service.kept_states import Found, Kept, kept_at
from flows.service.reasons import reasons_of, take_reason
from flows.workspace import Workspace, content_root
from redline.errors import ExitCode, RedlineError, StoreError
from redline.github.archive import ArchiveLimits
from redline.github.artifacts import artifacts_of, fetch
from redline.github.client import GitHub, github_of
from redline.github.environment import Environment, write_outputs
from redline.store.json_file import write_json
from redline.store.merge import COLLECTED, JUSTIFICATION, NIGHTS, TRIALS, merge_lock
from redline.store.taking import json_object
from redline.store.trials import list_trials
from redline.store.untrusted_file import names_in, read_bounded

LEG_PREFIX = "leg-"
STATE_LIMITS = ArchiveLimits(
    archive_bytes_max=4_000_000_000,
    files_max=1_000_000,
    file_bytes_max=12_000_000_000,  # the database is one file
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
class _Size:
    """How much is on record: a state only grows."""

    trials: int
    nights: int

    def __str__(self) -> str:
        return f"{self.trials} trials and {self.nights} nights"

    def holds(self, other: _Size) -> bool:
        """True if nothing of the other's can be missing by number."""
        return self.trials >= other.trials and self.nights >= other.nights


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


def collect(
    environment: Environment,
    state_dir: Path,
    workflow: str,
    legs_dir: Path | None,
    *,
    first: bool = False,
    with_database: bool = True,
) -> Answer:
    """Lines that say what the state is made of now; outputs `state`, `taken` and `refused`.

    Exit code 5 if what would be uploaded then would hold less than before: a state was not taken whole, or there was
    one and it is gone, unless `first` says to begin anew; or if the database could not be made. A leg that is refused
    is named, stays at GitHub, and is tried again next time. Whatever happens, the state directory is one afterwards.
    Raises GitHubError if the last state or the list of runs cannot be had, StoreBusyError if another merge goes on.
    """
    with merge_lock(state_dir):
        if not (state_dir / COLLECTED).exists():  # a night without history is measured all the same: this is uploaded
            write_json(state_dir / COLLECTED, {"artifacts": []})
        before = _size(state_dir)
        scratch = state_dir / _FETCHED
        shutil.rmtree(scratch, ignore_errors=True)  # of a collect that was killed; nobody else works here
        progress = _Progress([], _read_collected(state_dir))
        try:
            with github_of(environment) as github:
                branch = str(github.get(f"/repos/{environment.repository}")["default_branch"])
                kept = kept_at(github, branch, workflow)
                progress.lines += kept.remarks
                states = kept.to_start_from(environment.run_id)
                whole = _take_states(github, state_dir, states, progress, before)
                if not states and not before.trials:
                    whole = _begin(kept, environment, progress, first=first)
                found = _legs_of(github, kept)
                own = _take_local(state_dir, legs_dir, environment, found, progress)
                _take_legs(github, state_dir, [each for each in found if each.artifact.id not in own], progress)
                _take_reasons(github, state_dir, scratch, branch, progress)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        _write_collected(state_dir, progress)
        workspace = Workspace(content_root(), state_dir)
        database_lines, ingested = ingest_all(workspace) if with_database else ((), True)
    write_outputs(
        environment,
        {
            "state": "restored" if states else "first",
            "taken": str(progress.taken_count),
            "refused": str(progress.refused_count),
        },
    )
    lines = (*progress.lines, *database_lines)
    return Answer(lines, ExitCode.NO_WORSE if whole and ingested else ExitCode.INFRASTRUCTURE)


def _legs_of(github: GitHub, kept: Kept) -> tuple[Found, ...]:
    """What the legs of every run uploaded that may still be kept, newest run first."""
    runs = kept.recent_runs(datetime.now(UTC))
    return tuple(
        Found(run, artifact)
        for run in runs
        for artifact in artifacts_of(github, run.id)
        if artifact.name.startswith(LEG_PREFIX)
    )


# --- taking it ------------------------------------------------------------------------------------------------


def _begin(kept: Kept, environment: Environment, progress: _Progress, *, first: bool) -> bool:
    """True if there never was a state, or whoever asked knows that it is gone."""
    lost = "" if first else kept.lost(environment.run_id)
    if not lost:
        progress.lines.append("no state yet: this is the first")
        return True
    progress.lines += [
        f"no state is left, and there was one: {lost}; it expired, or was deleted",
        "  put a copy of it into --state-dir (`redline merge` takes one), or begin anew with --first",
        "  anew means that the nights, levels and reasons from before are gone",
    ]
    return False


def _take_states(github: GitHub, state_dir: Path, states: Sequence[Found], progress: _Progress, before: _Size) -> bool:
    """Take the states; True if afterwards nothing of any of them, nor of what was here before, is missing."""
    whole = True
    largest = before
    for each in states:
        folder = _fetched(github, state_dir, each, STATE_LIMITS)
        progress.lines += _grown(each, folder)
        held, stated = _size(folder), _stated_size(folder)
        merged = merged_folder(folder, state_dir, each.title, own=True)
        progress.note(merged)
        progress.collected |= _read_collected(folder)
        shutil.rmtree(folder)
        largest = _Size(max(largest.trials, held.trials), max(largest.nights, held.nights))
        cut = not held.holds(stated)
        if cut:
            progress.lines.append(f"  it was cut: it says that it holds {stated}, and holds {held}")
        if merged.refused or cut:
            whole = False
            progress.lines.append(
                f"  the state was not taken whole: mend it, or delete artifact {each.artifact.id} of run {each.run.id},"
                " and the one before it is used"
            )
    now = _size(state_dir)
    if not now.holds(largest):
        whole = False
        progress.lines.append(f"the state would hold less than before: {now} instead of {largest}; do not keep it")
    return whole


def _grown(state: Found, folder: Path) -> tuple[str, ...]:
    """A line if a state takes half of what is fetched at all, or more."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    takes = (
        (state.artifact.size_bytes, STATE_LIMITS.archive_bytes_max, "bytes of an archive"),
        (sum(sizes), STATE_LIMITS.total_bytes_max, "bytes"),
        (len(sizes), STATE_LIMITS.files_max, "files"),
    )
    return tuple(
        f"{state.title} takes {size:,} of {limit:,} {unit}: before it takes all of them, keep the record on a machine "
        "or a share of your own (docs/several-runners.md)"
        for size, limit, unit in takes
        if 2 * size > limit
    )


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
        merged = merged_folder(folder, state_dir, f"{folder.name} of this run", with_reasons=False)
        progress.note(merged)
        same = [artifact.id for artifact in of_run if artifact.name == folder.name]
        if len(same) == 1 and _is_done(merged):  # of two with one name, nobody knows which was downloaded
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


def _take_legs(github: GitHub, state_dir: Path, legs: Iterable[Found], progress: _Progress) -> None:
    """Take every leg that is not in the state yet, oldest first; one that cannot be had is named and left for later."""
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
        merged = merged_folder(folder, state_dir, each.title, with_reasons=False)
        progress.note(merged)
        shutil.rmtree(folder)
        if _is_done(merged):
            progress.collected.add(each.artifact.id)


def _is_done(merged: MergedFolder) -> bool:
    """True if trying again would take no more: a leg's reasons are never taken."""
    return all(item.kind == JUSTIFICATION for item in merged.refused)


def _take_reasons(github: GitHub, state_dir: Path, scratch: Path, branch: str, progress: _Progress) -> None:
    """Take the justifications that the gate left since; one that cannot be had is named and left for later."""
    offered = reasons_of(github, branch, progress.collected)
    progress.lines += offered.remarks
    progress.collected |= offered.of_measurements
    for found in offered.found:
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


def _write_collected(state_dir: Path, progress: _Progress) -> None:
    size = _size(state_dir)
    said_of_it = {"trials": size.trials, "nights": size.nights}
    write_json(state_dir / COLLECTED, {"artifacts": sorted(progress.collected)[-_COLLECTED_COUNT_MAX:], **said_of_it})


def _read_collected(folder: Path) -> set[int]:
    """The artifacts that a state was made from; none if it does not say. What is taken twice is taken once."""
    listed = _collected_file(folder).get("artifacts")
    return {each for each in listed if isinstance(each, int)} if isinstance(listed, list) else set()


def _collected_file(folder: Path) -> dict[str, Any]:
    try:
        return json_object(read_bounded(folder / COLLECTED, _COLLECTED_BYTES_MAX), COLLECTED)
    except StoreError:
        return {}


def _stated_size(folder: Path) -> _Size:
    """How much a state says that it held when it was written; nothing if it does not say."""
    raw = _collected_file(folder)
    trials, nights = (raw.get(key) for key in ("trials", "nights"))
    return _Size(trials if isinstance(trials, int) else 0, nights if isinstance(nights, int) else 0)


def _size(folder: Path) -> _Size:
    return _Size(len(list_trials(folder / TRIALS)), sum(1 for _ in (folder / NIGHTS).glob("*/[!.]*.json")))
