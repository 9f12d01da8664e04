"""What a pull request is told after its gate: one comment, one check run, whatever happened in which order."""

from __future__ import annotations

import pytest

from redline.errors import UsageError
from tests.fakes.github_api import Fault
from tests.reports import situations
from tests.service.gate_house import (
    BASE_SHA,
    HEAD_SHA,
    NEXT_SHA,
    house,
    measured,
    payload,
    team_content,
)


@pytest.fixture(autouse=True)
def _content(tmp_path, monkeypatch):
    """The default branch's reviewed content."""
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "content")))


def test_a_verdict_is_told_in_three_places(tmp_path):
    """Job summary, one comment and one check run of the commit, which leads to the run."""
    with house(tmp_path) as home:
        run = measured(home)
        step = home.publish(run)
        assert step.answer.exit_code == 0
        assert len(home.gate_comments()) == 1
        check = home.check()
        assert (check["name"], check["conclusion"]) == ("Redline gate", "success")
        assert check["details_url"] == run["html_url"]
        assert check["external_id"] == f"redline:{run['id']}/1"
        assert "No worse" in home.gate_comments()[0]
        assert "No worse" in step.summary


def test_two_legs_are_one_answer(tmp_path):
    """The worse of two runner classes is the answer, and both are on the page."""
    with house(tmp_path) as home:
        run = measured(home)
        home.leg(run, home.leg_folder(situations.regressed(), "h100-1"), "h100-1")
        home.publish(run)
        assert home.check()["conclusion"] == "failure"
        assert "h100-1" in home.gate_comments()[0]
        assert "cpu" in home.gate_comments()[0]


@pytest.mark.parametrize("ended", ["failure", "cancelled", "success", "timed_out"])
def test_a_leg_that_died_without_a_word_is_no_pass(tmp_path, ended):
    """GitHub's own list of jobs says that there was one."""
    with house(tmp_path) as home:
        run = measured(home)
        home.leg(run, None, "h100-1", ended)
        home.publish(run, conclusion="failure")
        assert home.check()["conclusion"] == "failure"
        assert "h100-1" in home.gate_comments()[0]


def test_when_every_leg_died_the_commit_that_was_asked_for_says_so(tmp_path):
    """`decide` left a word of which commit it was, so a push since then does not take the blame."""
    with house(tmp_path) as home:
        run = home.gate_run("failure")
        home.leg(run, None, "cpu", "failure")
        decided = home.decide("pull_request_target", payload("pull_request_labeled"))
        home.state.upload(run["id"], "decision", decided.output)
        home.push(NEXT_SHA)
        home.publish(run)
        assert home.check(HEAD_SHA)["conclusion"] == "failure"
        assert home.checks(NEXT_SHA) == []


@pytest.mark.parametrize("situation", ["nothing decided", "skipped", "cancelled", "a leg of no runner class of ours"])
def test_where_nothing_was_measured_nothing_is_told(tmp_path, situation):
    """Most runs of the gate's workflow are comments that asked for nothing."""
    with house(tmp_path) as home:
        run = home.gate_run("cancelled" if situation == "cancelled" else "success")
        if situation == "skipped":
            home.state.job(run["id"], "leg ${{ matrix.leg.runner }}", "skipped")
            home.state.job(run["id"], "leg cpu", "skipped")
        elif situation == "cancelled":
            home.leg(run, None, "cpu", "cancelled")
        elif situation != "nothing decided":
            home.leg(run, home.leg_folder(), "laptop")
        assert home.publish(run).answer.exit_code == 0
        assert home.api.writes() == []


def test_a_leg_that_ran_into_its_time_limit_is_told(tmp_path):
    """GitHub calls it cancelled; only a remark on its check run tells it from a cancellation by hand."""
    with house(tmp_path) as home:
        run = home.gate_run("cancelled")
        home.leg(run, None, "cpu", "cancelled")
        job = home.state.jobs[run["id"]][0]
        remark = {"message": "The job has exceeded the maximum execution time of 6h0m0s", "path": ".github"}
        home.state.annotations[job["id"]] = [remark]
        home.publish(run)
        assert home.check()["conclusion"] == "failure"
        assert "time limit" in home.gate_comments()[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"event": "pull_request"},
        {"event": "push"},
        {"event": "workflow_dispatch", "head_branch": "fuse-sampler"},
        {"display_title": "Gate of pull request 7 or 8"},
        {"display_title": "gate of pull request 7"},
        {"display_title": "Gate of pull request 07"},
        {"display_title": "Gate of pull request 7\n"},
        {"display_title": "Gate of pull request \N{ARABIC-INDIC DIGIT SEVEN}"},
    ],
)
def test_a_run_that_anybody_can_have_made_is_not_believed(tmp_path, changes):
    """A pull request can bring a workflow of the same name with any title; such a run costs not even a request."""
    with house(tmp_path) as home:
        run = measured(home)
        assert home.publish(run, **changes).answer.exit_code == 0
        assert home.api.asked == []


def test_a_payload_that_is_none_is_a_mistake(tmp_path):
    """What GitHub does not document is refused before anybody is asked."""
    with house(tmp_path) as home, pytest.raises(UsageError):
        home.publish(home.gate_run() | {"run_attempt": "1"})


