"""Who somebody is to the repository.

Source: docs.github.com, "REST API endpoints for collaborators": `permission` is one of admin, write, read and none,
with maintain as write and triage as read; `role_name` is finer, and holds an organisation's own roles.
"""

from __future__ import annotations

import re

from redline.errors import GitHubMissingError
from redline.github import fields
from redline.github.client import GitHub, segment
from redline.model import Permission

_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,98}(\[bot\])?")
# The most that each coarse word stands for.
_AT_MOST = {
    "admin": Permission.ADMIN,
    "write": Permission.MAINTAIN,
    "read": Permission.TRIAGE,
    "none": Permission.NONE,
}
_FLAGS = (
    ("admin", Permission.ADMIN),
    ("maintain", Permission.MAINTAIN),
    ("push", Permission.WRITE),
    ("triage", Permission.TRIAGE),
    ("pull", Permission.READ),
)


def permission(github: GitHub, login: str) -> Permission:
    """What `login` may do; NONE for who is unknown, deleted, or no login at all. Raises GitHubError.

    GitHub says it twice, coarse and fine; where the two disagree the lesser holds. Of a role that an organisation
    made the single rights decide.
    """
    if _LOGIN.fullmatch(login) is None:
        return Permission.NONE
    try:
        answer = github.get(f"collaborators/{segment(login)}/permission")
    except GitHubMissingError:
        return Permission.NONE
    if fields.text(answer, "user", "login").casefold() != login.casefold():
        return Permission.NONE  # somebody else's answer
    at_most = _AT_MOST.get(fields.text(answer, "permission"), Permission.NONE)
    role = fields.text(answer, "role_name")
    found = Permission(role) if role in set(Permission) else _by_flags(answer, at_most)
    return found if at_most.includes(found) else at_most


def _by_flags(answer: object, at_most: Permission) -> Permission:
    """By the single rights; without any, what the coarse word surely means."""
    user = answer.get("user") if isinstance(answer, dict) else None
    flags = user.get("permissions") if isinstance(user, dict) else None
    if isinstance(flags, dict):
        return next((granted for flag, granted in _FLAGS if flags.get(flag) is True), Permission.NONE)
    surely = {Permission.MAINTAIN: Permission.WRITE, Permission.TRIAGE: Permission.READ}
    return surely.get(at_most, at_most)
