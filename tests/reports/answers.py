"""One `PublishedAnswer` per situation of an answer's pages, named after its golden pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from redline.model import Justification
from reports.data import Change, Leg, PublishedAnswer, ReportData, ReportKind
from tests.reports import situations
from tests.reports.hostile import HOSTILE, filled

RUN = "https://github.com/vllm-project/vllm/actions/runs/11873"
HEAD, BASE = "4f3a" * 10, "b81c" * 10
RUN_IDS = ("20261122T031500-7f3a", "20261122T031500-90b2")
CHANGE = Change("vllm-project/vllm", 4711, HEAD, BASE, "[Core] Schedule prefills in one pass")
MARKER = "<!-- redline answer -->"
JUSTIFICATION = Justification(
    1,
    "vllm-project/vllm",
    4711,
    HEAD,
    (RUN_IDS[0],),
    "the old path returned stale blocks; the check that prevents it costs this",
    "octocat",
    "2026-11-22T09:14:05+00:00",
    "https://github.com/vllm-project/vllm/pull/4711#issuecomment-99",
)


def leg(report: ReportData, runner: str = "cpu", index: int = 0, kind: ReportKind = ReportKind.GATE) -> Leg:
    """A leg that left a report."""
    made = replace(report, kind=kind, runner_class=runner, policy=runner, run_id=RUN_IDS[index])
    return Leg(runner, made, url=f"{RUN}/job/{31 + index}")


def dead(runner: str = "mi300x-1") -> Leg:
    """A leg whose job ended without leaving anything."""
    problem = "the job ended without an artifact: it was cancelled, ran out of time, or its machine was lost"
    return Leg(runner, None, problem, f"{RUN}/job/39")


def answer(*legs: Leg, kind: ReportKind = ReportKind.GATE) -> PublishedAnswer:
    """The answer about a pull request, or of a sign-off, which has none."""
    change = CHANGE if kind is ReportKind.GATE else None
    return PublishedAnswer(kind, legs, change, RUN, f"{RUN}#artifacts")


def justified(*legs: Leg) -> PublishedAnswer:
    """A regression that somebody has accepted."""
    return replace(answer(*legs), justification=JUSTIFICATION)


def answer_filled(fill: Callable[[str], str]) -> PublishedAnswer:
    """An answer with every part present, whose every outside string is `fill(its name)`."""
    report = replace(filled(fill), run_id=RUN_IDS[0])
    legs = (
        Leg(fill("leg's runner class"), report, url=fill("leg's address")),
        Leg(fill("dead leg"), None, fill("problem"), fill("dead leg's address")),
    )
    change = Change(fill("repository"), 4711, HEAD, fill("base commit"), fill("title"))
    reason = f"because {fill('reason')} is so"
    justification = replace(
        JUSTIFICATION, by=f"x{fill('by')}", at=fill("at"), reason=reason, url=fill("reason's address")
    )
    return PublishedAnswer(ReportKind.GATE, legs, change, RUN, f"{RUN}#artifacts", True, justification)


def hostile() -> PublishedAnswer:
    """Every outside string is an attack."""
    return answer_filled(lambda _: HOSTILE)


def _signoff(report: ReportData) -> PublishedAnswer:
    return answer(leg(report, kind=ReportKind.SIGNOFF), kind=ReportKind.SIGNOFF)


ANSWERS: dict[str, Callable[[], PublishedAnswer]] = {
    "no-worse": lambda: answer(leg(situations.no_worse())),
    "improved": lambda: answer(leg(situations.improved())),
    "regressed": lambda: answer(leg(situations.regressed())),
    "inconclusive": lambda: answer(leg(situations.inconclusive())),
    "invalid": lambda: answer(leg(situations.invalid())),
    "no-baseline": lambda: answer(leg(situations.no_baseline(), kind=ReportKind.RUN)),
    "error": lambda: answer(leg(situations.error())),
    "regressed-accuracy": lambda: answer(leg(situations.regressed_accuracy())),
    "two-one-dead": lambda: answer(leg(situations.no_worse()), dead()),
    "two-mixed": lambda: answer(leg(situations.improved()), leg(situations.regressed(), "h100-1", 1)),
    "justified": lambda: justified(leg(situations.regressed())),
    "justified-one-dead": lambda: justified(leg(situations.regressed()), dead()),
    "outdated": lambda: replace(answer(leg(situations.regressed())), outdated=True),
    "chosen": lambda: replace(
        answer(leg(situations.no_worse())), chosen=True, left_out=("offline-long", "server-long")
    ),
    "chosen-regressed": lambda: replace(answer(leg(situations.regressed())), chosen=True),
    "signoff-yes": lambda: _signoff(situations.signoff()),
    "signoff-no": lambda: _signoff(situations.signoff_targets()),
    "hostile": hostile,
}
