"""Otava's own environment: every package of its lock, by hash, installed once.

pip does it and not uv: pip is there wherever Redline is, and it reads where packages come from on this machine
by itself. 12 s on an idle two-core host, once per lock and Python.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from redline.errors import InfrastructureError

LOCK = Path(__file__).with_name("requirements.lock")
INSTALL_S_MAX = 900.0
WAIT_S_MAX = INSTALL_S_MAX + 60.0
POLL_S = 0.2
RETRY_COUNT = "2"
FOUND_CHARACTERS_MAX = 1500

_MARKER = "complete"
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def otava_python(state_dir: Path, *, on_line: Callable[[str], None], lock: Path = LOCK) -> Path:
    """The interpreter of the environment under `state_dir`/otava that holds everything in `lock`, installed if need be.

    Two processes never install at once, and an install that was cut short is done again: an environment counts only
    when its marker, written last, is there. Raises InfrastructureError if it cannot be installed.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    home = (state_dir / "otava" / f"python{version}-{digest[:16]}").resolve()
    python = home / "bin" / "python"
    with _hold(home.with_suffix(".lock")):
        if not (home / _MARKER).exists():
            on_line("installing Otava into an environment of its own")
            _install(home, python, lock)
            (home / _MARKER).write_text(f"{digest}\n", encoding="utf-8")
    return python


@contextmanager
def _hold(path: Path) -> Iterator[None]:
    """Hold a lock inside the context; closing its descriptor lets it go, also when this process is killed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InfrastructureError(
            f"{path.parent}: Otava's environment cannot be kept here",
            expected="a directory this user may write to",
            found=str(error),
            next_step="correct the permissions or choose another state directory",
        ) from error
    try:
        deadline_s = time.monotonic() + WAIT_S_MAX
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
            if time.monotonic() >= deadline_s:
                raise InfrastructureError(
                    "another process has been installing Otava for too long",
                    expected=f"an end within {WAIT_S_MAX:.0f} s",
                    found=f"{path} is still locked",
                    next_step="end the other process, then try again",
                )
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _install(home: Path, python: Path, lock: Path) -> None:
    """Make the environment anew. A virtual environment holds absolute paths and cannot be renamed, hence the marker."""
    shutil.rmtree(home, ignore_errors=True)
    # -I: neither the user's site directory nor PYTHONPATH may answer.
    _run([sys.executable, "-I", "-m", "venv", str(home)])
    arguments = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile"]
    arguments += ["--no-input", "--disable-pip-version-check", "--retries", RETRY_COUNT, "-r", str(lock)]
    _run([str(python), "-I", "-m", "pip", "install", "--quiet", *arguments])


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=INSTALL_S_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _not_installed(f"{type(error).__name__}: {error}") from error
    if done.returncode != 0:
        said = [line for line in done.stdout.splitlines() if not line.startswith("WARNING:")]
        raise _not_installed(_CREDENTIALS.sub("***@", "\n".join(said)).strip()[-FOUND_CHARACTERS_MAX:])


def _not_installed(found: str) -> InfrastructureError:
    return InfrastructureError(
        "Otava could not be installed",
        expected="every file in its lock, with its SHA-256, from the indexes that pip is configured with",
        found=found,
        next_step="check the network and the indexes that `pip config list` shows",
    )
