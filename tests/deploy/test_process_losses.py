"""A server that ends, or loses a process, while it is in use: what is a death, what is not, and what is forgotten."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from redline.deploy.process import HEALTHY_ANSWERS_MIN, ServerProcess
from redline.errors import DeployError, ServerDiedError
from tests.deploy.conftest import noted_pids, still_there

pytestmark = pytest.mark.slow


def eventually_raises(kind: type[Exception], call, *, within_s: float = 60.0):
    """The error that `call` raises once it starts to raise."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            call()
        except kind as error:
            return error
        time.sleep(0.05)
    raise AssertionError(f"no {kind.__name__} within {within_s} s")


def asked(server: ServerProcess) -> dict[str, Any]:
    """What the stand-in was asked for, counted, and what is to come on /health."""
    return httpx.get(f"http://127.0.0.1:{server.port}/asked", trust_env=False).json()


def wait_until(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.02)


def lose_child(server: ServerProcess, folder: Path) -> int:
    """The pid of the stand-in's child, which was killed."""
    endpoint = server.wait_ready()
    (child,) = (pid for pid in noted_pids(folder) if pid != endpoint.pids[0])
    server.check_alive()
    os.kill(child, signal.SIGKILL)
    assert not still_there({child})
    return child


def test_death_in_use(launch_stand_in, tmp_path):
    """A server that ends while it is used is a ServerDiedError with its last useful words."""
    gate = tmp_path / "gate"
    with launch_stand_in("dies", environment={"STAND_IN_GATE": str(gate)}) as server:
        server.wait_ready()
        gate.touch()
        error = eventually_raises(ServerDiedError, server.check_alive)
    assert "exit status 3" in str(error)
    assert "RuntimeError: the engine fell over" in str(error)


def test_kill_in_use(launch_stand_in):
    """SIGKILL of the server is a ServerDiedError that names the signal, and no claim about memory."""
    with launch_stand_in("ok") as server:
        os.kill(server.wait_ready().pids[0], signal.SIGKILL)
        error = eventually_raises(DeployError, server.check_alive)
    assert type(error) is ServerDiedError
    assert "SIGKILL" in str(error)


def test_loss_of_the_engine(launch_stand_in, tmp_path):
    """A server whose engine was killed and that stays on, unhealthy, is a ServerDiedError.

    Also where the server itself has not noticed yet when it is first asked.
    """
    gate = tmp_path / "gate"
    with launch_stand_in("engine", environment={"STAND_IN_GATE": str(gate)}) as server:
        engine = lose_child(server, tmp_path)
        server.check_alive()
        gate.touch()
        health = f"http://127.0.0.1:{server.port}/health"
        wait_until(lambda: httpx.get(health, trust_env=False).status_code == httpx.codes.SERVICE_UNAVAILABLE)
        with pytest.raises(ServerDiedError, match=f"its process {engine} ended"):
            server.check_alive()


def test_slow_to_answer_after_a_loss(launch_stand_in, tmp_path):
    """A server that lost a process, stalls, and is healthy when it is asked again, is no death."""
    with launch_stand_in("hiccup") as server:
        lose_child(server, tmp_path)
        wait_until(lambda: len(asked(server)["hiccup"]) == 2)
        before = asked(server)["health"]
        server.check_alive()
        assert asked(server)["health"] == before + 2
        assert asked(server)["hiccup"] == []


def test_a_lost_helper_is_forgotten(launch_stand_in, tmp_path):
    """After a few healthy answers nobody asks about a lost process any more: what follows is no matter of its loss."""
    with launch_stand_in("parent") as server:
        child = lose_child(server, tmp_path)
        for _ in range(HEALTHY_ANSWERS_MIN):
            server.check_alive()
        before = asked(server)["health"]
        for _ in range(3):
            server.check_alive()
        assert asked(server)["health"] == before
        assert child not in server.pids()
        os.kill(server.pids()[0], signal.SIGKILL)
        died = eventually_raises(ServerDiedError, server.check_alive)
        assert re.search(rf"\b{child}\b", died.problem) is None, "it may name the server, which ended now"


def test_loss_of_a_helper(launch_stand_in, tmp_path):
    """A helper process that ends while the server stays healthy is no death."""
    with launch_stand_in("helper") as server:
        endpoint = server.wait_ready()
        helper = next(pid for pid in noted_pids(tmp_path) if pid != endpoint.pids[0])
        assert not still_there({helper})
        for _ in range(3):
            server.check_alive()
