"""Pull requests as they are, and proposals of our own: the same again changes nothing."""

from __future__ import annotations

import pytest

from redline.errors import GitHubError, GitHubMissingError
from redline.github.pulls import file_at, merge_base, propose, pull
from tests.fakes.github_api import TOKEN, Fault, Identity

BRANCH = "redline/pins-vllm"
PIN = "pins/vllm.json"


@pytest.fixture
def base(api) -> str:
    """The head of main."""
    return api.state.commit({PIN: b"old", "README.md": b"hello"}, branch="main")


def offer(github, content: bytes | None = b"new", **more) -> str:
    """Propose a pin's content."""
    said = {"branch": BRANCH, "base": "main", "title": "Renew a pin", "body": "why", "files": {PIN: content}}
    return propose(github, **(said | more))


def test_a_pull_request_is_read(api, github, base):
    """All that decides who may run it."""
    head = api.state.commit({"x": b"y"}, parents=[base])
    api.state.open_pull(head, number=7, title="T", author="ada", labels=["redline"], draft=True, head_ref="a`b$(c)")
    found = pull(github, 7)
    assert (found.number, found.head_sha, found.base_sha, found.head_ref) == (7, head, base, "a`b$(c)")
    assert (found.title, found.author, found.draft, found.state, found.labels) == (
        "T",
        "ada",
        True,
        "open",
        ("redline",),
    )
    assert found.head_repository == api.state.repository
    assert not found.fork


@pytest.mark.parametrize("head_repository", ["stranger/engine", None])
def test_a_head_elsewhere_is_a_fork(api, github, base, head_repository):
    """Also one whose repository was deleted: nobody knows whose it was."""
    api.state.open_pull(base, number=7, head_repository=head_repository)
    found = pull(github, 7)
    assert found.fork
    assert found.head_repository == (head_repository or "")


def test_a_commit_that_is_none_is_an_error(api, github):
    """What goes into commands and paths is 40 hex digits, or nothing."""
    api.state.open_pull("$(reboot)", number=7)
    with pytest.raises(GitHubError, match="40 hex digits"):
        pull(github, 7)


def test_no_pull_request_is_missing(github):
    """404 has its own class."""
    with pytest.raises(GitHubMissingError):
        pull(github, 8)


def test_the_merge_base_is_where_the_two_parted(api, github, base):
    """Not the head of main."""
    head = api.state.commit({"x": b"y"}, parents=[base])
    main = api.state.commit({"z": b"y"}, parents=[base], branch="main")
    assert merge_base(github, main, head) == base
    stranger = api.state.commit({"q": b"y"})
    with pytest.raises(GitHubMissingError, match="No common ancestor"):
        merge_base(github, main, stranger)


@pytest.mark.parametrize("size", [0, 3, 999_999, 1_500_000])
def test_a_file_is_read_at_a_commit(api, github, base, size):
    """Small ones come with the first answer, large ones as a blob."""
    head = api.state.commit({"a b/ü.json": b"x" * size}, parents=[base])
    assert file_at(github, "a b/ü.json", head) == b"x" * size
    with pytest.raises(GitHubMissingError):
        file_at(github, "a b/ü.json", base)


def test_a_file_is_bounded_and_plain(api, github, base):
    """Neither a folder nor more than was asked for."""
    head = api.state.commit({"pins/x.json": b"x" * 100}, parents=[base])
    with pytest.raises(GitHubError, match="at most 99 bytes"):
        file_at(github, "pins/x.json", head, bytes_max=99)
    with pytest.raises(GitHubError, match="folder"):
        file_at(github, "pins", head)
    with pytest.raises(GitHubError, match="no path"):
        file_at(github, "../secrets", head)


def test_a_proposal_is_a_branch_and_a_pull_request(api, github, base):
    """One commit on the base's head, that changes these files and no others."""
    url = offer(github)
    (opened,) = api.state.pulls.values()
    assert opened["html_url"] == url
    assert (opened["title"], opened["body"], opened["base"]["ref"]) == ("Renew a pin", "why", "main")
    assert api.state.files_at(BRANCH) == {PIN: b"new", "README.md": b"hello"}
    assert api.state.commits[api.state.refs[BRANCH]].parents == (base,)


def test_the_same_proposal_again_changes_nothing(api, github, base):
    """Not even when the base has moved on elsewhere: reviews stay."""
    first = offer(github)
    sha = api.state.refs[BRANCH]
    assert offer(github) == first
    api.state.commit({"README.md": b"other"}, parents=[base], branch="main")
    assert offer(github) == first
    assert api.state.refs[BRANCH] == sha
    assert len(api.state.pulls) == 1
    assert api.count("PATCH", ".*") == 0


