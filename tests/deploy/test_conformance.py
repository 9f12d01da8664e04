"""The one suite that every deployer passes, in each one's own setting."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from redline.deploy.deployer import Order
from redline.deploy.supervisor_program import process_table
from redline.model import BuildKind, Endpoint
from tests.deploy.conformance import Kept, Setting, Started
from tests.deploy.conftest import held_port, noted_pids, stand_in_recipe, still_there
from tests.deploy.test_replicas import order_of

pytestmark = pytest.mark.slow


def of_another_version(order: Order) -> tuple[Order, str]:
    """The order as if another version had been pinned than the stand-in's, and what it is told by."""
    pin = replace(order.sut.pin, version="9.9.9")
    return replace(order, sut=replace(order.sut, pin=pin)), "server says 0.0.0+standin"


class ProcessSetting(Setting):
    """Processes of this machine: the supervisor ends them whatever becomes of their caller."""

    deployer = "process"
    ends_with_its_caller = True

    def __init__(self, folder: Path, python: Path) -> None:
        super().__init__(folder)
        self._python = python

    def order(self, mode: str = "ok", *, replicas: int = 1, start_s_max: float = 60.0) -> Order:
        recipe = stand_in_recipe(self.folder, mode, start_s_max=start_s_max, **self.told)
        return order_of(self.folder, self._python, recipe, replicas)

    def order_of_another(self) -> tuple[Order, str]:
        return of_another_version(self.order())

    def kill(self, endpoint: Endpoint, replica: int) -> str:
        os.kill(endpoint.pids[replica], signal.SIGKILL)
        assert still_there([endpoint.pids[replica]]) == set()
        return ""

    def there(self) -> set[str]:
        table = process_table()
        pids = noted_pids(self.folder) if (self.folder / "pids").exists() else ()
        return {f"process {pid}" for pid in pids if pid in table and table[pid][1] not in "ZX"}


class TestProcess(Started):
    """A wheel served by processes."""

    @pytest.fixture
    def setting(self, tmp_path: Path, stand_in_python: Path) -> Setting:
        """Stand-ins in place of a build's Python."""
        return ProcessSetting(tmp_path, stand_in_python)


class EndpointSetting(Setting):
    """Two servers that the test started itself."""

    deployer = "endpoint"
    starts_servers = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._servers: list[subprocess.Popen[bytes]] = []
        self._urls: list[str] = []

    @contextmanager
    def serving(self, python: Path, count: int) -> Iterator[None]:
        """Servers that are started and ended here, by nobody else."""
        held = ExitStack()  # for the whole test: where a server has ended, nobody else listens
        try:
            for _ in range(count):
                port = held.enter_context(held_port())
                command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", "m"]
                command += ["--served-model-name", "m", "--host", "127.0.0.1", "--port", str(port)]
                self._servers.append(subprocess.Popen(command, env=os.environ | self.told))
                self._urls.append(f"http://127.0.0.1:{port}")
            for url in self._urls:
                wait_for(url)
            yield
        finally:
            for server in self._servers:
                server.kill()
                server.wait()
            held.close()

    def order(self, mode: str = "ok", *, replicas: int = 1, start_s_max: float = 60.0) -> Order:
        order = order_of(self.folder, None, stand_in_recipe(self.folder, mode, start_s_max=start_s_max), replicas)
        pin = replace(
            order.sut.pin, kind=BuildKind.ENDPOINT, wheel_sha256=None, lock="", url=",".join(self._urls[:replicas])
        )
        return replace(order, sut=replace(order.sut, pin=pin))

    def order_of_another(self) -> tuple[Order, str]:
        return of_another_version(self.order())

    def kill(self, endpoint: Endpoint, replica: int) -> str:
        server = self._servers[self._urls.index(endpoint.base_urls[replica])]
        server.kill()
        server.wait()
        return f"process {server.pid}"

    def there(self) -> set[str]:
        return {f"process {server.pid}" for server in self._servers if server.poll() is None}


class TestEndpoint(Kept):
    """Servers that somebody else started."""

    @pytest.fixture
    def setting(self, tmp_path: Path, stand_in_python: Path) -> Iterator[Setting]:
        """Two stand-ins."""
        setting = EndpointSetting(tmp_path)
        with setting.serving(stand_in_python, 2):
            yield setting


def wait_for(url: str) -> None:
    """Return once somebody listens there."""
    host, _, port = url.removeprefix("http://").partition(":")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), 5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nobody listens at {url}")
