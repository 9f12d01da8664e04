"""Check runs of ours: one that counts, its annotations once each, within GitHub's limits."""

from __future__ import annotations

import pytest

from redline.errors import GitHubError
from redline.github.checks import PAGE_CHARS_MAX, TITLE_CHARS_MAX, find_check, upsert_check
from redline.model import Annotation, CheckPage, Conclusion
from tests.fakes.github_api import TOKEN, Fault, Identity

NAME = "Redline"


@pytest.fixture
def head(api) -> str:
    """A commit."""
    return api.state.commit({"file": b"text"}, branch="main")


def remarks(count: int, word: str = "slower") -> tuple[Annotation, ...]:
    """So many annotations."""
    return tuple(
        Annotation("scenarios/offline.toml", 1, "failure", f"title {number}", f"{word} {number}")
        for number in range(count)
    )


def page(title: str = "Slower", count: int = 0, *, word: str = "slower", text: str = "all of it") -> CheckPage:
    """What a check shows."""
    return CheckPage(Conclusion.FAILURE, title, "a summary", text, remarks(count, word))


def put(github, head: str, shown: CheckPage, run: str = "17") -> str:
    """Publish it as the gate would."""
    return upsert_check(github, head, NAME, shown, external_id=run, details_url="https://example.test/run/17")


def messages(api, check_id: int) -> list[str]:
    """The annotations that a reader sees."""
    return [each["message"] for each in api.state.annotations[check_id]]


@pytest.mark.parametrize("count", [0, 1, 50, 51, 120])
def test_every_annotation_is_there_once(api, github, head, count):
    """Fifty a request; the verdict comes with the first."""
    url = put(github, head, page(count=count))
    (run,) = api.state.check_runs.values()
    assert run["html_url"] == url
    assert (run["status"], run["conclusion"], run["output"]["title"]) == ("completed", "failure", "Slower")
    assert messages(api, run["id"]) == [f"slower {number}" for number in range(count)]
    first = next(each for each in api.asked if (each.method, each.path) == ("POST", "check-runs"))
    assert first.body["conclusion"] == "failure"
    assert api.count("PATCH", "check-runs/.*") == max(0, -(-count // 50) - 1)


@pytest.mark.parametrize("count", [0, 3, 70])
def test_the_same_again_changes_nothing(api, github, head, count):
    """Not a single write."""
    first = put(github, head, page(count=count))
    writes = len(api.writes())
    assert put(github, head, page(count=count)) == first
    assert len(api.writes()) == writes


def test_a_change_without_annotations_is_made_in_place(api, github, head):
    """One check run, which says the last."""
    first = put(github, head, page("Slower"))
    assert put(github, head, page("Accepted")) == first
    assert [each["output"]["title"] for each in api.state.check_runs.values()] == ["Accepted"]


def test_a_change_of_the_text_keeps_the_annotations(api, github, head):
    """They are not sent again: GitHub would show them twice."""
    put(github, head, page("Slower", 60))
    put(github, head, page("Slower, accepted", 60))
    (run,) = api.state.check_runs.values()
    assert run["output"]["title"] == "Slower, accepted"
    assert len(messages(api, run["id"])) == 60


def test_further_annotations_are_added(api, github, head):
    """What is there is the beginning of what shall be there: the rest follows."""
    put(github, head, page(count=3))
    put(github, head, page(count=5))
    (run,) = api.state.check_runs.values()
    assert messages(api, run["id"]) == [f"slower {number}" for number in range(5)]


def test_other_annotations_take_a_new_check_run(api, github, head):
    """GitHub never takes one away: a new run of the same name stands in front of the old one."""
    put(github, head, page(count=3))
    put(github, head, page(count=2, word="still slower"))
    newest = max(api.state.check_runs)
    assert len(api.state.check_runs) == 2
    assert messages(api, newest) == ["still slower 0", "still slower 1"]
    put(github, head, page(count=2, word="still slower"))
    assert len(api.state.check_runs) == 2


@pytest.mark.parametrize("fault", [{"drop": "after"}, {"drop": "before"}, {"status": 502, "after": True}, {"cut": 20}])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_lost_answer_doubles_nothing(api, github, head, fault, method):
    """Neither the check run nor one of its annotations."""
    api.faults.append(Fault(method, "check-runs.*", **fault))
    put(github, head, page(count=120))
    (run,) = api.state.check_runs.values()
    assert messages(api, run["id"]) == [f"slower {number}" for number in range(120)]


def test_a_job_of_the_same_name_is_not_ours(api, github, head):
    """A pull request's own workflow can have a job called so, by the same app, and later than ours."""
    put(github, head, page("Slower"))
    forged = {"name": NAME, "head_sha": head, "status": "completed", "conclusion": "success", "external_id": "6f-2a"}
    github.post("check-runs", {**forged, "output": {"title": "All well", "summary": "forged"}})
    found = find_check(github, head, NAME)
    assert found is not None
    assert (found.title, found.conclusion, found.external_id) == ("Slower", "failure", "17")
    put(github, head, page("Slower still"))
    assert [each["output"]["title"] for each in api.state.check_runs.values()] == ["Slower still", "All well"]


def test_another_apps_check_is_not_ours(api, github, head):
    """Whatever it calls itself."""
    api.state.tokens["other"] = Identity("another-app[bot]")
    put(github, head, page("Slower"))
    next(iter(api.state.check_runs.values()))["app"]["slug"] = "another-app"
    assert find_check(github, head, NAME) is None


def test_without_a_check_there_is_none(github, head):
    """None, not an error."""
    assert find_check(github, head, NAME) is None


def test_what_is_too_long_is_cut_not_lost(api, github, head):
    """A verdict that GitHub would reject whole is shown in part, and says so."""
    long = CheckPage(Conclusion.FAILURE, "t" * 300, "s" * 70_000, "x" * 70_000, remarks(1, "w" * 70_000))
    put(github, head, long)
    (run,) = api.state.check_runs.values()
    assert len(run["output"]["title"]) == TITLE_CHARS_MAX
    assert len(run["output"]["summary"]) == PAGE_CHARS_MAX
    assert run["output"]["text"].endswith("(cut: GitHub takes no more)")


def test_a_check_that_was_removed_meanwhile_is_made_anew(api, github, head):
    """Between looking and changing."""
    put(github, head, page("Slower"))
    api.faults.append(Fault("PATCH", "check-runs/.*", 404))
    put(github, head, page("Faster"))
    assert max(api.state.check_runs.items())[1]["output"]["title"] == "Faster"


def test_a_persons_token_cannot_make_checks(api, github, head):
    """GitHub lets apps make them only; the error is its own words."""
    api.state.tokens[TOKEN] = Identity("some-person")
    with pytest.raises(GitHubError, match="GitHub App"):
        put(github, head, page())


@pytest.mark.parametrize("sha", ["", "main", "..", "A" * 40, "a" * 41])
def test_a_check_belongs_to_a_commit(api, github, sha):
    """What is no commit never reaches a path."""
    with pytest.raises(ValueError, match="40 hex digits"):
        put(github, sha, page())
    with pytest.raises(ValueError, match="40 hex digits"):
        find_check(github, sha, NAME)
    assert api.asked == []
