"""What the gate says without having measured: replies to commands, and check runs for commits that nothing was run for.

Replies go only to people who may start the gate; what they quote of anybody is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.service.delivery import quietly
from flows.service.desk import CHECK_NAME, Desk
from flows.service.standing import standing_of
from redline import markdown
from redline.github.artifacts import runs_of
from redline.github.checks import find_check
from redline.github.commands import FORMS, UnknownCommand
from redline.github.comments import comment_once, react
from redline.github.events import CommentEvent, title_number
from redline.github.pulls import Pull
from redline.model import CheckPage, Conclusion, GateSettings, Trigger

GATE_WORKFLOW = "gate.yml"
RECENT_RUNS = 50


def answer_to(desk: Desk, event: CommentEvent, words: str) -> str:
    """The address of the one reply to a command. Raises GitHubError."""
    marker = f"<!-- redline:reply:{event.comment_id} -->"
    return comment_once(desk.github, event.number, marker, f"{marker}\n{words}\n")


def react_to(desk: Desk, event: CommentEvent, reaction: str) -> tuple[str, ...]:
    """React to a command, a courtesy that may fail: lines that say so, or none."""
    failed = quietly(lambda: react(desk.github, event.comment_id, reaction), "the reaction")
    return (failed,) if failed else ()


def usage_words(command: UnknownCommand) -> str:
    """Why it is no command, and the three that there are."""
    found = f": {markdown.code(command.found)}" if command.found else ""
    return "\n".join(
        (f"Nothing was done: {command.problem}{found}. The commands are", "", *(f"- `{form}`" for form in FORMS))
    )


def status_words(desk: Desk, pull: Pull) -> str:
    """What is known of the newest commit, and what is being measured. Raises GitHubError."""
    commit = markdown.code(pull.head_sha[:12])
    check = find_check(desk.github, pull.head_sha, CHECK_NAME)
    standing = standing_of(check)
    if check is None:
        lines = [f"Nothing is known of the newest commit, {commit}."]
    else:
        lines = [f"The newest commit, {commit}: {markdown.text(check.title)} ({markdown.text(check.conclusion)})."]
    if standing and standing.measured:
        lines.append(f"It was measured in {_run_address(desk, standing.run_id)}.")
    recent = runs_of(desk.github, GATE_WORKFLOW, count_max=RECENT_RUNS)
    lines += [
        f"In progress: {_run_address(desk, run.id)}."
        for run in recent
        if title_number(run.display_title) == pull.number and not run.conclusion and run.id != desk.environment.run_id
    ]
    return "\n".join(lines)


def _run_address(desk: Desk, run_id: int) -> str:
    return f"{desk.environment.server_url}/{desk.environment.repository}/actions/runs/{run_id}"


def waiting_page(why: str, gate: GateSettings, head_sha: str) -> CheckPage:
    """Nothing runs until somebody who may asks for it. `head_sha`: the commit that the check run belongs to."""
    label = "" if gate.trigger is Trigger.COMMAND else f"put the label {markdown.code(gate.label)} on anew, or "
    return CheckPage(
        Conclusion.ACTION_REQUIRED,
        "Not measured: somebody with permission has to ask for it",
        f"Nothing was measured for this commit: {why}.\n\n"
        f"Whoever has {gate.permission} permission here and has read commit {markdown.code(head_sha)}: {label}"
        f"write this line as a comment.\n\n```\n/redline run {head_sha}\n```",
        "",
        (),
    )


def retargeted_page(base_ref: str, head_sha: str) -> CheckPage:
    """What stood here was about another base. `base_ref`: an outsider's text."""
    return CheckPage(
        Conclusion.ACTION_REQUIRED,
        "Not measured against this base: the pull request's base was changed",
        f"The base is now {markdown.code(base_ref)}, and what was known of this commit was about another one.\n\n"
        f"Whoever may start the gate: write this line as a comment.\n\n```\n/redline run {head_sha}\n```",
        "",
        (),
    )


def nothing_page(left_out: Sequence[str]) -> CheckPage:
    """There is nothing that a measurement could tell apart; neutral, so that a required check does not block."""
    return CheckPage(
        Conclusion.NEUTRAL,
        "Nothing to compare: this pull request changes no build",
        "\n".join(f"- {each}" for each in left_out),
        "",
        (),
    )


def unprepared_page(broken: Sequence[str]) -> CheckPage:
    """What would have to be measured cannot be: a failure, since nothing is known of the change."""
    return CheckPage(
        Conclusion.FAILURE,
        "Not measured: what this pull request asks to be measured cannot be",
        "\n".join(f"- {each}" for each in broken),
        "",
        (),
    )
