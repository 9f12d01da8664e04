"""`redline github decide`: does this event ask for the gate, and may whoever caused it?

It runs on GitHub's own machine, from the default branch, with the few rights that answering takes; it never checks out
what a pull request brings. Everything that it decides is said in the job's summary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.request import Answer
from flows.service.answering import (
    answer_to,
    nothing_page,
    react_to,
    retargeted_page,
    status_words,
    unprepared_page,
    usage_words,
    waiting_page,
)
from flows.service.delivery import notice, quietly
from flows.service.desk import CHECK_NAME, NOTHING, Decision, Desk, workspace_of_content, write_decision
from flows.service.gate_legs import Prepared, prepare
from flows.service.justify import accept, keep_earlier
from flows.service.leg_jobs import BASE_DIGITS
from flows.service.legs import write_matrix
from flows.service.standing import Kind, Standing, standing_of
from flows.service.telling import in_words, told
from flows.service.triggers import Ruling, asks, fits, may_start
from flows.workspace import Workspace
from redline import markdown
from redline.errors import ExitCode, GitHubError
from redline.github.checks import find_check
from redline.github.client import github_of
from redline.github.commands import (
    AcceptCommand,
    Command,
    RunCommand,
    StatusCommand,
    UnknownCommand,
    read_command,
)
from redline.github.environment import Environment
from redline.github.events import (
    CommentEvent,
    DispatchEvent,
    Event,
    Ignored,
    PullEvent,
    RetargetEvent,
    read_event,
)
from redline.github.people import permission
from redline.github.pulls import Pull, merge_base, pull
from redline.github.waiting import Clock
from redline.model import GateSettings

HEADING = "What this event asks for"


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be said, what is to be run (None: nothing), and what failed."""

    lines: tuple[str, ...]
    prepared: Prepared | None = None
    number: int = 0
    failures: tuple[str, ...] = ()


def decide(environment: Environment, output: Path, *, clock: Clock | None = None) -> Answer:
    """Outputs `run` and `legs`; pins, a justification and the decision itself lie below `output` afterwards.

    Exit code 0 whatever is decided. Raises UsageError for a payload that is none, ContentError for a wrong service.toml
    and GitHubError where GitHub does not say what is needed: then nothing is run.
    """
    workspace = workspace_of_content()
    settings = workspace.service()
    event = read_event(environment)
    command = read_command(event.body, _scenarios(workspace)) if isinstance(event, CommentEvent) else None
    idle = _idle(event, command, settings.gate)
    if idle:
        decided = Decided((idle,))
    else:
        with github_of(environment, clock=clock) as github:
            desk = Desk(environment, github, workspace, settings)
            decided = _decided(desk, event, command, output)
    prepared = decided.prepared
    rows = prepared.rows if prepared else ()
    decision = NOTHING
    if prepared and rows:
        runners = tuple(str(row["runner"]) for row in rows)
        decision = Decision(1, decided.number, prepared.commits.head_sha, prepared.commits.base_sha, runners)
    write_decision(output, decision)
    write_matrix(environment, rows)
    code = ExitCode.INFRASTRUCTURE if decided.failures else ExitCode.NO_WORSE
    return told(environment, HEADING, [*decided.lines, *decided.failures], code)


def _scenarios(workspace: Workspace) -> frozenset[str]:
    return frozenset(path.stem for path in (workspace.root / "scenarios").glob("*.toml"))


def _idle(event: Event, command: Command | None, gate: GateSettings) -> str:
    """Why this event asks for nothing, from its payload alone: most do, and cost no request. Empty if it may ask."""
    match event:
        case Ignored(why):
            return why
        case CommentEvent():
            return "" if command else "the comment is no command"
        case PullEvent():
            ruled = asks(event, gate)
            return ruled.why if ruled.ruling is Ruling.NOTHING else ""
        case RetargetEvent():
            return ""
        case DispatchEvent():
            own = event.ref == f"refs/heads/{event.default_branch}"
            return "" if own else "it was started from another branch than the default one, whose rules do not hold"


def _decided(desk: Desk, event: Event, command: Command | None, output: Path) -> Decided:
    match event:
        case PullEvent():
            return _on_pull(desk, event, output)
        case RetargetEvent():
            return _on_retarget(desk, event)
        case CommentEvent() if command:
            return _on_command(desk, event, command, output)
        case DispatchEvent():
            return _on_dispatch(desk, event, output)
        case _:
            return Decided(("nothing is asked for",))


def _on_pull(desk: Desk, event: PullEvent, output: Path) -> Decided:
    held = permission(desk.github, event.sender)
    found = pull(desk.github, event.number)
    ruled = may_start(event, found, held, desk.settings.gate)
    line = f"pull request {event.number}, {event.action} by {markdown.code(event.sender)}: {ruled.why}"
    match ruled.ruling:
        case Ruling.NOTHING:
            return Decided((line,))
        case Ruling.WAIT:
            page = waiting_page(ruled.why, desk.settings.gate, found.head_sha)
            return Decided((line, notice(desk, found.head_sha, page, only_if_silent=True)))
        case Ruling.START:
            return _started(desk, found, output, (line,))


