"""An environment that holds what a lock says and nothing else: made once, looked at every time it is asked for.

    <home>/venv             a virtual environment of the Python that runs Redline
    <home>/lock.txt         what uv was given
    <home>/complete.json    written last: without it nothing here counts
    <home>.lock             held while somebody makes it or looks at it

A virtual environment holds absolute paths: it cannot be built elsewhere and renamed, hence the record at the end.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redline.builds.exclusive import INSTALL_S_MAX, hold
from redline.builds.lock_text import normalised, parse_lock
from redline.builds.pin_record import write_text
from redline.builds.uv_process import (
    UvOutcome,
    UvSetup,
    run_uv,
    run_uv_with_torch,
    set_up,
    shortened,
    unreachable_address,
)
from redline.errors import BuildError

COMPLETE = "complete.json"
QUESTION_S_MAX = 120.0
SHOWN_COUNT_MAX = 5

_VERSIONS_PROGRAM = """
import importlib.metadata, json
print(json.dumps({item.metadata["Name"]: item.version for item in importlib.metadata.distributions()}))
"""


@dataclass(frozen=True, slots=True)
class LockedEnvironment:
    """What is to be there.

    `home`: its directory, absolute. `lock`: packages as `write_lock` makes them. `name`: what messages call it.
    `main`: the distribution that it is there for. `beside`: versions by name of packages that its interpreter sees
    without having them from the lock. `facts`: what the record of its completion says beside `seconds`.
    """

    home: Path
    lock: str
    name: str
    main: str
    beside: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.home / "venv" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class ReadyEnvironment:
    """What is there: versions by normalised name; what the call took; whether it was there before."""

    python: Path
    versions: Mapping[str, str]
    seconds: float
    cached: bool


def _nothing() -> None:
    """Nothing to add."""


def ensure(
    environment: LockedEnvironment,
    *,
    on_line: Callable[[str], None],
    begin: Callable[[], UvSetup] = set_up,
    finish: Callable[[], None] = _nothing,
) -> ReadyEnvironment:
    """The environment, installed by uv if it is not there, and verified in its own interpreter.

    Two processes never install it at once, and an install that was cut short is done again from the start.
    `begin` is called before anything is written and says how uv is started; `finish` adds what comes from no index.
    Both are called only when there is something to install. `on_line` gets uv's lines.

    Raises BuildError: uv failed, what is there is not what the lock says, or nothing can be written.
    """
    started_s = time.monotonic()
    complete = environment.home / COMPLETE
    with hold(environment.home.with_name(f"{environment.home.name}.lock"), environment.name, on_line) as descriptor:
        cached = complete.exists()
        if not cached:
            _install(environment, begin(), on_line, descriptor)
            finish()
        versions = _verified(environment)
        seconds = time.monotonic() - started_s
        if not cached:
            write_text(complete, json.dumps({**environment.facts, "seconds": round(seconds, 3)}) + "\n")
    return ReadyEnvironment(environment.python, versions, seconds, cached)


def _install(environment: LockedEnvironment, setup: UvSetup, on_line: Callable[[str], None], held: int) -> None:
    """Everything in the lock, and nothing else, in a new environment; what an earlier try left goes first.

    uv inherits the lock's descriptor: if this process is killed, the lock is free only when uv has ended too.
    """
    home, python = environment.home, environment.python
    if home.exists():
        on_line(f"an earlier install of {environment.name} was cut short: starting again")
        shutil.rmtree(home)
    write_text(home / "lock.txt", environment.lock)
    # --no-deps: the lock is complete, and what was left out of it on purpose must not come back.
    sync = ["pip", "install", "--python", str(python), "--compile-bytecode", "--no-deps", "--require-hashes"]
    sync += ["--only-binary", ":all:", "-r", str(home / "lock.txt")]

    def run(arguments: list[str], setup: UvSetup) -> UvOutcome:
        return run_uv(
            arguments,
            setup=setup,
            directory=home,
            timeout_s=INSTALL_S_MAX,
            on_line=on_line,
            kept_open=(held,),
        )

    outcome = run(["venv", "--no-project", "--python", sys.executable, str(home / "venv")], setup)
    if outcome.ok:
        outcome, _ = run_uv_with_torch(lambda setup: run(sync, setup), setup)
    if not outcome.ok:
        address = unreachable_address(outcome)
        raise BuildError(
            f"{environment.name} could not be installed",
            expected=f"an answer from {address}" if address else "every file in its lock, with its SHA-256",
            found=shortened(outcome.text),
            next_step="check the network and the indexes that `pip config list` shows",
        )


def _verified(environment: LockedEnvironment) -> Mapping[str, str]:
    """What is installed, once every distribution is one that is to be there and there is no other."""
    locked = {package.name: package.version for package in parse_lock(environment.lock).values()}
    expected = {**locked, **environment.beside}
    found = installed_versions(environment.python)
    wrong = [
        f"{name} {found.get(name, 'missing')} instead of {expected.get(name, 'nothing')}"
        for name in sorted({*expected, *found}, key=lambda name: (name != environment.main, name))
        if expected.get(name) != found.get(name)
    ]
    if wrong:
        raise BuildError(
            f"what is installed is not {environment.name} as it was locked",
            expected=f"the {len(expected)} packages of {environment.name} and no other",
            found=f"{len(wrong)} differ: {'; '.join(wrong[:SHOWN_COUNT_MAX])}",
            next_step=f"delete {environment.home}; it is installed again when it is needed",
        )
    return found


def installed_versions(python: Path) -> Mapping[str, str]:
    """Versions by normalised name, from the interpreter's own metadata. Raises BuildError if it does not answer."""
    try:
        # -I: neither the user's site directory nor PYTHONPATH may answer for it.
        done = subprocess.run(
            [str(python), "-I", "-c", _VERSIONS_PROGRAM],
            capture_output=True,
            text=True,
            timeout=QUESTION_S_MAX,
            check=True,
        )
        return {normalised(name): version for name, version in json.loads(done.stdout).items()}
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        detail = error.stderr.strip()[-500:] if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise BuildError(
            f"{python} does not say what is installed",
            expected="a working interpreter",
            found=f"{type(error).__name__}: {detail}",
            next_step=f"delete {python.parents[2]}; it is installed again when it is needed",
        ) from error
