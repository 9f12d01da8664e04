"""What a pull request is told after its gate: one comment, one check run, whatever happened in which order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.service.leg_jobs import job_name
from redline.errors import ContentError, UsageError
from tests.fakes.github_api import Fault
from tests.reports import situations
from tests.service.gate_house import (
    BASE_SHA,
    HEAD_SHA,
    NEXT_SHA,
    NUMBER,
    House,
    house,
    measured,
    team_content,
)

REBASED_SHA = "4" * 40


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
        assert check["external_id"].startswith(f"redline:{run['id']}/1/{NUMBER}/{BASE_SHA[:12]}/")
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


def test_when_every_leg_died_the_commit_that_was_measured_says_so(tmp_path):
    """The jobs' names say which commit it was, so a push since then does not take the blame."""
    with house(tmp_path) as home:
        run = home.gate_run("failure")
        home.leg(run, None, "cpu", "failure")
        home.push(NEXT_SHA)
        home.publish(run)
        assert home.check(HEAD_SHA)["conclusion"] == "failure"
        assert home.checks(NEXT_SHA) == []


@pytest.mark.parametrize("situation", ["nothing decided", "skipped", "cancelled"])
def test_where_nothing_was_measured_nothing_is_told(tmp_path, situation):
    """Most runs of the gate's workflow are comments that asked for nothing."""
    with house(tmp_path) as home:
        run = home.gate_run("cancelled" if situation == "cancelled" else "success")
        if situation == "skipped":
            home.state.job(run["id"], "leg", "skipped")
            home.leg(run, None, "cpu", "skipped")
        elif situation == "cancelled":
            home.leg(run, None, "cpu", "cancelled")
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


def test_a_cancelled_leg_does_not_hide_what_the_others_found(tmp_path):
    """GitHub calls the whole run cancelled as soon as one leg was; an older pass must not stay for that."""
    with house(tmp_path) as home:
        home.publish(measured(home, situations.no_worse()))
        run = home.gate_run("cancelled")
        home.leg(run, home.leg_folder(situations.regressed()), "cpu", "failure")
        home.leg(run, None, "h100-1", "cancelled")
        home.publish(run)
        assert home.check()["conclusion"] == "failure"
        assert "17.0 %" in home.gate_comments()[0]
        assert "was cancelled before it handed in a result" in home.gate_comments()[0]


@pytest.mark.parametrize(("hours", "told"), [(24, True), (2, False)])
def test_a_leg_that_no_machine_took_for_a_day_is_told(tmp_path, hours, told):
    """GitHub cancels it; somebody who ends a waiting run by hand does so earlier, and is told nothing."""
    with house(tmp_path) as home:
        run = home.gate_run("cancelled")
        job = home.leg(run, None, "cpu", "cancelled")
        since = datetime(2026, 11, 20, tzinfo=UTC)
        job |= {"created_at": since.isoformat(), "completed_at": (since + timedelta(hours=hours)).isoformat()}
        job |= {"runner_name": ""}
        home.publish(run)
        assert bool(home.checks()) == told
        assert [True for page in home.gate_comments() if "no machine of its class" in page] == [True] * told


def test_a_leg_whose_runner_class_is_gone_is_no_pass(tmp_path):
    """It was in service.toml when the gate was started: what it found is not known, and not left out."""
    with house(tmp_path) as home:
        run = measured(home)
        home.leg(run, home.leg_folder(situations.regressed(), "h200-1"), "h200-1", "failure")
        home.publish(run)
        assert home.check()["conclusion"] == "failure"
        assert "h200-1" in home.gate_comments()[0]
        assert "no gate on this runner class any more" in home.gate_comments()[0]


def dated(home: House, run: dict[str, Any], *, attempt: int) -> None:
    """This was the run's attempt: jobs of attempt N begin at N o'clock, what was new by now came at half past."""
    run["run_attempt"] = attempt
    for job in home.state.jobs[run["id"]]:
        job["started_at"] = f"2026-11-20T0{job['run_attempt']}:00:00Z"
    for artifact in home.state.artifacts.values():
        if not artifact["created_at"].startswith("2026-11-20T"):
            artifact["created_at"] = f"2026-11-20T0{attempt}:30:00Z"


