"""What is started in a cluster, how, and within which bounds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from redline.deploy.cluster_client import CallLimits, Cluster, Json
from redline.deploy.cluster_logs import keep_logs, log_path
from redline.deploy.cluster_objects import GONE_S_MAX, Kinds, Made
from redline.deploy.cluster_pods import Container, Hope, Pod
from redline.deploy.deployer import Order


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in seconds.

    `start_margin_s`: beyond the recipe's start_s_max, for finding a node and pulling an image. `place_s`,
    `pull_s`, `configuration_s`: how long a pod without a node (a node may be on its way), an image that cannot be
    pulled, a configuration that does not work may stay so. `answer_s`: from ready to a first answer, for routes to
    spread. `turn_s`: the longest time between two looks.
    """

    start_margin_s: float = 600.0
    place_s: float = 600.0
    pull_s: float = 300.0
    configuration_s: float = 60.0
    answer_s: float = 120.0
    gone_s: float = GONE_S_MAX
    turn_s: float = 5.0
    calls: CallLimits = field(default_factory=CallLimits)

    def of(self, hope: Hope) -> float | None:
        """How long a trouble may last; None if as long as the start may."""
        bounds = {"hopeless": 0.0, "pull": self.pull_s, "configuration": self.configuration_s, "place": self.place_s}
        return bounds.get(hope)


@dataclass(frozen=True, slots=True)
class Way:
    """One way of serving in a cluster.

    `name`: of the deployer. `urls`: the router's addresses, best first, from the order and the objects as they are
    now. `kinds`: of everything that it may make.
    """

    name: str
    urls: Callable[[Order, tuple[Json, ...]], tuple[str, ...]]
    kinds: Kinds


@dataclass(frozen=True, slots=True)
class Target:
    """What is started where: an order in its cluster.

    `selector`: the labels of the pods that serve. `router_selector`: of those that route, '' where none is pinned.
    """

    cluster: Cluster
    way: Way
    order: Order
    made: Made
    namespace: str
    reach_pods: bool
    selector: str
    router_selector: str
    limits: Limits

    @property
    def image_digest(self) -> str:
        """`sha256:...` of the pinned image."""
        return (self.order.sut.pin.url or "").rpartition("@")[2]

    def pods(self) -> tuple[tuple[Json, ...], str]:
        """The serving pods by name, and the version of the list. Raises ClusterError."""
        found, version = self.cluster.listed("v1", "Pod", self.namespace, labels=self.selector)
        return tuple(sorted(found, key=lambda each: str(each["metadata"]["name"]))), version

    def routers(self) -> tuple[Json, ...]:
        """The pods that route, whatever state they are in; () where no router is pinned. Raises ClusterError."""
        if not self.router_selector:
            return ()
        found, _ = self.cluster.listed("v1", "Pod", self.namespace, labels=self.router_selector)
        return found

    def log_of(self, pod: Pod, container: Container) -> str:
        """Where a container's log is kept."""
        return str(log_path(self.order.log_dir, self.order.name, pod.name, container.name))

    def keep_logs(self, pods: Collection[Pod]) -> None:
        """Keep what they said so far; a full disk or a silent cluster is no reason to fail here."""
        with suppress(OSError):
            keep_logs(self.cluster, pods, self.order.log_dir, self.order.name)
