"""A real Prefect server of one's own, the shipped deployments on it, and a real worker: ended whatever happens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from redline.deploy.supervisor import guarded

ROOT = Path(__file__).parents[2]
START_S_MAX = 180.0
CLI_S_MAX = 180.0
POOL = "redline-cpu"
TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
# No schedule is acted on while a test runs, and nothing is told to anybody.
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A server that answers: its API's address, and the variables of every process that speaks to it."""

    url: str
    home: Path
    environment: dict[str, str]

    def cli(self, *arguments: str) -> str:
        """What a `prefect` command printed, run in the checkout. Raises AssertionError if it failed."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            capture_output=True,
            text=True,
            timeout=CLI_S_MAX,
            cwd=ROOT,
            env=self.environment,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """An answer of the API, whatever its status."""
        return httpx.request(method, f"{self.url}{path}", json=body, timeout=60.0, trust_env=False)

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment, `FLOW/NAME`."""
        answer = self.ask("GET", f"/deployments/name/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def start(self, name: str, parameters: dict[str, Any]) -> httpx.Response:
        """Ask for a run of a deployment."""
        path = f"/deployments/{self.deployment(name)['id']}/create_flow_run"
        return self.ask("POST", path, {"parameters": parameters})

    def wait(self, run_id: str, timeout_s: float) -> dict[str, Any]:
        """A run once it has ended. Raises AssertionError if it does not in time."""
        deadline_s = time.monotonic() + timeout_s
        while (run := self.ask("GET", f"/flow_runs/{run_id}").json())["state_type"] not in TERMINAL:
            assert time.monotonic() < deadline_s, f"run {run_id} did not end within {timeout_s:.0f} s: {run['state']}"
            time.sleep(1.0)
        return run


@contextmanager
def standing_server(home: Path, variables: dict[str, str] | None = None) -> Iterator[Standing]:
    """A server on a free port with a home of its own, the pool made and the shipped deployments applied."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**kept, **SETTINGS, "PREFECT_HOME": str(home), "PREFECT_API_URL": url, **(variables or {})}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with guarded(command, environment=environment, log_path=home / "server.log", cwd=home) as server:
        standing = Standing(url, home, environment)
        deadline_s = time.monotonic() + START_S_MAX
        while not _healthy(url):
            assert server.poll() is None and time.monotonic() < deadline_s, (home / "server.log").read_text()[-2000:]
            time.sleep(0.2)
        pool = standing.ask("POST", "/work_pools/", {"name": POOL, "type": "process", "base_job_template": {}})
        assert pool.status_code == 201, pool.text
        standing.cli("--no-prompt", "deploy", "--all")
        yield standing


@contextmanager
def worker(standing: Standing) -> Iterator[None]:
    """A process worker for one run at a time, started elsewhere than in the checkout."""
    place = standing.home / "worker"
    place.mkdir()
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    command += ["--limit", "1", "--name", "host-1"]
    with guarded(command, environment=standing.environment, log_path=place / "log", cwd=place, grace_s=20.0):
        yield


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
