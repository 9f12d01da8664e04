"""Who may do what: the lesser where GitHub says two things, nothing for who is unknown."""

from __future__ import annotations

import pytest

from redline.errors import GitHubError
from redline.github.people import permission
from redline.model import Permission
from tests.fakes.github_api import Fault


@pytest.mark.parametrize("role", ["read", "triage", "write", "maintain", "admin"])
def test_each_of_githubs_roles_is_itself(api, github, role):
    """Also those that the coarse word does not tell apart."""
    api.state.grant("ada", role)
    assert permission(github, "ada") is Permission(role)
    assert permission(github, "ADA") is Permission(role)


@pytest.mark.parametrize(
    ("rights", "expected"),
    [
        ({"push": True}, Permission.WRITE),
        ({"push": True, "maintain": True}, Permission.MAINTAIN),
        ({"push": False, "triage": True}, Permission.TRIAGE),
        ({"push": False}, Permission.READ),
        # GitHub's coarse word says write: what a role's name or a flag claims beyond that does not count.
        ({"push": True, "admin": True}, Permission.MAINTAIN),
    ],
)
def test_an_organisations_own_role_is_what_it_may(api, github, rights, expected):
    """By the single rights; never more than the coarse word allows."""
    api.state.grant("ada", "release-captain", **rights)
    assert permission(github, "ada") is expected


def test_a_role_is_never_more_than_the_coarse_word(api, github):
    """A role called admin of somebody who may only read is no admin."""
    api.state.roles["ada"] = {"permission": "read", "role_name": "admin", "user": {"login": "ada"}}
    assert permission(github, "ada") is Permission.TRIAGE


def test_without_single_rights_the_coarse_word_is_taken_at_its_least(api, github):
    """An own role, `write`, no rights listed: surely write, not surely maintain."""
    api.state.roles["ada"] = {"permission": "write", "role_name": "own", "user": {"login": "ada"}}
    assert permission(github, "ada") is Permission.WRITE


@pytest.mark.parametrize("answer", [{}, {"permission": "all", "role_name": "all", "user": {"login": "ada"}}])
def test_an_answer_that_says_nothing_grants_nothing(api, github, answer):
    """Unknown words and missing fields are no permission."""
    api.state.roles["ada"] = answer
    assert permission(github, "ada") is Permission.NONE


def test_somebody_elses_answer_grants_nothing(api, github):
    """The answer names whom it is about."""
    api.state.grant("ada", "admin")
    api.state.roles["eve"] = api.state.roles["ada"]
    assert permission(github, "eve") is Permission.NONE


@pytest.mark.parametrize("login", ["nobody", "dependabot[bot]"])
def test_who_is_unknown_may_nothing(github, login):
    """404 is no error: it is the answer."""
    assert permission(github, login) is Permission.NONE


@pytest.mark.parametrize("login", ["", "..", ".", "a/b", "a b", "-x", "ada\n", "a" * 200, "ada?x=1", "[bot]"])
def test_what_is_no_login_is_not_asked_for(api, github, login):
    """Names from a payload that could not be a login never reach a path."""
    assert permission(github, login) is Permission.NONE
    assert api.asked == []


def test_a_failing_server_is_an_error_not_a_no(api, github):
    """Who may is then unknown; nothing is decided."""
    api.faults.append(Fault("GET", "collaborators/.*", 500, times=100))
    with pytest.raises(GitHubError):
        permission(github, "ada")
