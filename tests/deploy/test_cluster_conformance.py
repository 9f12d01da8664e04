"""The one suite that every deployer passes, for those that serve in a cluster: a simulated one with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redline.deploy.deployer import Deployer, Order
from redline.deploy.inference_service import InferenceServiceDeployer
from redline.deploy.kserve import KServeDeployer
from redline.deploy.llmd import LlmdDeployer
from redline.model import Endpoint
from tests.deploy.conformance import Setting, Started
from tests.fakes.kubernetes_cluster import SimulatedCluster, play_controllers, pod_plan, simulated_cluster
from tests.fakes.kubernetes_orders import QUICK, cluster_order, left

pytestmark = pytest.mark.slow


class ClusterSetting(Setting):
    """A namespace of the simulated cluster. Whatever is applied outlives whoever applied it."""

    seen_s_max = 60.0  # a kubelet looks at its containers, and tells the API server, when it comes to it

    def __init__(
        self, folder: Path, cluster: SimulatedCluster, deployer: Deployer, *, reach: str = "pods", **settings: str
    ) -> None:
        super().__init__(folder)
        self.deployer = deployer.name
        self.is_routed = reach == "router"
        self._made, self._settings = deployer, {"reach": reach} | settings
        self._cluster = cluster
        cluster.kubelet.grace_s = 0.3

    def make(self) -> Deployer:
        return self._made

    def order(self, mode: str = "ok", *, replicas: int = 1, start_s_max: float = 60.0) -> Order:
        bounds = {"replicas": replicas, "start_s_max": start_s_max}
        return cluster_order(self.folder, mode, environment=self.told, **bounds, **self._settings)

    def order_of_another(self) -> tuple[Order, str]:
        self._cluster.script = play_with_another_image
        return self.order(), "does not run the pinned image"

    def name_of(self, endpoint: Endpoint, replica: int) -> str:
        pods = self._cluster.state.names("pods")
        return [name for name in pods if not name.endswith("-router")][replica]

    def kill(self, endpoint: Endpoint, replica: int) -> str:
        self._cluster.kubelet.kill(self.name_of(endpoint, replica))
        return ""

    def there(self) -> set[str]:
        return {*left(self._cluster), *(f"process {pid}" for pid in self._cluster.kubelet.pids())}

    def environment(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self._cluster.kubeconfig)}


def play_with_another_image(cluster: SimulatedCluster, plural: str, made: dict[str, Any]) -> None:
    """What controllers do where an admission rule replaces the images of servers."""
    container = pod_plan(plural, made)[0]["containers"][0]
    if "--host" in container.get("args", ()):
        container["image"] = f"mirror.example/vllm@sha256:{'e' * 64}"
    play_controllers(cluster, plural, made)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedCluster]:
    """A cluster that serves what is asked for."""
    with simulated_cluster(tmp_path) as simulated:
        monkeypatch.setenv("KUBECONFIG", str(simulated.kubeconfig))
        yield simulated


class TestKServe(Started):
    """LLMInferenceService, its pods reached one by one."""

    @pytest.fixture
    def setting(self, tmp_path: Path, cluster: SimulatedCluster) -> Setting:
        """KServe's controllers, simulated."""
        return ClusterSetting(tmp_path, cluster, KServeDeployer(QUICK))


class TestKServeRouter(Started):
    """LLMInferenceService, reached through its router."""

    @pytest.fixture
    def setting(self, tmp_path: Path, cluster: SimulatedCluster) -> Setting:
        """KServe's controllers and gateway, simulated."""
        return ClusterSetting(tmp_path, cluster, KServeDeployer(QUICK), reach="router")


class TestInferenceService(Started):
    """InferenceService."""

    @pytest.fixture
    def setting(self, tmp_path: Path, cluster: SimulatedCluster) -> Setting:
        """KServe's controllers, simulated."""
        return ClusterSetting(tmp_path, cluster, InferenceServiceDeployer(QUICK), pod_cpus="1", pod_memory="1Gi")


class TestLlmd(Started):
    """llm-d's plain objects, the pods reached one by one."""

    @pytest.fixture
    def setting(self, tmp_path: Path, cluster: SimulatedCluster) -> Setting:
        """Kubernetes' own controllers, simulated."""
        return ClusterSetting(tmp_path, cluster, LlmdDeployer(QUICK))


class TestLlmdRouter(Started):
    """llm-d's plain objects, reached through its router."""

    @pytest.fixture
    def setting(self, tmp_path: Path, cluster: SimulatedCluster) -> Setting:
        """Kubernetes' own controllers and a Service, simulated."""
        return ClusterSetting(tmp_path, cluster, LlmdDeployer(QUICK), reach="router")
