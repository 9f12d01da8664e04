"""What GitHub's runner tells a job: the event, the repository, where outputs and the summary go.

Source: docs.github.com, "Variables reference" and "Workflow commands for GitHub Actions" (read November 2026).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redline.errors import UsageError

EVENT_BYTES_MAX = 30_000_000
SUMMARY_BYTES_MAX = 1_048_576
TOKEN_VARIABLES = ("REDLINE_GITHUB_TOKEN", "GITHUB_TOKEN")


@dataclass(frozen=True, slots=True)
class Environment:
    """One job's surroundings. `token` never leaves the process: it is not in `repr`, and nothing writes it down.

    `event`: the payload, an outsider's text in most of its strings. `run_url`: the workflow run's page.
    """

    event_name: str
    event: Mapping[str, Any]
    repository: str
    api_url: str
    server_url: str
    run_id: int
    run_attempt: int
    actor: str
    output_path: Path | None
    summary_path: Path | None
    _token: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Environment({self.event_name}, {self.repository}, run {self.run_id})"

    @property
    def token(self) -> str:
        """The job's token. Raises UsageError if the job was given none."""
        if not self._token:
            raise UsageError(
                "this step has no token",
                expected=f"one of {', '.join(TOKEN_VARIABLES)}",
                found="none of them is set",
                next_step="give it to this one step: env: GITHUB_TOKEN: ${{ github.token }}",
            )
        return self._token[0]

    @property
    def run_url(self) -> str:
        """The page of this workflow run; empty outside of one."""
        return f"{self.server_url}/{self.repository}/actions/runs/{self.run_id}" if self.run_id else ""


def read_environment(variables: Mapping[str, str]) -> Environment:
    """The surroundings that these variables describe. Raises UsageError if this is no job of GitHub's runner."""
    missing = [name for name in ("GITHUB_REPOSITORY", "GITHUB_EVENT_NAME") if not variables.get(name)]
    if missing:
        raise UsageError(
            "this is no job of GitHub Actions",
            expected="the variables that its runner sets",
            found=f"no {' and no '.join(missing)}",
            next_step="call this from a workflow; docs/github.md shows how to try it without GitHub",
        )
    return Environment(
        event_name=variables["GITHUB_EVENT_NAME"],
        event=_event(variables.get("GITHUB_EVENT_PATH", "")),
        repository=variables["GITHUB_REPOSITORY"],
        api_url=variables.get("GITHUB_API_URL") or "https://api.github.com",
        server_url=variables.get("GITHUB_SERVER_URL") or "https://github.com",
        run_id=int(variables.get("GITHUB_RUN_ID") or 0),
        run_attempt=int(variables.get("GITHUB_RUN_ATTEMPT") or 1),
        actor=variables.get("GITHUB_ACTOR", ""),
        output_path=_path(variables.get("GITHUB_OUTPUT")),
        summary_path=_path(variables.get("GITHUB_STEP_SUMMARY")),
        _token=tuple(found for name in TOKEN_VARIABLES if (found := variables.get(name, "").strip()))[:1],
    )


def write_outputs(environment: Environment, outputs: Mapping[str, str]) -> None:
    """Hand outputs on to later steps; nothing where there is no file for them.

    Each is written between two lines of a random word, so that no value can end itself and set another output.
    """
    if environment.output_path is None:
        return
    lines = []
    for name, value in outputs.items():
        word = f"redline-{secrets.token_hex(16)}"
        lines += [f"{name}<<{word}", value, word]
    with environment.output_path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def write_summary(environment: Environment, markdown: str) -> None:
    """Append to the job's summary; nothing where there is no file for it.

    Raises ValueError for more than GitHub takes: it would reject all of it, so what is too long is cut before.
    """
    if environment.summary_path is None:
        return
    size = len(markdown.encode())
    if size > SUMMARY_BYTES_MAX:
        raise ValueError(f"a summary holds {SUMMARY_BYTES_MAX:,} bytes, this one has {size:,}")
    with environment.summary_path.open("a", encoding="utf-8") as file:
        file.write(markdown)


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


def _event(path: str) -> Mapping[str, Any]:
    if not path:
        return {}
    try:
        if Path(path).stat().st_size > EVENT_BYTES_MAX:
            raise ValueError(f"more than {EVENT_BYTES_MAX:,} bytes")
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise TypeError(f"a JSON {type(value).__name__}")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(
            "the event's payload cannot be read",
            expected="a JSON object",
            found=f"{path}: {error}",
            next_step="see the job's log",
        ) from error
    return value
