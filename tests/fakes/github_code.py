"""Routes of the local GitHub server: pull requests, comparisons, files, and Git's own objects."""

# ruff: noqa: D103 - the path above each function says what it answers

from __future__ import annotations

import base64
from typing import Any

from tests.fakes.github_routing import Listing, MissingError, RefusedError, Reply, Request, route
from tests.fakes.github_state import CommitNode

INLINE_BYTES_MAX = 1_000_000
BODY_CHARS_MAX = 65_536


@route("GET", "")
def repository(request: Request) -> Reply:
    return Reply(200, {"full_name": request.state.repository, "default_branch": "main"})


@route("GET", "pulls/{number}", "pull_requests=read")
def pull(request: Request) -> Reply:
    return Reply(200, _pull(request))


@route("GET", "pulls", "pull_requests=read")
def pulls(request: Request) -> Listing:
    query = request.query
    state, head, base = query.get("state", "open"), query.get("head", ""), query.get("base", "")
    found = [
        each
        for each in request.state.pulls.values()
        if state in ("all", each["state"])
        and (not base or each["base"]["ref"] == base)
        and (not head or _label(each) == head)
    ]
    return Listing(sorted(found, key=lambda each: each["number"], reverse=True))


@route("POST", "pulls", "pull_requests=write")
def open_pull(request: Request) -> Reply:
    if not request.state.may_open_pulls:
        raise RefusedError(403, "GitHub Actions is not permitted to create or approve pull requests.")
    title, body = request.text("title", chars_max=256), request.text("body", chars_max=BODY_CHARS_MAX)
    head, base = request.text("head"), request.text("base")
    sha = request.state.refs.get(head)
    if sha is None or base not in request.state.refs:
        raise RefusedError(422, "Validation Failed", errors=[{"field": "head", "code": "invalid"}])
    if sha in request.state.ancestors(request.state.refs[base]):
        raise RefusedError(422, "Validation Failed", errors=[{"message": f"No commits between {base} and {head}"}])
    same = [
        each
        for each in request.state.pulls.values()
        if each["state"] == "open"
        and (each["head"]["ref"], each["base"]["ref"]) == (head, base)
        and (each["head"]["repo"] or {}).get("full_name") == request.state.repository
    ]
    if same:
        raise RefusedError(422, "Validation Failed", errors=[{"message": "A pull request already exists"}])
    author = request.identity.login
    return Reply(201, request.state.open_pull(sha, head_ref=head, base_ref=base, title=title, body=body, author=author))


@route("PATCH", "pulls/{number}", "pull_requests=write")
def change_pull(request: Request) -> Reply:
    found = _pull(request)
    for key, chars_max in (("title", 256), ("body", BODY_CHARS_MAX), ("state", 10)):
        if key in request.body:
            found[key] = request.text(key, chars_max=chars_max)
    return Reply(200, found)


@route("GET", "pulls/{number}/commits", "pull_requests=read")
def pull_commits(request: Request) -> Listing:
    found = _pull(request)
    base = set(request.state.ancestors(found["base"]["sha"])) if found["base"]["sha"] else set()
    own = [sha for sha in request.state.ancestors(found["head"]["sha"]) if sha not in base]
    return Listing([{"sha": sha} for sha in reversed(own)][:250])


@route("GET", "compare/{span+}", "contents=read")
def compare(request: Request) -> Reply:
    base_name, _, head_name = request.found["span"].partition("...")
    base, head = request.state.resolved(base_name), request.state.resolved(head_name)
    if base is None or head is None:
        raise MissingError
    before = request.state.ancestors(base)
    common = next((sha for sha in request.state.ancestors(head) if sha in before), None)
    if common is None:
        raise RefusedError(404, "No common ancestor between the two")
    older, newer = (request.state.trees[request.state.commits[sha].tree] for sha in (common, head))
    changed = sorted(path for path in older.keys() | newer.keys() if older.get(path) != newer.get(path))
    ahead = [sha for sha in request.state.ancestors(head) if sha not in before]
    content = {
        "status": "ahead" if ahead else "identical",
        "ahead_by": len(ahead),
        "merge_base_commit": {"sha": common},
        "commits": [{"sha": sha} for sha in reversed(ahead)],
        "files": [{"filename": path} for path in changed[:300]],
    }
    return Reply(200, content)