def _on_retarget(desk: Desk, event: RetargetEvent) -> Decided:
    """What stands at the commit is about another base: it is no pass of this one, whoever changed it."""
    line = f"pull request {event.number}, whose base was changed by {markdown.code(event.sender)}"
    found = pull(desk.github, event.number)
    stands = standing_of(find_check(desk.github, found.head_sha, CHECK_NAME))
    if found.state != "open" or stands is None or stands.number != event.number:
        return Decided((f"{line}: nothing that was said of it stands at its newest commit",))
    try:
        base_sha = merge_base(desk.github, found.base_sha, found.head_sha)
    except GitHubError:
        base_sha = ""  # then only a newer run takes this page's place
    new = _standing(desk, found.number, base_sha, Kind.RESET)
    if stands.run_id > new.run_id and stands.same_question(new):
        return Decided((f"{line}: it was answered anew since",))
    page = retargeted_page(found.base_ref, found.head_sha)
    return Decided((line, notice(desk, found.head_sha, page, new)))


def _standing(desk: Desk, number: int, base_sha: str, kind: Kind) -> Standing:
    """`base_sha`: 40 hex digits, or empty if nobody knows."""
    environment = desk.environment
    return Standing(max(environment.run_id, 1), environment.run_attempt, number, base_sha[:BASE_DIGITS], kind)


def _on_dispatch(desk: Desk, event: DispatchEvent, output: Path) -> Decided:
    line = f"pull request {event.number}, started by hand by {markdown.code(event.sender)}"
    held = permission(desk.github, event.sender)
    if not held.includes(desk.settings.gate.permission):
        return Decided((f"{line}, who has less than {desk.settings.gate.permission} permission",))
    found = pull(desk.github, event.number)
    ruled = fits(event.commit, found)
    if ruled.ruling is not Ruling.START:
        return Decided((f"{line}: {ruled.why}",))
    return _started(desk, found, output, (line,))


def _on_command(desk: Desk, event: CommentEvent, command: Command, output: Path) -> Decided:
    """Who may not is told nothing: an answer to every stranger would let them make us write as often as they like."""
    line = f"pull request {event.number}, a command of {markdown.code(event.author)}"
    if isinstance(command, AcceptCommand):
        keep_earlier(desk, event, output)
    held = permission(desk.github, event.author)
    if not held.includes(desk.settings.gate.permission):
        failed = react_to(desk, event, "confused")
        return Decided((f"{line}, who has less than {desk.settings.gate.permission} permission", *failed))
    found = pull(desk.github, event.number)
    match command:
        case UnknownCommand():
            return _answered(desk, event, usage_words(command), line, "confused")
        case StatusCommand():
            return _answered(desk, event, status_words(desk, found), line, "eyes")
        case AcceptCommand(reason):
            if found.state != "open":
                return _answered(desk, event, "The pull request is closed.", line, "confused")
            done = accept(desk, event, found, reason, output)
            if done.refusal:
                return _answered(desk, event, f"Nothing was accepted: {done.refusal}.", line, "confused")
            return Decided((line, *done.lines, *react_to(desk, event, "+1")), failures=done.failures)
        case RunCommand(scenarios, commit):
            ruled = fits(commit, found)
            if ruled.ruling is not Ruling.START:
                return _answered(desk, event, f"Nothing was started: {ruled.why}.", line, "confused")
            return _started(desk, found, output, (line,), scenarios=scenarios, event=event)


def _answered(desk: Desk, event: CommentEvent, words: str, line: str, reaction: str) -> Decided:
    """Answer somebody allowed: once per command, also if this job is run again."""
    address = answer_to(desk, event, words)
    return Decided((line, f"answered: {markdown.code(address)}", *react_to(desk, event, reaction)))


def _started(
    desk: Desk,
    found: Pull,
    output: Path,
    lines: tuple[str, ...],
    *,
    scenarios: tuple[str, ...] = (),
    event: CommentEvent | None = None,
) -> Decided:
    """What runs; if nothing can, or need not, the commit's check run says so, and a command is answered.

    A choice of scenarios never changes the check run that may be required.
    """
    try:
        prepared = prepare(desk.github, desk.workspace, found, output, scenarios)
    except GitHubError as error:
        # Somebody allowed is waiting for an answer; this one is a courtesy, the failed job is what counts.
        page = unprepared_page([in_words(error)])
        if not scenarios:
            quietly(lambda: notice(desk, found.head_sha, page, only_if_silent=True), "the notice")
        raise
    if not prepared.rows:
        page = unprepared_page(prepared.broken) if prepared.broken else nothing_page(prepared.left_out)
        said = (*lines, *prepared.broken, *prepared.left_out)
        if not scenarios:
            new = _standing(desk, found.number, prepared.commits.base_sha, Kind.NOTICE)
            said = (*said, notice(desk, found.head_sha, page, new))
        if event is None:
            return Decided(said)
        title = "Nothing was started for these scenarios" if scenarios else page.title
        answered = _answered(desk, event, f"{title}.\n\n{page.summary}", "nothing was started", "confused")
        return Decided((*said, *answered.lines))
    rows = (f"{markdown.code(row['runner'])}: {markdown.code(row['select'])}" for row in prepared.rows)
    commits = (
        f"merge base {markdown.code(prepared.commits.base_sha)}",
        f"newest commit {markdown.code(prepared.commits.head_sha)}",
    )
    reaction = react_to(desk, event, "rocket") if event else ()
    return Decided((*lines, *commits, *rows, *prepared.left_out, *reaction), prepared, found.number)
