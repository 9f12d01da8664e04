"""Commands in comments: who may, what they start, and that strangers are told nothing."""

from __future__ import annotations

import pytest

from redline.github.commands import AcceptCommand, RunCommand, StatusCommand, UnknownCommand, read_command
from tests.fakes.github_api import Fault
from tests.service.gate_house import (
    BASE_SHA,
    HEAD_SHA,
    NUMBER,
    SERVICE,
    changed,
    command,
    house,
    payload,
    team_content,
)

KNOWN = ("offline-short", "server-short", "deadbeef")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("/redline run", RunCommand()),
        ("/redline run\r\nand some words", RunCommand()),
        ("  /redline   run  offline-short  ", RunCommand(("offline-short",))),
        ("/redline run offline-short server-short abcdef1", RunCommand(("offline-short", "server-short"), "abcdef1")),
        ("/redline run ABCDEF1", RunCommand((), "abcdef1")),
        ("/redline run deadbeef", RunCommand(("deadbeef",))),
        ("/redline run offline-short offline-short", RunCommand(("offline-short",))),
        ("/redline status", StatusCommand()),
        ("/redline accept-regression it is correct now", AcceptCommand("it is correct now")),
        ("/redlines run", None),
        ("please /redline run", None),
        ("\n/redline run", None),
        ("> /redline run", None),
        ("`/redline run`", None),
        ("", None),
    ],
)
def test_commands(body, expected):
    """The first line is a command or is none; what stands below it does not count."""
    assert read_command(body, KNOWN) == expected


@pytest.mark.parametrize(
    "body",
    [
        "/redline",
        "/redline go",
        "/redline run no-such-scenario",
        "/redline run abcdef",
        "/redline run abcdef1 abcdef2",
        "/redline run ../../etc/passwd",
        "/redline run --suite default",
        "/redline run " + "offline-short " * 60,
        "/redline status now",
        "/redline accept-regression",
        "/redline accept-regression because so",
        "/redline accept-regression " + "word " * 300,
    ],
)
def test_what_is_no_command_is_said_to_be_none(body):
    """Nothing is guessed: an option, a path or an unknown name is refused whole."""
    assert isinstance(read_command(body, KNOWN), UnknownCommand)


@pytest.fixture(autouse=True)
def _content(tmp_path, monkeypatch):
    """The default branch's reviewed content."""
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "content")))


def _reactions(home):
    return [each[2] for each in home.state.reactions]


def test_run_with_scenarios(tmp_path):
    """The scenarios that were named take the place of each leg's own, where its class can serve them."""
    with house(tmp_path) as home:
        step = home.decide("issue_comment", command("/redline run server-short offline-short"))
        assert [row["select"] for row in step.legs] == ["--scenario server-short --scenario offline-short"]
        assert "`h100-1`: it cannot serve" in step.summary
        assert all(row["job"].endswith(" chosen") for row in step.legs), "its answer is no answer for the whole"
        assert _reactions(home) == ["rocket"]
        assert len(home.comments()) == 1


def test_a_forks_commit_must_be_named(tmp_path):
    """What was pushed after the page was read is not run."""
    with house(tmp_path, fork=True) as home:
        assert home.decide("issue_comment", command("/redline run")).legs == []
        assert "must be named" in home.comments()[-1]
        assert HEAD_SHA[:7] not in home.comments()[-1]
        assert home.decide("issue_comment", command(f"/redline run {HEAD_SHA}")).legs
        home.push("6" * 40)
        assert home.decide("issue_comment", command(f"/redline run {HEAD_SHA}", comment_id=5001)).legs == []


@pytest.mark.parametrize("digits", [7, 39])
def test_a_forks_commit_with_the_same_first_digits_is_another(tmp_path, digits):
    """Whoever read one commit has not read its twin: first digits can be made to agree, whole names cannot."""
    twin = HEAD_SHA[:digits] + "e" * (40 - digits)
    with house(tmp_path, fork=True) as home:
        home.push(twin)
        event = payload("workflow_dispatch")
        event["inputs"] |= {"commit": HEAD_SHA[:digits]}
        assert home.decide("workflow_dispatch", event).legs == []
        assert home.decide("issue_comment", command(f"/redline run {HEAD_SHA[:digits]}")).legs == []
        assert "all its 40 digits" in home.comments()[-1]
        assert home.decide("issue_comment", command(f"/redline run {HEAD_SHA}", comment_id=5002)).legs == []


