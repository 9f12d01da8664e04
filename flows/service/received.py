"""What a leg handed in, taken for what it is: the word of a machine that ran a stranger's program.

Everything is read within bounds, must be a plain file, and must say what GitHub already told us: the same pull
request, runner class and commit. What does not becomes a leg with a problem, said in our words.
"""

from __future__ import annotations

import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from flows.report_file import SUFFIX, read_report
from flows.service.leg_jobs import LegJob
from redline import markdown
from redline.content import convert
from redline.errors import ContentError, StoreError
from redline.model import LegRecord, LegSettings
from reports.data import Leg, ReportData, ReportKind

LEG_FILE = "leg.json"
LEG_BYTES_MAX = 100_000
PROBLEM_CHARS_MAX = 300
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Asked:
    """GitHub's word, which a leg must agree with. `base`: the merge base's first digits. `head_sha`: 40 digits."""

    repository: str
    number: int
    base: str
    head_sha: str


class _RefusedError(Exception):
    """Why a leg's word is not taken: our words, with nothing of its own in them."""


def received(folder: Path, job: LegJob, settings: LegSettings, asked: Asked) -> Leg:
    """What this folder says of this leg; never raises for what the folder holds."""
    try:
        record = _record(folder)
        _require_same(record, job, asked)
        if record.problem:
            said = markdown.one_line(record.problem, PROBLEM_CHARS_MAX)
            return dead(job, f"it made no report; it says: {said}")
        report = _report(folder, record)
        _require_builds(report, record, settings)
    except _RefusedError as error:
        return dead(job, str(error))
    return Leg(job.runner, report, url=job.url)


def dead(job: LegJob, problem: str) -> Leg:
    """A leg without a report."""
    return Leg(job.runner, None, problem, job.url)


def _record(folder: Path) -> LegRecord:
    path = _plain_file(folder, LEG_FILE, LEG_BYTES_MAX)
    try:
        raw = json.loads(path.read_bytes())
        if isinstance(raw, dict):
            return convert(raw, LegRecord, LEG_FILE)
    except (OSError, ValueError, RecursionError, ContentError) as error:
        raise _RefusedError(f"its {LEG_FILE} is not what Redline of this version writes") from error
    raise _RefusedError(f"its {LEG_FILE} is not what Redline of this version writes")


def _require_same(record: LegRecord, job: LegJob, asked: Asked) -> None:
    if record.runner_class != job.runner:
        raise _RefusedError("it says that it is another runner class; nothing of it was used")
    if record.kind != ReportKind.GATE:
        raise _RefusedError("it says that it is no gate; nothing of it was used")
    if (record.repository, record.number) != (asked.repository, asked.number):
        raise _RefusedError("it says that it is of another pull request; nothing of it was used")
    if not record.head_sha or not record.base_sha:
        raise _RefusedError("it does not say which commits it compared; nothing of it was used")
    if record.head_sha != asked.head_sha:
        raise _RefusedError("it says that it measured another commit than was asked for; nothing of it was used")
    if not record.base_sha.startswith(asked.base):
        raise _RefusedError("it says that it measured against another merge base; nothing of it was used")


def _report(folder: Path, record: LegRecord) -> ReportData:
    if not _RUN_ID.fullmatch(record.run_id):
        raise _RefusedError("the name of its run is none; nothing of it was used")
    name = f"reports/{record.run_id}{SUFFIX}"
    path = _plain_file(folder, name, None)
    try:
        report = read_report(path)
    except (StoreError, RecursionError, MemoryError) as error:
        raise _RefusedError("its report is not what Redline of this version writes, or is too large") from error
    if (report.kind, report.runner_class, report.run_id) != (ReportKind.GATE, record.runner_class, record.run_id):
        raise _RefusedError("its report is of another run, kind or runner class; nothing of it was used")
    return report


def _require_builds(report: ReportData, record: LegRecord, settings: LegSettings) -> None:
    """Where builds are named by commit and the pins know theirs, they must be the two that were asked for."""
    if "{sha}" not in settings.gate:
        return
    for side, sha in ((report.baseline, record.base_sha), (report.candidate, record.head_sha)):
        if side is not None and side.pin.commit and side.pin.commit != sha:
            raise _RefusedError("its report is of builds of other commits; nothing of it was used")


def _plain_file(folder: Path, name: str, bytes_max: int | None) -> Path:
    """The path of a plain file below `folder`, no part of which is a link. Raises _RefusedError."""
    path = folder
    mode = 0
    size = 0
    for part in name.split("/"):
        path /= part
        try:
            found = path.lstat()
        except OSError as error:
            raise _RefusedError(f"it handed in no {_called(name)}") from error
        mode, size = found.st_mode, found.st_size
        if stat.S_ISLNK(mode):
            raise _RefusedError("what it handed in holds links; nothing of it was used")
    if not stat.S_ISREG(mode) or (bytes_max is not None and size > bytes_max):
        raise _RefusedError(f"its {_called(name)} is no plain file of a sensible size; nothing of it was used")
    return path


def _called(name: str) -> str:
    return LEG_FILE if name == LEG_FILE else "report"
