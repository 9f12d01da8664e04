"""An answer on its way: the job's summary first, then the pull request's one comment, then the check run.

The three do not depend on one another. What GitHub does not take stands in the summary, and the job fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from jinja2 import TemplateError

from flows.service.chosen import check_name, comment_marker
from flows.service.desk import CHECK_NAME, Desk
from flows.service.gate_answer import GateAnswer, without_reports
from flows.service.standing import Kind, Standing, answered, standing_of, stays
from flows.service.telling import in_words
from redline import markdown
from redline.errors import GitHubError, GitHubMissingError
from redline.github.checks import find_check, upsert_check
from redline.github.comments import upsert_comment
from redline.github.environment import write_summary
from redline.github.events import GateRun
from redline.model import COMMIT_SHA, CheckPage
from reports.data import Leg, PublishedAnswer
from reports.pages import check_page, comment_page, summary_page

SUMMARY_BYTES_MAX = 700_000
"""Less than a summary may hold: other lines of the same step go below."""
_RENDERING_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TemplateError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Pages:
    """One answer in its three forms."""

    summary: str
    comment: str
    check: CheckPage


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was done, and what failed: Markdown lines of ours."""

    lines: tuple[str, ...]
    failures: tuple[str, ...] = ()


def deliver(desk: Desk, gate: GateAnswer, run: GateRun, *, accepted_by: int = 0) -> Delivered:
    """Tell the pull request. An older answer never takes the place of a newer one, nor of an acceptance.

    An answer about chosen scenarios goes to a comment and a check run of its own. `accepted_by`: the comment that took
    the regression, or 0. Raises nothing for what GitHub refuses: see `failures`.
    """
    pages = rendered(gate.answer)
    write_summary(desk.environment, pages.summary + "\n\n")
    lines: list[str] = []
    failures: list[str] = list(gate.failures)
    name, marker = check_name(gate.answer), comment_marker(gate.answer)
    kind = Kind.ACCEPTED if accepted_by else Kind.MEASURED
    new = Standing(run.run_id, run.attempt, run.number, gate.base, kind, accepted_by)

    def comment() -> str:
        why = "" if accepted_by else _newer(desk, name, new, gate)
        if why:
            return f"the comment stays as it is: {why}"
        return _link("comment", upsert_comment(desk.github, run.number, marker, pages.comment))

    def check() -> str:
        if not COMMIT_SHA.fullmatch(gate.head_sha):
            return "no check run: GitHub did not confirm which commit was measured"
        found = None if accepted_by else find_check(desk.github, gate.head_sha, name)
        why = stays(found, new, pages.check.conclusion)
        if why:
            return f"the check run stays as it is: {why}"
        address = upsert_check(
            desk.github,
            gate.head_sha,
            name,
            pages.check,
            external_id=new.external_id,
            details_url=run.url,
        )
        return _link("check run", address)

    for what, act in (("comment", comment), ("check run", check)):
        try:
            lines.append(act())
        except GitHubError as error:
            failures.append(f"the {what} could not be written: {in_words(error)}")
    return Delivered(tuple(lines), tuple(failures))


def rendered(answer: PublishedAnswer) -> Pages:
    """The pages of an answer; a leg whose report makes the renderer fail is shown without it, and says so."""
    try:
        return _pages(answer)
    except _RENDERING_ERRORS:
        legs = tuple(leg if _renders(replace(answer, legs=(leg,))) else _unreadable(leg) for leg in answer.legs)
    try:
        return _pages(replace(answer, legs=legs))
    except _RENDERING_ERRORS:
        return _pages(without_reports(answer, "its report cannot be shown beside the others"))


def _pages(answer: PublishedAnswer) -> Pages:
    return Pages(
        summary_page(answer, SUMMARY_BYTES_MAX), comment_page(answer, marker=comment_marker(answer)), check_page(answer)
    )


def _renders(answer: PublishedAnswer) -> bool:
    try:
        _pages(answer)
    except _RENDERING_ERRORS:
        return False
    return True


def _unreadable(leg: Leg) -> Leg:
    return Leg(leg.runner_class, None, "its report holds what cannot be shown; nothing of it was used", leg.url)


def _newer(desk: Desk, name: str, new: Standing, gate: GateAnswer) -> str:
    """Why the comment must not be changed by this answer; empty if nothing is in its way, or nobody knows.

    The comment belongs to the pull request, so what was answered to another one with the same commit does not matter.
    """
    if gate.pull is None:
        return ""
    try:
        found = standing_of(find_check(desk.github, gate.pull.head_sha, name))
    except GitHubError:
        return ""
    if found is None or found.number != new.number:
        return ""
    if gate.answer.outdated:
        return "it is about a newer commit" if found.measured else ""
    return answered(found, new)


def notice(
    desk: Desk, head_sha: str, page: CheckPage, standing: Standing | None = None, *, only_if_silent: bool = False
) -> str:
    """Say at a commit why nothing is measured: the line for the log.

    `standing`: what it is an answer to; None for what any answer may replace. `only_if_silent`: never in place of
    anything. Raises GitHubError.
    """
    found = find_check(desk.github, head_sha, CHECK_NAME)
    if only_if_silent and found is not None:
        return "the check run of this commit stays as it is"
    why = stays(found, standing, page.conclusion) if standing else ""
    if why:
        return f"the check run stays as it is: {why}"
    external_id = standing.external_id if standing else ""
    url = desk.environment.run_url
    return _link(
        "check run", upsert_check(desk.github, head_sha, CHECK_NAME, page, external_id=external_id, details_url=url)
    )


def quietly(act: Callable[[], object], what: str) -> str:
    """Do what may fail without harm; why it failed, or nothing."""
    try:
        act()
    except GitHubMissingError:
        return f"{what} could not be done: it is gone, or this job may not"
    except GitHubError as error:
        return f"{what} could not be done: {in_words(error)}"
    return ""


def _link(what: str, address: str) -> str:
    return f"{what}: {markdown.code(address)}"
