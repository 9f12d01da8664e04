"""Routes of the local GitHub server: people, issues, comments, reactions, labels, GraphQL."""

# ruff: noqa: D103 - the path above each function says what it answers

from __future__ import annotations

import re
from typing import Any

from tests.fakes.github_routing import Listing, MissingError, RefusedError, Reply, Request, require_rights, route

BODY_CHARS_MAX = 65_536
TITLE_CHARS_MAX = 256
TALK = "issues=write; pull_requests=write"
REACTIONS = {"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"}


@route("GET", "/user")
def user(request: Request) -> Reply:
    if request.identity.is_app:
        raise RefusedError(403, "Resource not accessible by integration")
    return Reply(200, {"login": request.identity.login, "type": "User"})


@route("GET", "collaborators/{login}/permission")
def permission(request: Request) -> Reply:
    found = request.state.roles.get(request.found["login"].casefold())
    if found is None:
        raise MissingError
    return Reply(200, found)


@route("GET", "issues/{number}", "issues=read; pull_requests=read")
def issue(request: Request) -> Reply:
    return Reply(200, _issue(request))


@route("GET", "issues", "issues=read")
def issues(request: Request) -> Listing:
    query = request.query
    state, labels = query.get("state", "open"), [each for each in query.get("labels", "").split(",") if each]
    found = [
        each
        for each in request.state.issues.values()
        if state in ("all", each["state"]) and set(labels) <= {label["name"] for label in each["labels"]}
    ]
    return Listing(sorted(found, key=lambda each: each["number"], reverse=query.get("direction", "desc") == "desc"))


@route("POST", "issues", "issues=write")
def open_issue(request: Request) -> Reply:
    title, body = request.text("title", chars_max=TITLE_CHARS_MAX), request.text("body", chars_max=BODY_CHARS_MAX)
    labels = request.body.get("labels", [])
    for name in labels:
        request.state.labels.setdefault(name, {"name": name})
    return Reply(201, request.state.open_issue(title, body, request.identity.login, labels=labels))


@route("PATCH", "issues/{number}", TALK)
def change_issue(request: Request) -> Reply:
    found = _issue(request)
    if "title" in request.body:
        found["title"] = request.text("title", chars_max=TITLE_CHARS_MAX)
    if "body" in request.body:
        found["body"] = request.text("body", chars_max=BODY_CHARS_MAX)
    if "state" in request.body:
        found["state"] = request.body["state"]
        found["state_reason"] = request.body.get("state_reason")
        found["closed_by"] = {"login": request.identity.login} if found["state"] == "closed" else None
    return Reply(200, found)


@route("GET", "issues/{number}/comments", "issues=read; pull_requests=read")
def comments(request: Request) -> Listing:
    _issue(request)
    return Listing(request.state.comments_of(request.number(), visible=False))


@route("POST", "issues/{number}/comments", TALK)
def comment(request: Request) -> Reply:
    _issue(request)
    body = request.text("body", chars_max=BODY_CHARS_MAX)
    return Reply(201, request.state.comment(request.number(), body, request.identity.login))


@route("PATCH", "issues/comments/{number}", TALK)
def change_comment(request: Request) -> Reply:
    found = _comment(request)
    found["body"] = request.text("body", chars_max=BODY_CHARS_MAX)
    return Reply(200, found)


@route("DELETE", "issues/comments/{number}", TALK)
def remove_comment(request: Request) -> Reply:
    del request.state.comments[_comment(request)["id"]]
    return Reply(204)


@route("POST", "issues/comments/{number}/reactions", TALK)
def react(request: Request) -> Reply:
    reaction = (_comment(request)["id"], request.identity.login, request.text("content"))
    if reaction[2] not in REACTIONS:
        raise RefusedError(422, "Validation Failed")
    there = reaction in request.state.reactions
    if not there:
        request.state.reactions.append(reaction)
    return Reply(200 if there else 201, {"content": reaction[2]})


@route("GET", "labels/{name}", "issues=read; pull_requests=read")
def label(request: Request) -> Reply:
    found = request.state.labels.get(request.found["name"])
    if found is None:
        raise MissingError
    return Reply(200, found)


@route("POST", "labels", TALK)
def make_label(request: Request) -> Reply:
    name = request.text("name", chars_max=50)
    if name in request.state.labels:
        raise RefusedError(422, "Validation Failed", errors=[{"resource": "Label", "code": "already_exists"}])
    request.state.labels[name] = dict(request.body)
    return Reply(201, request.state.labels[name])


@route("POST", "issues/{number}/labels", TALK)
def add_labels(request: Request) -> Reply:
    found = _issue(request)
    for each in (found, request.state.pulls.get(request.number(), {"labels": []})):
        names = {each["name"] for each in each["labels"]} | set(request.body["labels"])
        each["labels"] = [{"name": name} for name in sorted(names)]
    return Reply(200, found["labels"])


@route("DELETE", "issues/{number}/labels/{name}", TALK)
def remove_label(request: Request) -> Reply:
    found = _issue(request)
    if request.found["name"] not in [each["name"] for each in found["labels"]]:
        raise MissingError
    for each in (found, request.state.pulls.get(request.number(), {"labels": []})):
        each["labels"] = [label for label in each["labels"] if label["name"] != request.found["name"]]
    return Reply(200, found["labels"])


@route("POST", "/graphql")
def graphql(request: Request) -> Reply:
    """The three operations that Redline asks for; errors come with status 200, as GitHub's do."""
    query, variables = request.body["query"], request.body["variables"]
    if re.search(r"viewer\s*\{\s*login", query):
        return Reply(200, {"data": {"viewer": {"login": request.identity.login}}})
    known = {each["node_id"] for each in request.state.comments.values()}
    if "isMinimized" in query and "nodes" in query:
        hidden = request.state.minimized
        nodes = [{"id": id_, "isMinimized": id_ in hidden} if id_ in known else None for id_ in variables["ids"]]
        return Reply(200, {"data": {"nodes": nodes}})
    if "minimizeComment" in query:
        return _minimize(request, variables["id"], known)
    return Reply(200, {"errors": [{"type": "undefinedField", "message": "the local server does not know this query"}]})


def _minimize(request: Request, id_: str, known: set[str]) -> Reply:
    try:
        require_rights(request.identity, TALK)
    except RefusedError:
        return Reply(200, {"errors": [{"type": "FORBIDDEN", "message": "Resource not accessible by integration"}]})
    if id_ not in known:
        return Reply(200, {"errors": [{"type": "NOT_FOUND", "message": "Could not resolve to a node"}]})
    request.state.minimized[id_] = "OUTDATED"
    return Reply(200, {"data": {"minimizeComment": {"minimizedComment": {"isMinimized": True}}}})


def _issue(request: Request) -> dict[str, Any]:
    found = request.state.issues.get(request.number())
    if found is None:
        raise MissingError
    return found


def _comment(request: Request) -> dict[str, Any]:
    found = request.state.comments.get(request.number())
    if found is None:
        raise MissingError
    return found
