"""`redline merge`: other runners' results into this state directory, each once, and into the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.night_series import SETTLED_SUFFIX, measured_again
from flows.report_file import SUFFIX, read_report
from flows.request import Answer
from flows.workspace import Workspace, content_root
from redline import content
from redline.errors import ContentError, ExitCode, StoreError, UsageError
from redline.markdown import one_line
from redline.model import LegRecord
from redline.store.adopting import adopt_trials
from redline.store.database import ingest
from redline.store.merge import JUSTIFICATIONS, LEG, NIGHTS, NOT_MERGED, REPORTS, TRIALS, merge_folder, merge_lock
from redline.store.nights import read_nights
from redline.store.taking import Fate, Item, json_object, refused
from redline.store.untrusted_file import names_in, read_bounded

LEG_BYTES_MAX = 1_000_000
LEG_SCHEMA = 1
REFUSED_SHOWN_MAX = 20
STATE_NAMES = frozenset({TRIALS, NIGHTS, REPORTS, JUSTIFICATIONS, LEG})
"""What a leg's folder or a state directory has at least one of."""
_FATES = (
    (Fate.TAKEN, "took {}"),
    (Fate.THERE, "{} there already"),
    (Fate.LEFT, "left {} for other runner classes"),
    (Fate.REFUSED, "refused {}"),
)
_NO_LEG = f"no {LEG}: another state directory, or a leg that was cut short"


@dataclass(frozen=True, slots=True)
class MergedFolder:
    """What became of one folder. `title`: what it is; `remarks`: what its reader should know of it."""

    title: str
    remarks: tuple[str, ...]
    items: tuple[Item, ...]

    @property
    def refused(self) -> tuple[Item, ...]:
        """What was not taken."""
        return tuple(item for item in self.items if item.fate is Fate.REFUSED)


def merge(state_dir: Path, folders: tuple[Path, ...], runner_class: str = "") -> Answer:
    """What was taken, what was there already, what was refused and why; exit code 5 if anything was.

    `runner_class`: only its trials and nights, and the reasons, if one is named.

    Raises UsageError before anything is taken if a folder is not there, is none of a state, or is the state directory
    itself, or for a runner class that there is none of; StoreBusyError if another merge does not end in time.
    """
    if runner_class:
        Workspace(content_root(), state_dir).runner_class(runner_class)
    for folder in folders:
        _require_other(folder, state_dir)
    with merge_lock(state_dir):
        merged = [merged_folder(folder, state_dir, runner_class=runner_class) for folder in folders]
        database_lines, ingested = ingest_all(Workspace(content_root(), state_dir))
    lines = [line for each in merged for line in lines_of(each)]
    whole = ingested and not any(each.refused for each in merged)
    return Answer((*lines, *database_lines), ExitCode.NO_WORSE if whole else ExitCode.INFRASTRUCTURE)


def merged_folder(
    folder: Path,
    state_dir: Path,
    title: str = "",
    *,
    with_reasons: bool = True,
    own: bool = False,
    runner_class: str = "",
) -> MergedFolder:
    """Take a leg's folder or another state directory, as far as it goes. Call it with `merge_lock` held.

    `with_reasons`: False for a leg that nobody has looked at: its justifications, and levels that it accepts, are
    refused by name. `own`: nobody else can have written it, so its trials are not tried out anew.
    `runner_class`: as for `merge`.
    """
    title = title or folder.name
    record: LegRecord | None = None
    found: list[Item] = []
    remarks: list[str] = []
    try:
        if LEG in names_in(folder):
            record = read_leg(folder)
        else:
            remarks.append(_NO_LEG)
    except OtherVersionError as error:
        return MergedFolder(title, (), (refused("leg", LEG, error),))
    except (StoreError, ContentError) as error:
        found.append(Item("leg", LEG, Fate.REFUSED, f"{error.problem}: {error.found}"))
    if record is not None:
        title = f"{title} ({record.kind}, {record.runner_class}, run {record.run_id or 'never started'})"
        remarks += [f"it has no report: {record.problem}"] if record.problem else []
    try:
        found += adopt_trials(folder, state_dir) if own else ()
        found += merge_folder(folder, state_dir, check_report, with_reasons=with_reasons, runner_class=runner_class)
    except StoreError as error:
        found.append(refused("folder", folder.name, error))
    return MergedFolder(title, (*remarks, *_measured_again(state_dir / NIGHTS, found)), tuple(found))


