"""An answer on its way: the job's summary first, then the pull request's one comment, then the check run.

The three do not depend on one another. What GitHub does not take stands in the summary, and the job fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from jinja2 import TemplateError

from flows.service.desk import CHECK_NAME, COMMENT_MARKER, Desk
from flows.service.gate_answer import GateAnswer, without_reports
from flows.service.telling import in_words
from redline import markdown
from redline.errors import GitHubError, GitHubMissingError
from redline.github.checks import FoundCheck, find_check, upsert_check
from redline.github.comments import upsert_comment
from redline.github.environment import write_summary
from redline.github.events import GateRun, external_run
from redline.model import COMMIT_SHA, CheckPage, Conclusion
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


def deliver(desk: Desk, gate: GateAnswer, run: GateRun) -> Delivered:
    """Tell the pull request. An older answer never takes the place of a newer one, nor of an acceptance.

    Raises nothing for what GitHub refuses: see `failures`.
    """
    pages = rendered(gate.answer)
    write_summary(desk.environment, pages.summary + "\n\n")
    lines: list[str] = []
    failures: list[str] = list(gate.failures)
    accepted = gate.answer.justification is not None

    def comment() -> str:
        stands = None if accepted else _newer(desk, run, gate)
        if stands:
            return f"the comment stays as it is: {stands}"
        return _link("comment", upsert_comment(desk.github, run.number, COMMENT_MARKER, pages.comment))

    def check() -> str:
        if not COMMIT_SHA.fullmatch(gate.head_sha):
            return "no check run: GitHub did not confirm which commit was measured"
        stands = "" if accepted else _settled(find_check(desk.github, gate.head_sha, CHECK_NAME), run)
        if stands:
            return f"the check run stays as it is: {stands}"
        address = upsert_check(
            desk.github,
            gate.head_sha,
            CHECK_NAME,
            pages.check,
            external_id=run.external_id,
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
        summary_page(answer, SUMMARY_BYTES_MAX), comment_page(answer, marker=COMMENT_MARKER), check_page(answer)
    )


def _renders(answer: PublishedAnswer) -> bool:
    try:
        _pages(answer)
    except _RENDERING_ERRORS:
        return False
    return True


def _unreadable(leg: Leg) -> Leg:
    return Leg(leg.runner_class, None, "its report holds what cannot be shown; nothing of it was used", leg.url)


def _newer(desk: Desk, run: GateRun, gate: GateAnswer) -> str:
    """Why the comment must not be changed by this answer; empty if nothing is in its way, or nobody knows."""
    if gate.pull is None:
        return ""
    try:
        stands = find_check(desk.github, gate.pull.head_sha, CHECK_NAME)
    except GitHubError:
        return ""
    if gate.answer.outdated:
        return "it is about a newer commit" if stands and stands.external_id else ""
    return _settled(stands, run)


def _settled(stands: FoundCheck | None, run: GateRun) -> str:
    """Why a check run that stands must not be changed by this run; empty if it may."""
    found = external_run(stands.external_id) if stands else None
    if stands is None or found is None:
        return ""
    if stands.external_id == run.external_id and stands.conclusion == Conclusion.NEUTRAL:
        return "this very regression was accepted"
    if found[0] > run.run_id and run.attempt == 1:
        return "a newer run has answered already"
    return ""


def notice(desk: Desk, head_sha: str, page: CheckPage, *, only_if_silent: bool = False) -> str:
    """Say at a commit why nothing is measured: the line for the log. `only_if_silent`: never in place of anything."""
    if only_if_silent and find_check(desk.github, head_sha, CHECK_NAME) is not None:
        return "the check run of this commit stays as it is"
    url = desk.environment.run_url
    return _link("check run", upsert_check(desk.github, head_sha, CHECK_NAME, page, external_id="", details_url=url))


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
