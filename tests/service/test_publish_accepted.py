"""A regression that somebody takes all the same: who may, which one, and what is kept of it."""

from __future__ import annotations

import pytest

from redline.store.justifications import read_justification
from tests.reports import situations
from tests.service.gate_house import HEAD_SHA, NEXT_SHA, NUMBER, command, house, measured, team_content


@pytest.fixture(autouse=True)
def _content(tmp_path, monkeypatch):
    """The default branch's reviewed content."""
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "content")))


REASON = "/redline accept-regression the check that prevents stale blocks costs this"


def test_an_accepted_regression_is_neutral_and_kept(tmp_path):
    """The page shows who and why beside the numbers, the reason is a file; publishing again keeps both."""
    with house(tmp_path) as home:
        run = measured(home, situations.regressed())
        home.publish(run)
        assert home.check()["conclusion"] == "failure"
        step = home.decide("issue_comment", command(REASON))
        assert step.legs == []
        assert home.check()["conclusion"] == "neutral"
        assert len(home.gate_comments()) == 1
        assert "prevents stale blocks" in home.gate_comments()[0]
        assert "17.0 %" in home.gate_comments()[0]
        (path,) = (step.output / "justifications").glob("*.json")
        kept = read_justification(path)
        assert (kept.number, kept.head_sha, kept.by) == (NUMBER, HEAD_SHA, "maintainer")
        assert kept.run_ids
        home.publish(run)
        assert home.check()["conclusion"] == "neutral"
        assert "prevents stale blocks" in home.gate_comments()[0]
        home.decide("issue_comment", command(REASON))
        assert "accepted already" in home.comments()[-1]


def test_a_new_commit_needs_a_new_word(tmp_path):
    """What was accepted was one commit's regression."""
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        home.push(NEXT_SHA)
        home.decide("issue_comment", command(REASON))
        assert "nothing was measured for the newest commit" in home.comments()[-1]
        assert home.check(HEAD_SHA)["conclusion"] == "failure"


@pytest.mark.parametrize("situation", ["no_worse", "inconclusive", "invalid", "error"])
def test_only_a_regression_can_be_accepted(tmp_path, situation):
    """What is unknown cannot be justified, and what is no worse needs no reason."""
    with house(tmp_path) as home:
        home.publish(measured(home, getattr(situations, situation)()))
        before = home.check()["conclusion"]
        step = home.decide("issue_comment", command(REASON))
        assert "Nothing was accepted" in home.comments()[-1]
        assert home.check()["conclusion"] == before
        assert not (step.output / "justifications").exists()


def test_a_dead_leg_beside_a_regression_is_not_accepted_with_it(tmp_path):
    """Nobody knows what the other runner class would have said."""
    with house(tmp_path) as home:
        run = measured(home, situations.regressed())
        home.leg(run, None, "h100-1", "failure")
        home.publish(run)
        home.decide("issue_comment", command(REASON))
        assert "`h100-1` has no verdict" in home.comments()[-1]
        assert home.check()["conclusion"] == "failure"


def test_a_hostile_reason_is_text(tmp_path):
    """Markdown, mentions and workflow commands in a reason are shown and do nothing."""
    hostile = "/redline accept-regression </details> @everyone #12 ::error::x ##[debug] [a](http://evil.example) ok"
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        step = home.decide("issue_comment", command(hostile))
        page = home.gate_comments()[0]
        assert home.check()["conclusion"] == "neutral"
        assert "@everyone" not in page
        assert "](http://evil" not in page
        assert "</details> @" not in page
        assert not any(line.startswith("::") or "##[" in line for line in step.answer.lines)
