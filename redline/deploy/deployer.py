"""What every deployer takes and gives: an order in, servers that answered a real request out, nothing left behind.

One module per way of serving, all with the same three verbs: `deploy`, `render` (what would be done, as text that
people can run or apply themselves) and `cleanup` (what a killed Redline left). tests/deploy holds one conformance
suite that every one of them passes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from redline.deploy.supervisor_program import GRACE_S
from redline.model import (
    ClusterSettings,
    ContainerSettings,
    Device,
    Endpoint,
    Placement,
    Recipe,
    SystemUnderTest,
)


@dataclass(frozen=True, slots=True)
class Order:
    """One arm of one round, as it is to be served.

    `name`: of its logs, containers and Kubernetes objects, `speed-llama-00-baseline`. `recipe`: as placed, so that it
    holds at most one placement. `model`: a directory or a hub id. `python` and `installed_version`: of a wheel that was
    installed, None otherwise. `devices`: the accelerators it may use, none on a CPU and in a cluster. `grace_s`: the
    wait between SIGTERM and SIGKILL.
    """

    name: str
    run_id: str
    recipe: Recipe
    sut: SystemUnderTest
    model: str
    state_dir: Path
    log_dir: Path
    python: Path | None = None
    installed_version: str | None = None
    devices: tuple[Device, ...] = ()
    container: ContainerSettings = field(default_factory=ContainerSettings)
    cluster: ClusterSettings | None = None
    grace_s: float = GRACE_S

    @property
    def placement(self) -> Placement | None:
        """The recipe's placement; None for one server as the platform alone serves it."""
        return next(iter(self.recipe.placements), None)

    @property
    def replica_count(self) -> int:
        """How many servers are started."""
        return self.placement.replicas if self.placement is not None else 1

    @property
    def tensor_parallel(self) -> int:
        """Accelerators of each server."""
        return self.placement.tensor_parallel if self.placement is not None else 1


class Deployment(Protocol):
    """Servers that are starting or run. Its context manager ends all of them and all they started."""

    def wait_ready(self) -> Endpoint:
        """The endpoint, every replica of which answered a real request. Raises DeployError, naming the replica."""

    def check_alive(self) -> None:
        """Nothing while every replica lives; quick. Raises ServerDiedError, or ReplicaDiedError naming the replica."""

    def pids(self) -> tuple[int, ...]:
        """Live processes of the servers on this machine; () where they are elsewhere."""

    def confine(self, cpu_ids: tuple[int, ...]) -> None:
        """Keep the servers on these CPUs of this machine from now on; nothing where they are elsewhere."""


class Deployer(Protocol):
    """One way of serving."""

    name: str

    def deploy(self, order: Order, on_progress: Callable[[str], None]) -> AbstractContextManager[Deployment]:
        """Servers that start at once and are ended with the block, however the block or the caller ends.

        Raises UsageError for an order that cannot be served this way, DeployError if nothing can be started.
        """

    def render(self, order: Order) -> str:
        """What `deploy` would do, as text: a command line, or manifests. Starts nothing, needs no engine or cluster."""

    def cleanup(self, state_dir: Path, *, older_than_s: float | None) -> tuple[str, ...]:
        """End what a Redline that is gone left behind; one line for each thing ended.

        `older_than_s`: also what was started longer ago than this, whoever started it and whether that one lives.
        """
