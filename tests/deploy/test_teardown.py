"""Nothing is left running, however a deployment or its caller ends. Every claim is checked by pid in /proc."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from redline.deploy.supervisor import guarded
from redline.errors import DeployError
from tests.deploy.conftest import FAKES, noted_pids, still_there

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
CALLER_S_MAX = 60.0


class Caller:
    """A caller in a process of its own, whose stand-in server is ready."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.facts = json.loads(process.stdout.readline())
        self.server_pids = set(self.facts["pids"]) | set(noted_pids(folder))
        self.supervisors = {self.facts["warden"], self.facts["keeper"]}


@contextmanager
def calling(python: Path, folder: Path, mode: str, behaviour: str = "wait") -> Iterator[Caller]:
    """A caller in the stand-in's `mode`, ended with all it started when the block ends."""
    command = [sys.executable, str(FAKES / "deploying_caller.py"), str(python), str(folder), mode, behaviour]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        caller = None
        try:
            caller = Caller(process, folder)
            yield caller
        finally:
            process.kill()
            for pid in (caller.server_pids | caller.supervisors) if caller else ():
                with contextlib.suppress(ProcessLookupError):  # a failed test leaves nothing behind either
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("mode", ["ok", "family", "stubborn"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signal_to_the_caller(stand_in_python, tmp_path, mode, number):
    """Ctrl-C, SIGTERM and kill -9 of the caller leave no process, whatever the server does about SIGTERM."""
    with calling(stand_in_python, tmp_path, mode) as caller:
        assert len(caller.server_pids) >= (3 if mode == "family" else 1)
        caller.process.send_signal(number)
        caller.process.wait(CALLER_S_MAX)
        assert not still_there(caller.server_pids | caller.supervisors)


def test_ctrl_c_at_a_terminal_reaches_only_the_caller(stand_in_python, tmp_path):
    """Server and supervisor are in sessions of their own, so that the caller orders the end."""
    with calling(stand_in_python, tmp_path, "family") as caller:
        caller_session = os.getsid(caller.process.pid)
        assert all(os.getsid(pid) != caller_session for pid in caller.server_pids | caller.supervisors)


@pytest.mark.parametrize("behaviour", ["leave", "raise"])
def test_end_of_the_caller(stand_in_python, tmp_path, behaviour):
    """A caller that ends without cleaning up, or by an exception in the block, leaves no process."""
    with calling(stand_in_python, tmp_path, "family", behaviour) as caller:
        caller.process.wait(CALLER_S_MAX)
        assert not still_there(caller.server_pids | caller.supervisors)


def test_deployment_in_another_thread(stand_in_python, tmp_path):
    """A deployment made in a thread lives while the caller lives, and dies with the caller's process."""
    with calling(stand_in_python, tmp_path, "family", "thread") as caller:
        time.sleep(0.3)
        assert still_there(caller.server_pids, within_s=0) == caller.server_pids
        caller.process.kill()
        assert not still_there(caller.server_pids | caller.supervisors)


def test_forked_child_of_the_caller_does_not_keep_the_server(stand_in_python, tmp_path):
    """A child that the caller forked holds the pipe open, and the server still dies with the caller."""
    with calling(stand_in_python, tmp_path, "ok", "fork") as caller:
        forked = caller.facts["forked"]
        try:
            caller.process.kill()
            caller.process.wait(CALLER_S_MAX)
            assert not still_there(caller.server_pids | caller.supervisors)
            assert still_there({forked}, within_s=0) == {forked}
        finally:
            os.kill(forked, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["warden", "keeper"])
@pytest.mark.parametrize("mode", ["ok", "family", "stubborn"])
def test_kill_of_the_supervisor(stand_in_python, tmp_path, mode, victim):
    """SIGKILL of either half of the supervisor takes the server and all its descendants with it."""
    with calling(stand_in_python, tmp_path, mode) as caller:
        os.kill(caller.facts[victim], signal.SIGKILL)
        assert not still_there(caller.server_pids)
        assert not still_there(caller.supervisors)
        assert caller.process.poll() is None


def test_kill_of_both_halves_takes_the_server(stand_in_python, tmp_path):
    """SIGKILL of both halves of the supervisor at once still takes the server itself."""
    with calling(stand_in_python, tmp_path, "ok") as caller:
        os.kill(caller.facts["warden"], signal.SIGSTOP)  # it can do nothing between the two kills
        os.kill(caller.facts["keeper"], signal.SIGKILL)
        os.kill(caller.facts["warden"], signal.SIGKILL)
        assert not still_there(caller.server_pids)


@pytest.mark.parametrize("mode", ["ok", "family", "stubborn", "engine"])
def test_end_of_the_block(launch_stand_in, tmp_path, mode):
    """The block's end returns only after every process of the server is gone."""
    with launch_stand_in(mode) as server:
        endpoint = server.wait_ready()
        assert set(endpoint.pids) == set(server.pids()) == set(noted_pids(tmp_path))
    assert not still_there(endpoint.pids, within_s=0)
    assert server.pids() == ()


def test_exception_in_the_block(launch_stand_in):
    """An exception in the block passes through unchanged, and the server is gone."""
    pids: tuple[int, ...] = ()

    def use() -> None:
        nonlocal pids
        with launch_stand_in("family") as server:
            pids = server.wait_ready().pids
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert not still_there(pids, within_s=0)


def test_end_while_still_starting(launch_stand_in, tmp_path):
    """A server that is not ready yet is ended at once, not waited for."""
    start = time.monotonic()
    with launch_stand_in("never", start_s_max=250.0) as server:
        pids = server.pids()
    assert not still_there(pids, within_s=0)
    assert time.monotonic() - start < 120


def test_guarded_command_reports_its_end(tmp_path):
    """The exit status of a command that ends by itself is reported, and what it left behind is ended."""
    log_path = tmp_path / "log"
    command = ["/bin/sh", "-c", "sleep 300 & echo $!; exit 7"]
    with guarded(command, environment={"PATH": os.defpath}, log_path=log_path) as child:
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert child.poll() == 7
        assert not still_there({int(log_path.read_text().split()[0])})
        assert child.pids() == ()


def test_guarded_command_ended_by_a_signal(tmp_path):
    """A command that a signal ended has minus the signal's number as its exit status."""
    with guarded(["/bin/sleep", "300"], environment={}, log_path=tmp_path / "log") as child:
        os.kill(child.pid, signal.SIGSEGV)
        assert not still_there({child.pid})
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)  # its end is reported after it
        assert child.poll() == -signal.SIGSEGV


def test_guarded_command_gets_only_its_environment_and_cpus(tmp_path, monkeypatch):
    """Nothing of the caller's environment is added, and the command runs on the CPUs it was given."""
    monkeypatch.setenv("STRAY", "1")
    log_path = tmp_path / "log"
    cpu = min(os.sched_getaffinity(0))
    code = "import os; print(sorted(os.environ), os.sched_getaffinity(0), os.getcwd())"
    command = [sys.executable, "-I", "-S", "-c", code]
    with guarded(command, environment={"GIVEN": "1"}, log_path=log_path, cpu_ids=(cpu,), cwd=tmp_path) as child:
        assert not still_there({child.pid})
    text = log_path.read_text().splitlines()[0]
    assert "STRAY" not in text
    assert "GIVEN" in text
    assert text.endswith(f"{{{cpu}}} {tmp_path}")


@pytest.mark.parametrize(("command", "cpu_ids"), [(["/nowhere/python"], ()), (["/bin/true"], (100_000,))])
def test_command_that_cannot_be_started(tmp_path, command, cpu_ids):
    """A program that does not exist, or a CPU that does not, is a DeployError that names it."""
    with pytest.raises(DeployError, match=command[0]):
        guarded(command, environment={}, log_path=tmp_path / "log", cpu_ids=cpu_ids)


def test_stop_twice(tmp_path):
    """Stopping a stopped command does nothing."""
    child = guarded(["/bin/sleep", "300"], environment={}, log_path=tmp_path / "log")
    child.stop()
    child.stop()
    assert child.poll() == -signal.SIGTERM
