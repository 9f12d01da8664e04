"""A regression that somebody takes all the same: who may, which one, and what is kept of it."""

from __future__ import annotations

import pytest

from redline.store.justifications import read_justification
from tests.fakes.github_api import Fault
from tests.reports import situations
from tests.service.gate_house import (
    BASE_SHA,
    HEAD_SHA,
    NEXT_SHA,
    NUMBER,
    command,
    house,
    measured,
    payload,
    team_content,
)

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


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
        event = command(REASON)
        step = home.decide("issue_comment", event)
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
        home.decide("issue_comment", command(REASON, comment_id=5002))
        assert "accepted already, by another comment" in home.comments()[-1]


def test_a_new_commit_needs_a_new_word(tmp_path):
    """What was accepted was one commit's regression."""
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        home.push(NEXT_SHA)
        home.decide("issue_comment", command(REASON))
        assert "nothing was measured in whole for the newest commit" in home.comments()[-1]
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


def kept(step):
    """The justifications that a step leaves to be uploaded."""
    return [path.name for path in (step.output / "justifications").glob("*.json")]


@pytest.mark.parametrize(("method", "what"), [("PATCH", "issues/comments/.*"), ("POST", "check-runs")])
def test_what_github_refused_is_told_when_the_job_is_started_again(tmp_path, method, what):
    """The same comment is accepted twice: the same reason is kept again, and what was missing is written."""
    event = command(REASON)
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        home.api.faults.append(Fault(method, what, 403, times=1))
        first = home.decide("issue_comment", event)
        assert first.answer.exit_code != 0
        again = home.decide("issue_comment", event)
        assert again.answer.exit_code == 0
        assert kept(again) == kept(first) != []
        assert home.check()["conclusion"] == "neutral"
        assert "prevents stale blocks" in home.gate_comments()[0]
        assert not any("Nothing was accepted" in each for each in home.comments())


def test_an_answer_that_came_after_the_comment_is_not_accepted_by_it(tmp_path):
    """A second run of the same commit was told while the command waited: its author has not seen that one."""
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        home.check()["completed_at"] = "2026-11-22T08:00:00Z"
        seen = command(REASON, at="2026-11-22T08:10:00Z")
        home.publish(measured(home, situations.regressed()))
        home.check()["completed_at"] = "2026-11-22T08:10:01Z"
        assert kept(home.decide("issue_comment", seen)) == []
        assert home.check()["conclusion"] == "failure"
        assert "look at it again" in home.comments()[-1]
        home.decide("issue_comment", command(REASON, comment_id=5002, at="2026-11-22T08:10:01Z"))
        assert home.check()["conclusion"] == "neutral"


def test_a_changed_check_run_says_when_it_was_changed(tmp_path):
    """A second answer to the same commit changes the check run in place, and its time with it."""
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        home.check()["completed_at"] = "2026-11-22T01:00:00Z"
        home.publish(measured(home, situations.regressed()))
        assert len(home.checks()) == 1
        assert home.check()["completed_at"] != "2026-11-22T01:00:00Z"


def test_a_command_that_is_started_again_accepts_no_later_commit(tmp_path):
    """The job of an old comment is run again after something else regressed."""
    old = command(REASON, at="2026-01-01T00:00:00Z")
    with house(tmp_path) as home:
        home.push(NEXT_SHA)
        run = home.gate_run()
        folder = home.leg_folder(situations.regressed(), head_sha=NEXT_SHA)
        home.leg(run, folder, commits=(BASE_SHA, NEXT_SHA))
        home.publish(run)
        assert kept(home.decide("issue_comment", old)) == []
        assert home.check(NEXT_SHA)["conclusion"] == "failure"


@pytest.mark.parametrize("meanwhile", ["a new commit", "closed", "no permission any more"])
def test_the_reason_outlives_a_second_attempt_that_accepts_nothing(tmp_path, meanwhile):
    """The artifact of a run is replaced by its next attempt, which therefore keeps what the first one kept."""
    event = command(REASON)
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        first = home.decide("issue_comment", event)
        match meanwhile:
            case "a new commit":
                home.push(NEXT_SHA)
            case "closed":
                home.state.pulls[NUMBER]["state"] = "closed"
            case _:
                home.state.grant("maintainer", "read")
        own = home.state.run(event="issue_comment")
        home.state.upload(own["id"], "decision", first.output)
        again = home.decide("issue_comment", event, run_id=own["id"], attempt=2)
        assert kept(again) == kept(first) != []
        assert read_justification(again.output / "justifications" / kept(first)[0]).reason in REASON


def test_another_runs_reason_is_not_carried_over(tmp_path):
    """What lies in the artifact must be this very comment's."""
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        first = home.decide("issue_comment", command(REASON))
        home.push(NEXT_SHA)
        own = home.state.run(event="issue_comment")
        home.state.upload(own["id"], "decision", first.output)
        other = command(REASON, comment_id=5002)
        other["comment"]["html_url"] = payload("issue_comment_created")["comment"]["html_url"] + "9"
        assert kept(home.decide("issue_comment", other, run_id=own["id"], attempt=2)) == []
