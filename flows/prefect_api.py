"""The Prefect API that flows report to: the user's own if one is configured, else one of our own, guarded.

Prefect's ephemeral server has a start-up limit that a busy machine exceeds, and is orphaned by SIGTERM and
kill -9. Ours is a child of `redline.deploy.supervisor` instead: it cannot outlive us. It is told to send no
telemetry and to run no background services, which would steal CPU time from a measurement.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from redline.deploy.supervisor import guarded
from redline.errors import InfrastructureError

START_S_MAX = 120.0
POLL_S = 0.1
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
}
SERVER_ONLY = {"PREFECT__SERVER_WEBSERVER_ONLY": "1", "PREFECT__SERVER_FINAL": "1"}


@contextmanager
def _held_port() -> Iterator[int]:
    """A free port that stays ours: bound and not listening, which keeps others off and our server may share."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@contextmanager
def prefect_api(state_dir: Path, log_path: Path) -> Iterator[str]:
    """The API's URL, with this process's environment set for `import prefect` that must come after.

    Raises InfrastructureError if our own API does not answer within its bound.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        _wait_healthy(configured.rstrip("/"), lambda: None, Path("the Prefect server of PREFECT_API_URL"))
        yield configured
        return
    home = state_dir / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
    with _held_port() as port, _own_api(port, log_path) as url:
        yield url


@contextmanager
def _own_api(port: int, log_path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    environment = {**os.environ, **SERVER_ONLY}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # without byte code every start compiles Prefect anew
    url = f"http://127.0.0.1:{port}/api"
    with guarded(command, environment=environment, log_path=log_path) as server:
        os.environ["PREFECT_API_URL"] = url  # before the import: Prefect reads its settings once
        try:
            import prefect  # noqa: F401, PLC0415 - takes seconds: done while the API starts

            _wait_healthy(url, server.poll, log_path)
            yield url
        finally:
            os.environ.pop("PREFECT_API_URL", None)


def _wait_healthy(url: str, poll: Callable[[], int | None], log_path: Path) -> None:
    deadline_s = time.monotonic() + START_S_MAX
    found = "no answer"
    while time.monotonic() < deadline_s:
        status = poll()
        if status is not None:
            found = f"it ended with status {status}"
            break
        try:
            if httpx.get(f"{url}/health", timeout=5.0, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass  # not listening yet: that is what the wait is for
        time.sleep(POLL_S)
    raise InfrastructureError(
        "Prefect's API did not start",
        expected=f"an answer from {url} within {START_S_MAX:.0f} s",
        found=found,
        next_step=f"look at {log_path}",
    )
