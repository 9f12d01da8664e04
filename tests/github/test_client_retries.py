"""Rate limits, server errors and connections that break: what is asked again, when, and how often."""

from __future__ import annotations

import socket
import time

import pytest

from redline.errors import GitHubError, GitHubUnsureError
from redline.github.client import GitHub
from redline.github.waiting import ATTEMPTS_MAX, WAIT_S_MAX, limited_s, retry_after_s
from tests.fakes.github_api import REPOSITORY, TOKEN, Fault

ISSUE = {"title": "one", "body": "text"}


@pytest.fixture(autouse=True)
def _an_issue(api):
    api.state.open_issue("a title", "text", "somebody", number=3)


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 502}, {"status": 503}, {"drop": "before"}, {"cut": 10}])
def test_a_question_is_asked_again(api, github, waits, fault):
    """Server errors, dropped connections and answers that break off: asked until it works, waiting longer each time."""
    api.faults.append(Fault("GET", "issues/3", times=3, **fault))
    assert github.get("issues/3")["number"] == 3
    assert len(api.asked) == 4
    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("fault", [{"status": 502}, {"drop": "before"}, {"drop": "after"}, {"cut": 10}])
def test_a_change_that_can_be_repeated_is(api, github, fault):
    """PATCH sets what it sets, however often."""
    api.faults.append(Fault("PATCH", "issues/3", times=2, **fault))
    assert github.patch("issues/3", {"title": "new"})["title"] == "new"
    assert api.state.issues[3]["title"] == "new"


@pytest.mark.parametrize(
    "fault", [{"status": 502}, {"status": 500, "after": True}, {"drop": "before"}, {"drop": "after"}, {"cut": 10}]
)
def test_a_creation_is_not_repeated(api, github, waits, fault):
    """Nobody can tell whether it was done: one request, and an error that says just that."""
    api.faults.append(Fault("POST", "issues", **fault))
    with pytest.raises(GitHubUnsureError, match="answer"):
        github.post("issues", ISSUE)
    assert api.count("POST", "issues") == 1
    assert waits == []


def test_a_creation_that_was_turned_away_is_repeated(api, github, waits):
    """What a rate limit refused was not done."""
    api.faults.append(Fault.secondary("POST", "issues", 7))
    github.post("issues", ISSUE)
    assert waits == [7.0]
    assert len(api.state.issues) == 2


def test_a_creation_that_never_left_is_repeated(waits, clock):
    """Nobody listens: connecting fails each time, and the error says that GitHub cannot be reached."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))  # and never listens: nobody else gets the port meanwhile
        unheard = GitHub(f"http://127.0.0.1:{mute.getsockname()[1]}", TOKEN, REPOSITORY, clock=clock)
        with unheard as github, pytest.raises(GitHubError, match="cannot be reached") as caught:
            github.post("issues", ISSUE)
    assert not isinstance(caught.value, GitHubUnsureError)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_attempts_are_bounded(api, github, waits):
    """A server that fails for ever is asked six times; the error carries the status."""
    api.faults.append(Fault("GET", "issues/3", 503, times=1_000))
    with pytest.raises(GitHubError) as caught:
        github.get("issues/3")
    assert caught.value.status == 503
    assert len(api.asked) == ATTEMPTS_MAX
    assert sum(waits) <= WAIT_S_MAX


def test_dropped_connections_are_bounded(api, github):
    """The same where there is no status at all."""
    api.faults.append(Fault("GET", "issues/3", drop="before", times=1_000))
    with pytest.raises(GitHubError, match="does not answer"):
        github.get("issues/3")
    assert len(api.asked) == ATTEMPTS_MAX


def test_the_primary_limit_is_waited_for(api, github, waits, clock):
    """Until the instant that GitHub names, and a second more."""
    lifted_s = int(time.time()) + 100
    api.faults.append(Fault.primary("GET", "issues/3", lifted_s))
    assert github.get("issues/3")["number"] == 3
    assert 0 < waits[0] <= 102
    assert clock.epoch_s() >= lifted_s + 1


def test_the_primary_limit_is_read_on_githubs_clock(api, github, waits):
    """A machine whose clock is an hour off waits as long as GitHub's own date says."""
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1763726460", "date": "Fri, 21 Nov 2025 12:00:00 GMT"}
    assert limited_s(403, headers, "", 0, now_epoch_s=0.0) == pytest.approx(61.0)


def test_a_limit_that_lasts_too_long_is_an_error(api, github, waits):
    """An hour is not waited for: the error says when to come again."""
    api.faults.append(Fault.primary("GET", "issues/3", time.time() + 3_000))
    with pytest.raises(GitHubError, match="in 50 minutes"):
        github.get("issues/3")
    assert waits == []


def test_all_waits_of_a_client_together_are_bounded(api, github, waits):
    """Not each request for itself: a step of a job comes to its end."""
    api.faults.append(Fault.secondary("GET", "issues/3", 200, times=1_000))
    with pytest.raises(GitHubError, match=r"HTTP status 403"):
        github.get("issues/3")
    assert waits == [200.0] * 4


def test_a_secondary_limit_without_a_time_is_waited_for_longer_each_time(api, github, waits):
    """A minute at least, then twice as long: as GitHub asks for."""
    api.faults.append(Fault.secondary("GET", "issues/3", times=2))
    github.get("issues/3")
    assert waits == [60.0, 120.0]


def test_a_limit_of_graphql_is_waited_for(api, github, waits):
    """It comes with status 200, and without a time."""
    errors = '{"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}'
    api.faults.append(Fault("POST", "/graphql", page=errors))
    assert github.graphql("query{viewer{login}}", {}, repeatable=True)["viewer"]["login"] == "github-actions[bot]"
    assert waits == [60.0]


def test_a_missing_right_is_not_taken_for_a_limit(api, github, waits):
    """403 is most often no limit at all."""
    api.faults.append(Fault("GET", "issues/3", 403, "Resource not accessible by integration"))
    with pytest.raises(GitHubError):
        github.get("issues/3")
    assert waits == []


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        ("30", 30.0),
        ("0", 0.0),
        ("Fri, 21 Nov 2025 12:00:30 GMT", 30.0),
        ("Fri, 21 Nov 2025 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value, expected_s):
    """Both forms of the header are read; what is neither is no header."""
    assert retry_after_s({"retry-after": value}, now_epoch_s=1763726400.0) == expected_s


def test_a_silent_server_is_given_up_on(api, clock):
    """An answer that does not come within the client's time limit is asked for again, and once more if need be."""
    with GitHub(api.url, TOKEN, REPOSITORY, clock=clock, silence_s=0.5) as github:
        api.faults.append(Fault("GET", "issues/3", delay_s=60))
        assert github.get("issues/3")["number"] == 3
    assert 2 <= api.count("GET", "issues/3") <= ATTEMPTS_MAX
