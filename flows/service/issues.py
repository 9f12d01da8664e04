"""`redline github issues`: one issue per cause, opened once, updated, closed when the cause is gone.

    cause stands, no issue           opened (an unsettled one from its second night on; at most 20 a night)
    cause stands, issue open         title and body brought up to date; one comment per night that added a symptom
    cause stands, closed by us       opened again, with a comment
    cause stands, closed by others   left closed; a new symptom is commented
    cause comes back after that      opened again, with a comment; of what is not planned only a comment
    cause gone, issue open           commented and closed; if somebody opened it again after us, left open

Each step asks first whether it is done, so that a run that failed half way is simply repeated. What is not ours (author
and marker) is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import date as calendar_date
from pathlib import Path

from checks.causes import causes_of, finished
from flows.request import Answer
from flows.service.issue_record import RECORD_CHARS_MAX, IssueRecord, Stage, record_in, told_id, told_ids
from flows.service.missing_issue import has_come
from flows.service.telling import in_words, told
from flows.workspace import Workspace, content_root
from redline.errors import ExitCode, GitHubError, StoreError, UsageError
from redline.github.client import GitHub, github_of
from redline.github.comments import comment_once, own_login, upsert_comment
from redline.github.environment import Environment
from redline.github.issues import (
    Issue,
    close_issue,
    closed_by,
    issues_of,
    marker_of,
    open_issue,
    reopen_issue,
    update_issue,
)
from redline.github.waiting import Clock
from redline.model import Cause, CauseKind, Night, ServiceSettings
from redline.store.nights import read_nights
from reports import issue as pages
from reports.markdown import Safe, text

NEW_ISSUES_MAX = 20
FAILURES_MAX = 3
"""So many causes may fail one after the other before the rest is left for the next run."""

_URGENCY = (CauseKind.BUILD, CauseKind.ANSWERS, CauseKind.ENVIRONMENT, CauseKind.MISSING, CauseKind.UNSETTLED)


@dataclass(slots=True)
class _Round:
    """One run: where it writes, for which night, and what it has done."""

    github: GitHub
    settings: ServiceSettings
    date: str
    url: str
    lines: list[str] = field(default_factory=list)
    opened: int = 0
    left: int = 0
    failures: int = 0


def sync(environment: Environment, state_dir: Path, date: str | None, *, clock: Clock | None = None) -> Answer:
    """Make the repository's issues say what the nights on record do until `date` (default: the last one on record).

    Nights later than `date` count too, until tomorrow (UTC): issues tell the present. An empty date is today, for a job
    whose plan died before it could say. The exit code is 5 if something could not be done.

    Raises:
        UsageError: no token, no such date, or service.toml is wrong (ContentError).
        GitHubError: our issues cannot be listed; nothing was changed.
    """
    today = datetime.fromtimestamp((clock or Clock()).epoch_s(), UTC).date()
    if date == "":
        date = today.isoformat()
    if date is not None:
        try:
            _require_day(date)
        except ValueError as error:
            raise UsageError(
                "this names no night", expected="--date YYYY-MM-DD", found=repr(date), next_step="correct --date"
            ) from error
    workspace = Workspace(content_root(), state_dir)
    settings = workspace.service()
    expected = [leg.runner for leg in settings.legs if leg.nightly]
    nights, problems = _nights(workspace.nights_dir, expected)
    tomorrow = (today + timedelta(days=1)).isoformat()
    days = (night.date for history in nights.values() for night in history)
    last = max((day for day in days if day <= tomorrow), default="")  # a wrong clock is no night
    until = max(date or "", last)
    if not until:
        return told(environment, "Issues", [*problems, "no night is on record: nothing to say"], _code(problems))
    causes = causes_of(nights, [name for name in expected if name in nights], until)
    with github_of(environment, clock=clock) as github:
        this = _Round(github, settings, until, environment.run_url)
        this.lines += problems
        _all(this, causes, {} if problems else nights)
    if this.left:
        this.lines.append(
            f"{this.left} more causes stand and have no issue: at most {NEW_ISSUES_MAX} are opened a night"
        )
    quiet = ["nothing to change"] if not this.lines else []
    return told(environment, f"Issues, night of {until}", [*this.lines, *quiet], _code(problems, this.failures))


def _code(problems: Sequence[str], failures: int = 0) -> ExitCode:
    return ExitCode.INFRASTRUCTURE if problems or failures else ExitCode.NO_WORSE


def _nights(directory: Path, expected: Sequence[str]) -> tuple[dict[str, tuple[Night, ...]], list[str]]:
    """(finished nights of every runner class, oldest first; what could not be read). One left out says nothing."""
    on_record = sorted(path.name for path in directory.glob("*") if path.is_dir())
    nights: dict[str, tuple[Night, ...]] = {}
    problems: list[str] = []
    for name in dict.fromkeys((*expected, *on_record)):
        try:
            nights[name] = finished(read_nights(directory, name))
            for night in nights[name]:
                _require_day(night.date)
        except StoreError as error:
            nights.pop(name, None)
            problems.append(f"{text(name)}: its nights cannot be read, so nothing is said of it: {in_words(error)}")
        except ValueError as error:
            nights.pop(name, None)
            problems.append(f"{text(name)}: a night has no date, so nothing is said of it: {text(str(error))}")
    return nights, problems


def _require_day(day: str) -> None:
    """Raise ValueError unless it is a day as YYYY-MM-DD: days are compared as text, and stand in markers."""
    if calendar_date.fromisoformat(day).isoformat() != day:
        raise ValueError(f"{day} is not YYYY-MM-DD")


def _all(this: _Round, causes: Sequence[Cause], nights: Mapping[str, Sequence[Night]]) -> None:
    """Bring every issue up to date; a cause that fails is named, and the others are done all the same.

    `nights`: the whole record, empty if not all of it could be read.
    """
    ours = {each.cause_id: each for each in reversed(issues_of(this.github, this.settings.issue_label))}
    this.opened = sum(_opened_on(each) == this.date for each in ours.values())
    in_row = 0
    for cause in sorted(causes, key=lambda each: _URGENCY.index(each.kind)):
        issue = ours.get(cause.cause_id)
        if issue is None and not cause.standing:
            continue
        try:
            _one(this, cause, issue)
            in_row = 0
        except (GitHubError, ValueError) as error:
            in_row += 1
            _failed(this, cause.title, error)
        if in_row == FAILURES_MAX:
            this.lines.append(f"{FAILURES_MAX} causes failed one after the other: run this again for the rest")
            return
    known = {cause.cause_id for cause in causes}
    orphans = [each for each in ours.values() if each.cause_id not in known and each.state == "open"]
    for issue in orphans:
        try:
            _orphan(this, issue, nights)
        except (GitHubError, ValueError) as error:
            _failed(this, issue.title, error)


def _opened_on(issue: Issue) -> str:
    record = record_in(issue.body)
    return record.opened if record is not None else ""


def _failed(this: _Round, title: str, error: GitHubError | ValueError) -> None:
    this.failures += 1
    why = in_words(error) if isinstance(error, GitHubError) else text(str(error))
    this.lines.append(f"not done for {text(title)}: {why}")


def _one(this: _Round, cause: Cause, issue: Issue | None) -> None:
    """What one cause asks for. `issue` is None only for one that stands."""
    if issue is None:
        if not _only_tonight(cause):
            _open(this, cause)
        return
    record = record_in(issue.body) or IssueRecord("", cause.kind.value, told_ids(cause))
    known = replace(record, told=record.told | told_ids(cause))
    if not cause.standing:
        _end(this, cause, issue, known)
    elif issue.state == "open":
        _tell(this, cause, issue, record)
        _update(this, cause, issue, replace(known, stage=Stage.OPEN))
    elif record.stage is Stage.CLOSED and issue.state_reason not in ("", "completed"):
        if not _only_tonight(cause):
            _come_back(this, cause, issue)
            _update(this, cause, issue, replace(known, stage=Stage.OPEN))
    elif record.stage is Stage.CLOSED or _closed_by_us(this, issue):
        if not _only_tonight(cause):
            _again(this, cause, issue, replace(known, stage=Stage.OPEN))
    elif known != record:
        _tell(this, cause, issue, record)
        _update(this, cause, issue, known)


def _only_tonight(cause: Cause) -> bool:
    """True for a suspicion that no second night has repeated: most of them are gone the next night."""
    return cause.kind is CauseKind.UNSETTLED and all(
        each.since == each.last for each in cause.symptoms if not each.ended
    )


def _closed_by_us(this: _Round, issue: Issue) -> bool:
    """True if we closed it, because its cause was gone; nobody else, and nobody said `not planned`."""
    if issue.state_reason not in ("", "completed"):
        return False
    return closed_by(this.github, issue.number).casefold() == own_login(this.github).casefold()


def _body(this: _Round, cause: Cause, record: IssueRecord) -> str:
    limit_chars = pages.BODY_CHARS_MAX - RECORD_CHARS_MAX
    page = pages.issue_page(
        cause,
        marker=marker_of(cause.cause_id),
        source=this.settings.source,
        url=this.url,
        limit_chars=limit_chars,
    )
    return f"{page}\n{record.line}\n"


def _open(this: _Round, cause: Cause) -> None:
    if this.opened >= NEW_ISSUES_MAX:
        this.left += 1
        return
    record = IssueRecord(this.date, cause.kind.value, told_ids(cause))
    title, body = pages.issue_title(cause), _body(this, cause, record)
    issue = open_issue(this.github, title=title, body=body, label=this.settings.issue_label)
    if record_in(issue.body) != record:
        this.lines.append(_line("left as it is, somebody took its label off:", issue, cause.title))
        return
    this.opened += 1
    this.lines.append(_line("opened", issue, cause.title))


def _update(this: _Round, cause: Cause, issue: Issue, record: IssueRecord) -> None:
    title, body = pages.issue_title(cause), _body(this, cause, record)
    update_issue(this.github, issue, title=title, body=body)
    changed = (issue.title, issue.body.replace("\r\n", "\n").strip()) != (title, body.strip())
    if changed:
        this.lines.append(_line("updated", issue, cause.title))


def _tell(this: _Round, cause: Cause, issue: Issue, record: IssueRecord) -> None:
    """One comment per night that added symptoms nobody was told of; the same night twice is the same comment."""
    new = [each for each in cause.symptoms if told_id(each) not in record.told]
    for night in sorted({each.since for each in new}):
        marker = f"<!-- redline:night:{cause.cause_id}:{night} -->"
        added = [each for each in cause.symptoms if each.since == night]
        upsert_comment(this.github, issue.number, marker, f"{marker}\n{pages.night_words(added, url=this.url)}")
        this.lines.append(_line(f"commented on the night of {night}:", issue, cause.title))


def _again(this: _Round, cause: Cause, issue: Issue, record: IssueRecord) -> None:
    """Say that it stands again, write so, then open it: an open issue never remembers that it was closed.

    Of a run that was cut short between the two, the next one finds an issue that we have closed, and opens it.
    """
    _come_back(this, cause, issue)
    _update(this, cause, issue, record)
    reopen_issue(this.github, issue.number)
    this.lines.append(_line("opened again", issue, cause.title))


def _come_back(this: _Round, cause: Cause, issue: Issue) -> None:
    """Comment that a cause that had ended stands again."""
    since = max(each.since for each in cause.symptoms if not each.ended)
    marker = f"<!-- redline:again:{cause.cause_id}:{since} -->"
    comment_once(this.github, issue.number, marker, f"{marker}\n{pages.again_words(cause, url=this.url)}")
    this.lines.append(_line("commented, it stands again:", issue, cause.title))


def _end(this: _Round, cause: Cause, issue: Issue, record: IssueRecord) -> None:
    """Comment and close, with a note before and after: only so is an issue that we left half closed told from others.

    One that somebody has opened again is left open, and one that somebody else has closed is left as it is.
    """
    title = pages.issue_title(cause)
    if issue.state == "open" and record.stage is not Stage.CLOSED:
        begun = _body(this, cause, replace(record, stage=Stage.CLOSING))
        update_issue(this.github, issue, title=title, body=begun)
        last = max(each.last for each in cause.symptoms)
        marker = f"<!-- redline:closed:{cause.cause_id}:{last} -->"
        close_issue(this.github, issue.number, f"{marker}\n{pages.closing_words(cause)}")
        issue = replace(issue, title=title, body=begun)
    elif issue.state == "open" or record.stage is Stage.CLOSED:
        return
    elif record.stage is not Stage.CLOSING:  # somebody else has closed it: note that it ended, to tell if it comes back
        update_issue(this.github, issue, title=title, body=_body(this, cause, replace(record, stage=Stage.CLOSED)))
        return
    update_issue(this.github, issue, title=title, body=_body(this, cause, replace(record, stage=Stage.CLOSED)))
    this.lines.append(_line("closed", issue, cause.title))


def _orphan(this: _Round, issue: Issue, nights: Mapping[str, Sequence[Night]]) -> None:
    """An open issue whose cause the record does not know: closed if it was missing and has come; else only named."""
    record = record_in(issue.body)
    if record is not None and record.stage is Stage.CLOSED:
        return
    if record is None or record.kind != CauseKind.MISSING.value or not has_come(issue.cause_id, record.opened, nights):
        this.lines.append(_line("left as it is, its cause is not on record:", issue, issue.title))
        return
    page = issue.body.replace("\r\n", "\n").rstrip().removesuffix(record.line).rstrip()
    for stage in (Stage.CLOSING, Stage.CLOSED):
        body = f"{page}\n\n{replace(record, stage=stage).line}\n"
        update_issue(this.github, issue, title=issue.title, body=body)
        issue = replace(issue, body=body)
        if stage is Stage.CLOSING:
            marker = f"<!-- redline:closed:{issue.cause_id}:came -->"
            close_issue(this.github, issue.number, f"{marker}\n{pages.missing_came_words()}")
    this.lines.append(_line("closed", issue, issue.title))


def _line(done: str, issue: Issue, title: str) -> Safe:
    return Safe(f"{done} [issue {issue.number}]({issue.url}): {text(title)}")
