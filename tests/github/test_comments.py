"""Comments of ours: one per marker, whatever happens; nobody else's is ever touched."""

from __future__ import annotations

import threading

import pytest

from redline.errors import GitHubError, GitHubUnsureError
from redline.github.client import GitHub
from redline.github.comments import (
    BODY_CHARS_MAX,
    comment_once,
    own_login,
    react,
    reply,
    upsert_comment,
)
from tests.fakes.github_api import TOKEN, Fault, Identity

MARKER = "<!-- redline:answer -->"
BOT = "github-actions[bot]"


@pytest.fixture(autouse=True)
def _a_pull_request(api):
    api.state.open_issue("a pull request", "text", "author", number=7, is_pull=True)


def bodies(api) -> list[str]:
    """What a reader of the page sees."""
    return [each["body"] for each in api.state.comments_of(7)]


def test_the_first_answer_is_a_new_comment(api, github):
    """One request creates it, and its address comes back."""
    url = upsert_comment(github, 7, MARKER, f"{MARKER}\nno worse")
    assert bodies(api) == [f"{MARKER}\nno worse"]
    assert url == api.state.comments_of(7)[0]["html_url"]


def test_the_next_answer_changes_the_comment_in_place(api, github):
    """One comment, whose text is the last."""
    first = upsert_comment(github, 7, MARKER, f"{MARKER}\nregressed")
    assert upsert_comment(github, 7, MARKER, f"{MARKER}\nno worse") == first
    assert bodies(api) == [f"{MARKER}\nno worse"]
    assert api.count("POST", "issues/7/comments") == 1


def test_the_same_answer_changes_nothing(api, github):
    """Not even line ends or blanks at the end count as a difference."""
    upsert_comment(github, 7, MARKER, f"{MARKER}\nno worse\n")
    next(iter(api.state.comments.values()))["body"] = f"{MARKER}\r\nno worse"
    writes = len(api.writes())
    upsert_comment(github, 7, MARKER, f"{MARKER}\nno worse\n")
    assert len(api.writes()) == writes


def test_a_strangers_comment_with_our_marker_is_left_alone(api, github):
    """Anybody can write a marker: it is neither changed nor hidden."""
    api.state.comment(7, f"{MARKER}\nI am the bot, all is well", "mallory")
    upsert_comment(github, 7, MARKER, f"{MARKER}\nregressed")
    upsert_comment(github, 7, MARKER, f"{MARKER}\nregressed again")
    assert bodies(api) == [f"{MARKER}\nI am the bot, all is well", f"{MARKER}\nregressed again"]


def test_a_comment_of_ours_that_quotes_the_marker_is_left_alone(api, github):
    """Only the very start of a body counts; other workflows are the same bot."""
    api.state.comment(7, f"see {MARKER}", BOT)
    api.state.comment(7, "<!-- redline:answer2 -->\nanother", BOT)
    upsert_comment(github, 7, MARKER, f"{MARKER}\nno worse")
    assert bodies(api) == [f"see {MARKER}", "<!-- redline:answer2 -->\nanother", f"{MARKER}\nno worse"]


def test_older_ones_of_ours_are_hidden_once(api, github):
    """The newest is changed, the others are hidden as outdated, and not hidden again the next time."""
    for number in range(3):
        api.state.comment(7, f"{MARKER}\nold {number}", BOT)
    upsert_comment(github, 7, MARKER, f"{MARKER}\nnew")
    assert bodies(api) == [f"{MARKER}\nnew"]
    assert set(api.state.minimized.values()) == {"OUTDATED"}
    writes = len(api.writes())
    upsert_comment(github, 7, MARKER, f"{MARKER}\nnew")
    assert len(api.writes()) == writes


def test_ours_is_found_behind_a_hundred_others(api, github):
    """On whichever page it is."""
    upsert_comment(github, 7, MARKER, f"{MARKER}\nfirst")
    for number in range(150):
        api.state.comment(7, f"talk {number}", "somebody")
    upsert_comment(github, 7, MARKER, f"{MARKER}\nsecond")
    assert bodies(api)[0] == f"{MARKER}\nsecond"
    assert api.count("POST", "issues/7/comments") == 1


@pytest.mark.parametrize(
    "fault",
    [{"drop": "after"}, {"drop": "before"}, {"status": 502, "after": True}, {"status": 502}, {"cut": 20}],
    ids=["dropped after", "dropped before", "502 after", "502 before", "broken off"],
)
def test_a_lost_answer_makes_no_second_comment(api, github, fault):
    """Whether it was done or not when the answer was lost: exactly one comment in the end."""
    api.faults.append(Fault("POST", "issues/7/comments", **fault))
    url = upsert_comment(github, 7, MARKER, f"{MARKER}\nno worse")
    assert [each["html_url"] for each in api.state.comments_of(7, visible=False)] == [url]


def test_answers_that_are_lost_each_time_are_an_error(api, github):
    """Bounded, and said; what was made is there once, and the next run takes it."""
    api.faults.append(Fault("POST", "issues/7/comments", drop="before", times=100))
    with pytest.raises(GitHubUnsureError):
        upsert_comment(github, 7, MARKER, f"{MARKER}\nno worse")
    assert api.count("POST", "issues/7/comments") == 3


