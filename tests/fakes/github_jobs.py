"""Routes of the local GitHub server: check runs with their limits, workflow runs, their jobs and artifacts."""

# ruff: noqa: D103 - the path above each function says what it answers

from __future__ import annotations

from typing import Any

from tests.fakes.github_routing import Listing, MissingError, RefusedError, Reply, Request, route

ANNOTATIONS_MAX = 50
PAGE_CHARS_MAX = 65_535
CONCLUSIONS = {"action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out"}


@route("GET", "commits/{sha}/check-runs", "checks=read")
def check_runs(request: Request) -> Listing:
    name = request.query.get("check_name")
    found = [
        each
        for each in request.state.check_runs.values()
        if each["head_sha"] == request.found["sha"] and name in (None, each["name"])
    ]
    if request.query.get("filter", "latest") == "latest":
        found = list({(each["name"], each["app"]["slug"]): each for each in found}.values())
    return Listing(found, "check_runs")


@route("POST", "check-runs", "checks=write")
def make_check(request: Request) -> Reply:
    if not request.identity.is_app:
        raise RefusedError(403, "You must authenticate via a GitHub App.")
    id_ = next(request.state.ids)
    if request.text("head_sha") not in request.state.commits:
        raise RefusedError(422, "No commit found for SHA")
    run = {
        "id": id_,
        "name": request.text("name"),
        "head_sha": request.text("head_sha"),
        "app": {"slug": request.identity.login.removesuffix("[bot]")},
        "html_url": f"https://github.example/{request.state.repository}/runs/{id_}",
        "output": {"title": None, "summary": None, "text": None, "annotations_count": 0},
        "status": "queued",
        "conclusion": None,
        "completed_at": None,
        "external_id": "",
        "details_url": "",
    }
    _apply(request, run, [])
    request.state.check_runs[id_] = run
    return Reply(201, run)


@route("PATCH", "check-runs/{number}", "checks=write")
def change_check(request: Request) -> Reply:
    run = request.state.check_runs.get(request.number())
    if run is None:
        raise MissingError
    _apply(request, run, request.state.annotations.get(run["id"], []))
    return Reply(200, run)


@route("GET", "check-runs/{number}/annotations", "checks=read")
def listed_annotations(request: Request) -> Listing:
    return Listing(request.state.annotations.get(request.number(), []))


@route("GET", "actions/runs/{number}", "actions=read")
def run(request: Request) -> Reply:
    return Reply(200, _run(request))


@route("GET", "actions/workflows/{workflow}/runs", "actions=read")
def runs(request: Request) -> Listing:
    query = request.query
    found = [
        each
        for each in request.state.runs.values()
        if each["path"] == f".github/workflows/{request.found['workflow']}"
        and query.get("branch", each["head_branch"]) == each["head_branch"]
        and query.get("event", each["event"]) == each["event"]
        and query.get("status", each["status"]) in (each["status"], each["conclusion"])
    ]
    return Listing(sorted(found, key=lambda each: each["id"], reverse=True), "workflow_runs")


@route("GET", "actions/runs/{number}/jobs", "actions=read")
def jobs(request: Request) -> Listing:
    found = request.state.jobs.get(_run(request)["id"], [])
    newest = max((each["run_attempt"] for each in found), default=1)
    every = request.query.get("filter", "latest") == "all"
    return Listing([each for each in found if every or each["run_attempt"] == newest], "jobs")


@route("GET", "actions/runs/{number}/artifacts", "actions=read")
def artifacts(request: Request) -> Listing:
    of_it = [each for each in request.state.artifacts.values() if each["workflow_run"]["id"] == _run(request)["id"]]
    name = request.query.get("name")
    return Listing([each for each in reversed(of_it) if name in (None, each["name"])], "artifacts")


@route("GET", "actions/artifacts", "actions=read")
def all_artifacts(request: Request) -> Listing:
    name = request.query.get("name")
    of_it = reversed(request.state.artifacts.values())
    return Listing([each for each in of_it if name in (None, each["name"])], "artifacts")


@route("GET", "actions/artifacts/{number}/zip", "actions=read")
def archive(request: Request) -> Reply:
    found = request.state.artifacts.get(request.number())
    if found is None:
        raise MissingError
    if found["expired"]:
        raise RefusedError(410, "Artifact has expired")
    # The server fills in the address of the host that keeps the files.
    return Reply(302, None, {"location": f"STORAGE/{found['id']}?signature=secret-of-the-storage"})


def _run(request: Request) -> dict[str, Any]:
    found = request.state.runs.get(request.number())
    if found is None:
        raise MissingError
    return found


def _apply(request: Request, run: dict[str, Any], there: list[dict[str, Any]]) -> None:
    body, output = request.body, request.body.get("output") or {}
    if body.get("conclusion") is not None and body["conclusion"] not in CONCLUSIONS:
        raise RefusedError(422, "Invalid request. conclusion is not a member")
    if len(output.get("annotations", [])) > ANNOTATIONS_MAX:
        raise RefusedError(422, "Invalid request. No more than 50 items are allowed; more were supplied.")
    for key in ("summary", "text"):
        if len(output.get(key, "")) > PAGE_CHARS_MAX:
            raise RefusedError(422, f"Invalid request. Only {PAGE_CHARS_MAX} characters are allowed in {key}")
    if len(output.get("title", "")) > 255 or (output and not output.get("summary")):
        raise RefusedError(422, "Invalid request. title is too long, or summary is missing")
    for each in output.get("annotations", []):
        if not {"path", "start_line", "end_line", "annotation_level", "message"} <= each.keys():
            raise RefusedError(422, "Invalid request. an annotation misses a field")
    kept = ("name", "status", "conclusion", "completed_at", "external_id", "details_url")
    run |= {key: body[key] for key in kept if key in body}
    run["output"] |= {key: output[key] for key in ("title", "summary", "text") if key in output}
    listed = [*there, *({"title": None, "raw_details": None, **each} for each in output.get("annotations", []))]
    request.state.annotations[run["id"]] = listed
    run["output"]["annotations_count"] = len(listed)
