"""What GitHub says no with, as an error that names the next step. Its words are an outsider's: cleaned and cut."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redline.errors import GitHubError, GitHubMissingError
from redline.markdown import one_line

_WORDS_MAX = 300
_NEXT_STEPS = {
    301: "give the repository's present name",
    307: "give the repository's present name",
    308: "give the repository's present name",
    401: "give this step a token that is valid: env: GITHUB_TOKEN: ${{ github.token }}",
    404: "see whether it is there, and whether the token may see it: a private thing is missing to who may not",
    410: "it was removed, has expired, or is switched off in the repository's settings",
    422: "see what GitHub says about the fields; nothing was changed",
}


def refused(question: str, status: int, headers: Mapping[str, str], body: str) -> GitHubError:
    """The error for an answer that is final. `question`: method and path, for example `GET pulls/7`."""
    error = GitHubMissingError if status in (404, 410) else GitHubError
    step = _permission_step(headers) if status == 403 else _NEXT_STEPS.get(status)
    if status >= 500:
        step = "start this step again later; see githubstatus.com"
    return error(
        f"GitHub refuses: {question}" if status < 500 else f"GitHub fails: {question}",
        expected="an answer of the 200s",
        found=f"HTTP status {status}: {words(body)}",
        next_step=step or "see GitHub's documentation of this request",
        status=status,
    )


def words(body: str) -> str:
    """What an error's body says, on one line: its message, and what it says about single fields."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        return one_line(body, _WORDS_MAX)
    if not isinstance(said, dict):
        return one_line(body, _WORDS_MAX)
    listed = said.get("errors")
    parts = [str(said.get("message", "")), *map(_field_words, listed if isinstance(listed, list) else [])]
    return one_line("; ".join(part for part in parts if part), _WORDS_MAX)


def _field_words(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    return " ".join(str(entry[key]) for key in ("resource", "field", "code", "message") if entry.get(key))


def _permission_step(headers: Mapping[str, str]) -> str:
    needed = headers.get("x-accepted-github-permissions", "").strip()
    if not needed:
        return "give the job that runs this step the permission; docs/github.md lists each job's"
    # "issues=write; pull_requests=write" are alternatives, "contents=write,workflows=write" are both needed.
    spelt = needed.replace("_", "-").replace("=", ": ").replace(";", " or").replace(",", " and ")
    return f"give the job in the workflow: permissions: {one_line(spelt, _WORDS_MAX)}"
