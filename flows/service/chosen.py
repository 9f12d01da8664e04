"""An answer about scenarios that somebody chose: no answer for the pull request, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flows.service.desk import CHECK_NAME, COMMENT_MARKER, Desk
from flows.service.leg_jobs import LegJob
from redline.model import LegSettings
from reports.data import PublishedAnswer

CHOSEN_CHECK_NAME = f"{CHECK_NAME} (chosen scenarios)"
"""Never the name of the check that a branch's protection rule requires."""
CHOSEN_MARKER = "<!-- redline:gate-chosen -->"


def with_choice(desk: Desk, jobs: Sequence[LegJob], answer: PublishedAnswer) -> PublishedAnswer:
    """The answer, marked if its legs measured a choice. That is GitHub's word: it stands in the names of the jobs.

    Raises ContentError if the suite of a leg cannot be read.
    """
    if not any(job.chosen for job in jobs):
        return answer
    reports = {leg.runner_class: leg.report for leg in answer.legs}
    left_out: set[str] = set()
    for runner, settings in desk.gate_legs.items():
        report = reports.get(runner)
        if runner not in reports:
            left_out |= set(_usual(desk, settings))  # its class has nothing of what was chosen
        elif report is not None:
            left_out |= set(_usual(desk, settings)) - {section.name for section in report.scenarios}
    return replace(answer, chosen=True, left_out=tuple(sorted(left_out)))


def check_name(answer: PublishedAnswer) -> str:
    """The check run that this answer is written to."""
    return CHOSEN_CHECK_NAME if answer.chosen else CHECK_NAME


def comment_marker(answer: PublishedAnswer) -> str:
    """The comment that this answer is written to: a choice has one of its own."""
    return CHOSEN_MARKER if answer.chosen else COMMENT_MARKER


def _usual(desk: Desk, leg: LegSettings) -> tuple[str, ...]:
    return leg.scenarios or tuple(desk.workspace.suite(leg.suite).scenarios)
