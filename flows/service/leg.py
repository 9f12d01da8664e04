"""`redline github leg`: what a job measured, packed for the job that merges, and told to who reads the job's page.

The folder is a partial state directory and `leg.json`, which is written last: its presence says that the folder is
whole. A measurement that died is packed as far as it came: nothing that was measured is lost with it.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.merge import LEG_SCHEMA, check_report, said
from flows.report_file import SUFFIX, read_report
from flows.request import Answer
from flows.session import EXIT_CODES
from flows.workspace import content_root
from redline.content import read_json
from redline.errors import ContentError, ExitCode, StoreError, UsageError
from redline.github.environment import Environment, write_outputs, write_summary
from redline.model import Finding, LegRecord
from redline.store.json_file import write_json
from redline.store.justifications import list_justifications, read_justification
from redline.store.merge import JUSTIFICATIONS, LEG, REPORTS, take_run
from redline.store.refusals import read_refusal
from redline.store.taking import Fate, Item, take_justification
from redline.store.untrusted_file import read_bounded
from reports.data import Change, Leg, PublishedAnswer, ReportData, ReportKind
from reports.pages import step_annotations, summary_page

RUN_FILE_BYTES_MAX = 1_000
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class LegRequest:
    """What to pack: the run whose id stands in `run_file`, measured as `kind` on a runner of class `runner`.

    `number`, `head_sha`, `base_sha`: of the pull request; 0 and empty without one. `output`: a new folder.
    """

    kind: str
    runner: str
    run_file: Path
    output: Path
    number: int = 0
    head_sha: str = ""
    base_sha: str = ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What there is to say of a run: its id, empty if it never began, and its report or why there is none.

    `exit_code`: what the command ended with where it has no report.
    """

    run_id: str
    report: ReportData | None
    problem: str
    exit_code: ExitCode = ExitCode.INFRASTRUCTURE


def pack(environment: Environment, state_dir: Path, request: LegRequest) -> Answer:
    """Lines that say what was packed, and annotations; exit code 0 also for a run that died, which `leg.json` says.

    Raises UsageError if the folder is in use or the request contradicts itself, StoreError if the disk refuses.
    """
    _require_new(request.output)
    _require_class(request.runner)
    outcome = _outcome(state_dir, request)
    record = _record(environment, request, outcome)
    items = _copied(state_dir, request, outcome)
    write_json(request.output / LEG, asdict(record))
    answer = _answer(environment, record, outcome)
    write_summary(environment, summary_page(answer))
    write_outputs(environment, _outputs(request.output, outcome))
    return Answer((*_lines(record, items, request.output), *step_annotations(answer)), ExitCode.NO_WORSE)


def _require_new(output: Path) -> None:
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise UsageError(
            f"{output} is in use",
            expected="a folder that is not there yet, or is empty",
            found="something is there already",
            next_step="name a new folder: a leg holds one run and nothing of another",
        )


def _require_class(runner: str) -> None:
    """A word that is no runner class would be a leg of nobody. Content that cannot be read is for `measure` to say."""
    try:
        known = sorted(path.stem for path in (content_root() / "runners").glob("*.toml"))
    except UsageError:
        return
    if known and runner not in known:
        raise UsageError(
            f"there is no runner class {runner!r}",
            expected=f"one of {', '.join(known)}",
            found=repr(runner),
            next_step="name the class that was measured on: --runner CLASS",
        )


def _outcome(state_dir: Path, request: LegRequest) -> _Outcome:
    run_id, problem = _run_id(request.run_file)
    path = state_dir / REPORTS / f"{run_id}{SUFFIX}"
    if (not run_id or not path.exists()) and (refusal := read_refusal(request.run_file)) is not None:
        return _Outcome(run_id, None, said(str(refusal)), refusal.exit_code)
    if problem:
        return _Outcome("", None, problem)
    if not path.exists():
        return _Outcome(run_id, None, "it ended before it could report: the job's log says how far it came")
    try:
        report = read_report(path)
    except StoreError as error:
        return _Outcome(run_id, None, said(f"{error.problem}: {error.found}"))
    for name, expected, found in (
        ("run", run_id, report.run_id),
        ("kind", request.kind, report.kind.value),
        ("runner class", request.runner, report.runner_class),
    ):
        if expected != found:
            return _Outcome(run_id, None, said(f"its report is of another {name}: {found!r} instead of {expected!r}"))
    return _Outcome(run_id, report, "")


