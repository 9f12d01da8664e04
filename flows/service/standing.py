"""What a check run of ours answers, kept in its `external_id`, and whether another answer may take its place.

GitHub keeps check runs by commit. One commit can belong to several pull requests, and one pull request can be compared
with several bases in turn: what was shown for one of them is no proof for another.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from redline.github.checks import FoundCheck
from redline.model import Conclusion, require

_FORM = re.compile(
    r"([1-9][0-9]{0,19})/([1-9][0-9]{0,5})/([1-9][0-9]{0,9})/([0-9a-f]{12}|-)/"
    r"(measured|notice|reset|accepted)(?:-([1-9][0-9]{0,19}))?"
)
_BASE = re.compile(r"[0-9a-f]{12}")
_BEST_FIRST = (Conclusion.SUCCESS, Conclusion.NEUTRAL, Conclusion.ACTION_REQUIRED, Conclusion.FAILURE)


class Kind(enum.StrEnum):
    """Where an answer comes from. RESET: the base was changed, and what stood there was about another one."""

    MEASURED = "measured"
    NOTICE = "notice"
    RESET = "reset"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Standing:
    """The question: pull request `number` against the merge base `base` (empty: unknown). Who answered it: a run.

    `base`: its first 12 digits, as the jobs' names have it; it is a commit of the branch to merge into.

    `comment_id`: the comment that accepted the regression, 0 without one.
    """

    run_id: int
    attempt: int
    number: int
    base: str
    kind: Kind = Kind.MEASURED
    comment_id: int = 0

    def __post_init__(self) -> None:
        require(not self.base or _BASE.fullmatch(self.base) is not None, "a base is 12 hex digits")
        require((self.kind is Kind.ACCEPTED) == (self.comment_id > 0), "only a comment accepts")

    @property
    def external_id(self) -> str:
        """`RUN/ATTEMPT/NUMBER/BASE/KIND`, and `-COMMENT` behind it where a comment accepted."""
        said = f"-{self.comment_id}" if self.comment_id else ""
        return f"{self.run_id}/{self.attempt}/{self.number}/{self.base or '-'}/{self.kind}{said}"

    @property
    def measured(self) -> bool:
        """False for what was said without a measurement."""
        return self.kind in (Kind.MEASURED, Kind.ACCEPTED)

    def same_question(self, other: Standing) -> bool:
        """The same pull request against the same, known base."""
        return self.number == other.number and self.base == other.base != ""


def standing_of(check: FoundCheck | None) -> Standing | None:
    """What a check run answers; None without one, and for one that nothing was answered by."""
    found = _FORM.fullmatch(check.external_id) if check else None
    if found is None:
        return None
    base = "" if found[4] == "-" else found[4]
    kind, comment_id = Kind(found[5]), int(found[6] or 0)
    if (kind is Kind.ACCEPTED) != (comment_id > 0):
        return None
    return Standing(int(found[1]), int(found[2]), int(found[3]), base, kind, comment_id)


def stays(check: FoundCheck | None, new: Standing, conclusion: Conclusion) -> str:
    """Why the check run that stands must not give way to this answer; empty if it may.

    The answer to another pull request, or one that came late about another base, never takes the place of a worse one.
    """
    found = standing_of(check)
    if check is None or found is None:
        return ""
    better = _badness(conclusion) < _badness(check.conclusion)
    if found.number != new.number:
        return f"it is the worse answer, to pull request {found.number}, which has the same commit" if better else ""
    if new.kind is Kind.RESET:
        return ""  # whoever resets has looked at what stands
    why = answered(found, new)
    if why or new.run_id > found.run_id or found.same_question(new):
        return why
    return "it is the worse answer, and about another base" if better else ""


def answered(found: Standing, new: Standing) -> str:
    """Why an answer to the same pull request is not to be given any more; empty if it is."""
    if found.kind is Kind.ACCEPTED and (found.run_id, found.attempt) == (new.run_id, new.attempt):
        return "this very regression was accepted"
    late = found.run_id > new.run_id and new.attempt == 1
    if late and not (found.kind is Kind.RESET and found.same_question(new)):
        return "a newer run has answered already"
    return ""


def _badness(conclusion: str) -> int:
    """Beyond the worst for what is none of ours."""
    return _BEST_FIRST.index(Conclusion(conclusion)) if conclusion in set(_BEST_FIRST) else len(_BEST_FIRST)