def test_other_files_update_the_open_pull_request(api, github, base):
    """The branch is replaced, title and text are made so."""
    first = offer(github)
    assert offer(github, b"newer", title="Renew it", body="why not") == first
    (opened,) = api.state.pulls.values()
    assert (opened["title"], opened["body"]) == ("Renew it", "why not")
    assert api.state.files_at(BRANCH)[PIN] == b"newer"
    assert opened["head"]["sha"] == api.state.refs[BRANCH]
    assert api.state.commits[api.state.refs[BRANCH]].parents == (base,)


def test_a_base_that_changed_the_same_file_gets_a_new_commit(api, github, base):
    """The old one would not merge any more."""
    offer(github)
    moved = api.state.commit({PIN: b"by hand"}, parents=[base], branch="main")
    offer(github)
    assert api.state.commits[api.state.refs[BRANCH]].parents == (moved,)


def test_what_is_so_already_is_not_proposed(api, github, base):
    """After it was merged, or when nothing is new: no branch, no pull request."""
    assert offer(github, b"old") == ""
    assert offer(github, None, files={"nowhere.json": None}) == ""
    assert BRANCH not in api.state.refs
    assert api.state.pulls == {}


def test_a_file_is_removed(api, github, base):
    """And one that is not there is no obstacle."""
    offer(github, files={PIN: None, "nowhere.json": None})
    assert api.state.files_at(BRANCH) == {"README.md": b"hello"}


@pytest.mark.parametrize("drop", ["before", "after"])
@pytest.mark.parametrize("path", ["pulls", "git/refs", "git/commits", "git/trees", "git/blobs"])
def test_a_lost_answer_proposes_once(api, github, base, path, drop):
    """At whichever step: one branch, one pull request, with all of it."""
    api.faults.append(Fault("POST", path, drop=drop))
    offer(github)
    assert [each["title"] for each in api.state.pulls.values()] == ["Renew a pin"]
    assert api.state.files_at(BRANCH)[PIN] == b"new"


def test_an_interrupted_proposal_is_finished_by_the_next(api, github, base):
    """The branch was there, the pull request was not: GitHub's setting forbade it, which the error says."""
    api.state.may_open_pulls = False
    with pytest.raises(GitHubError, match="not permitted to create"):
        offer(github)
    sha = api.state.refs[BRANCH]
    api.state.may_open_pulls = True
    assert offer(github)
    assert api.state.refs[BRANCH] == sha


def test_a_closed_proposal_is_made_again_only_by_who_insists(api, github, base):
    """Somebody closed it unmerged: the weekly renewal lets it be, a person who asks again gets it."""
    first = offer(github)
    next(iter(api.state.pulls.values()))["state"] = "closed"
    assert offer(github, insist=False) == first
    assert len(api.state.pulls) == 1
    assert offer(github, b"newer", insist=False) != first
    assert len(api.state.pulls) == 2


def test_insisting_opens_a_new_one(api, github, base):
    """The same files, asked for by a person."""
    first = offer(github)
    next(iter(api.state.pulls.values()))["state"] = "closed"
    assert offer(github) != first


@pytest.mark.parametrize("fork", ["stranger/engine", "acme/engine-fork"])
def test_a_forks_pull_request_of_the_same_branch_name_is_not_ours(api, github, base, fork):
    """A stranger, or the owner's own fork, has a branch called as ours: it is neither taken nor changed."""
    api.state.open_pull(base, head_ref=BRANCH, head_repository=fork, title="mine")
    offer(github)
    assert sorted(each["title"] for each in api.state.pulls.values()) == ["Renew a pin", "mine"]


@pytest.mark.parametrize(
    "changed",
    [
        {"branch": "main"},
        {"branch": "redline/"},
        {"branch": "redline/../main"},
        {"branch": "redline/a..b"},
        {"branch": "redline/a.lock"},
        {"branch": "redline/a b"},
        {"title": ""},
        {"title": "two\nlines"},
        {"title": "x" * 257},
        {"body": "x" * 65_537},
    ],
    ids=str,
)
def test_only_branches_of_our_own_are_written(api, github, base, changed):
    """Before anything is asked."""
    with pytest.raises(ValueError, match=r"branch|title|body"):
        offer(github, **changed)
    assert api.asked == []


def test_a_base_that_is_none_is_an_error(github, base):
    """Not a new branch."""
    with pytest.raises(GitHubMissingError, match="no branch"):
        offer(github, base="trunk")


def test_the_rights_of_a_proposal_are_two(api, github, base):
    """Contents and pull requests; the error names the one that is missing."""
    api.state.tokens[TOKEN] = Identity(permissions={"contents": "read", "pull_requests": "write"})
    with pytest.raises(GitHubError, match="permissions: contents: write"):
        offer(github)
