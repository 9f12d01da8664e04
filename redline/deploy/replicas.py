"""Several servers of this machine as one deployment: started together, each waited for, a lost one named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from redline.deploy.affinity import pin
from redline.deploy.cpu_topology import read_cores
from redline.deploy.placing import shares_of
from redline.errors import DeployError, ReplicaDiedError, ServerDiedError
from redline.model import Device, Endpoint, Replica


class Server(Protocol):
    """One server of this machine, as a process or in a container."""

    def wait_ready(self) -> Endpoint:
        """The endpoint once it answered a real request. Raises DeployError."""

    def check_alive(self) -> None:
        """Nothing while it runs. Raises ServerDiedError."""

    def pids(self) -> tuple[int, ...]:
        """Its live processes on this machine."""


@dataclass(frozen=True, slots=True)
class Started:
    """A server that was started, and its accelerators."""

    server: Server
    devices: tuple[Device, ...] = ()

    @property
    def device_uuids(self) -> tuple[str, ...]:
        """How reports name its accelerators."""
        return tuple(device.uuid for device in self.devices)

    @property
    def home(self) -> frozenset[int]:
        """The NUMA nodes of its accelerators; empty without any, or where the driver does not say."""
        return frozenset(device.numa_node for device in self.devices if device.numa_node >= 0)


class HostDeployment:
    """One or more servers of this machine; whoever started them ends them."""

    def __init__(self, started: Sequence[Started]) -> None:
        self._started = tuple(started)

    def wait_ready(self) -> Endpoint:
        """One endpoint with every server's address, in the order in which they take turns.

        Raises: DeployError, naming the replica where there are several.
        """
        endpoints = [self._ready(index) for index in range(len(self._started))]
        first, others = endpoints[0], endpoints[1:]
        versions = {endpoint.reported_version for endpoint in endpoints}
        if len(versions) > 1:
            raise DeployError(
                "the replicas are different builds",
                expected="one version from all of them",
                found=", ".join(f"{self._name(i)}: {each.reported_version}" for i, each in enumerate(endpoints)),
                next_step="report this with the logs: one build was asked for",
            )
        return replace(
            first,
            start_s=max(endpoint.start_s for endpoint in endpoints),
            replica_urls=tuple(endpoint.base_url for endpoint in others),
            pids=tuple(pid for endpoint in endpoints for pid in endpoint.pids),
            replicas=tuple(
                Replica(self._name(index), started.device_uuids, endpoints[index].start_s)
                for index, started in enumerate(self._started)
            ),
        )

    def check_alive(self) -> None:
        """Nothing while every server runs. Raises ServerDiedError, ReplicaDiedError where there are several."""
        for index, started in enumerate(self._started):
            try:
                started.server.check_alive()
            except ServerDiedError as error:
                if len(self._started) == 1:
                    raise
                raise self._named(error, index, ReplicaDiedError) from error
            except DeployError as error:
                raise self._named(error, index) from error

    def pids(self) -> tuple[int, ...]:
        """Live processes of all servers."""
        return tuple(pid for started in self._started for pid in started.server.pids())

    def confine(self, cpu_ids: tuple[int, ...]) -> None:
        """Each server on cores of its own near its accelerators, as far as there are enough; see `shares_of`."""
        for started, share in zip(self._started, self.cpu_shares(cpu_ids), strict=True):
            pin(started.server.pids(), share)

    def cpu_shares(self, cpu_ids: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """The CPUs of each server out of these."""
        return shares_of(read_cores(cpu_ids), [started.home for started in self._started])

    def _ready(self, index: int) -> Endpoint:
        try:
            return self._started[index].server.wait_ready()
        except DeployError as error:
            raise self._named(error, index) from error

    def _name(self, index: int) -> str:
        return f"replica {index}"

    def _named(self, error: DeployError, index: int, kind: type[DeployError] | None = None) -> DeployError:
        """The same error, saying which of several it is about."""
        count = len(self._started)
        if count == 1:
            return error
        return (kind or type(error))(
            f"{self._name(index)} of {count}: {error.problem}",
            expected=error.expected,
            found=error.found,
            next_step=error.next_step,
        )
