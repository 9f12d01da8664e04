"""What one commit's check run answers, when the commit belongs to two pull requests or gets another base."""

from __future__ import annotations

import pytest

from flows.service.standing import Kind, Standing, standing_of, stays
from redline.github.checks import FoundCheck
from redline.model import Conclusion
from tests.reports import situations
from tests.service.gate_house import (
    BASE_SHA,
    HEAD_SHA,
    NUMBER,
    OLD_SHA,
    REPOSITORY,
    changed,
    command,
    house,
    measured,
    payload,
    team_content,
)

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


BASE, OTHER_BASE = "1" * 12, "9" * 12


@pytest.fixture(autouse=True)
def _content(tmp_path, monkeypatch):
    """The default branch's reviewed content."""
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "content")))


def standing(run_id=10, attempt=1, number=7, base=BASE, kind=Kind.MEASURED, comment_id=0):
    """Run 10's answer to pull request 7 against one base, with changes."""
    return Standing(run_id, attempt, number, base, kind, comment_id)


def check(found, conclusion):
    """A check run that says so."""
    return FoundCheck(1, found.external_id, conclusion, "title", "")


@pytest.mark.parametrize(
    "found",
    [
        standing(),
        standing(base=""),
        standing(kind=Kind.NOTICE),
        standing(kind=Kind.RESET),
        standing(kind=Kind.ACCEPTED, comment_id=5001),
    ],
)
def test_what_is_answered_survives_github(found):
    """Written as `external_id`, read as the same."""
    assert standing_of(check(found, "success")) == found


@pytest.mark.parametrize(
    "text",
    ["", "10/1", f"10/1/7/{BASE}/accepted", f"10/1/7/{BASE}/measured-5", f"10/1/7/{BASE}/x", f"0/1/7/{BASE}/notice"],
)
def test_what_is_none_of_ours_answers_nothing(text):
    """Then anything may take its place."""
    assert standing_of(FoundCheck(1, text, "failure", "", "")) is None
    assert stays(FoundCheck(1, text, "failure", "", ""), standing(), Conclusion.SUCCESS) == ""


@pytest.mark.parametrize(
    ("stood", "conclusion", "new", "says", "kept"),
    [
        (standing(), "failure", standing(11), "success", False),
        (standing(11), "failure", standing(10), "success", True),
        (standing(11), "failure", standing(10, attempt=2), "success", False),
        (standing(), "failure", standing(11, number=8), "success", True),
        (standing(), "failure", standing(11, number=8), "action_required", True),
        (standing(), "neutral", standing(11, number=8), "success", True),
        (standing(), "success", standing(11, number=8), "failure", False),
        (standing(), "success", standing(9, number=8), "failure", False),
        (standing(), "failure", standing(11, base=OTHER_BASE), "success", False),
        (standing(11), "failure", standing(10, attempt=2, base=OTHER_BASE), "success", True),
        (standing(11), "action_required", standing(10, attempt=2, base=""), "success", True),
        (standing(11, kind=Kind.RESET), "action_required", standing(10), "success", False),
        (standing(11, kind=Kind.RESET), "action_required", standing(10, base=OTHER_BASE), "success", True),
        (standing(11, kind=Kind.NOTICE), "failure", standing(10), "success", True),
        (standing(kind=Kind.ACCEPTED, comment_id=5), "neutral", standing(), "failure", True),
        (standing(kind=Kind.ACCEPTED, comment_id=5), "neutral", standing(11), "failure", False),
    ],
)
def test_which_answer_takes_anothers_place(stood, conclusion, new, says, kept):
    """The newer one to the same question; to another question, none that is better."""
    assert bool(stays(check(stood, conclusion), new, Conclusion(says))) is kept


def other_pull(home):
    """Pull request 8 has the same newest commit as pull request 7."""
    home.state.open_pull(
        HEAD_SHA, number=8, head_ref="fuse-sampler", title="the same", author="dev", head_repository=REPOSITORY
    )


def test_the_same_commit_in_two_pull_requests(tmp_path):
    """The other one's pass, against another base, is told there and leaves this one's regression as it is."""
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        other_pull(home)
        run = home.state.run(display_title="Gate of pull request 8")
        folder = home.leg_folder(situations.no_worse(), number=8, base_sha=OLD_SHA)
        home.leg(run, folder, commits=(OLD_SHA, HEAD_SHA))
        step = home.publish(run)
        assert [each["conclusion"] for each in home.checks()] == ["failure"]
        assert "the worse answer, to pull request 7" in step.summary
        assert any("No worse" in each["body"] for each in home.state.comments_of(8))


def retargeted():
    """Pull request 7 is given another base."""
    event = changed(payload("pull_request_synchronize"), action="edited")
    return event | {"changes": {"base": {"ref": {"from": "main"}, "sha": {"from": BASE_SHA}}}}


def move_base(home):
    """It is to be merged into a branch that holds the first of its own commits."""
    home.state.refs["release"] = OLD_SHA
    home.state.pulls[NUMBER]["base"] |= {"ref": "release", "sha": OLD_SHA}


def test_another_base_takes_the_pass_away(tmp_path):
    """What was shown against one base is no pass of another; a measurement against the new one is."""
    with house(tmp_path) as home:
        before = home.gate_run()
        home.publish(measured(home, situations.no_worse()))
        move_base(home)
        event_run = home.state.run()["id"]
        step = home.decide("pull_request_target", retargeted(), run_id=event_run)
        assert step.legs == []
        assert home.check()["conclusion"] == "action_required"
        assert f"/redline run {HEAD_SHA}" in home.check()["output"]["summary"]
        home.leg(before, home.leg_folder(situations.no_worse()), attempt=2)
        home.publish(before, run_attempt=2)
        assert home.check()["conclusion"] == "action_required", "a late answer about the base before"
        home.publish(measured(home, situations.no_worse(), commits=(OLD_SHA, HEAD_SHA)))
        assert home.check()["conclusion"] == "success"
        home.decide("pull_request_target", retargeted(), run_id=event_run, attempt=2)
        assert home.check()["conclusion"] == "success", "the event's job is started again, and all is answered"


def test_an_accepted_regression_is_not_taken_to_another_base(tmp_path):
    """The reason was given for a loss against the base before."""
    with house(tmp_path) as home:
        home.publish(measured(home, situations.regressed()))
        home.decide("issue_comment", command("/redline accept-regression the check costs this"))
        assert home.check()["conclusion"] == "neutral"
        move_base(home)
        home.decide("pull_request_target", retargeted(), run_id=home.state.run()["id"])
        assert home.check()["conclusion"] == "action_required"


def test_another_pull_requests_base_changes_nothing_here(tmp_path):
    """Whoever opens a pull request of the same commit cannot take this one's pass away."""
    with house(tmp_path) as home:
        home.publish(measured(home, situations.no_worse()))
        other_pull(home)
        home.decide("pull_request_target", changed(retargeted(), pull_request__number=8), run_id=home.state.run()["id"])
        assert home.check()["conclusion"] == "success"


def test_a_title_that_is_edited_is_no_new_base(tmp_path):
    """It costs no request."""
    event = retargeted() | {"changes": {"title": {"from": "before"}}}
    with house(tmp_path) as home:
        home.publish(measured(home, situations.no_worse()))
        home.api.asked.clear()
        home.decide("pull_request_target", event)
        assert home.api.asked == []
        assert home.check()["conclusion"] == "success"
