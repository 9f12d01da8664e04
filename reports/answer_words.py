"""One finding and one sentence over every runner class of an answer: what a busy reviewer reads first. Plain text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from redline.model import Arm, Finding, Justification
from reports import phrases
from reports.answer_rows import ORDER, PASSES, Row, rows_of, runner_name, share
from reports.data import Leg, PublishedAnswer, ReportKind
from reports.markdown import Safe, one_line, text

_REASON_CHARS_MAX = 280
_LEADS = {
    Finding.REGRESSED: "Worse",
    Finding.ERROR: "Not measured",
    Finding.INVALID: "Not valid",
    Finding.INCONCLUSIVE: "Cannot tell",
    Finding.NO_BASELINE: "Nothing to compare with",
    Finding.IMPROVED: "Better",
    Finding.NO_WORSE: "No worse",
}
_DIED = "No answer"
# No bracket, quote or space: what cannot end a Markdown link.
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(?::\d{1,5})?(?:/[A-Za-z0-9._~/%?=&#+,-]*)?")


@dataclass(frozen=True, slots=True)
class Headline:
    """What an answer says first. `lead`: `Slower`; `reason`: one sentence with its numbers, without a full stop.

    `accepted`: a proven regression that somebody allowed has taken, and nothing else stands against the answer.
    `chosen`: only of scenarios that somebody chose.
    """

    finding: Finding
    lead: str
    reason: str
    accepted: Justification | None = None
    chosen: bool = False

    @property
    def title(self) -> str:
        """`Slower: output throughput in offline-short is ...`, or who accepted it and why. Plain text, one line."""
        if self.accepted is not None:
            return f"Regressed, {accepted_by(self.accepted)}"
        return f"{'Chosen scenarios only. ' if self.chosen else ''}{self.lead}: {self.reason}"

    @property
    def symbol(self) -> str:
        """A shape for the finding; what is no pass of the whole looks like neither a pass nor a failure."""
        passed = self.chosen and self.finding in PASSES
        return "☑️" if self.accepted is not None or passed else phrases.SYMBOLS[self.finding]


def finding_of(leg: Leg) -> Finding:
    """The finding of one runner class; a leg that left no report is an error, never a pass."""
    return Finding.ERROR if leg.report is None else leg.report.verdict.finding


def worst_first(legs: Sequence[Leg]) -> tuple[Leg, ...]:
    """The legs by finding, those that died before those that reported an error, otherwise in their order."""
    return tuple(sorted(legs, key=lambda leg: (ORDER.index(finding_of(leg)), leg.report is not None)))


def joint(answer: PublishedAnswer) -> tuple[Finding, str]:
    """(finding, reason in one plain sentence) over every runner class.

    Regressed if any leg is; then an error or a leg that died, invalid, inconclusive, no baseline; improved if one
    improved and the rest are no worse; no worse only if all are. A justification changes nothing here.
    """
    said = _headline_of(answer.legs, answer.kind)
    return said.finding, said.reason


def headline(answer: PublishedAnswer) -> Headline:
    """What the page says first. An accepted regression steps back behind whatever else stands against the answer."""
    justification = accepted(answer)
    if justification is None:
        return _asked(answer, _headline_of(answer.legs, answer.kind))
    rest = [leg for leg in answer.legs if finding_of(leg) is not Finding.REGRESSED]
    if any(finding_of(leg) not in PASSES for leg in rest):
        return _asked(answer, _headline_of(rest, answer.kind))
    finding, reason = joint(answer)
    return Headline(finding, _lead(answer.legs, finding), reason, justification)


def accepted(answer: PublishedAnswer) -> Justification | None:
    """The justification, if it is about what is shown here: the same commit, and runs that it names, if it names any.

    Whoever accepts has seen certain runs: a later one of the same commit may have found something else.
    """
    found, change = answer.justification, answer.change
    regressed = [leg.report.run_id for leg in answer.legs if leg.report and finding_of(leg) is Finding.REGRESSED]
    if found is None or change is None or not regressed or answer.chosen:
        return None
    if (found.head_sha, found.number) != (change.head_sha, change.number):
        return None
    return found if not found.run_ids or set(regressed) <= set(found.run_ids) else None


def accepted_by(found: Justification) -> str:
    """`accepted by @who on 2026-11-22: the reason`. Plain text."""
    return f"accepted by @{one_line(found.by, 60)} on {one_line(found.at[:10])}: {one_line(found.reason)}"


def link(label: str, address: str, below: str = "") -> Safe:
    """A Markdown link, or the label alone unless the address is plain http(s) and, if `below` is given, lies there.

    A leg may say anything: its address counts only below the address of the workflow's run.
    """
    within = not below or address == below or address.startswith(below.rstrip("/") + "/")
    return Safe(f"[{text(label)}]({address})") if within and _ADDRESS.fullmatch(address) else text(label)


def _asked(answer: PublishedAnswer, said: Headline) -> Headline:
    """A sign-off's headline answers its question: `May it be released? No. Slower: ...`; a choice's says it is one."""
    said = replace(said, chosen=answer.chosen)
    if answer.kind is not ReportKind.SIGNOFF:
        return said
    question = phrases.RELEASE_QUESTION[:1].upper() + phrases.RELEASE_QUESTION[1:]
    reply = phrases.RELEASE_ANSWERS[said.finding]
    return replace(said, lead=f"{question} {reply[:1].upper()}{reply[1:]}. {said.lead}")


def _headline_of(legs: Sequence[Leg], kind: ReportKind) -> Headline:
    found = [finding_of(leg) for leg in legs]
    finding = next(each for each in ORDER if each in found)
    if finding in PASSES:
        return Headline(finding, _lead(legs, finding), _pass_reason(legs, kind, finding))
    chosen = [leg for leg in worst_first(legs) if finding_of(leg) is finding]
    reason = one_line(_reason(chosen, finding, several=len(legs) > 1), _REASON_CHARS_MAX)
    return Headline(finding, _lead(chosen, finding), reason + _others(legs))


def _lead(legs: Sequence[Leg], finding: Finding) -> str:
    if any(leg.report is None for leg in legs):
        return _DIED
    rows = [row for row in _deciding(legs) if row.finding is finding and row.lead]
    return rows[0].lead if rows else _LEADS[finding]


def _deciding(legs: Sequence[Leg]) -> list[Row]:
    return [row for row in rows_of(legs) if row.decides]


def _reason(legs: Sequence[Leg], finding: Finding, *, several: bool) -> str:
    """The worst row of that finding, and how many more; the verdict's own reason where no row has it."""
    leg = legs[0]
    if leg.report is None:
        return f"the job of {runner_name(leg.runner_class)} left none: {one_line(leg.problem, 200)}"
    rows = [row for row in _deciding(legs) if row.finding is finding]
    if finding in (Finding.REGRESSED, Finding.INCONCLUSIVE) and rows:
        where = f"on {runner_name(rows[0].runner_class)}, " if several else ""
        return where + rows[0].sentence + _more(len(rows) - 1) + _missed(legs, finding)
    return (f"on {runner_name(leg.runner_class)}, " if several else "") + leg.report.verdict.reason