def test_a_commit_of_a_branch_of_this_repository_may_be_named_in_short(tmp_path):
    """Whoever pushes there could start the gate himself."""
    with house(tmp_path) as home:
        assert home.decide("issue_comment", command(f"/redline run {HEAD_SHA[:7]}")).legs
        assert home.decide("issue_comment", command("/redline run 4444444", comment_id=5002)).legs == []


def test_a_choice_of_scenarios_says_nothing_about_the_required_check(tmp_path, monkeypatch):
    """Not even that there is nothing to compare, or that what there is cannot be measured: the command is answered."""
    pins_only = SERVICE.replace('gate = "commit:{sha}/cu130"', 'nightly = "nightly"')
    assert pins_only != SERVICE
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "pins-only", pins_only)))
    with house(tmp_path) as home:
        home.push("4" * 40, BASE_SHA)
        assert home.decide("issue_comment", command("/redline run offline-short")).legs == []
        assert home.checks("4" * 40) == []
        assert "the same build" in home.comments()[-1]
        home.decide("issue_comment", command("/redline run", comment_id=5002))
        assert home.check("4" * 40)["conclusion"] == "neutral"


@pytest.mark.parametrize("author", ["newcomer", "sorter", "nobody-knows"])
@pytest.mark.parametrize(
    "body", ["/redline run", "/redline what", "/redline status", "/redline accept-regression a b c"]
)
def test_strangers_get_a_reaction_and_no_word(tmp_path, author, body):
    """Whoever may not start the gate cannot make it write: no reply, no check run, no leg."""
    with house(tmp_path) as home:
        step = home.decide("issue_comment", command(body, author))
        assert step.legs == []
        assert len(home.comments()) == 1
        assert home.state.check_runs == {}
        assert _reactions(home) == ["confused"]


def test_an_unknown_command_is_answered_with_the_three(tmp_path):
    """Once, also if the job is run again; what is quoted is quoted as text."""
    event = command("/redline `@everyone`<b>](x)")
    with house(tmp_path) as home:
        home.decide("issue_comment", event)
        home.decide("issue_comment", event)
        assert len(home.comments()) == 2
        answer = home.comments()[-1]
        for form in ("/redline run [SCENARIO ...] [COMMIT]", "/redline status", "/redline accept-regression REASON"):
            assert f"`{form}`" in answer
        assert "`` `@everyone`<b>](x) ``" in answer


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "edited"},
        {"action": "deleted"},
        {"comment__user__type": "Bot"},
        {"comment__body": "looks good"},
        {"comment__body": None},
    ],
)
def test_other_comments_cost_no_request(tmp_path, changes):
    """Edits, programs, and everybody's talk: nothing is asked, nothing is started."""
    with house(tmp_path) as home:
        step = home.decide("issue_comment", changed(command("/redline run"), **changes))
        assert step.legs == []
        assert home.api.asked == []


def test_a_comment_on_an_issue_is_none_of_a_pull_request(tmp_path):
    """Issues have nothing to gate."""
    event = command("/redline run")
    del event["issue"]["pull_request"]
    with house(tmp_path) as home:
        assert home.decide("issue_comment", event).legs == []
        assert home.api.asked == []


def test_status_says_what_is_known(tmp_path):
    """Nothing yet, and which run is being measured."""
    with house(tmp_path) as home:
        home.gate_run(conclusion=None)
        home.decide("issue_comment", command("/redline status"))
        assert "Nothing is known of the newest commit" in home.comments()[-1]
        assert home.comments()[-1].count("In progress") == 1


def test_a_closed_pull_request_is_said_to_be_closed(tmp_path):
    """The command's author is told why nothing happens."""
    with house(tmp_path) as home:
        home.state.pulls[NUMBER]["state"] = "closed"
        assert home.decide("issue_comment", command("/redline run")).legs == []
        assert "closed" in home.comments()[-1]


def test_a_reaction_that_fails_stops_nothing(tmp_path):
    """The comment was deleted, or the token may not react: what was asked for runs all the same."""
    with house(tmp_path) as home:
        home.api.faults.append(Fault("POST", "issues/comments/.*/reactions", 404, times=9))
        step = home.decide("issue_comment", command("/redline run"))
        assert step.legs
        assert "reaction could not be done" in step.summary


def test_without_an_answer_about_permission_nothing_runs(tmp_path):
    """An API that does not answer is no permission."""
    from redline.errors import GitHubError

    with house(tmp_path) as home:
        home.api.faults.append(Fault("GET", "collaborators/.*", 502, times=99))
        with pytest.raises(GitHubError):
            home.decide("issue_comment", command("/redline run"))
        assert home.api.writes() == []