def _run_id(run_file: Path) -> tuple[str, str]:
    """(run id, "") or ("", why there is none). The build that was measured ran as the same user: it may have lied."""
    try:
        text = read_bounded(run_file, RUN_FILE_BYTES_MAX).decode().strip()
    except (StoreError, UnicodeDecodeError) as error:
        if not run_file.exists():
            return "", "nothing was started: see the job's log"
        return "", said(f"its run file cannot be read: {error}")
    if not text:
        return "", "nothing was started: see the job's log"
    if _RUN_ID.fullmatch(text) is None:
        return "", said(f"its run file holds no run id: {text[:60]!a}")
    return text, ""


def _record(environment: Environment, request: LegRequest, outcome: _Outcome) -> LegRecord:
    try:
        return LegRecord(
            schema=LEG_SCHEMA,
            kind=request.kind,
            runner_class=request.runner,
            run_id=outcome.run_id,
            problem=outcome.problem,
            repository=environment.repository,
            number=request.number,
            head_sha=request.head_sha,
            base_sha=request.base_sha,
            url=environment.run_url,
        )
    except ValueError as error:
        raise UsageError(
            "this leg cannot be described",
            expected="what `redline github decide` or `legs` put into the matrix",
            found=str(error),
            next_step="correct the step's arguments",
        ) from error


def _copied(state_dir: Path, request: LegRequest, outcome: _Outcome) -> tuple[Item, ...]:
    request.output.mkdir(parents=True, exist_ok=True)
    if not outcome.run_id:
        return ()
    items = take_run(state_dir, request.output, outcome.run_id, check_report)
    reasons = []
    for path in list_justifications(state_dir / JUSTIFICATIONS) if request.number else ():
        try:
            found = read_justification(path)
        except StoreError:
            continue  # of whatever pull request: `redline db` names it
        if (found.number, found.head_sha) == (request.number, request.head_sha):
            fate = take_justification(path, request.output / JUSTIFICATIONS)
            reasons.append(Item("justification", path.name, fate))
    return (*items, *reasons)


def _answer(environment: Environment, record: LegRecord, outcome: _Outcome) -> PublishedAnswer:
    change = Change(record.repository, record.number, record.head_sha, record.base_sha) if record.number else None
    return PublishedAnswer(
        kind=ReportKind(record.kind),
        legs=(Leg(record.runner_class, outcome.report, outcome.problem, record.url),),
        change=change,
        url=environment.run_url,
        artifacts_url=f"{environment.run_url}#artifacts" if environment.run_url else "",
    )


def _outputs(output: Path, outcome: _Outcome) -> dict[str, str]:
    """`report` and `json` are paths in the folder, empty where there is no such file."""
    page, as_json = (output / REPORTS / f"{outcome.run_id}{suffix}" for suffix in (".md", ".json"))
    finding = outcome.report.verdict.finding if outcome.report is not None else Finding.ERROR
    return {
        "verdict": finding.value,
        "exit-code": str(int(outcome.exit_code if outcome.report is None else _exit_code(as_json, finding))),
        "report": str(page) if page.is_file() else "",
        "json": str(as_json) if as_json.is_file() else "",
        "run-id": outcome.run_id,
    }


def _exit_code(as_json: Path, finding: Finding) -> ExitCode:
    """What the measuring command ended with; where it was killed before it said so, what its verdict stands for."""
    try:
        return ExitCode(int(read_json(as_json)["exit_code"]))
    except (ContentError, KeyError, TypeError, ValueError):
        return EXIT_CODES[finding]


def _lines(record: LegRecord, items: tuple[Item, ...], output: Path) -> tuple[str, ...]:
    counted = sum(item.kind == "trial" and item.fate is not Fate.REFUSED for item in items)
    lines = [f"packed {counted} trial{'s' * (counted != 1)} of run {record.run_id or '(never started)'} in {output}"]
    lines += [f"it has no report: {said(record.problem)}"] if record.problem else []
    refused = (item for item in items if item.fate is Fate.REFUSED)
    return (*lines, *(f"left out: {item.kind} {said(item.name)}: {said(item.problem)}" for item in refused))
