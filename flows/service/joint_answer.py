"""`redline github answer`: the answer of every runner class to one question, on one page of the job's summary.

What a leg handed in is the word of a machine that ran the build; the classes that must have answered are reviewed
content. One that did not answer, or answered something else, is an error in the answer, never left out.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flows.merge import read_leg, said
from flows.report_file import REPORT_BYTES_MAX, SUFFIX, read_report
from flows.request import Answer
from flows.service.desk import LEG_ARTIFACT
from flows.service.leg_jobs import LIMITS
from flows.service.telling import log_line
from flows.session import EXIT_CODES
from flows.workspace import Workspace, content_root
from redline.errors import RedlineError, StoreError, UsageError
from redline.github.artifacts import Artifact, artifacts_of, fetch
from redline.github.client import GitHub, github_of
from redline.github.environment import Environment, write_outputs, write_summary
from redline.model import LegRecord
from redline.store.merge import REPORTS
from redline.store.untrusted_file import names_in, read_bounded
from reports.data import Leg, PublishedAnswer, ReportData, ReportKind
from reports.pages import joint, summary_page

KIND = ReportKind.SIGNOFF
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
PROBLEM_CHARS_MAX = 300
_NOTHING = "its job handed nothing in: it did not run, or died before it could pack what it had measured"


def answer(environment: Environment) -> Answer:
    """The joint answer of the legs of this run, a sign-off; its exit code is that of the worst.

    Outputs `verdict` and `exit-code`. Raises UsageError if `service.toml` has no leg for a sign-off, GitHubError if the
    list of what the legs handed in cannot be had.
    """
    root = content_root()
    expected = sorted(leg.runner for leg in Workspace(root, root).service().legs if leg.signoff)
    if not expected:
        raise UsageError(
            "nothing has to be signed off",
            expected="a leg of service.toml with `signoff`",
            found="none",
            next_step="add it: docs/github.md says what it holds",
        )
    with github_of(environment) as github, tempfile.TemporaryDirectory() as scratch:
        offered = artifacts_of(github, environment.run_id)
        legs = tuple(_leg(github, offered, runner, Path(scratch), environment) for runner in expected)
    published = PublishedAnswer(
        kind=KIND,
        legs=legs,
        url=environment.run_url,
        artifacts_url=f"{environment.run_url}#artifacts" if environment.run_url else "",
    )
    finding, reason = joint(published)
    exit_code = EXIT_CODES[finding]
    write_summary(environment, summary_page(published))
    write_outputs(environment, {"verdict": finding.value, "exit-code": str(int(exit_code))})
    lines = [f"{finding.value}: {reason}"]
    lines += [f"{leg.runner_class}: {leg.report.verdict.finding.value if leg.report else leg.problem}" for leg in legs]
    return Answer(tuple(log_line(line) for line in lines), exit_code)


def _leg(github: GitHub, offered: Sequence[Artifact], runner: str, scratch: Path, environment: Environment) -> Leg:
    """One runner class of the answer, whatever it handed in."""
    url = environment.run_url
    own = [each for each in offered if each.name == f"{LEG_ARTIFACT}{runner}" and not each.expired]
    if not own:
        return Leg(runner, None, _NOTHING, url)
    if len(own) > 1:
        return Leg(runner, None, "it handed in two results under one name; neither of them was used", url)
    try:
        fetch(github, own[0], scratch / runner, limits=LIMITS)
        record = read_leg(scratch / runner)
        _require_asked_for(record, runner, environment)
        report = None if record.problem else _report(scratch / runner, record)
    except (RedlineError, OSError) as error:
        problem = error.problem if isinstance(error, RedlineError) else str(error)
        return Leg(runner, None, said(f"what it handed in cannot be used: {problem}")[:PROBLEM_CHARS_MAX], url)
    if report is None:
        return Leg(runner, None, said(f"it made no report; it says: {record.problem}")[:PROBLEM_CHARS_MAX], url)
    return Leg(runner, report, url=url)


def _require_asked_for(record: LegRecord, runner: str, environment: Environment) -> None:
    found = (record.kind, record.runner_class, record.repository)
    expected = (KIND.value, runner, environment.repository)
    if found != expected:
        raise StoreError("it is of something else", expected=ascii(expected), found=ascii(found))


def _report(folder: Path, record: LegRecord) -> ReportData:
    """The report that a leg names. Raises StoreError if there is none, or if it is of something else."""
    if _RUN_ID.fullmatch(record.run_id) is None:
        raise StoreError("the name of its run is none", expected=_RUN_ID.pattern, found=ascii(record.run_id))
    names_in(folder / REPORTS)  # refuses a link to elsewhere
    path = folder / REPORTS / f"{record.run_id}{SUFFIX}"
    read_bounded(path, REPORT_BYTES_MAX)
    report = read_report(path)
    if (report.kind, report.runner_class, report.run_id) != (KIND, record.runner_class, record.run_id):
        raise StoreError(
            "it is of another run, kind or runner class",
            expected=f"{KIND.value} {record.run_id} on {record.runner_class}",
            found=ascii(f"{report.kind} {report.run_id} on {report.runner_class}"),
        )
    return report