def _measured_again(nights_dir: Path, items: Sequence[Item]) -> tuple[str, ...]:
    """Words on nights just taken whose date has a finished one already: they are kept, and nothing counts them."""
    taken = [Path(item.name) for item in items if item.kind == "night" and item.fate is Fate.TAKEN]
    new = {path.stem for path in taken}
    remarks = []
    for runner_class in sorted({path.parent.name for path in taken}):
        try:
            again = measured_again(read_nights(nights_dir, runner_class))
        except StoreError:
            continue  # a damaged night: whoever reads the record names it
        remarks += [
            f"the night of {night.date} of {runner_class} was measured again by {night.run_id}: the first one counts"
            for night in again
            if night.run_id in new or night.run_id + SETTLED_SUFFIX in new
        ]
    return tuple(remarks)


class OtherVersionError(StoreError):
    """A leg was packed by another version of Redline: nothing of it is taken, it stays where it lies."""


def read_leg(folder: Path) -> LegRecord:
    """What a leg says of itself. Raises OtherVersionError, StoreError or ContentError; nobody vouches for it."""
    raw = json_object(read_bounded(folder / LEG, LEG_BYTES_MAX), LEG)
    if raw.get("schema") != LEG_SCHEMA:
        raise OtherVersionError(
            "it was packed by another version of Redline",
            expected=f"schema {LEG_SCHEMA}",
            found=f"schema {raw.get('schema')!r}",
            next_step="merge it with the version that packed it; it was not touched",
        )
    return content.convert(raw, LegRecord, LEG)


def check_report(path: Path, name: str) -> None:
    """Refuse a report's data that cannot be rendered, or is of another run. Raises StoreError."""
    if not name.endswith(SUFFIX):
        return
    data = read_report(path)
    if data.run_id != name.removesuffix(SUFFIX):
        raise StoreError("it is of another run", expected=name.removesuffix(SUFFIX), found=ascii(data.run_id))


def lines_of(merged: MergedFolder) -> tuple[str, ...]:
    """What became of a folder, for people: one line, and one more for each thing that was refused."""
    lines = [f"merged {said(merged.title)}: {_counted(merged.items)}"]
    lines += [f"  {said(remark)}" for remark in merged.remarks]
    shown = merged.refused[:REFUSED_SHOWN_MAX]
    lines += [f"  refused: {item.kind} {said(item.name)}: {said(item.problem)}" for item in shown]
    if len(merged.refused) > len(shown):
        lines.append(f"  refused: {len(merged.refused) - len(shown)} more")
    return tuple(lines)


def said(text: str) -> str:
    """A stranger's text as a part of one line that no runner takes for a command of a workflow.

    It must not be the line's beginning. Source: GitHub's runner obeys lines that begin with `::`, and `##[` anywhere.
    """
    return one_line(text).replace("##[", "# #[")


def _counted(items: Sequence[Item]) -> str:
    """`took 4 trials and 1 night; 2 trials were there already`."""
    words = []
    for fate, pattern in _FATES:
        counts = Counter(item.kind for item in items if item.fate is fate)
        parts = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items()]
        words += [pattern.format(", ".join(parts))] if parts else []
    return "; ".join(words) or "nothing in it"


def ingest_all(workspace: Workspace) -> tuple[tuple[str, ...], bool]:
    """Bring the database up to date with everything that is kept; (lines, True if all of it went in)."""
    try:
        workspace.trials_dir.mkdir(parents=True, exist_ok=True)
        report = ingest(workspace.trials_dir, workspace.database_path, justifications_dir=workspace.justifications_dir)
    except (StoreError, UsageError, OSError) as error:
        return (f"the files are kept, but {said(str(error))}",), False
    total = f"{report.added + report.skipped} trials"
    lines = [f"the database holds {total}, {report.added} of them new"]
    lines += [f"  damaged, left out: {said(each.path.name)}: {said(each.problem)}" for each in report.damaged]
    return tuple(lines), not report.damaged


def _require_other(folder: Path, state_dir: Path) -> None:
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder",
            expected="a leg's folder, or another state directory",
            found="a file" if folder.exists() else "nothing",
            next_step="name the folder that `redline github leg --output` wrote, or a state directory",
        )
    if folder.resolve() == state_dir.resolve():
        raise UsageError(
            f"{folder} is the state directory itself",
            expected="another one",
            found=str(folder),
            next_step="name what to merge into with --state-dir",
        )
    names = set(names_in(folder))
    if names and not names & (STATE_NAMES | NOT_MERGED):
        raise UsageError(
            f"{folder} is no state directory",
            expected=f"at least one of {', '.join(sorted(STATE_NAMES))}",
            found=", ".join(sorted(ascii(name)[1:-1] for name in names)[:5]),
            next_step="name the folder that `redline github leg --output` wrote, or a state directory",
        )
