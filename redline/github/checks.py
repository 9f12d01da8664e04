"""Check runs of ours at a commit.

Any workflow of the repository, also one that a pull request brings along, makes check runs of the same app, named as
its jobs are. Ours are told from those by their `external_id`, which nobody can give a job: `redline:` and what the
caller gave.

GitHub appends annotations, 50 a request, and never takes one away. So a check run is changed in place only while the
annotations that it has are the first of those that it shall have; else a new one of the same name takes its place.

Source: docs.github.com, "REST API endpoints for check runs" (65,535 characters of summary and of text, 255 of a title,
64 KB of an annotation's message).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from redline.errors import GitHubMissingError
from redline.github import fields
from redline.github.certainty import until_sure
from redline.github.client import GitHub, segment
from redline.github.comments import own_login
from redline.model import COMMIT_SHA, Annotation, CheckPage

TITLE_CHARS_MAX = 255
PAGE_CHARS_MAX = 65_535
MESSAGE_BYTES_MAX = 65_536
PER_REQUEST = 50

_OURS = "redline:"
_CUT = "\n\n(cut: GitHub takes no more)"


class FoundCheck(NamedTuple):
    """A check run of ours: `external_id` as it was given, `conclusion` in GitHub's words, empty while it runs.

    `completed_at`: when it was last written, UTC, ISO 8601; empty if GitHub does not say.
    """

    id: int
    external_id: str
    conclusion: str
    title: str
    completed_at: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    name: str
    head_sha: str
    page: CheckPage
    external_id: str
    details_url: str

    def body(self) -> dict[str, Any]:
        """Everything but the annotations."""
        output = {"title": _cut(self.page.title, TITLE_CHARS_MAX, "…"), "summary": _page(self.page.summary)}
        if self.page.text:
            output["text"] = _page(self.page.text)
        body = {
            "name": self.name,
            "status": "completed",
            "conclusion": self.page.conclusion.value,
            # Said with every change: left out, GitHub may keep the time of the page that stood there before.
            "completed_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "external_id": self.external_id,
            "output": output,
        }
        return body | ({"details_url": self.details_url} if self.details_url else {})


def upsert_check(
    github: GitHub, head_sha: str, name: str, page: CheckPage, *, external_id: str, details_url: str
) -> str:
    """The address of the newest check run `name` of ours at the commit, which now says `page`.

    The verdict is there with the first request; annotations beyond 50 follow. What is too long for GitHub is cut hard:
    a last resort, pages are made to fit before. Raises GitHubError.
    """
    _require_commit(head_sha)
    wanted = _Wanted(name, head_sha, page, _OURS + external_id, details_url)
    return until_sure(github, lambda: _write(github, wanted))


def find_check(github: GitHub, head_sha: str, name: str) -> FoundCheck | None:
    """The newest check run of ours of that name at the commit; None without one. Raises GitHubError."""
    _require_commit(head_sha)
    newest = _newest(github, head_sha, name)
    if newest is None:
        return None
    return FoundCheck(
        fields.value(newest, int, "id"),
        fields.text(newest, "external_id").removeprefix(_OURS),
        fields.text(newest, "conclusion"),
        fields.text(newest, "output", "title"),
        fields.text(newest, "completed_at"),
    )


def _write(github: GitHub, wanted: _Wanted) -> str:
    annotations = [_annotation(each) for each in wanted.page.annotations]
    newest = _newest(github, wanted.head_sha, wanted.name)
    there = _there(github, newest) if newest is not None else []
    if newest is not None and there == annotations[: len(there)]:
        if len(there) == len(annotations) and _says(newest, wanted):
            return fields.text(newest, "html_url")
        try:
            return _send(github, wanted, f"check-runs/{fields.value(newest, int, 'id')}", annotations[len(there) :])
        except GitHubMissingError:
            pass  # removed meanwhile
    body = wanted.body() | {"head_sha": wanted.head_sha}
    body["output"]["annotations"] = annotations[:PER_REQUEST]
    made = github.post("check-runs", body)
    if len(annotations) > PER_REQUEST:
        _send(github, wanted, f"check-runs/{fields.value(made, int, 'id')}", annotations[PER_REQUEST:])
    return fields.text(made, "html_url")


def _send(github: GitHub, wanted: _Wanted, path: str, annotations: Sequence[dict[str, Any]]) -> str:
    """Say the page, and append annotations. A lost answer is looked after: they must not be appended twice."""
    answer = None
    for start in range(0, max(1, len(annotations)), PER_REQUEST):
        some = list(annotations[start : start + PER_REQUEST])
        body = wanted.body()
        if some:
            body["output"]["annotations"] = some
        answer = github.patch(path, body, repeatable=not some)
    return fields.text(answer, "html_url")


def _newest(github: GitHub, head_sha: str, name: str) -> Any:
    """Ours that was made last. `filter=all`: a job of the same name that came later would hide it."""
    app = own_login(github).removesuffix("[bot]").casefold()
    runs = [
        each
        for each in github.pages(f"commits/{segment(head_sha)}/check-runs", "check_runs", check_name=name, filter="all")
        if fields.text(each, "name") == name
        and fields.text(each, "app", "slug").casefold() == app
        and fields.text(each, "external_id").startswith(_OURS)
    ]
    return max(runs, key=lambda each: fields.value(each, int, "id"), default=None)


def _there(github: GitHub, run: Any) -> list[dict[str, Any]]:
    """The annotations that a check run has, as `_annotation` makes them."""
    if not fields.value(run, int, "output", "annotations_count"):
        return []
    kept = ("path", "start_line", "end_line", "annotation_level", "title", "message")
    listed = github.pages(f"check-runs/{fields.value(run, int, 'id')}/annotations")
    return [{key: each.get(key) for key in kept if each.get(key) is not None} for each in listed]


def _says(run: Any, wanted: _Wanted) -> bool:
    body = wanted.body()
    same_output = all(
        fields.text(run, "output", key) == body["output"].get(key, "") for key in ("title", "summary", "text")
    )
    return same_output and all(
        fields.text(run, key) == body.get(key, "") for key in ("status", "conclusion", "external_id", "details_url")
    )


def _annotation(remark: Annotation) -> dict[str, Any]:
    title = {"title": _cut(remark.title, TITLE_CHARS_MAX, "…")} if remark.title else {}
    message = remark.message.encode()[: MESSAGE_BYTES_MAX - 10].decode(errors="ignore")
    return {
        "path": remark.path,
        "start_line": remark.line,
        "end_line": remark.line,
        "annotation_level": remark.level,
        "message": message or "(empty)",
        **title,
    }


def _page(markdown: str) -> str:
    return _cut(markdown, PAGE_CHARS_MAX, _CUT)


def _cut(value: str, limit: int, mark: str) -> str:
    return value if len(value) <= limit else value[: limit - len(mark)] + mark


def _require_commit(head_sha: str) -> None:
    if COMMIT_SHA.fullmatch(head_sha) is None:
        raise ValueError(f"a check run belongs to a commit of 40 hex digits, not to {head_sha[:80]!r}")
