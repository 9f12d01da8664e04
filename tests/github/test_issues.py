"""Issues of ours: one per cause, never somebody else's, never two."""

from __future__ import annotations

import pytest

from redline.errors import GitHubError, GitHubMissingError
from redline.github.issues import (
    close_issue,
    closed_by,
    issues_of,
    marker_of,
    open_issue,
    reopen_issue,
    update_issue,
)
from tests.fakes.github_api import Fault

LABEL = "redline"
BOT = "github-actions[bot]"


def body(cause_id: str, text: str = "what got worse") -> str:
    """An issue's text."""
    return f"{marker_of(cause_id)}\n{text}"


def test_an_issue_is_opened_with_its_label(api, github):
    """The label is made if the repository has none of that name."""
    issue = open_issue(github, title="Slower since v2", body=body("build:1"), label=LABEL)
    assert (issue.cause_id, issue.state, issue.labels) == ("build:1", "open", (LABEL,))
    assert api.state.labels[LABEL]["color"]
    assert issues_of(github, LABEL) == (issue,)


@pytest.mark.parametrize("fault", [{"drop": "after"}, {"drop": "before"}, {"status": 500, "after": True}, {"cut": 9}])
def test_a_lost_answer_opens_no_second_issue(api, github, fault):
    """Whether it was done or not."""
    api.faults.append(Fault("POST", "issues", **fault))
    issue = open_issue(github, title="Slower", body=body("build:1"), label=LABEL)
    assert [each["number"] for each in api.state.issues.values()] == [issue.number]


def test_the_same_cause_is_not_opened_twice(api, github):
    """Not after it was closed either: who wants it open again, reopens it."""
    first = open_issue(github, title="Slower", body=body("build:1"), label=LABEL)
    close_issue(github, first.number, "gone")
    again = open_issue(github, title="Slower", body=body("build:1"), label=LABEL)
    assert (again.number, again.state) == (first.number, "closed")


def test_a_new_issue_without_its_label_is_found(api, github):
    """A list by label may be a moment behind: the newest issues are looked at too."""
    first = open_issue(github, title="Slower", body=body("build:1"), label=LABEL)
    api.state.issues[first.number]["labels"] = []
    assert open_issue(github, title="Slower", body=body("build:1"), label=LABEL).number == first.number


def test_others_issues_are_not_ours(api, github):
    """Neither a stranger's with our marker and label, nor one of our bot's without a marker, nor a pull request."""
    api.state.open_issue("forged", body("build:1"), "mallory", labels=[LABEL])
    api.state.open_issue("dependency", "no marker", BOT, labels=[LABEL])
    api.state.open_issue("quoted", f"see {marker_of('build:1')}", BOT, labels=[LABEL])
    api.state.open_issue("pull", body("build:1"), BOT, labels=[LABEL], is_pull=True)
    assert issues_of(github, LABEL) == ()
    assert open_issue(github, title="Slower", body=body("build:1"), label=LABEL).number == 5


def test_issues_come_oldest_first_from_every_page(api, github):
    """And only those in the state that was asked for."""
    for number in range(130):
        api.state.open_issue(f"cause {number}", body(f"c:{number}"), BOT, labels=[LABEL])
    api.state.issues[5]["state"] = "closed"
    assert [each.number for each in issues_of(github, LABEL)] == list(range(1, 131))
    assert [each.number for each in issues_of(github, LABEL, state="closed")] == [5]


def test_an_update_asks_for_what_differs_only(api, github):
    """Nothing if nothing does."""
    issue = open_issue(github, title="Slower", body=body("build:1"), label=LABEL)
    writes = len(api.writes())
    update_issue(github, issue, title="Slower", body=body("build:1") + "\n")
    assert len(api.writes()) == writes
    update_issue(github, issue, title="Slower", body=body("build:1", "more of it"))
    assert api.writes()[-1].body == {"body": body("build:1", "more of it")}
    with pytest.raises(ValueError, match="marker"):
        update_issue(github, issue, title="Slower", body=body("build:2"))


def test_closing_says_why_once(api, github):
    """A first attempt that broke off between the comment and the closing adds no second comment."""
    issue = open_issue(github, title="Slower", body=body("build:1"), label=LABEL)
    why = "<!-- redline:closed:2026-11-22 -->\nIt is as fast again."
    api.faults.append(Fault("PATCH", f"issues/{issue.number}", 403))
    with pytest.raises(GitHubError):
        close_issue(github, issue.number, why)
    close_issue(github, issue.number, why)
    assert [each["body"] for each in api.state.comments_of(issue.number)] == [why]
    assert api.state.issues[issue.number]["state_reason"] == "completed"
    assert closed_by(github, issue.number) == BOT


def test_reopening_says_why(api, github):
    """And an open issue was closed by nobody."""
    issue = open_issue(github, title="Slower", body=body("build:1"), label=LABEL)
    close_issue(github, issue.number, "gone")
    reopen_issue(github, issue.number, "back")
    reopen_issue(github, issue.number)
    said = [each["body"].split("\n", 1)[1] for each in api.state.comments_of(issue.number)]
    assert said == ["gone", "back"]
    assert api.state.issues[issue.number]["state"] == "open"
    assert closed_by(github, issue.number) == ""


def test_a_repository_without_issues_is_a_clear_error(api, github):
    """410, and what to do about it."""
    api.faults.append(Fault("GET", "issues", 410, "Issues are disabled for this repo"))
    with pytest.raises(GitHubMissingError, match="settings"):
        issues_of(github, LABEL)


def test_a_label_that_was_made_meanwhile_is_no_error(api, github):
    """Two jobs make it at once."""
    api.state.labels[LABEL] = {"name": LABEL}
    api.faults.append(Fault("GET", "labels/.*", 404))
    open_issue(github, title="Slower", body=body("build:1"), label=LABEL)
    assert len(api.state.issues) == 1


@pytest.mark.parametrize("cause_id", ["", "a b", "a-->", "a\nb", "x" * 181])
def test_a_causes_id_cannot_end_its_marker(cause_id):
    """What could is refused."""
    with pytest.raises(ValueError, match="ID"):
        marker_of(cause_id)


@pytest.mark.parametrize(
    ("title", "text"),
    [("", body("a")), ("x" * 257, body("a")), ("two\nlines", body("a")), ("fine", "no marker"), ("fine", "")],
)
def test_what_github_would_refuse_is_not_asked(api, github, title, text):
    """Before anything is asked."""
    with pytest.raises(ValueError, match=r"title|marker"):
        open_issue(github, title=title, body=text, label=LABEL)
    assert api.asked == []