@route("GET", "contents/{path+}", "contents=read")
def contents(request: Request) -> Reply:
    sha = request.state.resolved(request.query.get("ref", "main"))
    if sha is None:
        raise RefusedError(404, "No commit found for the ref")
    path = request.found["path"]
    tree_sha = request.state.commits[sha].tree
    tree = request.state.trees[tree_sha]
    below = {name.removeprefix(f"{path}/").split("/")[0] for name in tree if name.startswith(f"{path}/")}
    if below:
        kinds = {name: "file" if f"{path}/{name}" in tree else "dir" for name in sorted(below)}
        listed = [{"type": kind, "name": name, "path": f"{path}/{name}"} for name, kind in kinds.items()]
        return Reply(200, [each | {"sha": tree.get(each["path"], tree_sha)} for each in listed])
    if path not in tree:
        raise MissingError
    content = request.state.blobs[tree[path]]
    inline = len(content) <= INLINE_BYTES_MAX
    return Reply(
        200,
        {
            "type": "file",
            "path": path,
            "sha": tree[path],
            "size": len(content),
            "encoding": "base64" if inline else "none",
            "content": base64.encodebytes(content).decode() if inline else "",
        },
    )


@route("GET", "git/ref/heads/{branch+}", "contents=read")
def read_ref(request: Request) -> Reply:
    sha = request.state.refs.get(request.found["branch"])
    if sha is None:
        raise MissingError
    return Reply(200, _ref(request.found["branch"], sha))


@route("POST", "git/refs", "contents=write")
def make_ref(request: Request) -> Reply:
    branch, sha = request.text("ref").removeprefix("refs/heads/"), request.text("sha")
    if branch in request.state.refs:
        raise RefusedError(422, "Reference already exists")
    if sha not in request.state.commits:
        raise RefusedError(422, "Object does not exist")
    request.state.refs[branch] = sha
    return Reply(201, _ref(branch, sha))


@route("PATCH", "git/refs/heads/{branch+}", "contents=write")
def move_ref(request: Request) -> Reply:
    branch, sha = request.found["branch"], request.text("sha")
    if branch not in request.state.refs:
        raise RefusedError(422, "Reference does not exist")
    forward = request.state.refs[branch] in request.state.ancestors(sha)
    if not forward and not request.body.get("force"):
        raise RefusedError(422, "Update is not a fast forward")
    request.state.refs[branch] = sha
    for each in request.state.pulls.values():
        here = (each["head"]["repo"] or {}).get("full_name") == request.state.repository
        if each["state"] == "open" and here and each["head"]["ref"] == branch:
            each["head"]["sha"] = sha
    return Reply(200, _ref(branch, sha))


@route("GET", "git/commits/{sha}", "contents=read")
def read_commit(request: Request) -> Reply:
    found = request.state.commits.get(request.found["sha"])
    if found is None:
        raise MissingError
    return Reply(200, _commit(found))


@route("POST", "git/commits", "contents=write")
def make_commit(request: Request) -> Reply:
    tree, parents = request.text("tree"), request.body.get("parents", [])
    if tree not in request.state.trees or not set(parents) <= request.state.commits.keys():
        raise RefusedError(422, "Tree or parent does not exist")
    sha = request.state.commit_tree(tree, parents, message=request.text("message"))
    return Reply(201, _commit(request.state.commits[sha]))


@route("POST", "git/trees", "contents=write")
def make_tree(request: Request) -> Reply:
    base = request.state.trees.get(request.text("base_tree"))
    if base is None:
        raise MissingError
    entries = dict(base)
    for each in request.body["tree"]:
        if each["sha"] is None:
            if entries.pop(each["path"], None) is None:
                raise RefusedError(422, "GitRPC::BadObjectState")
        elif each["sha"] not in request.state.blobs:
            raise RefusedError(422, "tree.sha is not a valid blob")
        else:
            entries[each["path"]] = each["sha"]
    return Reply(201, {"sha": request.state.tree(entries)})


@route("POST", "git/blobs", "contents=write")
def make_blob(request: Request) -> Reply:
    content = request.text("content", required=False)
    data = base64.b64decode(content) if request.body.get("encoding") == "base64" else content.encode()
    return Reply(201, {"sha": request.state.blob(data)})


@route("GET", "git/blobs/{sha}", "contents=read")
def read_blob(request: Request) -> Reply:
    content = request.state.blobs.get(request.found["sha"])
    if content is None:
        raise MissingError
    return Reply(200, {"content": base64.encodebytes(content).decode(), "encoding": "base64", "size": len(content)})


def _pull(request: Request) -> dict[str, Any]:
    found = request.state.pulls.get(request.number())
    if found is None:
        raise MissingError
    return found


def _label(pull: dict[str, Any]) -> str:
    """`owner:branch` of the head."""
    owner = (pull["head"]["repo"] or {"full_name": "unknown/unknown"})["full_name"].split("/")[0]
    return f"{owner}:{pull['head']['ref']}"


def _ref(branch: str, sha: str) -> dict[str, Any]:
    return {"ref": f"refs/heads/{branch}", "object": {"type": "commit", "sha": sha}}


def _commit(found: CommitNode) -> dict[str, Any]:
    parents = [{"sha": sha} for sha in found.parents]
    return {"sha": found.sha, "tree": {"sha": found.tree}, "parents": parents, "message": found.message}