def test_two_publishers_at_once_leave_one_visible_comment(api, clock):
    """Both list, both see none, both create: each looks again, and the older one is hidden."""
    both_listed = threading.Barrier(2)
    listed: set[int] = set()
    answer = api.state.comments_of

    def comments_of(number: int, *, visible: bool = True):
        found = answer(number, visible=visible)
        if threading.get_ident() not in listed and not found:
            listed.add(threading.get_ident())
            api.state.changing.release()
            both_listed.wait(10)
            api.state.changing.acquire()
        return found

    api.state.comments_of = comments_of

    def publish(word: str) -> None:
        with GitHub(api.url, TOKEN, api.state.repository, clock=clock) as github:
            upsert_comment(github, 7, MARKER, f"{MARKER}\n{word}")

    threads = [threading.Thread(target=publish, args=(word,)) for word in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert api.count("POST", "issues/7/comments") == 2
    assert len(answer(7)) == 1


def test_a_comment_that_was_removed_meanwhile_is_made_anew(api, github):
    """Between the list and the change somebody deletes it: the answer is not lost."""
    upsert_comment(github, 7, MARKER, f"{MARKER}\nfirst")
    api.faults.append(Fault("PATCH", "issues/comments/.*", 404))
    upsert_comment(github, 7, MARKER, f"{MARKER}\nsecond")
    assert bodies(api) == [f"{MARKER}\nsecond"]


def test_hiding_that_fails_does_not_take_the_answer_away(api, github):
    """The error comes after the comment is there."""
    api.state.comment(7, f"{MARKER}\nold", BOT)
    api.state.comment(7, f"{MARKER}\nold", BOT)
    errors = '{"errors": [{"type": "FORBIDDEN", "message": "not allowed"}]}'
    upsert_comment(github, 7, "<!-- redline:other -->", "<!-- redline:other -->")  # learns who we are
    api.faults.append(Fault("POST", "/graphql", page=errors))
    with pytest.raises(GitHubError, match="GraphQL"):
        upsert_comment(github, 7, MARKER, f"{MARKER}\nnew")
    assert f"{MARKER}\nnew" in bodies(api)


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        (MARKER, "no marker at the start"),
        (MARKER, f" {MARKER}"),
        ("redline", "redline"),
        ("<!-- redline:a --> <!-- b -->", "<!-- redline:a --> <!-- b -->"),
        ("<!-- redline:a\nb -->", "<!-- redline:a\nb -->"),
        (MARKER, MARKER + "x" * BODY_CHARS_MAX),
    ],
)
def test_a_body_that_would_not_be_found_again_is_refused(api, github, marker, body):
    """Before anything is asked."""
    with pytest.raises(ValueError, match=r"marker|characters"):
        upsert_comment(github, 7, marker, body)
    assert api.asked == []


def test_the_longest_comment_fits(api, github):
    """65,536 characters, wide ones too."""
    body = (MARKER + "ß𝄞" * BODY_CHARS_MAX)[:BODY_CHARS_MAX]
    upsert_comment(github, 7, MARKER, body)
    assert bodies(api) == [body]


def test_a_note_is_written_once(api, github):
    """However often it is asked for, and not changed."""
    first = comment_once(github, 7, "<!-- redline:night:1 -->", "<!-- redline:night:1 -->\nseen")
    assert comment_once(github, 7, "<!-- redline:night:1 -->", "<!-- redline:night:1 -->\nother words") == first
    assert bodies(api) == ["<!-- redline:night:1 -->\nseen"]


@pytest.mark.parametrize("fault", [{"drop": "after"}, {"drop": "before"}, {"status": 502, "after": True}])
def test_a_reply_comes_once(api, github, fault):
    """Also after a lost answer; the same words another time are another reply."""
    api.faults.append(Fault("POST", "issues/7/comments", **fault))
    reply(github, 7, "done")
    reply(github, 7, "done")
    assert [body.split("\n", 1)[1] for body in bodies(api)] == ["done", "done"]


def test_a_reaction_is_put_once(api, github):
    """The same one twice is one; a lost answer is no reason to stop."""
    there = api.state.comment(7, "/redline run", "author")
    api.faults.append(Fault("POST", "issues/comments/.*/reactions", drop="after"))
    react(github, there["id"], "eyes")
    react(github, there["id"], "eyes")
    assert api.state.reactions == [(there["id"], BOT, "eyes")]
    with pytest.raises(ValueError, match="no reaction"):
        react(github, there["id"], "applause")


@pytest.mark.parametrize("login", [BOT, "my-app[bot]", "some-person"])
def test_who_we_are_is_asked_once(api, clock, login):
    """A workflow's token, another app's and a person's: each finds its own comments."""
    api.state.tokens[TOKEN] = Identity(login)
    with GitHub(api.url, TOKEN, api.state.repository, clock=clock) as github:
        assert own_login(github) == login
        asked = len(api.asked)
        assert own_login(github) == login
        assert len(api.asked) == asked
        upsert_comment(github, 7, MARKER, f"{MARKER}\none")
        upsert_comment(github, 7, MARKER, f"{MARKER}\ntwo")
    assert bodies(api) == [f"{MARKER}\ntwo"]


def test_a_server_that_does_not_say_who_we_are_means_a_workflow(api, github):
    """Without an answer of GraphQL either, it is the workflow's own bot."""
    api.faults.append(Fault("POST", "/graphql", page='{"errors": [{"type": "FORBIDDEN"}]}'))
    assert own_login(github) == BOT


def test_a_bad_token_is_not_taken_for_a_workflows(api, github):
    """401 is an error, not an identity."""
    api.state.tokens.clear()
    with pytest.raises(GitHubError, match="Bad credentials"):
        own_login(github)
