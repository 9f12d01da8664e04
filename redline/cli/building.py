"""`redline builds`: pinned, installed, looked for, listed and removed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from redline.cli.options import Commands, add_state, state_dir_of
from redline.errors import ExitCode, NoBuildError, UsageError

if TYPE_CHECKING:
    from redline.builds.no_build import NoBuild
    from redline.builds.stored_builds import StoredBuild

COMMIT_PLACE = "{commit}"


def add_commands(commands: Commands) -> None:
    """Add builds."""
    builds = commands.add_parser("builds", help="pin, install, find and remove vLLM builds")
    actions = builds.add_subparsers(dest="builds_command", required=True, metavar="ACTION")
    pin = actions.add_parser("pin", help="resolve a build and print (or write) its pin")
    pin.add_argument("build", metavar="BUILD")
    pin.add_argument("--output", type=Path, metavar="FILE", help="write the pin's record here")
    add_state(pin)
    pin.set_defaults(action=_pin)
    install = actions.add_parser("install", help="install a build from its spec or its recorded pin")
    install.add_argument("build", metavar="BUILD")
    add_state(install)
    install.set_defaults(action=_install)
    _add_finding(actions)
    _add_keeping(actions)


def _add_finding(actions: Commands) -> None:
    for name, text in (
        ("available", "which commits of a list have a build: lines for `redline bisect --builds`"),
        ("last", "the newest commit of a list that has a build"),
    ):
        finding = actions.add_parser(
            name,
            help=text,
            description=f"Prints {text}. A commit without a build is no error; a list without any ends with code 5.",
        )
        finding.add_argument(
            "--commits",
            required=True,
            metavar="FILE",
            help="40 hex digits a line, as `git rev-list` prints them; '-' reads standard input",
        )
        finding.add_argument("--variant", default="", metavar="NAME", help="of the wheels: cu129, cpu, rocm721, ...")
        finding.add_argument(
            "--image",
            metavar="REPOSITORY:TAG",
            help=f"look for images instead; TAG holds {COMMIT_PLACE}: vllm/vllm-openai:nightly-{COMMIT_PLACE}",
        )
        finding.add_argument(
            "--limit", type=int, default=100, metavar="N", help="look at so many commits (default: %(default)s)"
        )
        finding.set_defaults(action=_available if name == "available" else _last)
    precompiled = actions.add_parser(
        "precompiled",
        help="whether binaries compiled before a change fit it: 'yes', or 'no' and the paths that forbid it",
    )
    precompiled.add_argument(
        "--paths",
        required=True,
        metavar="FILE",
        help="changed paths, one a line: git diff --name-only --no-renames BASE; '-' reads standard input",
    )
    precompiled.set_defaults(action=_precompiled)


def _add_keeping(actions: Commands) -> None:
    listing = actions.add_parser("list", help="the installed builds: size, last use, what is wrong with them")
    add_state(listing)
    listing.set_defaults(action=_list)
    remove = actions.add_parser("remove", help="remove installed builds; none that is in use")
    remove.add_argument("pins", nargs="*", metavar="PIN", help="pin ids as `redline builds list` shows them")
    remove.add_argument(
        "--unused-days", type=float, metavar="N", help="those that nobody used for so many days instead"
    )
    add_state(remove)
    remove.set_defaults(action=_remove)


# --- pinning and installing -----------------------------------------------------------------------------------


def _pin(arguments: argparse.Namespace) -> int:
    from redline.builds.resolve import resolve, write_pin

    pin = resolve(arguments.build, state_dir=state_dir_of(arguments), on_line=_say_aside)
    print(f"{pin.label}\n  pin {pin.pin_id}\n  platform {pin.platform}, Python {pin.python_version or 'its own'}")
    if pin.wheel_sha256:
        packages = sum("==" in line for line in pin.lock.splitlines())
        print(f"  wheel sha256 {pin.wheel_sha256}\n  lock: {packages} packages with hashes")
    if pin.url:
        print(f"  from {pin.url}")
    if pin.commit:
        print(f"  commit {pin.commit}")
    if arguments.output:
        write_pin(arguments.output, pin)
        print(f"wrote {arguments.output}")
    return ExitCode.NO_WORSE


def _install(arguments: argparse.Namespace) -> int:
    from redline.builds.install import install
    from redline.builds.resolve import resolve

    state_dir = state_dir_of(arguments)
    pin = resolve(arguments.build, state_dir=state_dir, on_line=_say_aside)
    build = install(pin, state_dir=state_dir, on_line=lambda _: None)
    how = "already there" if build.cached else f"installed in {build.seconds:.0f} s"
    print(f"{build.pin.label}: {how}\n  interpreter {build.python}")
    return ExitCode.NO_WORSE


def _say_aside(line: str) -> None:
    print(line, file=sys.stderr)


# --- finding --------------------------------------------------------------------------------------------------


@contextmanager
def _finder(arguments: argparse.Namespace) -> Iterator[Callable[[str], str | NoBuild]]:
    """A function from a commit to the spec of its build, with what it is after a `#`. Raises UsageError."""
    from redline.builds.build_spec import CommitSpec, parse_spec
    from redline.builds.image_lookup import look_up
    from redline.builds.image_reference import ImageReference
    from redline.builds.no_build import NoBuild
    from redline.builds.wheel_index import open_index

    if arguments.image is not None:
        reference = parse_spec(f"image:{arguments.image.replace(COMMIT_PLACE, '0' * 40)}")
        if COMMIT_PLACE not in arguments.image or not isinstance(reference, ImageReference) or reference.digest:
            raise UsageError(
                "--image names one image, not one for each commit",
                expected=f"a tag with {COMMIT_PLACE} in it",
                found=arguments.image,
                next_step=f"write --image vllm/vllm-openai:nightly-{COMMIT_PLACE}",
            )

        def find_image(commit: str) -> str | NoBuild:
            image = parse_spec(f"image:{arguments.image.replace(COMMIT_PLACE, commit)}")
            assert isinstance(image, ImageReference), "it is one for a commit of zeros"
            found = look_up(image)
            return found if isinstance(found, NoBuild) else f"image:{image.repository}@{found.digest}  # {image.name}"

        yield find_image
        return
    spec = parse_spec(f"commit:{'0' * 40}" + (f"/{arguments.variant}" if arguments.variant else ""))
    assert isinstance(spec, CommitSpec), "the text begins with commit:"
    suffix = f"/{spec.variant}" if spec.variant else ""
    with open_index() as index:

        def find_wheel(commit: str) -> str | NoBuild:
            found = index.of_commit(commit, spec.variant)
            return found if isinstance(found, NoBuild) else f"commit:{commit}{suffix}  # {found.version}"

        yield find_wheel


def _available(arguments: argparse.Namespace) -> int:
    from redline.builds.no_build import NoBuild

    commits = _commits(arguments)[: arguments.limit]
    count = 0
    with _finder(arguments) as find:
        for commit in commits:
            found = find(commit)
            count += not isinstance(found, NoBuild)
            print(f"# no build: {found.name}: {found.reason}" if isinstance(found, NoBuild) else found, flush=True)
    if not count:
        raise _none(len(commits))
    return ExitCode.NO_WORSE


def _last(arguments: argparse.Namespace) -> int:
    from redline.builds.last_build import last_build

    commits = _commits(arguments)
    with _finder(arguments) as find:
        walked = last_build(commits, find, walk_max=arguments.limit)
    for each in walked.missed:
        _say_aside(f"no build: {each.name}: {each.reason}")
    if walked.found is None:
        raise _none(len(walked.missed))
    print(walked.found.partition("  #")[0])
    return ExitCode.NO_WORSE


def _none(count: int) -> NoBuildError:
    return NoBuildError(
        f"none of the {count} commits has a build",
        expected="at least one",
        found="none",
        next_step="look further back with --limit, or for another variant",
    )


def _commits(arguments: argparse.Namespace) -> tuple[str, ...]:
    from redline.builds.last_build import read_commits

    if arguments.limit < 1:
        raise UsageError(
            "--limit allows no commit", expected="1 or more", found=str(arguments.limit), next_step="correct --limit"
        )
    return read_commits(_lines(arguments.commits, "--commits"), arguments.commits)


def _lines(name: str, option: str) -> list[str]:
    """The lines of a file, or of standard input for '-'. Raises UsageError."""
    try:
        return (sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{name} cannot be read", expected="a text file", found=str(error), next_step=f"correct {option}"
        ) from error


def _precompiled(arguments: argparse.Namespace) -> int:
    from redline.builds.python_only import paths_that_forbid

    forbidding = paths_that_forbid(line for line in _lines(arguments.paths, "--paths") if line)
    print("no" if forbidding else "yes")
    for path in forbidding:
        print(f"  {path}")
    return ExitCode.NO_WORSE


# --- keeping --------------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> int:
    from redline.builds.stored_builds import stored_builds

    found = stored_builds(state_dir_of(arguments))
    for build in found:
        used = time.strftime("%Y-%m-%d", time.localtime(build.used_s))
        notes = [*(["in use"] if build.in_use else []), *([build.problem] if build.problem else [])]
        line = f"{build.pin_id}  {build.size_bytes / 1e9:6.2f} GB  last used {used}  {build.label}"
        print(f"{line}  ({'; '.join(notes)})" if notes else line)
    print(f"{len(found)} builds, {sum(build.size_bytes for build in found) / 1e9:.2f} GB")
    return ExitCode.NO_WORSE


def _remove(arguments: argparse.Namespace) -> int:
    from redline.builds.stored_builds import remove

    chosen = _to_remove(arguments)
    if not chosen:
        print(f"nothing removed: every build was used within the last {arguments.unused_days:g} days")
    for build in chosen:
        remove(build, state_dir_of(arguments))
        print(f"removed {build.label} ({build.pin_id}), {build.size_bytes / 1e9:.2f} GB")
    return ExitCode.NO_WORSE


def _to_remove(arguments: argparse.Namespace) -> tuple[StoredBuild, ...]:
    from redline.builds.stored_builds import named, stored_builds, unused_since

    if bool(arguments.pins) == (arguments.unused_days is not None):
        raise UsageError(
            "it is not said which builds to remove",
            expected="pin ids, or --unused-days N",
            found="both" if arguments.pins else "neither",
            next_step="look at `redline builds list`",
        )
    known = stored_builds(state_dir_of(arguments))
    if arguments.unused_days is not None:
        if not arguments.unused_days >= 0:
            raise UsageError(
                "--unused-days is no number of days",
                expected="0 or more",
                found=str(arguments.unused_days),
                next_step="correct --unused-days",
            )
        return unused_since(known, arguments.unused_days, time.time())
    return tuple(dict.fromkeys(named(known, name) for name in arguments.pins))
