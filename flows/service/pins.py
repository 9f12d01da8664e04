"""Recorded pins of builds are renewed by pull requests: `redline github pins`.

One pull request per pin of service.toml. The new build is resolved in a folder of its own, so that what is installed
beside it is looked up anew as well. A pin is renewed for the Python that runs Redline, which must be that of the record
unless somebody names the build, and for this kind of processor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from checks.differences import difference_statements
from checks.lock_diff import package_changes
from flows.request import Answer
from flows.service.proposing import branch_of, default_branch, path_in_repository
from flows.service.telling import in_words, told
from flows.workspace import Workspace, content_root
from redline.builds.build_spec import CommitSpec, NightlySpec, parse_spec
from redline.builds.image_reference import ImageReference
from redline.builds.lock_text import normalised, parse_lock
from redline.builds.newest_version import newest_version
from redline.builds.resolve import python_version, read_pin, resolve, write_pin
from redline.errors import ExitCode, RedlineError, UsageError
from redline.github.client import GitHub, github_of
from redline.github.environment import Environment
from redline.github.pulls import propose
from redline.markdown import code, text
from redline.model import BuildKind, BuildPin, ServiceSettings, SystemUnderTest, Trigger
from reports import build_range
from reports.proposal import PinMove, pin_body, pin_title

RECORDABLE = (BuildKind.INDEX_WHEEL, BuildKind.REMOTE_WHEEL, BuildKind.IMAGE)


@dataclass(frozen=True, slots=True)
class _Renewal:
    """One pin of service.toml, `name` as it stands there; `spec`: the build asked for, empty for the newest."""

    name: str
    path: Path
    branch: str
    spec: str = ""


def renew(environment: Environment, state_dir: Path, builds: Sequence[str]) -> Answer:
    """Propose the newest build, or of PIN=BUILD the one that is named, for every pin that service.toml names.

    What goes wrong with one pin is said and keeps the others from nothing; the exit code is then the first one's.

    Raises UsageError for a PIN=BUILD that is none, ContentError for a wrong service.toml, GitHubError if GitHub cannot
    be asked at all.
    """
    root = content_root()
    settings = Workspace(root, root).service()
    renewals = tuple(_renewals(root, settings, builds))
    if not renewals:
        return told(environment, "Pins", ["service.toml names no recorded pin"], ExitCode.NO_WORSE)
    lines, failed = [], ExitCode.NO_WORSE
    with github_of(environment) as github:
        base = default_branch(environment, github)
        for each in renewals:
            try:
                lines.append(f"{code(each.name)}: {_renewed(github, base, settings, each, state_dir)}")
            except RedlineError as error:
                lines.append(f"{code(each.name)}: not renewed: {in_words(error)}")
                failed = failed or error.exit_code
    return told(environment, "Pins", lines, failed)


def _renewals(root: Path, settings: ServiceSettings, builds: Sequence[str]) -> Iterator[_Renewal]:
    """Every recorded pin, once. Raises UsageError for a PIN that is none of them."""
    names = [name for leg in settings.legs for name in (leg.gate, leg.nightly) if name.endswith(".json")]
    named = _named(builds, names)
    branches: dict[str, str] = {}
    for name in dict.fromkeys(names):
        branch = branch_of("pins", name.removesuffix(".json").removeprefix("pins/"))
        if branch in branches:
            raise UsageError(
                "two pins would be proposed on one branch",
                expected="names that differ in more than a sign",
                found=f"{branches[branch]} and {name}",
                next_step="rename one of the files, and its leg in service.toml",
            )
        branches[branch] = name
        yield _Renewal(name, root / name, branch, named.get(name, ""))


def _named(builds: Sequence[str], names: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for said in builds:
        name, _, build = (part.strip() for part in said.partition("="))
        if name not in names or not build or name in found:
            raise UsageError(
                "--build names no pin to renew" if name not in found else "--build names a pin twice",
                expected=f"PIN=BUILD once for each, where PIN is one of {', '.join(dict.fromkeys(names)) or 'none'}",
                found=repr(said[:200]),
                next_step="correct --build, or add the pin to a leg of service.toml",
            )
        parse_spec(build)
        found[name] = build
    return found


def _renewed(github: GitHub, base: str, settings: ServiceSettings, renewal: _Renewal, state_dir: Path) -> str:
    """What was done about one pin, in words."""
    before = read_pin(renewal.path) if renewal.path.exists() or not renewal.spec else None
    state_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="renewing-", dir=state_dir) as folder:
        # Somebody who names a build means it for the Python of the workflow, which is that of the legs.
        after = _resolved(renewal.spec or newest_of(before), None if renewal.spec else before, Path(folder))
        if before is not None and before.pin_id == after.pin_id:
            return f"{text(after.label)} is the newest there is; nothing is proposed"
        record = Path(folder) / "record.json"
        write_pin(record, after)
        files: dict[str, bytes | None] = {path_in_repository(renewal.path): record.read_bytes()}
    move = _move(settings, renewal.name, before, after)
    title, body = pin_title(move), pin_body(move)
    url = propose(github, branch=renewal.branch, base=base, title=title, body=body, files=files, insist=False)
    return f"{text(after.label)} proposed in {url}" if url else f"{text(after.label)} is there already"


def newest_of(pin: BuildPin | None) -> str:
    """The spec of the newest build of the same kind and variant as a recorded one.

    Raises UsageError where a record does not say which that is, BuildError if an index cannot be asked.
    """
    assert pin is not None, "without a record there is a spec"
    match pin.kind:
        case BuildKind.INDEX_WHEEL:
            return _newest_on_index(pin)
        case BuildKind.REMOTE_WHEEL | BuildKind.IMAGE:
            match parse_spec(pin.spec):
                case NightlySpec(variant) | CommitSpec(_, variant):
                    return f"nightly/{variant}" if variant else "nightly"
                case ImageReference() as image if not image.digest:
                    return pin.spec
                case _:
                    pass
        case BuildKind.LOCAL_WHEEL | BuildKind.ENDPOINT:
            pass
    raise UsageError(
        "the record does not say what a newer build of it would be",
        expected="a version on an index, nightly, a commit, or an image by its tag",
        found=pin.spec[:200],
        next_step="name the build: --build PIN=BUILD",
    )


def _newest_on_index(pin: BuildPin) -> str:
    """The newest version, of the same variant; the recorded one where the index has only older ones."""
    _, plus, variant = pin.version.partition("+")
    newest = f"{newest_version(pin.distribution)}{plus}{variant}"
    chosen = newest if Version(newest) > Version(pin.version) else pin.version
    return f"{pin.distribution}=={chosen}"


def _resolved(spec: str, before: BuildPin | None, scratch: Path) -> BuildPin:
    """The pin of a spec that others can install too, for the Python of the one before, if any. Raises UsageError."""
    if before is not None and before.kind is not BuildKind.IMAGE and before.python_version != python_version():
        raise UsageError(
            "the pin is of another Python",
            expected=f"Python {before.python_version}, which its runners have",
            found=f"Python {python_version()}, which runs this step",
            next_step="set REDLINE_PYTHON as its runners have it, or name a build to record for this Python: --build",
        )
    found = resolve(spec, state_dir=scratch)
    if found.kind not in RECORDABLE:
        raise UsageError(
            "other machines cannot install this build",
            expected="a build of an index, an address or a registry",
            found=f"{found.kind.value}: {spec[:200]}",
            next_step="publish it where the runners reach it, and name that",
        )
    return found


def _move(settings: ServiceSettings, name: str, before: BuildPin | None, after: BuildPin) -> PinMove:
    judges = tuple(leg.runner for leg in settings.legs if leg.gate == name)
    if before is None:
        return PinMove(name, None, after, judged_by=judges, started_by=_started_by(settings))
    url = build_range.compare_url(settings.source, before.label, after.label)
    claimed = "/compare/v" in url
    if before.commit and after.commit:
        url = f"https://github.com/{settings.source}/compare/{before.commit}...{after.commit}"
        url, claimed = ("" if before.commit == after.commit else url), False
    changes = package_changes(
        _packages(before), _packages(after), builds=frozenset({normalised(before.distribution), after.distribution})
    )
    return PinMove(
        path=name,
        before=before,
        after=after,
        differences=difference_statements(SystemUnderTest(before), SystemUnderTest(after)),
        packages=tuple((each.name, each.before, each.after) for each in changes),
        compare_url=url,
        claimed=claimed,
        judged_by=judges,
        started_by=_started_by(settings),
    )


def _packages(pin: BuildPin) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {name: (each.version, each.sha256) for name, each in parse_lock(pin.lock).items()} if pin.lock else {}


def _started_by(settings: ServiceSettings) -> str:
    """How the gate of such a pull request starts: what a workflow opened starts no other workflow by itself."""
    command = "comment /redline run to start it"
    match settings.gate.trigger:
        case Trigger.LABEL:
            return f"Put the label {settings.gate.label} on it, or {command}."
        case Trigger.COMMAND | Trigger.ALWAYS:
            return f"{command[0].upper()}{command[1:]}."