def _more(count: int) -> str:
    return f", and {count:,} more" if count > 0 else ""


def _missed(legs: Sequence[Leg], finding: Finding) -> str:
    """`; 3 accuracy targets are not reached`, beside a regression; empty if all are."""
    sections = [section for leg in legs if leg.report is not None for section in leg.report.scenarios]
    count = sum(
        not each.ok for section in sections for each in section.targets if each.arm in (Arm.CANDIDATE, Arm.SINGLE)
    )
    if finding is not Finding.REGRESSED or count == 0:
        return ""
    return f"; {count:,} accuracy {'target is' if count == 1 else 'targets are'} not reached"


def _others(legs: Sequence[Leg]) -> str:
    """`. Other runner classes: 1 regressed, 1 without an answer`; empty where there are none."""
    counts = Counter(
        "without an answer" if leg.report is None else finding_of(leg).value for leg in worst_first(legs)[1:]
    )
    if not counts:
        return ""
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f". Other runner {'class' if counts.total() == 1 else 'classes'}: {said}"


def _pass_reason(legs: Sequence[Leg], kind: ReportKind, finding: Finding) -> str:
    """What a pass has shown, and no more: how many metrics, and which loss it would have seen."""
    rows = _deciding(legs)
    where = f" on {len(legs)} runner classes" if len(legs) > 1 else ""
    if finding is Finding.IMPROVED:
        better = [row for row in rows if row.finding is finding]
        if better:
            on = f"on {runner_name(better[0].runner_class)}, " if where else ""
            return f"{on}{better[0].sentence}{_more(len(better) - 1)}, and nothing is worse"
    reports = [leg.report for leg in legs if leg.report is not None]
    margins = sorted({each.margin for report in reports for each in report.verdict.comparisons if each.primary})
    # A night is judged against the nights before it, and its metrics have no margin of a gate's kind.
    if kind is ReportKind.NIGHTLY or not rows:
        own = one_line(reports[0].verdict.reason, _REASON_CHARS_MAX)
        return own if not where else f"{len(legs)} runner classes say so; {runner_name(legs[0].runner_class)}: {own}"
    speed = sum(each.primary for report in reports for each in report.verdict.comparisons)
    answers = sum(len(report.verdict.accuracy) for report in reports)
    parts = [_count(speed, "metric")] if speed else []
    parts += [f"the answers of {_count(answers, 'scenario')}"] if answers else []
    within = "is within its margin" if (speed, answers) == (1, 0) else "are within their margins"
    seen = f"; a loss of {_margins(margins)} or more would have been seen" if margins else ""
    return f"{' and '.join(parts)} {within}{where}{seen}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _margins(margins: Sequence[float]) -> str:
    """`10 %`, or `a metric's margin (3 % to 10 %)`."""
    low, high = share(margins[0]), share(margins[-1])
    return low if low == high else f"a metric's margin ({low} to {high})"
