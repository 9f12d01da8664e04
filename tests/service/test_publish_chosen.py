"""Scenarios that somebody chose: measured and told, and never taken for an answer to the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reports import situations
from tests.service.gate_house import command, house, measured, team_content

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


CHECK = "Redline gate (chosen scenarios)"
MARKER = "<!-- redline:gate-chosen -->"


@pytest.fixture(autouse=True)
def _content(tmp_path, monkeypatch):
    """The default branch's reviewed content."""
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "content")))


def chosen_run(home, report, ended="success", runner="cpu"):
    """A run whose legs measured what a command named."""
    run = home.gate_run(ended)
    folder = home.leg_folder(report, runner) if report else None
    home.leg(run, folder, runner, ended, chosen=True)
    return run


def checks(home):
    """(name, conclusion) of every check run at the commit."""
    return {(each["name"], each["conclusion"]) for each in home.checks()}


def test_a_choice_does_not_turn_a_regression_green(tmp_path):
    """It has a check run and a comment of its own; what was found by the whole stays as it is."""
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        (whole,) = home.gate_comments()
        home.publish(chosen_run(home, situations.no_worse()))
        assert checks(home) == {("Redline gate", "failure"), (CHECK, "neutral")}
        assert home.gate_comments() == [whole]
        (own,) = [each for each in home.comments() if each.startswith(MARKER)]
        assert "Chosen scenarios only. No worse" in own


@pytest.mark.parametrize(
    ("situation", "conclusion"),
    [("improved", "neutral"), ("regressed", "failure"), ("inconclusive", "action_required"), (None, "failure")],
)
def test_a_choice_is_never_a_pass(tmp_path, situation, conclusion):
    """Neutral at best, and the required check is not even there: also if the leg died."""
    with house(tmp_path) as home:
        home.publish(chosen_run(home, getattr(situations, situation)() if situation else None, "failure"))
        assert checks(home) == {(CHECK, conclusion)}
        assert home.gate_comments() == []


@pytest.mark.parametrize(
    ("measured_ones", "left_out"),
    [
        (("offline-short",), "`llama3.1-8b-offline-ci`"),
        (("accuracy-tiny", "server-short"), "`llama3.1-8b-offline-ci`, `offline-short`"),
    ],
)
def test_what_a_choice_left_out_is_named(tmp_path, measured_ones, left_out):
    """Of what the service measures unasked: by this leg, and by the class that has nothing of the choice."""
    report = situations.no_worse()
    sections = tuple(each for each in report.scenarios if each.name in measured_ones)
    assert len(sections) == len(measured_ones)
    with house(tmp_path) as home:
        home.publish(chosen_run(home, replace(report, scenarios=sections)))
        assert home.comments()[-1].partition("Left out: ")[2].startswith(f"{left_out}.\n")


def test_a_choice_cannot_be_accepted(tmp_path):
    """Only the answer to the whole can be taken with a reason."""
    with house(tmp_path) as home:
        home.publish(chosen_run(home, situations.regressed()))
        step = home.decide("issue_comment", command("/redline accept-regression the check costs this"))
        assert "nothing was measured in whole" in home.comments()[-1]
        assert not (step.output / "justifications").exists()
        assert checks(home) == {(CHECK, "failure")}
