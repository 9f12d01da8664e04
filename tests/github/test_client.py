"""The client: what it asks, what it refuses to ask, how it reads lists, and which errors it makes."""

from __future__ import annotations

import pytest

from redline.errors import GitHubError, GitHubMissingError, GitHubUnsureError, UsageError
from redline.github.client import GitHub, github_of, segment
from redline.github.environment import read_environment
from redline.github.transport import graphql_path
from tests.fakes.github_api import REPOSITORY, TOKEN, Fault, GitHubApi, Identity


def test_a_question_carries_the_token_in_one_header_only(api, github):
    """The token is in Authorization and nowhere else; version, media type and agent are stated."""
    api.state.open_issue("a title", "text", "somebody", number=3)
    assert github.get("issues/3")["title"] == "a title"
    (asked,) = api.asked
    headers = dict(asked.headers)
    assert headers.pop("authorization") == f"Bearer {TOKEN}"
    assert headers["accept"] == "application/vnd.github+json"
    assert headers["x-github-api-version"] == "2022-11-28"
    assert headers["user-agent"] == "redline"
    assert TOKEN not in str((headers, asked.query, asked.path))


def test_no_text_of_the_client_holds_the_token(api, github):
    """Neither its repr nor the repr of what it keeps."""
    assert TOKEN not in repr(github)
    assert REPOSITORY in repr(github)


def test_a_client_is_made_of_a_jobs_variables(api, tmp_path):
    """`github_of` takes address, repository and token from the environment of the job."""
    api.state.open_issue("a title", "text", "somebody", number=3)
    environment = read_environment(api.variables("workflow_dispatch", {}, tmp_path))
    with github_of(environment) as github:
        assert github.get("issues/3")["number"] == 3


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
def test_a_list_is_read_to_its_end(api, github, count):
    """Every element comes once, in order, in pages of a hundred."""
    api.state.open_issue("a title", "text", "somebody", number=3)
    for number in range(count):
        api.state.comment(3, f"comment {number}", "somebody")
    bodies = [each["body"] for each in github.pages("issues/3/comments")]
    assert bodies == [f"comment {number}" for number in range(count)]
    assert api.count("GET", "issues/3/comments") == max(1, -(-count // 100))


def test_a_list_under_a_key_is_read_to_its_end(api, github):
    """Lists that come in an object are read from under their key; parameters stay from page to page."""
    run = api.state.run()
    for number in range(120):
        api.state.upload(run["id"], f"leg-{number}", b"")
    found = list(github.pages(f"actions/runs/{run['id']}/artifacts", "artifacts", name="leg-7"))
    assert [each["name"] for each in found] == ["leg-7"]
    assert len(list(github.pages(f"actions/runs/{run['id']}/artifacts", "artifacts"))) == 120


def test_a_list_without_an_end_is_an_error(api, github):
    """A list that is cut unseen would hide what is ours, so a bound that is reached is an error."""
    link = {"link": f'<{api.url}/repos/{REPOSITORY}/issues?page=2>; rel="next"'}
    api.faults.append(Fault("GET", "issues", page="[]", headers=link, times=1_000))
    with pytest.raises(GitHubError, match="too long"):
        list(github.pages("issues"))
    assert len(api.asked) == 100


def test_a_list_is_not_followed_to_another_host(api, github):
    """A Link header that leads elsewhere is refused: the token would go there."""
    with GitHubApi() as other:
        link = {"link": f'<{other.url}/repos/{REPOSITORY}/issues?page=2>; rel="next"'}
        api.faults.append(Fault("GET", "issues", page="[]", headers=link))
        with pytest.raises(GitHubError, match="leads elsewhere"):
            list(github.pages("issues"))
        assert other.asked == []


def test_a_redirect_on_the_same_host_is_followed(api, github):
    """A repository that was renamed answers at its new address, for questions and for changes."""
    api.state.open_issue("a title", "text", "somebody", number=3)
    moved = f"{api.url}/repos/{REPOSITORY}/issues/3"
    api.faults += [
        Fault("GET", "issues/9", 301, headers={"location": moved}),
        Fault("PATCH", "issues/9", 307, headers={"location": f"/repos/{REPOSITORY}/issues/3"}),
    ]
    assert github.get("issues/9")["number"] == 3
    assert github.patch("issues/9", {"title": "another"})["title"] == "another"


def test_a_redirect_to_another_host_is_refused(api, github):
    """The token is not sent to another host, nor is the question."""
    with GitHubApi() as other:
        moved = {"location": f"{other.url}/repos/{REPOSITORY}/issues/3"}
        api.faults.append(Fault("GET", "issues/3", 302, headers=moved))
        with pytest.raises(GitHubError, match="leads elsewhere"):
            github.get("issues/3")
        assert other.asked == []


def test_a_creation_is_not_turned_into_a_question(api, github):
    """A 302 to a POST is an error that says so; nothing is asked at the new address."""
    api.state.open_issue("a title", "text", "somebody", number=3)
    api.faults.append(Fault("POST", "issues", 302, headers={"location": f"/repos/{REPOSITORY}/issues/3"}))
    with pytest.raises(GitHubError):
        github.post("issues", {"title": "one", "body": "text"})
    assert [each.method for each in api.asked] == ["POST"]


def test_redirects_end(api, github):
    """A circle of redirects is an error."""
    api.faults.append(Fault("GET", "issues/3", 301, headers={"location": "3"}, times=100))
    with pytest.raises(GitHubError, match="circle"):
        github.get("issues/3")
    assert len(api.asked) == 4


@pytest.mark.parametrize(
    "path",
    ["issues/../3", "issues//3", "a?b=c", "a#b", "/../x", "issues/.", "", "a b", "grün", "a\\b", "a\nb", "a\x00b"],
)
def test_a_path_that_leads_elsewhere_is_never_asked(api, github, path):
    """Parts that climb, queries and fragments in a path are refused before anything is sent."""
    with pytest.raises(GitHubError, match="no path"):
        github.get(path)
    assert api.asked == []


@pytest.mark.parametrize("name", ["a/b", "a b", "über", "50%", "%2e%2e", "a?b#c", "a\nb"])
def test_an_outsiders_string_is_one_part_of_a_path(api, github, name):
    """What goes through `segment` arrives as it was, as one part."""
    api.state.labels[name] = {"name": name}
    assert github.get(f"labels/{segment(name)}")["name"] == name


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, GitHubError, "token that is valid"),
        (403, GitHubError, "permissions: issues: write or pull-requests: write"),
        (404, GitHubMissingError, "whether the token may see it"),
        (410, GitHubMissingError, "switched off"),
        (422, GitHubError, "nothing was changed"),
    ],
)
def test_a_refusal_says_what_to_do(api, github, waits, status, kind, words):
    """Each status that is final is one request, one error with the status, and a next step that fits."""
    headers = {"x-accepted-github-permissions": "issues=write; pull_requests=write"} if status == 403 else {}
    fields = [{"resource": "Issue", "field": "body", "code": "invalid"}]
    api.faults.append(Fault("GET", "issues/3", status, "Some words", headers, fields if status == 422 else []))
    with pytest.raises(GitHubError) as caught:
        github.get("issues/3")
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert words in str(caught.value)
    assert "Some words" in str(caught.value)
    assert ("Issue body invalid" in str(caught.value)) == (status == 422)
    assert len(api.asked) == 1
    assert waits == []