def test_one_comment_after_any_sequence(tmp_path):
    """Regressed, fixed, broken, dead, published again: the reader sees one answer, and it is the last one."""
    with house(tmp_path) as home:
        for report in (situations.regressed(), situations.no_worse(), situations.inconclusive(), situations.error()):
            run = measured(home, report)
            home.publish(run)
            home.publish(run)
            assert len(home.gate_comments()) == 1
        run = home.gate_run("failure")
        home.leg(run, None, "cpu", "failure")
        home.publish(run)
        assert len(home.gate_comments()) == 1
        assert "died before it handed in a result" in home.gate_comments()[0]
        assert home.check()["conclusion"] == "failure"


def test_a_commit_in_between_makes_the_answer_outdated(tmp_path):
    """The check run belongs to the commit that was measured; the comment says that it is not the newest."""
    with house(tmp_path) as home:
        run = measured(home)
        home.push(NEXT_SHA)
        home.publish(run)
        assert home.check(HEAD_SHA)["conclusion"] == "success"
        assert home.checks(NEXT_SHA) == []
        assert "newer commit" in home.gate_comments()[0].lower() or "outdated" in home.gate_comments()[0].lower()


def test_an_older_answer_never_hides_a_newer_one(tmp_path):
    """Two runs end in the other order than they began: of one commit, and of two."""
    with house(tmp_path) as home:
        older, newer = measured(home, situations.no_worse()), measured(home, situations.regressed())
        home.publish(newer)
        home.publish(older)
        assert home.check()["conclusion"] == "failure"
        home.push(NEXT_SHA)
        fresh = measured(home, situations.improved(), head_sha=NEXT_SHA)
        home.publish(fresh)
        shown = home.gate_comments()
        home.publish(newer)
        assert home.gate_comments() == shown
        assert home.check(NEXT_SHA)["conclusion"] == "success"


def test_a_leg_of_an_earlier_attempt_is_not_taken_for_this_one(tmp_path):
    """A run that is started again has the artifacts of both attempts."""
    with house(tmp_path) as home:
        run = measured(home)
        for artifact in home.state.artifacts.values():
            artifact["created_at"] = "2026-11-20T00:00:00Z"
        home.publish(run, run_attempt=2, conclusion="failure")
        assert home.check()["conclusion"] == "failure"


@pytest.mark.parametrize("refuses", ["issues/.*", "check-runs"])
def test_one_place_that_refuses_does_not_cost_the_other(tmp_path, refuses):
    """The other is written, the job's summary has it all, and the job fails."""
    with house(tmp_path) as home:
        run = measured(home, situations.regressed())
        for method in ("GET", "POST", "PATCH"):
            home.api.faults.append(Fault(method, refuses, 500, times=99))
        step = home.publish(run)
        assert step.answer.exit_code == 5
        assert (len(home.gate_comments()) == 1) == (refuses == "check-runs")
        assert bool(home.state.check_runs) == (refuses != "check-runs")
        assert "could not be written" in step.summary
        assert "worse" in step.summary


def test_a_verdict_survives_an_api_that_is_gone(tmp_path):
    """Nothing but the legs can be had: the job's summary is the answer, and the job fails."""
    with house(tmp_path) as home:
        run = measured(home, situations.regressed())
        for method, path in (("GET", "pulls/.*"), ("GET", "issues/.*"), ("GET", "commits/.*"), ("POST", ".*")):
            home.api.faults.append(Fault(method, path, 503, times=999))
        step = home.publish(run)
        assert step.answer.exit_code == 5
        assert "17.0 % worse" in step.summary
        assert home.comments() == ["/redline"]


def test_a_commit_that_nobody_confirms_gets_no_check_run(tmp_path):
    """A leg could name another pull request's commit: its word alone is not enough, the comment is written though."""
    with house(tmp_path) as home:
        run = measured(home)
        home.push(NEXT_SHA)
        home.api.faults.append(Fault("GET", "pulls/7/commits", 500, times=99))
        assert home.publish(run).answer.exit_code == 5
        assert home.state.check_runs == {}
        assert len(home.gate_comments()) == 1


def test_a_commit_that_the_pull_request_does_not_have_is_refused(tmp_path):
    """Forced away, or never there: nothing of the legs is shown, and the newest commit says so."""
    with house(tmp_path) as home:
        run = measured(home, situations.no_worse(), head_sha=BASE_SHA)
        home.publish(run)
        assert home.checks(BASE_SHA) == []
        assert home.check(HEAD_SHA)["conclusion"] == "failure"
        assert "does not have" in home.gate_comments()[0]
        assert "No worse" not in home.gate_comments()[0]


def test_an_artifact_that_github_does_not_give_is_no_death(tmp_path):
    """The words say to publish again, and the job fails, so that somebody does."""
    with house(tmp_path) as home:
        run = measured(home)
        home.api.faults.append(Fault("GET", r"actions/artifacts/\d+/zip", 500, times=99))
        step = home.publish(run)
        assert step.answer.exit_code == 5
        assert "start the job that publishes again" in home.gate_comments()[0]