def test_a_leg_that_was_not_started_again_still_counts(tmp_path):
    """One leg of two is repeated: the other one's verdict, of the first attempt, stays part of the answer."""
    with house(tmp_path) as home:
        run = home.gate_run("failure")
        home.state.job(run["id"], "decide")
        home.leg(run, home.leg_folder(situations.regressed()), "cpu", "failure")
        home.leg(run, None, "h100-1", "failure")
        dated(home, run, attempt=1)
        home.leg(run, home.leg_folder(situations.no_worse(), "h100-1"), "h100-1", attempt=2)
        dated(home, run, attempt=2)
        home.publish(run)
        assert home.check()["conclusion"] == "failure"
        assert "17.0 %" in home.gate_comments()[0]
        assert "h100-1" in home.gate_comments()[0]


def test_when_all_was_started_again_the_first_decision_counts_no_more(tmp_path):
    """`decide` took a newer commit, and had one leg less: nothing of the first attempt is mixed in."""
    with house(tmp_path) as home:
        run = home.gate_run("failure")
        home.state.job(run["id"], "decide")
        home.leg(run, None, "cpu", "failure")
        home.leg(run, None, "h100-1", "failure")
        dated(home, run, attempt=1)
        home.push(NEXT_SHA)
        home.state.job(run["id"], "decide", attempt=2)
        home.leg(run, home.leg_folder(head_sha=NEXT_SHA), commits=(BASE_SHA, NEXT_SHA), attempt=2)
        dated(home, run, attempt=2)
        home.publish(run)
        assert home.check(NEXT_SHA)["conclusion"] == "success"
        assert home.checks(HEAD_SHA) == []
        assert "h100-1" not in home.gate_comments()[0]


def test_an_answer_that_was_late_is_still_of_its_own_attempt(tmp_path):
    """The run was started again before the first answer was told: the second attempt's jobs are none of its legs."""
    with house(tmp_path) as home:
        run = home.gate_run("failure")
        home.state.job(run["id"], "decide")
        home.leg(run, home.leg_folder(situations.regressed()), "cpu", "failure")
        dated(home, run, attempt=1)
        late = dict(run)
        home.leg(run, None, "cpu", "failure", attempt=2)
        dated(home, run, attempt=2)
        home.publish(late)
        assert home.check()["conclusion"] == "failure"
        assert "17.0 %" in home.gate_comments()[0]
        home.state.artifacts.clear()
        home.state.upload(run["id"], "leg-cpu", home.leg_folder(situations.no_worse()))
        dated(home, run, attempt=2)
        home.publish(late)
        assert "No worse" not in home.gate_comments()[0], "it is the second attempt's"
        assert "was started again" in home.gate_comments()[0]


def test_a_name_that_github_would_cut_starts_nothing():
    """A cut name could not be read again, and two legs could have the same one."""
    assert len(job_name("h" * 31, BASE_SHA, HEAD_SHA, chosen=True)) == 97
    with pytest.raises(ContentError, match="too long for the gate") as refused:
        job_name("h" * 32, BASE_SHA, HEAD_SHA)
    assert (refused.value.expected, refused.value.found) == ("at most 31 characters", "32")


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
        fresh = measured(home, situations.improved(), commits=(BASE_SHA, NEXT_SHA))
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


def test_a_forced_push_leaves_the_verdict_where_it_was_measured(tmp_path):
    """The commit is none of the pull request's any more: its check run is written, and the new head gets none."""
    with house(tmp_path) as home:
        run = measured(home, situations.regressed())
        home.push(REBASED_SHA, parent=BASE_SHA)
        home.publish(run)
        assert home.check(HEAD_SHA)["conclusion"] == "failure"
        assert home.checks(REBASED_SHA) == []
        assert "Outdated" in home.gate_comments()[0]
        assert HEAD_SHA[:12] in home.gate_comments()[0]


def test_a_run_that_does_not_say_what_it_measured_gets_no_check_run(tmp_path):
    """Jobs that another version of the workflow named: nobody knows which commit a check run would belong to."""
    with house(tmp_path) as home:
        run = home.gate_run("failure")
        home.state.job(run["id"], "leg cpu", "success")
        home.state.upload(run["id"], "leg-cpu", home.leg_folder())
        home.publish(run)
        assert home.state.check_runs == {}
        assert "does not say which commits it measured" in home.gate_comments()[0]
        assert "No worse" not in home.gate_comments()[0]


def test_an_artifact_that_github_does_not_give_is_no_death(tmp_path):
    """The words say to publish again, and the job fails, so that somebody does."""
    with house(tmp_path) as home:
        run = measured(home)
        home.api.faults.append(Fault("GET", r"actions/artifacts/\d+/zip", 500, times=99))
        step = home.publish(run)
        assert step.answer.exit_code == 5
        assert "start the job that publishes again" in home.gate_comments()[0]