def test_a_job_without_the_right_learns_which_one(api, github):
    """The server's own refusal of a token without the right names the permission as a workflow spells it."""
    api.state.tokens[TOKEN] = Identity(permissions={"contents": "read"})
    with pytest.raises(GitHubError, match="permissions: issues: write") as caught:
        github.post("issues", {"title": "one", "body": "text"})
    assert caught.value.status == 403


def test_an_error_never_holds_the_token(api, github):
    """A server that repeats the token, in whatever words, does not get it into an error."""
    for status in (401, 404, 422, 500):
        api.faults.append(Fault("GET", "issues/3", status, f"no good: {TOKEN}", times=10))
        with pytest.raises(GitHubError) as caught:
            github.get("issues/3")
        assert TOKEN not in str(caught.value)
        assert "[token]" in str(caught.value)
        api.faults.clear()


def test_an_errors_words_are_cleaned_and_cut(api, github):
    """Control characters and pages of text from the server do not get into a log as they are."""
    api.faults.append(Fault("GET", "issues/3", 404, "\x1b[31mred\n::error::" + "x" * 10_000))
    with pytest.raises(GitHubMissingError) as caught:
        github.get("issues/3")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 1_000
    assert not any(line.startswith("::") for line in str(caught.value).splitlines())


def test_an_answer_that_is_not_json_is_an_error(api, github):
    """A page of a proxy instead of JSON is an error for a question, and uncertain for a creation."""
    api.faults.append(Fault("GET", "issues/3", page="<html>sign in</html>"))
    with pytest.raises(GitHubError, match="cannot be read"):
        github.get("issues/3")
    api.faults.append(Fault("POST", "issues", page="<html>sign in</html>"))
    with pytest.raises(GitHubUnsureError):
        github.post("issues", {"title": "one", "body": "text"})


def test_an_answer_of_another_shape_is_an_error(api, github):
    """A list is expected and something else comes: a clear error, no crash."""
    api.faults.append(Fault("GET", "issues", page='{"message": "hello"}'))
    with pytest.raises(GitHubError, match="does not understand"):
        list(github.pages("issues"))


@pytest.mark.parametrize(
    "address",
    [
        "http://api.github.com",
        "ftp://127.0.0.1",
        "https://user:word@host",
        "https://host?x=1",
        "",
        "nonsense",
        "https://",
    ],
)
def test_the_token_goes_to_encrypted_addresses_only(address):
    """An API's address that is not https, or holds more than a host and a path, is refused at once."""
    with pytest.raises(UsageError, match="no address"):
        GitHub(address, TOKEN, REPOSITORY)


@pytest.mark.parametrize("repository", ["acme", "acme/../x", "acme/..", "", "a b/c", "acme/engine/x"])
def test_a_repository_is_owner_and_name(repository):
    """What is no repository is refused before it becomes a path."""
    with pytest.raises(UsageError, match="no repository"):
        GitHub("https://api.github.com", TOKEN, repository)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ünï"])
def test_a_token_that_no_header_can_hold_is_refused(token):
    """The error does not repeat it."""
    with pytest.raises(UsageError) as caught:
        GitHub("https://api.github.com", token, REPOSITORY)
    assert not token or token not in str(caught.value)


def test_graphql_lies_beside_rest():
    """On github.com below the root, on an Enterprise Server beside its /v3."""
    assert graphql_path("/") == "/graphql"
    assert graphql_path("/api/v3") == "/api/graphql"


def test_graphql_errors_are_raised(api, github):
    """They come with status 200."""
    with pytest.raises(GitHubError, match="does not know this query"):
        github.graphql("query{unknown}", {})
